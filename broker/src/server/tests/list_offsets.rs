//! What one client may ask about offsets without harm to the others.

use super::client::{Client, frame};
use super::cluster::Cluster;
use super::{name, until};
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tokio::io::AsyncWriteExt as _;

/// A request about partitions of the topic "t", each with a timestamp.
fn request(partitions: &[(i32, i64)]) -> ListOffsetsRequest {
    let partition = |&(index, timestamp): &(i32, i64)| {
        ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
    };
    let topic =
        ListOffsetsTopic::default().with_name(name("t")).with_partitions(partitions.iter().map(partition).collect());
    ListOffsetsRequest::default().with_topics(vec![topic])
}

#[tokio::test]
async fn partitions_that_are_named_twice_are_refused() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 4);
    let mut client = Client::connect(cluster.address).await;
    let mut twice = request(&[(0, -1), (1, -1), (2, -1), (0, 5)]);
    twice.topics.extend(request(&[(2, -1), (3, -1)]).topics);
    let response = client.ask(7, &twice).await;
    let errors = |topic: usize| -> Vec<_> {
        response.topics[topic].partitions.iter().map(|p| (p.partition_index, p.error_code, p.offset)).collect()
    };
    assert_eq!(errors(0), [(0, 42, -1), (1, 0, 0), (2, 42, -1), (0, 42, -1)]);
    assert_eq!(errors(1), [(2, 42, -1), (3, 0, 0)]);
}

#[tokio::test]
async fn a_request_has_one_search_at_a_time() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 4);
    cluster.logs().searches_wait = true;
    let mut client = Client::connect(cluster.address).await;
    let id = client.send(7, &request(&[(0, 5), (1, -3), (2, 6), (3, -1)])).await;
    for _ in 0..3 {
        until(|| !cluster.logs().searches.is_empty()).await;
        cluster.logs().answer_search();
    }
    let response = client.answer::<ListOffsetsRequest>(7, id).await;
    let found: Vec<_> = response.topics[0].partitions.iter().map(|p| (p.error_code, p.timestamp)).collect();
    assert_eq!(found, [(0, 5), (0, 1234), (0, 6), (0, -1)]);
    assert_eq!(cluster.logs().most_searches, 1);
}

#[tokio::test]
async fn all_clients_together_have_two_searches_at_a_time() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 4);
    cluster.logs().searches_wait = true;
    // The search of a client that has gone away goes on, and counts.
    let mut gone = Client::connect(cluster.address).await;
    gone.send(7, &request(&[(0, 5)])).await;
    until(|| cluster.logs().searches.len() == 1).await;
    drop(gone);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(cluster.address).await;
        let id = client.send(7, &request(&[(0, 5), (1, 5), (2, 5), (3, 5)])).await;
        clients.push((client, id));
    }
    until(|| cluster.logs().searches.len() >= 2).await;
    // What needs no search does not wait for one.
    let mut client = Client::connect(cluster.address).await;
    assert_eq!(client.ask(7, &request(&[(0, -1), (1, -2)])).await.topics[0].partitions.len(), 2);
    for _ in 0..13 {
        until(|| !cluster.logs().searches.is_empty()).await;
        cluster.logs().answer_search();
    }
    for (mut client, id) in clients {
        let response = client.answer::<ListOffsetsRequest>(7, id).await;
        assert!(response.topics[0].partitions.iter().all(|p| (p.error_code, p.timestamp) == (0, 5)));
    }
    assert_eq!(cluster.logs().most_searches, 2);
}

/// The client's codec ends at version 10, whose form version 11 has as well; only -6 came to it.
#[tokio::test]
async fn version_11_has_the_form_of_version_10() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 3);
    let mut client = Client::connect(cluster.address).await;
    let mut bytes = frame(10, 1, &request(&[(0, -6), (1, 5), (2, -77)])).to_vec();
    bytes[6..8].copy_from_slice(&11_i16.to_be_bytes());
    client.stream.write_all(&bytes).await.expect("the listener reads");
    let response = client.answer::<ListOffsetsRequest>(10, 1).await;
    let found: Vec<_> = response.topics[0].partitions.iter().map(|p| (p.error_code, p.offset, p.timestamp)).collect();
    assert_eq!(found, [(0, -1, -1), (0, 0, 5), (35, -1, -1)]);
}
