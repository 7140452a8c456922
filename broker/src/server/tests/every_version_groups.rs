//! Every request of groups in every version that is advertised; and that no kind of request is left out.

use super::client::Client;
use super::every_version::versions;
use super::groups::{commit, group, heartbeat, joining, with_coordinator};
use super::{name, text};
use bytes::Bytes;
use chronik_wire::SERVED;
use chronik_wire::client::{decode_response, encode_request};
use chronik_wire::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, message, wire_id,
};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncWriteExt as _;

/// The versions of OffsetCommit and OffsetFetch that name topics by their ids, which the client's codec does not know.
const BY_TOPIC_ID: i16 = 10;

/// Joins in that version; the member's id and generation.
async fn join(client: &mut Client, version: i16) -> (StrBytes, i32) {
    let mut request = joining(None);
    let mut joined = client.ask(version, &request).await;
    assert_eq!(joined.error_code == 79, version >= 4, "MEMBER_ID_REQUIRED, version {version}");
    if version >= 4 {
        request.member_id = joined.member_id.clone();
        joined = client.ask(version, &request).await;
    }
    assert_eq!((joined.error_code, joined.members.len()), (0, 1), "version {version}");
    assert_eq!((&joined.leader, &**joined.protocol_name.as_ref().expect("it has one")), (&joined.member_id, "range"));
    (joined.member_id, joined.generation_id)
}

async fn sync(client: &mut Client, version: i16, (member, generation): &(StrBytes, i32)) {
    let assignment = m::sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let mut request = m::SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(*generation)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    if version >= 5 {
        request = request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
    }
    let synced = client.ask(version, &request).await;
    assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"all")), "version {version}");
}

async fn leave(client: &mut Client, version: i16, member: &StrBytes) {
    let mut request = m::LeaveGroupRequest::default().with_group_id(group());
    if version >= 3 {
        let identity = m::leave_group_request::MemberIdentity::default().with_member_id(member.clone());
        request = request.with_members(vec![identity]);
    } else {
        request = request.with_member_id(member.clone());
    }
    let left = client.ask(version, &request).await;
    let members: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!((left.error_code, members), (0, if version >= 3 { vec![0] } else { vec![] }), "version {version}");
    let again = client.ask(version, &request).await;
    let error = again.members.first().map_or(again.error_code, |member| member.error_code);
    assert_eq!(error, 25, "UNKNOWN_MEMBER_ID, version {version}");
}

#[tokio::test]
async fn members_of_classic_groups() {
    let (_cluster, mut client) = with_coordinator().await;
    for version in versions::<m::JoinGroupRequest>(&mut client).await {
        let member = join(&mut client, version).await;
        leave(&mut client, 3, &member.0).await;
    }
    for version in versions::<m::LeaveGroupRequest>(&mut client).await {
        let member = join(&mut client, 5).await;
        leave(&mut client, version, &member.0).await;
    }
    let member = join(&mut client, 5).await;
    for version in versions::<m::SyncGroupRequest>(&mut client).await {
        sync(&mut client, version, &member).await;
    }
    for version in versions::<m::HeartbeatRequest>(&mut client).await {
        for (generation, error) in [(member.1, 0), (member.1 + 1, 22)] {
            let request = m::HeartbeatRequest::default()
                .with_group_id(group())
                .with_generation_id(generation)
                .with_member_id(member.0.clone());
            assert_eq!(client.ask(version, &request).await.error_code, error, "version {version}");
        }
    }
}

/// Of the version that the client's codec does not know.
async fn commit_by_id(client: &mut Client, topic: chronik_core::ids::TopicId, offset: i64) {
    let partition = message!(OffsetCommitRequestPartition { committed_offset: offset });
    let topic = message!(OffsetCommitRequestTopic { topic_id: wire_id(topic), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: chronik_wire::messages::StrBytes::from("group"),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let frame = encode_request(&request, BY_TOPIC_ID, 99, "test").expect("a frame");
    client.stream.write_all(&frame).await.expect("it is read");
    let answer = client.receive().await.expect("an answer");
    let answer = decode_response::<OffsetCommitRequest>(answer, BY_TOPIC_ID, 99).expect("an answer of that kind");
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

async fn fetch_by_id(client: &mut Client, topic: chronik_core::ids::TopicId) -> i64 {
    let topic = message!(OffsetFetchRequestTopics { topic_id: wire_id(topic), partition_indexes: vec![0] });
    let group_id = chronik_wire::messages::StrBytes::from("group");
    let of_group =
        message!(OffsetFetchRequestGroup { group_id: group_id, member_epoch: -1, topics: Some(vec![topic]) });
    let request = message!(OffsetFetchRequest { groups: vec![of_group] });
    let frame = encode_request(&request, BY_TOPIC_ID, 99, "test").expect("a frame");
    client.stream.write_all(&frame).await.expect("it is read");
    let answer = client.receive().await.expect("an answer");
    let answer = decode_response::<OffsetFetchRequest>(answer, BY_TOPIC_ID, 99).expect("an answer of that kind");
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!((answer.groups[0].error_code, partition.error_code), (0, 0));
    partition.committed_offset
}

/// The offset of partition 0 of `t`.
async fn fetch(client: &mut Client, version: i16) -> i64 {
    use m::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    let request = m::OffsetFetchRequest::default();
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![0]);
        let of_group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
        let response = client.ask(version, &request.with_groups(vec![of_group])).await;
        assert_eq!(response.groups[0].error_code, 0);
        return response.groups[0].topics[0].partitions[0].committed_offset;
    }
    let topic = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let response = client.ask(version, &request.with_group_id(group()).with_topics(Some(vec![topic]))).await;
    assert_eq!(response.error_code, 0);
    response.topics[0].partitions[0].committed_offset
}

#[tokio::test]
async fn offsets() {
    let (cluster, mut client) = with_coordinator().await;
    let id = cluster.image.borrow().topic_ids["t"];
    let mut offset = 0;
    for version in versions::<m::OffsetCommitRequest>(&mut client).await {
        offset += 1;
        let committed = client.ask(version, &commit(offset)).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0, "version {version}");
        assert_eq!(fetch(&mut client, 5).await, offset, "version {version}");
    }
    commit_by_id(&mut client, id, 100).await;
    for version in versions::<m::OffsetFetchRequest>(&mut client).await {
        assert_eq!(fetch(&mut client, version).await, 100, "version {version}");
    }
    assert_eq!(fetch_by_id(&mut client, id).await, 100);
    for kind in [m::ApiKey::OffsetCommit, m::ApiKey::OffsetFetch] {
        let served = SERVED.iter().find(|served| served.api as i16 == kind as i16).expect("served");
        assert_eq!(served.max, BY_TOPIC_ID, "a version that nothing here asks in");
    }
    for version in versions::<m::OffsetDeleteRequest>(&mut client).await {
        use m::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        let request = m::OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]);
        let deleted = client.ask(version, &request).await;
        assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
        assert_eq!(fetch(&mut client, 5).await, -1);
    }
}

#[tokio::test]
async fn groups_are_described_listed_and_deleted() {
    let (_cluster, mut client) = with_coordinator().await;
    let member = join(&mut client, 5).await;
    sync(&mut client, 3, &member).await;
    for version in versions::<m::DescribeGroupsRequest>(&mut client).await {
        let response = client.ask(version, &m::DescribeGroupsRequest::default().with_groups(vec![group()])).await;
        let described = &response.groups[0];
        assert_eq!((described.error_code, &*described.group_state, &*described.protocol_data), (0, "Stable", "range"));
        assert_eq!((&described.members[0].member_id, described.members.len()), (&member.0, 1), "version {version}");
    }
    for version in versions::<m::ListGroupsRequest>(&mut client).await {
        let response = client.ask(version, &m::ListGroupsRequest::default()).await;
        let listed = response.groups.iter().find(|listed| listed.group_id == group()).expect("it is listed");
        assert_eq!((response.error_code, &*listed.protocol_type), (0, "consumer"), "version {version}");
        assert_eq!(&*listed.group_state, if version >= 4 { "Stable" } else { "" });
        assert_eq!(&*listed.group_type, if version >= 5 { "classic" } else { "" });
    }
    for version in versions::<m::DeleteGroupsRequest>(&mut client).await {
        let request = m::DeleteGroupsRequest::default().with_groups_names(vec![group()]);
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 68, "NON_EMPTY_GROUP");
    }
    leave(&mut client, 3, &member.0).await;
    for version in versions::<m::DeleteGroupsRequest>(&mut client).await {
        assert_eq!(client.ask(8, &commit(1)).await.topics[0].partitions[0].error_code, 0);
        let request = m::DeleteGroupsRequest::default().with_groups_names(vec![group()]);
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 0, "version {version}");
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 69, "GROUP_ID_NOT_FOUND");
    }
}

#[tokio::test]
async fn groups_of_the_consumer_protocol() {
    let (_cluster, mut client) = with_coordinator().await;
    for version in versions::<m::ConsumerGroupHeartbeatRequest>(&mut client).await {
        let joined = client.ask(version, &heartbeat()).await;
        assert_eq!((joined.error_code, joined.member_epoch > 0), (0, true), "version {version}");
        for version in versions::<m::ConsumerGroupDescribeRequest>(&mut client).await {
            let request = m::ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
            let described = client.ask(version, &request).await.groups.remove(0);
            let members: Vec<_> = described.members.iter().map(|member| member.member_epoch).collect();
            assert_eq!((described.error_code, members), (0, vec![joined.member_epoch]), "version {version}");
        }
        let left = client.ask(version, &heartbeat().with_member_epoch(-1)).await;
        assert_eq!((left.error_code, left.member_epoch), (0, -1), "version {version}");
    }
}

/// Of each kind with more than one version some test here asks in all of them, and of each other kind in its only one.
#[test]
fn no_kind_of_request_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/tests");
    let sources = std::fs::read_dir(folder).expect("the tests").map(|entry| {
        let path = entry.expect("an entry").path();
        std::fs::read_to_string(path).expect("a source")
    });
    let tests = sources.collect::<String>();
    let left_out = SERVED.iter().filter(|served| {
        let kind = format!("m::{}Request", served.api.name());
        let in_all = tests.contains(&format!("versions::<{kind}>"));
        !in_all && (served.min != served.max || !tests.contains(&format!("{kind}::default()")))
    });
    let left_out: Vec<_> = left_out.map(|served| served.api.name()).collect();
    assert!(left_out.is_empty(), "no test asks for {left_out:?} in every version");
}
