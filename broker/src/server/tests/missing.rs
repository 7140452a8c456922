//! What clients are told while a broker is missing: it may have died, and nobody has said so yet.

use super::client::Client;
use super::cluster::{Cluster, ME};
use super::name;
use crate::peers::Peers;
use chronik_core::ids::BrokerId;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use std::time::Duration;
use tokio::time::timeout;

const PEER: BrokerId = BrokerId(1);
const VERSION: i16 = 12;

fn question() -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name("t")))]))
}

fn brokers(response: &MetadataResponse) -> Vec<i32> {
    response.brokers.iter().map(|broker| broker.node_id.0).collect()
}

/// A listener that has just lost its peer, and a client that has asked it.
async fn asked() -> (Cluster, Client, i32) {
    let peers = Peers::default();
    let cluster = Cluster::start_with(|config| config.peers = peers.clone()).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    assert_eq!(brokers(&client.ask(VERSION, &question()).await), [ME.0, PEER.0]);
    peers.lost(PEER);
    let id = client.send(VERSION, &question()).await;
    timeout(Duration::from_millis(50), client.receive()).await.expect_err("no answer yet");
    (cluster, client, id)
}

#[tokio::test]
async fn who_asks_while_a_broker_is_missing_hears_who_has_taken_its_place() {
    let (cluster, mut client, id) = asked().await;
    cluster.image.send_modify(|image| image.brokers.get_mut(&PEER).expect("it is there").fenced = true);
    assert_eq!(brokers(&client.answer::<MetadataRequest>(VERSION, id).await), [ME.0]);
}

#[tokio::test]
async fn who_asks_while_a_broker_is_missing_is_answered_in_any_case() {
    let (_cluster, mut client, id) = asked().await;
    assert_eq!(brokers(&client.answer::<MetadataRequest>(VERSION, id).await), [ME.0, PEER.0]);
}
