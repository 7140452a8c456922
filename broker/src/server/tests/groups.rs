//! Requests of groups through the listener: a coordinator in this process, with its records in memory.

use super::client::{Client, batch};
use super::cluster::Cluster;
use super::{name, produce, text, until};
use bytes::Bytes;
use chronik_core::ids::TopicId;
use chronik_core::replication::ProduceError;
use chronik_wire::client::{decode_response, encode_request};
use chronik_wire::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, message, wire_id,
};
use kafka_protocol::messages as m;
use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncWriteExt as _;

pub(super) fn group() -> GroupId {
    GroupId(text("group"))
}

/// Finds the coordinator, which creates its topic, and waits until it is loaded.
pub(super) async fn with_coordinator() -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    cluster.topic("t", 2);
    let mut client = Client::connect(cluster.address).await;
    let found = client.ask(3, &m::FindCoordinatorRequest::default().with_key(text("group"))).await;
    assert_eq!((found.error_code, found.node_id.0), (0, 0));
    while fetch(&mut client).await.0 != 0 {}
    (cluster, client)
}

pub(super) fn commit(offset: i64) -> m::OffsetCommitRequest {
    let partition = m::offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = m::offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    m::OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// SyncGroup of the static member `x`, which has joined.
pub(super) fn syncing(joined: &m::JoinGroupResponse) -> m::SyncGroupRequest {
    m::SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("x")))
}

/// OffsetCommit of that member.
pub(super) fn commit_of(joined: &m::JoinGroupResponse, offset: i64) -> m::OffsetCommitRequest {
    commit(offset)
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("x")))
}

pub(super) async fn committed(client: &mut Client, offset: i64) -> i16 {
    client.ask(8, &commit(offset)).await.topics[0].partitions[0].error_code
}

/// The error of the group, and the offset of partition 0 of `t`.
pub(super) async fn fetch(client: &mut Client) -> (i16, i64) {
    let topic = m::offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0]);
    let request = m::OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let response = client.ask(5, &request).await;
    let offset = response.topics.first().map(|topic| topic.partitions[0].committed_offset);
    (response.error_code, offset.unwrap_or(-1))
}

/// That broker leads the coordinators' partitions in that epoch.
pub(super) fn lead(cluster: &Cluster, leader: i32, epoch: i32) {
    cluster.image.send_modify(|image| {
        let id = image.topic_ids["__consumer_offsets"];
        let topic = image.topics.get_mut(&id).expect("it was found by its name");
        for partition in &mut topic.partitions {
            partition.leader = Some(chronik_core::ids::BrokerId(leader));
            partition.leader_epoch = chronik_core::ids::LeaderEpoch(epoch);
        }
    });
}

/// How many batches all partitions have.
pub(super) fn appended(cluster: &Cluster) -> usize {
    cluster.logs().batches.values().map(Vec::len).sum()
}

#[tokio::test]
async fn an_offset_is_told_as_committed_when_it_is_and_not_before() {
    let (cluster, mut client) = with_coordinator().await;
    assert_eq!(committed(&mut client, 5).await, 0);
    cluster.logs().acknowledges_late = true;
    let before = appended(&cluster);
    let id = client.send(8, &commit(7)).await;
    until(|| appended(&cluster) > before).await;
    let mut other = Client::connect(cluster.address).await;
    other.ask(0, &m::ApiVersionsRequest::default()).await;
    let early = client.stream.try_read(&mut [0; 64]).map_err(|e| e.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "it is appended, and not committed");
    cluster.logs().release();
    let answer = client.answer::<m::OffsetCommitRequest>(8, id).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(fetch(&mut other).await, (0, 7));
}

#[tokio::test]
async fn a_coordinator_whose_append_fails_is_loaded_again_from_what_is_committed() {
    let (cluster, mut client) = with_coordinator().await;
    assert_eq!(committed(&mut client, 5).await, 0);
    cluster.logs().refuse_produce = Some(ProduceError::NotEnoughReplicas);
    assert_eq!(committed(&mut client, 7).await, 15, "COORDINATOR_NOT_AVAILABLE");
    cluster.logs().refuse_produce = Some(ProduceError::NotLeader);
    let refused = loop {
        match committed(&mut client, 7).await {
            14 | 15 => {}
            other => break other,
        }
    };
    assert_eq!(refused, 16, "NOT_COORDINATOR");
    cluster.logs().refuse_produce = None;
    let (_, offset) = loop {
        let fetched = fetch(&mut client).await;
        if fetched.0 == 0 {
            break fetched;
        }
    };
    assert_eq!(offset, 5);
}

/// As happens to all groups where leases end while the quorum elects a leader.
#[tokio::test]
async fn a_coordinator_that_did_not_lead_for_moments_writes_as_soon_as_it_leads_again() {
    let (cluster, mut client) = with_coordinator().await;
    for _ in 0..5 {
        cluster.logs().refuse_produce = Some(ProduceError::NotLeader);
        let refused = loop {
            match committed(&mut client, 5).await {
                14 => {}
                other => break other,
            }
        };
        assert_eq!(refused, 16, "NOT_COORDINATOR");
    }
    cluster.logs().refuse_produce = None;
    while fetch(&mut client).await.0 != 0 {}
    assert_eq!(committed(&mut client, 7).await, 0);
    assert_eq!(fetch(&mut client).await, (0, 7));
}

#[tokio::test]
async fn heartbeats_to_a_coordinator_that_loads_are_answered_as_in_kafka() {
    let (cluster, mut client) = with_coordinator().await;
    cluster.logs().refuse_read = Some(crate::partitions::ReadError::NotLeader);
    lead(&cluster, 0, 9);
    while fetch(&mut client).await.0 != 14 {}
    let beat = m::HeartbeatRequest::default().with_group_id(group()).with_generation_id(1).with_member_id(text("m"));
    for version in 0..=4 {
        assert_eq!(client.ask(version, &beat).await.error_code, 0, "version {version}");
    }
    // Another broker may lead by now, and nobody who is told that all is well would look for it.
    let lease = cluster.registration.borrow().lease_until;
    cluster.registration.send_modify(|standing| standing.lease_until = Some(std::time::Instant::now()));
    assert_eq!(client.ask(4, &beat).await.error_code, 16, "NOT_COORDINATOR, without a lease");
    cluster.registration.send_modify(|standing| standing.lease_until = lease);
    cluster.logs().refuse_read = None;
    while fetch(&mut client).await.0 != 0 {}
    assert_eq!(client.ask(4, &beat).await.error_code, 25, "UNKNOWN_MEMBER_ID, of a group that nobody knows");
}

#[tokio::test]
async fn a_coordinator_that_leads_no_more_answers_nothing_and_its_successor_reads_its_records() {
    let (cluster, mut client) = with_coordinator().await;
    assert_eq!(committed(&mut client, 5).await, 0);
    lead(&cluster, 1, 8);
    assert_eq!(fetch(&mut client).await.0, 16, "NOT_COORDINATOR");
    lead(&cluster, 0, 9);
    let fetched = loop {
        let fetched = fetch(&mut client).await;
        if !matches!(fetched.0, 14 | 16) {
            break fetched;
        }
    };
    assert_eq!(fetched, (0, 5));
}

#[tokio::test]
async fn what_a_client_asked_before_it_closed_its_connection_is_done() {
    let (cluster, mut client) = with_coordinator().await;
    cluster.logs().acknowledges_late = true;
    client.send(8, &commit(9)).await;
    drop(client);
    until(|| appended(&cluster) > 0).await;
    cluster.logs().release();
    let mut other = Client::connect(cluster.address).await;
    assert_eq!(fetch(&mut other).await, (0, 9));
}

#[tokio::test]
async fn internal_topics_take_no_records_and_can_be_created_and_deleted_by_hand() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(name("__consumer_offsets"))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let create = m::CreateTopicsRequest::default().with_topics(vec![topic]);
    assert_eq!(client.ask(4, &create).await.topics[0].error_code, 0);
    let written = client.ask(7, &produce("__consumer_offsets", -1, batch(1, 100).freeze())).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 17);
    let topic = m::metadata_request::MetadataRequestTopic::default().with_name(Some(name("__consumer_offsets")));
    let shown = client.ask(9, &m::MetadataRequest::default().with_topics(Some(vec![topic]))).await;
    let shown = shown.topics.first().expect("the topic that was asked for");
    assert_eq!((shown.error_code, shown.is_internal, shown.partitions.len()), (0, true, 2));
    let delete = m::DeleteTopicsRequest::default().with_topic_names(vec![name("__consumer_offsets")]);
    assert_eq!(client.ask(4, &delete).await.responses[0].error_code, 0);
    // It is made again when it is needed.
    let found = client.ask(3, &m::FindCoordinatorRequest::default().with_key(text("group"))).await;
    assert_eq!((found.error_code, found.node_id.0), (0, 0));
}

fn offsets_topic(configs: &[(&str, &str)]) -> m::CreateTopicsRequest {
    let config = |(name, value): &(&str, &str)| {
        m::create_topics_request::CreatableTopicConfig::default()
            .with_name(StrBytes::from_string((*name).to_owned()))
            .with_value(Some(StrBytes::from_string((*value).to_owned())))
    };
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(name("__consumer_offsets"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(configs.iter().map(config).collect());
    m::CreateTopicsRequest::default().with_topics(vec![topic])
}

#[tokio::test]
async fn an_internal_topic_that_is_created_by_hand_is_compacted_and_else_as_its_coordinator_would_have_it() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for policy in ["delete", "compact,delete"] {
        let refused = client.ask(5, &offsets_topic(&[("cleanup.policy", policy)])).await;
        assert_eq!(refused.topics[0].error_code, 40, "{policy}");
    }
    assert_eq!(client.ask(5, &offsets_topic(&[("segment.bytes", "1000")])).await.topics[0].error_code, 0);
    let image = cluster.image.borrow().clone();
    let topic = image.topic_by_name("__consumer_offsets").expect("it was created");
    assert_eq!(topic.partitions.len(), 3, "offsets.topic.num.partitions");
    let value = |name| topic.configs.get(name).map(|value| &**value);
    assert_eq!((value("cleanup.policy"), value("segment.bytes")), (Some("compact"), Some("1000")));
}

#[tokio::test]
async fn partitions_of_an_internal_topic_are_not_changed_as_groups_would_lose_their_offsets() {
    let (cluster, mut client) = with_coordinator().await;
    let topic = m::create_partitions_request::CreatePartitionsTopic::default()
        .with_name(name("__consumer_offsets"))
        .with_count(60);
    let request = m::CreatePartitionsRequest::default().with_topics(vec![topic]);
    let result = client.ask(3, &request).await.results.remove(0);
    assert_eq!(result.error_code, 37, "INVALID_PARTITIONS");
    assert!(result.error_message.is_some_and(|text| text.contains("cannot be changed")));
    assert_eq!(cluster.image.borrow().topic_by_name("__consumer_offsets").map(|t| t.partitions.len()), Some(3));
}

#[tokio::test]
async fn a_topic_that_was_an_ordinary_one_serves_groups_and_is_shown_as_the_compacted_one_that_it_is() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("__consumer_offsets", 2);
    cluster.topic("t", 2);
    cluster.image.send_modify(|image| {
        image.topics[&id].configs.insert("cleanup.policy".into(), "delete".into());
    });
    // What clients wrote to it before it was the coordinators'.
    let mut client = Client::connect(cluster.address).await;
    for index in 0..2 {
        let partition = super::cluster::partition(id, index);
        let foreign = chronik_core::record::split_batches(batch(3, 100).freeze()).expect("a batch");
        cluster.logs().batches.insert(partition, foreign);
    }
    let found = client.ask(3, &m::FindCoordinatorRequest::default().with_key(text("group"))).await;
    assert_eq!((found.error_code, found.node_id.0), (0, 0));
    while fetch(&mut client).await.0 != 0 {}
    assert_eq!(committed(&mut client, 5).await, 0);
    assert_eq!(fetch(&mut client).await, (0, 5));
    let resource = m::describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("__consumer_offsets"))
        .with_configuration_keys(Some(vec![text("cleanup.policy")]));
    let request = m::DescribeConfigsRequest::default().with_resources(vec![resource]);
    let config = client.ask(4, &request).await.results.remove(0).configs.remove(0);
    assert_eq!((config.value.as_deref(), config.config_source), (Some("compact"), 5));
}

#[tokio::test]
async fn offsets_of_what_does_not_exist_are_refused_one_by_one() {
    let (_cluster, mut client) = with_coordinator().await;
    let partition = |index| {
        m::offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(3)
    };
    let topic = |topic, partitions| {
        m::offset_commit_request::OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions)
    };
    let request =
        commit(3).with_topics(vec![topic("none", vec![partition(0)]), topic("t", vec![partition(1), partition(2)])]);
    let response = client.ask(8, &request).await;
    let errors: Vec<_> = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(errors, [3, 0, 3]);
}

/// By its id a topic is the one that it was, whatever its name stands for now. In a version that the client's codec does not
/// know.
#[tokio::test]
async fn a_commit_by_the_id_of_a_topic_that_is_gone_is_told_that_the_id_is_not_known() {
    let (_cluster, mut client) = with_coordinator().await;
    let partition = message!(OffsetCommitRequestPartition { committed_offset: 3 });
    let gone = TopicId(uuid::Uuid::from_u128(9));
    let topic = message!(OffsetCommitRequestTopic { topic_id: wire_id(gone), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: chronik_wire::messages::StrBytes::from("group"),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let frame = encode_request(&request, 10, 99, "test").expect("a frame");
    client.stream.write_all(&frame).await.expect("it is read");
    let answer = client.receive().await.expect("an answer");
    let answer = decode_response::<OffsetCommitRequest>(answer, 10, 99).expect("an answer of that kind");
    assert_eq!(answer.topics[0].partitions[0].error_code, 100, "UNKNOWN_TOPIC_ID");
}

#[tokio::test]
async fn a_member_joins_syncs_and_leaves() {
    let (_cluster, mut client) = with_coordinator().await;
    let protocol = m::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    let join = m::JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let first = client.ask(5, &join).await;
    assert_eq!(first.error_code, 79, "MEMBER_ID_REQUIRED");
    let joined = client.ask(5, &join.with_member_id(first.member_id.clone())).await;
    assert_eq!((joined.error_code, &joined.leader, joined.members.len()), (0, &first.member_id, 1));
    assert_eq!(joined.members[0].metadata, Bytes::from_static(b"metadata"));
    let assignment = m::sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(first.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let sync = m::SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(first.member_id.clone())
        .with_assignments(vec![assignment]);
    let synced = client.ask(3, &sync).await;
    assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"all")));
    let described = client.ask(4, &m::DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    let member = &described.groups[0].members[0];
    assert_eq!(
        (&*described.groups[0].group_state, &*member.client_id, &*member.client_host),
        ("Stable", "test", "/127.0.0.1")
    );
    let heartbeat = m::HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(first.member_id.clone());
    assert_eq!(client.ask(3, &heartbeat).await.error_code, 0);
    let leave = m::LeaveGroupRequest::default().with_group_id(group()).with_member_id(first.member_id.clone());
    assert_eq!(client.ask(2, &leave).await.error_code, 0);
    assert_eq!(client.ask(3, &heartbeat).await.error_code, 25, "UNKNOWN_MEMBER_ID");
    let listed = client.ask(4, &m::ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.iter().map(|g| &*g.group_state).collect::<Vec<_>>(), ["Empty"]);
    let deleted = client.ask(1, &m::DeleteGroupsRequest::default().with_groups_names(vec![group()])).await;
    assert_eq!(deleted.results[0].error_code, 0);
    assert!(client.ask(4, &m::ListGroupsRequest::default()).await.groups.is_empty());
}

pub(super) fn joining(instance: Option<&str>) -> m::JoinGroupRequest {
    let protocol = m::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    m::JoinGroupRequest::default()
        .with_group_id(group())
        .with_group_instance_id(instance.map(|instance| StrBytes::from_string(instance.to_owned())))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

pub(super) fn heartbeat() -> m::ConsumerGroupHeartbeatRequest {
    m::ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![name("t")]))
        .with_topic_partitions(Some(Vec::new()))
}

/// A byte that is no UTF-8 becomes three, so that what has come within its bounds is beyond those of a record.
#[tokio::test]
async fn names_that_no_record_can_hold_are_refused_and_nobody_else_notices() {
    let (cluster, mut client) = with_coordinator().await;
    let joined = client.ask(5, &joining(Some("first"))).await;
    assert_eq!(joined.error_code, 0);
    let odd = vec![0xff; 11_000];
    for request in [joining(Some("x")), joining(None)] {
        assert_eq!(client.ask_as(&odd, 5, &request).await.error_code, 42, "INVALID_REQUEST");
    }
    assert_eq!(client.ask_as(&odd, 1, &heartbeat()).await.error_code, 42);
    let long = "i".repeat(32_740);
    assert_eq!(client.ask(5, &joining(Some(&long))).await.error_code, 42);
    // The first member's generation is written and committed by the shard that it joined.
    let assignment = m::sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let sync = m::SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("first")))
        .with_assignments(vec![assignment]);
    let synced = client.ask(3, &sync).await;
    assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"all")));
    assert!(appended(&cluster) > 0);
}

#[tokio::test]
async fn the_longest_client_id_is_written_and_read_again() {
    let (cluster, mut client) = with_coordinator().await;
    let longest = vec![b'c'; 32_730];
    let joined = client.ask_as(&longest, 5, &joining(Some("x"))).await;
    assert_eq!(joined.error_code, 0);
    assert_eq!(client.ask(3, &syncing(&joined)).await.error_code, 0);
    cluster.logs().refuse_produce = Some(ProduceError::NotEnoughReplicas);
    // A shard whose append failed is loaded again.
    let leave = m::leave_group_request::MemberIdentity::default()
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("x")));
    let leave = m::LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leave]);
    assert_ne!(client.ask(3, &leave).await.error_code, 0);
    cluster.logs().refuse_produce = None;
    while fetch(&mut client).await.0 != 0 {}
    let described = client.ask(4, &m::DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    assert_eq!(described.groups[0].members.iter().map(|m| m.client_id.len()).collect::<Vec<_>>(), [32_730]);
}

/// Whoever was told of a topic commits offsets there at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_finds_a_topic_that_has_just_been_created() {
    let (cluster, mut client) = with_coordinator().await;
    for n in 0..200 {
        let topic = format!("t{n}");
        let of_topic = m::offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(m::TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(vec![m::offset_commit_request::OffsetCommitRequestPartition::default()]);
        cluster.topic(&topic, 1);
        let answer = client.ask(8, &commit(0).with_topics(vec![of_topic])).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{topic}");
    }
}

#[tokio::test]
async fn a_group_of_the_other_protocol_is_said_to_be_one() {
    let (_cluster, mut client) = with_coordinator().await;
    let described = async |client: &mut Client, id: &'static str| {
        let asked = m::DescribeGroupsRequest::default().with_groups(vec![GroupId(text(id))]);
        let group = client.ask(6, &asked).await.groups.remove(0);
        (group.error_code, group.error_message.unwrap_or_default().to_string())
    };
    let consumer_described = async |client: &mut Client| {
        let asked = m::ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
        let group = client.ask(0, &asked).await.groups.remove(0);
        (group.error_code, group.error_message.unwrap_or_default().to_string())
    };
    assert_eq!(described(&mut client, "group").await, (69, "Group group not found.".to_owned()));
    assert_eq!(committed(&mut client, 5).await, 0);
    assert_eq!(consumer_described(&mut client).await, (69, "Group group is not a consumer group.".to_owned()));
    assert_eq!(client.ask(1, &heartbeat()).await.error_code, 0);
    assert_eq!(described(&mut client, "group").await, (69, "Group group is not a classic group.".to_owned()));
    assert_eq!(consumer_described(&mut client).await.0, 0);
}

/// As consumers do that are closed: they commit and leave on the connection to the coordinator, while a fetch for which
/// there is nothing still waits on the other one to the same broker.
#[tokio::test]
async fn a_member_commits_and_leaves_while_its_fetch_waits() {
    let (cluster, mut client) = with_coordinator().await;
    let joined = client.ask(5, &joining(Some("x"))).await;
    let mut reader = Client::connect(cluster.address).await;
    let waits = reader.send(12, &super::fetch("t", 0).with_max_wait_ms(60_000)).await;
    assert_eq!(client.ask(3, &syncing(&joined)).await.error_code, 0);
    let of_member = commit_of(&joined, 1);
    let answer = client.ask(8, &of_member).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let leave = m::leave_group_request::MemberIdentity::default().with_group_instance_id(Some(text("x")));
    let leave = m::LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leave]);
    let left = client.ask(3, &leave).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    let written = client.ask(9, &produce("t", -1, batch(1, 100).freeze())).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    let read = reader.answer::<m::FetchRequest>(12, waits).await;
    let records = read.responses[0].partitions[0].records.as_ref().map(Bytes::len);
    assert!(records.is_some_and(|bytes| bytes > 100), "it was still waiting: {records:?}");
}
