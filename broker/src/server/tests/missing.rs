//! What clients are told while a broker is missing: it may have died, and nobody has said so yet.

use super::client::Client;
use super::cluster::{Cluster, ME};
use super::name;
use crate::server::ServerConfig;
use chronik_core::cluster::Partition;
use chronik_core::ids::BrokerId;
use chronik_quorum::peers::Peers;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use std::time::Duration;
use tokio::time::timeout;

const PEER: BrokerId = BrokerId(1);
const VERSION: i16 = 12;
/// Longer than any answer is waited for.
const NEVER: Duration = Duration::from_hours(1);

fn question(topic: &'static str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    MetadataRequest::default().with_topics(Some(vec![topic]))
}

fn brokers(response: &MetadataResponse) -> Vec<i32> {
    response.brokers.iter().map(|broker| broker.node_id.0).collect()
}

/// A listener, its peers, a client, and the topics `theirs`, which the peer leads, and `ours`.
async fn cluster(change: impl FnOnce(&mut ServerConfig)) -> (Cluster, Peers, Client) {
    let peers = Peers::default();
    let cluster = Cluster::start_with(|config| {
        config.peers = peers.clone();
        change(config);
    })
    .await;
    cluster.topic("ours", 1);
    let theirs = cluster.topic("theirs", 1);
    cluster.image.send_modify(|image| {
        let topic = image.topics.get_mut(&theirs).expect("it is there");
        topic.partitions = topic.partitions.iter().map(|p| Partition { leader: Some(PEER), ..p.clone() }).collect();
    });
    let client = Client::connect(cluster.address).await;
    (cluster, peers, client)
}

fn fence(cluster: &Cluster) {
    cluster.image.send_modify(|image| image.brokers.get_mut(&PEER).expect("it is there").fenced = true);
}

/// The peer goes missing, and a client that asks has no answer yet.
async fn asked(peers: &Peers, client: &mut Client) -> i32 {
    assert_eq!(brokers(&client.ask(VERSION, &question("theirs")).await), [ME.0, PEER.0]);
    peers.lost(PEER);
    let id = client.send(VERSION, &question("theirs")).await;
    timeout(Duration::from_millis(50), client.receive()).await.expect_err("no answer yet");
    id
}

#[tokio::test]
async fn who_asks_while_a_leader_is_missing_hears_that_it_is_fenced() {
    let (cluster, peers, mut client) = cluster(|config| config.missing_broker_timeout = NEVER).await;
    let id = asked(&peers, &mut client).await;
    fence(&cluster);
    assert_eq!(brokers(&client.answer::<MetadataRequest>(VERSION, id).await), [ME.0]);
}

#[tokio::test]
async fn who_asks_while_a_leader_is_missing_hears_that_it_is_back() {
    let (_cluster, peers, mut client) = cluster(|config| config.missing_broker_timeout = NEVER).await;
    let id = asked(&peers, &mut client).await;
    peers.reached(PEER);
    assert_eq!(brokers(&client.answer::<MetadataRequest>(VERSION, id).await), [ME.0, PEER.0]);
}

#[tokio::test]
async fn who_asks_for_what_others_lead_is_not_kept_waiting() {
    let (_cluster, peers, mut client) = cluster(|config| config.missing_broker_timeout = NEVER).await;
    peers.lost(PEER);
    assert_eq!(brokers(&client.ask(VERSION, &question("ours")).await), [ME.0, PEER.0]);
}

#[tokio::test]
async fn who_asks_is_answered_in_the_end() {
    let (_cluster, peers, mut client) = cluster(|_| {}).await;
    peers.lost(PEER);
    assert_eq!(brokers(&client.ask(VERSION, &question("theirs")).await), [ME.0, PEER.0]);
}

#[tokio::test]
async fn who_asks_before_this_broker_has_noticed_waits_too() {
    let (cluster, peers, mut client) = cluster(|config| {
        config.missing_broker_timeout = NEVER;
        config.notice = Duration::from_secs(2);
    })
    .await;
    let id = client.send(VERSION, &question("theirs")).await;
    peers.lost(PEER);
    timeout(Duration::from_millis(2_500), client.receive()).await.expect_err("no answer yet");
    fence(&cluster);
    assert_eq!(brokers(&client.answer::<MetadataRequest>(VERSION, id).await), [ME.0]);
}
