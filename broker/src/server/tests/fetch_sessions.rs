//! Fetch sessions (KIP-227), and fetches that wait.

use super::client::{Client, batch};
use super::cluster::{Cluster, partition};
use super::{name, produce, until};
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

const VERSION: i16 = 12;

/// A request of a session for partitions of topic t, by index and offset.
fn fetch(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> m::FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| {
        let partition = FetchPartition::default().with_partition(*index).with_fetch_offset(*offset);
        partition.with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(name("t")).with_partitions(partitions.collect());
    let topics = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
    m::FetchRequest::default()
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(topics)
}

/// The partitions of an answer.
fn answered(response: &m::FetchResponse) -> Vec<i32> {
    response.responses.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.partition_index)).collect()
}

#[tokio::test]
async fn a_session_is_asked_and_told_only_what_changed() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 3);
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(VERSION, &fetch(0, 0, &[(0, 0), (1, 0), (2, 0)])).await;
    assert_eq!((response.error_code, answered(&response)), (0, vec![0, 1, 2]));
    let id = response.session_id;
    assert!(id > 0);

    let response = client.ask(VERSION, &fetch(id, 1, &[])).await;
    assert_eq!((response.error_code, response.session_id, answered(&response)), (0, id, vec![]));

    client.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
    let response = client.ask(VERSION, &fetch(id, 2, &[])).await;
    assert_eq!((response.session_id, answered(&response)), (id, vec![0]));
    assert!(response.responses[0].partitions[0].records.is_some());

    let forgotten = ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![1]);
    let request = fetch(id, 3, &[(0, 1), (2, 7)]).with_forgotten_topics_data(vec![forgotten]);
    let response = client.ask(VERSION, &request).await;
    assert_eq!((response.session_id, answered(&response)), (id, vec![2]));
    assert_eq!(response.responses[0].partitions[0].error_code, 1, "offset 7 is out of range");
}

#[tokio::test]
async fn a_request_that_is_not_its_sessions_next_is_refused() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let id = client.ask(VERSION, &fetch(0, 0, &[(0, 0)])).await.session_id;
    for (id, epoch, error) in [(id, 2, 71), (id.wrapping_add(1).max(1), 1, 70), (0, 1, 70)] {
        let response = client.ask(VERSION, &fetch(id, epoch, &[])).await;
        assert_eq!((response.error_code, response.session_id, answered(&response)), (error, 0, vec![]));
    }
    // From version 13 on topics have ids.
    assert_eq!(client.ask(13, &fetch(id, 1, &[])).await.error_code, 106);
    // Closed by a full request that wants none.
    let response = client.ask(VERSION, &fetch(id, -1, &[(0, 0)])).await;
    assert_eq!((response.error_code, response.session_id, answered(&response)), (0, 0, vec![0]));
    assert_eq!(client.ask(VERSION, &fetch(id, 1, &[])).await.error_code, 70);
}

#[tokio::test]
async fn a_session_is_asked_once_at_a_time_whoever_asks() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    let (mut client, mut other) = (Client::connect(cluster.address).await, Client::connect(cluster.address).await);
    let id = client.ask(VERSION, &fetch(0, 0, &[(0, 0)])).await.session_id;
    let waiting = client.send(VERSION, &fetch(id, 1, &[]).with_max_wait_ms(15_000)).await;
    until(|| cluster.logs().reads[&partition(topic, 0)] == 2).await;
    assert_eq!(other.ask(VERSION, &fetch(id, 2, &[])).await.error_code, 71);
    other.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
    let response = client.answer::<m::FetchRequest>(VERSION, waiting).await;
    assert_eq!((response.error_code, answered(&response)), (0, vec![0]));
    assert_eq!(other.ask(VERSION, &fetch(id, 2, &[])).await.error_code, 0);
}

#[tokio::test]
async fn without_a_free_slot_every_request_is_complete() {
    let cluster = Cluster::start_with(|config| config.fetch_session_slots = 1).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    assert!(client.ask(VERSION, &fetch(0, 0, &[(0, 0)])).await.session_id > 0);
    let response = client.ask(VERSION, &fetch(0, 0, &[(0, 0)])).await;
    assert_eq!((response.error_code, response.session_id, answered(&response)), (0, 0, vec![0]));
}

#[tokio::test]
async fn a_fetch_that_waits_reads_again_only_what_may_have_changed() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 100);
    let (mut reader, mut writer) = (Client::connect(cluster.address).await, Client::connect(cluster.address).await);
    let all: Vec<_> = (0..100).map(|index| (index, 0)).collect();
    let id = reader.send(VERSION, &fetch(0, -1, &all).with_max_wait_ms(15_000)).await;
    let reads = || cluster.logs().reads.values().sum::<usize>();
    until(|| reads() == 100).await;
    writer.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
    let response = reader.answer::<m::FetchRequest>(VERSION, id).await;
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    assert_eq!(response.responses[0].partitions.len(), 100);
    assert_eq!(reads(), 101);
    assert_eq!(cluster.logs().reads[&partition(topic, 0)], 2);
}
