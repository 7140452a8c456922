//! In which order requests of one connection are begun and answered, and how long they wait.

use super::client::{Client, DEADLINE, batch};
use super::cluster::{Cluster, partition};
use super::{fetch, name, produce, until};
use kafka_protocol::messages as m;
use std::io::ErrorKind;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

#[tokio::test]
async fn a_produce_that_waits_does_not_stop_the_next_append() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut client = Client::connect(cluster.address).await;
    let mut ids = Vec::new();
    for records in 1..=5 {
        ids.push(client.send(9, &produce("t", -1, batch(records, 50).freeze())).await);
    }
    let appended = || cluster.logs().batches.get(&partition(topic, 0)).map_or(0, Vec::len);
    until(|| appended() == 5).await;
    cluster.logs().release();
    for (id, base) in ids.into_iter().zip([0, 1, 3, 6, 10]) {
        let response = client.answer::<m::ProduceRequest>(9, id).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, base));
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut client = Client::connect(cluster.address).await;
    let first = client.send(9, &produce("t", -1, batch(1, 10).freeze())).await;
    let second = client.send(1, &m::MetadataRequest::default()).await;
    until(|| cluster.logs().batches.contains_key(&partition(topic, 0))).await;
    cluster.logs().release();
    client.answer::<m::ProduceRequest>(9, first).await;
    client.answer::<m::MetadataRequest>(1, second).await;
}

#[tokio::test]
async fn acks_0_has_no_answer() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    client.send(9, &produce("t", 0, batch(1, 10).freeze())).await;
    let next = client.send(1, &m::MetadataRequest::default()).await;
    client.answer::<m::MetadataRequest>(1, next).await;
    assert_eq!(cluster.logs().batches[&partition(topic, 0)].len(), 1);
}

#[tokio::test]
async fn acks_0_that_fails_closes_the_connection() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    client.send(9, &produce("none", 0, batch(1, 10).freeze())).await;
    client.closed().await;
}

#[tokio::test]
async fn a_produce_that_times_out_leaves_its_batch_in_the_log() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut client = Client::connect(cluster.address).await;
    let request = produce("t", -1, batch(1, 10).freeze()).with_timeout_ms(10);
    let response = client.ask(9, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 7);
    assert_eq!(cluster.logs().batches[&partition(topic, 0)].len(), 1);
}

#[tokio::test]
async fn what_only_the_leader_has_to_acknowledge_does_not_time_out() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut client = Client::connect(cluster.address).await;
    let id = client.send(9, &produce("t", 1, batch(1, 10).freeze()).with_timeout_ms(1)).await;
    tokio::time::timeout(std::time::Duration::from_millis(50), client.receive()).await.expect_err("no answer yet");
    cluster.logs().release();
    let response = client.answer::<m::ProduceRequest>(9, id).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn a_fetch_waits_until_something_is_written() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let (mut reader, mut writer) = (Client::connect(cluster.address).await, Client::connect(cluster.address).await);
    let id = reader.send(12, &fetch("t", 0).with_max_wait_ms(15_000).with_min_bytes(150)).await;
    // One batch is not enough, two are.
    for _ in 0..2 {
        writer.ask(9, &produce("t", -1, batch(1, 39).freeze())).await;
    }
    let response = reader.answer::<m::FetchRequest>(12, id).await;
    let records = response.responses[0].partitions[0].records.as_ref().expect("records");
    assert_eq!(records.len(), 200);
}

#[tokio::test]
async fn a_fetch_that_waited_for_nothing_is_empty() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(12, &fetch("t", 0).with_max_wait_ms(20)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.records.as_ref().map(bytes::Bytes::len)), (0, Some(0)));
}

#[tokio::test]
async fn a_fetch_is_as_long_as_allowed_but_has_one_batch() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 2);
    let mut client = Client::connect(cluster.address).await;
    for index in [0, 0, 0, 1, 1] {
        let mut request = produce("t", 1, batch(1, 39).freeze());
        request.topic_data[0].partition_data[0].index = index;
        client.ask(9, &request).await;
    }
    let mut lengths = async |total: i32, each: i32| -> Vec<usize> {
        let mut request = fetch("t", 0).with_max_bytes(total);
        let mut second = request.topics[0].partitions[0].clone();
        second.partition = 1;
        request.topics[0].partitions.push(second);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = each;
        }
        let response = client.ask(12, &request).await;
        response.responses[0].partitions.iter().map(|p| p.records.as_ref().map_or(0, bytes::Bytes::len)).collect()
    };
    assert_eq!(lengths(10_000, 1000).await, [300, 200]);
    assert_eq!(lengths(10_000, 200).await, [200, 200]);
    assert_eq!(lengths(400, 1000).await, [300, 100]);
    assert_eq!(lengths(300, 1000).await, [300, 0]);
    assert_eq!(lengths(1, 1000).await, [100, 0]);
    assert_eq!(lengths(0, 0).await, [100, 0]);
}

#[tokio::test]
async fn a_fetch_is_no_longer_than_the_broker_allows() {
    let cluster = Cluster::start_with(|c| c.fetch_max_bytes = 250).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for _ in 0..5 {
        client.ask(9, &produce("t", 1, batch(1, 39).freeze())).await;
    }
    let response = client.ask(12, &fetch("t", 0)).await;
    assert_eq!(response.responses[0].partitions[0].records.as_ref().map(bytes::Bytes::len), Some(200));
}

#[tokio::test]
async fn a_batch_of_its_own_request_is_written_into_in_place() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    client.ask(9, &produce("t", 1, batch(1, 100_000).freeze())).await;
    assert_eq!(cluster.logs().copied, 0);
    assert_eq!(cluster.logs().batches[&partition(topic, 0)].len(), 1);
}

#[tokio::test]
async fn a_stop_lets_requests_that_have_begun_be_answered() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut client = Client::connect(cluster.address).await;
    let id = client.send(9, &produce("t", -1, batch(1, 10).freeze())).await;
    until(|| cluster.logs().batches.contains_key(&partition(topic, 0))).await;
    cluster.stop.cancel();
    cluster.logs().release();
    client.answer::<m::ProduceRequest>(9, id).await;
    client.closed().await;
    until(|| cluster.served.is_finished()).await;
}

#[tokio::test]
async fn a_stop_resets_a_connection_on_which_nothing_was_answered_and_closes_others() {
    let cluster = Cluster::start().await;
    let mut fresh = Client::connect(cluster.address).await;
    fresh.ask(3, &super::api_versions()).await;
    let mut served = Client::connect(cluster.address).await;
    served.ask(9, &m::MetadataRequest::default()).await;
    cluster.stop.cancel();
    for (client, expected) in [(&mut fresh, Err(ErrorKind::ConnectionReset)), (&mut served, Ok(0))] {
        let end = timeout(DEADLINE, client.stream.read(&mut [0])).await.expect("it ends");
        assert_eq!(end.map_err(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn names_of_topics_that_are_asked_for_become_topics() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let topic = |n| m::metadata_request::MetadataRequestTopic::default().with_name(Some(name(n)));
    let request = m::MetadataRequest::default().with_topics(Some(vec![topic("new"), topic("not allowed")]));
    let refused = client.ask(9, &request.clone().with_allow_auto_topic_creation(false)).await;
    assert_eq!(refused.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [3, 17]);
    let created = client.ask(9, &request.with_allow_auto_topic_creation(true)).await;
    assert_eq!(created.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 17]);
    assert_eq!(created.topics[0].partitions[0].leader_id.0, 0);
}
