//! What groups get while `__consumer_offsets` has fewer replicas in sync than its minimum.

use super::client::Client;
use super::cluster::Cluster;
use super::groups::{appended, commit, commit_of, committed, fetch, group, joining, lead, syncing, with_coordinator};
use super::{name, text, until};
use kafka_protocol::messages as m;
use kafka_protocol::messages::GroupId;

/// So many replicas are in sync, of the two that have to be.
fn in_sync(cluster: &Cluster, count: i32) {
    use chronik_core::ids::BrokerId;
    cluster.image.send_modify(|image| {
        let id = image.topic_ids["__consumer_offsets"];
        let topic = image.topics.get_mut(&id).expect("it was found by its name");
        topic.min_insync_replicas = 2;
        for partition in &mut topic.partitions {
            partition.replicas = [BrokerId(0), BrokerId(1)].into_iter().collect();
            partition.isr = (0..count).map(BrokerId).collect();
        }
    });
}

#[tokio::test]
async fn while_too_few_replicas_are_in_sync_members_heartbeat_and_what_is_committed_is_read() {
    let (cluster, mut client) = with_coordinator().await;
    assert_eq!(committed(&mut client, 5).await, 0);
    let joined = client.ask(5, &joining(Some("x"))).await;
    assert_eq!(client.ask(3, &syncing(&joined)).await.error_code, 0);
    let commit = commit_of(&joined, 6);
    cluster.logs().acknowledges_late = true;
    let before = appended(&cluster);
    let mut other = Client::connect(cluster.address).await;
    let id = other.send(8, &commit).await;
    until(|| appended(&cluster) > before).await;
    in_sync(&cluster, 1);
    let answer = other.answer::<m::OffsetCommitRequest>(8, id).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 15, "COORDINATOR_NOT_AVAILABLE, at once");
    assert_eq!(fetch(&mut client).await.0, 15, "nobody is told what is not committed");
    cluster.logs().release();
    while fetch(&mut client).await != (0, 6) {}

    let before = appended(&cluster);
    let refused = client.ask(8, &commit).await;
    assert_eq!(refused.topics[0].partitions[0].error_code, 15, "COORDINATOR_NOT_AVAILABLE");
    let beat = m::HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("x")));
    assert_eq!(client.ask(3, &beat).await.error_code, 0);
    assert_eq!(fetch(&mut client).await, (0, 6));
    let described = client.ask(4, &m::DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    assert_eq!((described.groups[0].error_code, &*described.groups[0].group_state), (0, "Stable"));
    assert_eq!(appended(&cluster), before, "what is refused is not appended");

    in_sync(&cluster, 2);
    while client.ask(8, &commit).await.topics[0].partitions[0].error_code == 15 {}
    assert_eq!(client.ask(8, &commit).await.topics[0].partitions[0].error_code, 0);
}

#[tokio::test]
async fn a_coordinator_that_begins_with_too_few_in_sync_serves_the_groups_of_which_all_is_committed() {
    let (cluster, mut client) = with_coordinator().await;
    let of = |id: &'static str, request: m::OffsetCommitRequest| request.with_group_id(GroupId(text(id)));
    let others = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for other in others {
        while client.ask(8, &of(other, commit(3))).await.topics[0].partitions[0].error_code != 0 {}
    }
    assert_eq!(committed(&mut client, 5).await, 0);
    cluster.logs().last_is_uncommitted = true;
    in_sync(&cluster, 1);
    lead(&cluster, 0, 9);
    // Partitions of which the last batch is another group's have that one's at their end.
    while fetch(&mut client).await.0 != 15 {}
    let mut served = 0;
    for other in others {
        let topic = m::offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0]);
        let request = m::OffsetFetchRequest::default().with_group_id(GroupId(text(other)));
        let request = request.with_topics(Some(vec![topic]));
        let response = loop {
            let response = client.ask(5, &request).await;
            if !matches!(response.error_code, 14 | 16) {
                break response;
            }
        };
        if response.error_code == 0 {
            assert_eq!(response.topics[0].partitions[0].committed_offset, 3);
            served += 1;
        }
    }
    assert!(served > 0, "no group is served");
    cluster.logs().last_is_uncommitted = false;
    in_sync(&cluster, 2);
    while fetch(&mut client).await != (0, 5) {}
    while committed(&mut client, 6).await == 15 {}
    assert_eq!(fetch(&mut client).await, (0, 6));
}
