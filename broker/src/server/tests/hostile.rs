//! Clients that mean harm, or are broken: they cost what they send, and nobody else notices.

use super::client::{Client, batch, frame};
use super::cluster::{Cluster, partition};
use super::{fetch, produce, until};
use chronik_core::cluster::ConnectionsPerIp;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::StrBytes;
use prometheus_client::encoding::text::encode;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

fn metric(cluster: &Cluster, name: &str) -> u64 {
    let mut text = String::new();
    encode(&mut text, &cluster.registry).expect("into a string");
    let line = text.lines().find(|l| l.starts_with(name)).expect("the metric is there");
    line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

fn new_topic(number: usize) -> m::TopicName {
    m::TopicName(format!("new-{number}").into())
}

const BUDGET_USED: &str = "chronik_kafka_request_budget_used_bytes ";
const CONNECTIONS: &str = "chronik_kafka_connections ";

/// Another client is served as ever.
async fn others_are_served(cluster: &Cluster) {
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(1, &m::MetadataRequest::default()).await;
    assert!(!response.brokers.is_empty());
}

async fn all_is_given_back(cluster: &Cluster) {
    until(|| metric(cluster, CONNECTIONS) == 0).await;
    assert_eq!(metric(cluster, BUDGET_USED), 0);
}

#[tokio::test]
async fn lengths_that_cannot_be_close_the_connection() {
    let cluster = Cluster::start().await;
    for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        let mut client = Client::connect(cluster.address).await;
        client.stream.write_all(&length.to_be_bytes()).await.expect("it is read");
        client.closed().await;
    }
    others_are_served(&cluster).await;
}

#[tokio::test]
async fn random_bytes() {
    let cluster = Cluster::start().await;
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..300 {
        let mut client = Client::connect(cluster.address).await;
        let mut bytes = vec![0; 1 + (rng.next_u32() % 400) as usize];
        rng.fill_bytes(&mut bytes);
        // It may be closed before everything is written.
        let _ = client.stream.write_all(&bytes).await;
        let _ = client.stream.shutdown().await;
        client.closed().await;
    }
    others_are_served(&cluster).await;
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn mutated_frames() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let topic = m::create_topics_request::CreatableTopic::default();
    let frames = [
        frame(9, 1, &produce("t", -1, batch(1, 50).freeze())),
        frame(3, 1, &produce("t", 1, batch(1, 50).freeze())),
        frame(12, 1, &fetch("t", 0)),
        frame(4, 1, &fetch("t", 0)),
        frame(9, 1, &m::MetadataRequest::default().with_topics(None)),
        frame(3, 1, &super::api_versions()),
        frame(5, 1, &m::CreateTopicsRequest::default().with_topics(vec![topic])),
        frame(4, 1, &m::FindCoordinatorRequest::default()),
    ];
    let mut rng = StdRng::seed_from_u64(9);
    for i in 0..4000 {
        let mut bytes = frames[i % frames.len()].to_vec();
        for _ in 0..=rng.next_u32() % 6 {
            // Every fourth frame may get another length; the others reach the decoder.
            let from = if i % 4 == 0 { 0 } else { 4 };
            let at = from + rng.next_u32() as usize % (bytes.len() - from);
            bytes[at] = rng.next_u32() as u8;
        }
        let mut client = Client::connect(cluster.address).await;
        let _ = client.stream.write_all(&bytes).await;
        let _ = client.stream.shutdown().await;
        client.closed().await;
    }
    others_are_served(&cluster).await;
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn a_length_that_is_claimed_costs_nothing() {
    let cluster = Cluster::start().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(cluster.address).await;
        client.stream.write_all(&(100i32 << 20).to_be_bytes()).await.expect("it is read");
        client.stream.write_all(&[0; 10]).await.expect("it is read");
        clients.push(client);
    }
    others_are_served(&cluster).await;
    assert_eq!(metric(&cluster, BUDGET_USED), 0, "so little counts for nothing before it is a whole request");
    drop(clients);
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn requests_beyond_the_budget_wait_for_each_other_and_not_for_ever() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    cluster.topic("t", 1);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(cluster.address).await;
        let whole = frame(9, 1, &produce("t", -1, batch(1, 900_000).freeze()));
        clients.push(tokio::spawn(async move {
            client.stream.write_all(&whole).await.expect("it is read in the end");
            client.answer::<m::ProduceRequest>(9, 1).await.responses[0].partition_responses[0].error_code
        }));
    }
    for client in clients {
        assert_eq!(client.await.expect("no panic"), 0);
    }
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn frames_that_have_only_begun_keep_nobody_waiting() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    cluster.topic("t", 1);
    let mut clients = Vec::new();
    // In pieces of 64 KiB they would have taken all of it with the sixteenth.
    for _ in 0..64 {
        let mut client = Client::connect(cluster.address).await;
        client.stream.write_all(&[0, 15, 0, 0, 0, 0, 0, 9, 0]).await.expect("it is read");
        clients.push(client);
    }
    others_are_served(&cluster).await;
    let mut writer = Client::connect(cluster.address).await;
    let response = writer.ask(9, &produce("t", -1, batch(1, 100_000).freeze())).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn records_that_are_not_on_the_disk_keep_no_other_kind_of_request_waiting() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    cluster.topic("t", 1);
    cluster.logs().on_their_way = Some(Vec::new());
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(cluster.address).await;
        let whole = frame(9, 1, &produce("t", 0, batch(1, 900_000).freeze()));
        // The later ones are not read to their end.
        clients.push(tokio::spawn(async move { client.stream.write_all(&whole).await }));
    }
    until(|| metric(&cluster, BUDGET_USED) > 500_000).await;
    others_are_served(&cluster).await;
    let mut reader = Client::connect(cluster.address).await;
    let response = reader.ask(12, &fetch("t", 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    for client in clients {
        client.abort();
    }
}

#[tokio::test]
async fn what_is_on_the_disk_keeps_no_room_until_the_followers_have_it() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    let topic = cluster.topic("t", 1);
    cluster.logs().acknowledges_late = true;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(cluster.address).await;
        let id = client.send(9, &produce("t", -1, batch(1, 500_000).freeze())).await;
        clients.push((client, id));
    }
    let appended = || cluster.logs().batches.get(&partition(topic, 0)).map_or(0, Vec::len);
    until(|| appended() == 4).await;
    until(|| metric(&cluster, BUDGET_USED) < 4096).await;
    cluster.logs().release();
    for (mut client, id) in clients {
        let response = client.answer::<m::ProduceRequest>(9, id).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

#[tokio::test]
async fn a_frame_that_trickles_is_given_up() {
    let cluster = Cluster::start_with(|c| c.stall_timeout = Duration::from_millis(300)).await;
    let client = Client::connect(cluster.address).await;
    let (mut reading, mut writing) = client.stream.into_split();
    writing.write_all(&[0, 1, 0, 0]).await.expect("it is read");
    // A byte each 10 ms is never silent for long.
    let trickle = async {
        while writing.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let closed = async { while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut reading, &mut [0; 16]).await {} };
    let given_up = async {
        tokio::select! {
            () = trickle => {}
            () = closed => {}
        }
    };
    tokio::time::timeout(super::client::DEADLINE, given_up).await.expect("the connection is closed");
    others_are_served(&cluster).await;
}

#[tokio::test]
async fn what_is_not_on_the_disk_counts_even_if_nobody_waits_for_it() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 2 << 20).await;
    cluster.topic("t", 1);
    cluster.logs().on_their_way = Some(Vec::new());
    let mut client = Client::connect(cluster.address).await;
    client.send(9, &produce("t", 0, batch(1, 900_000).freeze())).await;
    client.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
    assert!(metric(&cluster, BUDGET_USED) > 900_000, "the first has no answer, and is on its way to the disk");
    cluster.logs().on_their_way = None;
    drop(client);
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn long_fetches_that_wait_for_ever_keep_nobody_else_waiting() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 4 << 20).await;
    cluster.topic("t", 1);
    let long = |bytes: usize| {
        let mut request = fetch("t", 0).with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX);
        let partition = request.topics[0].partitions[0].clone();
        // 16 bytes each.
        request.topics[0].partitions = vec![partition; bytes / 16];
        request
    };
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(cluster.address).await;
        client.send(4, &long(60_000)).await;
        waiting.push(client);
    }
    others_are_served(&cluster).await;
    let mut writer = Client::connect(cluster.address).await;
    let response = writer.ask(9, &produce("t", -1, batch(1, 900_000).freeze())).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);

    let mut too_long = Client::connect(cluster.address).await;
    too_long.send(4, &long(700_000)).await;
    too_long.closed().await;
}

#[tokio::test]
async fn what_waits_for_the_controller_keeps_no_client_from_its_records() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 4 << 20).await;
    cluster.topic("t", 1);
    cluster.silent.store(true, Ordering::Relaxed);
    let moves = {
        let partition = m::alter_partition_reassignments_request::ReassignablePartition::default();
        let topic = m::alter_partition_reassignments_request::ReassignableTopic::default()
            .with_name(super::name("t"))
            .with_partitions(vec![partition; 10_000]);
        m::AlterPartitionReassignmentsRequest::default().with_timeout_ms(i32::MAX).with_topics(vec![topic])
    };
    let topics = {
        let topic = |i: usize| m::create_topics_request::CreatableTopic::default().with_name(new_topic(i));
        m::CreateTopicsRequest::default().with_timeout_ms(i32::MAX).with_topics((0..1900).map(topic).collect())
    };
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(cluster.address).await;
        client.send(0, &moves).await;
        waiting.push(client);
        let mut client = Client::connect(cluster.address).await;
        client.send(5, &topics).await;
        waiting.push(client);
    }
    until(|| metric(&cluster, BUDGET_USED) > 0).await;
    // More than counts for nothing.
    let mut client = Client::connect(cluster.address).await;
    let named = m::metadata_request::MetadataRequestTopic::default().with_name(Some(super::name("t")));
    let response = client.ask(9, &m::MetadataRequest::default().with_topics(Some(vec![named; 1000]))).await;
    assert_eq!(response.topics.len(), 1);
    let mut request = fetch("t", 0);
    request.topics[0].partitions = vec![request.topics[0].partitions[0].clone(); 200];
    client.ask::<m::FetchRequest>(12, &request).await;
}

#[tokio::test]
async fn all_topics_of_a_request_share_its_timeout() {
    let cluster = Cluster::start().await;
    cluster.silent.store(true, Ordering::Relaxed);
    let topic = |i: usize| m::create_topics_request::CreatableTopic::default().with_name(new_topic(i));
    // One after the other they would take minutes, sixteen at a time as well.
    let request = m::CreateTopicsRequest::default().with_timeout_ms(1000).with_topics((0..1000).map(topic).collect());
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(5, &request).await;
    assert_eq!(response.topics.len(), 1000);
    assert!(response.topics.iter().all(|topic| topic.error_code != 0));
}

#[tokio::test]
async fn a_frame_that_does_not_go_on_is_given_up() {
    let cluster = Cluster::start_with(|c| c.stall_timeout = Duration::from_millis(50)).await;
    let mut client = Client::connect(cluster.address).await;
    client.stream.write_all(&[0, 0, 0, 100, 0]).await.expect("it is read");
    client.closed().await;
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let cluster = Cluster::start_with(|c| c.idle_timeout = Duration::from_millis(50)).await;
    Client::connect(cluster.address).await.closed().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_and_then_closed() {
    let cluster = Cluster::start_with(|c| c.stall_timeout = Duration::from_millis(300)).await;
    cluster.topic("t", 1000);
    let mut client = Client::connect(cluster.address).await;
    let request = frame(9, 1, &m::MetadataRequest::default().with_topics(None));
    // Each answer is some 30 kB: the sockets' buffers are full long before the last request is written.
    let flood = async { while client.stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(super::client::DEADLINE, flood).await.expect("the connection is closed");
    others_are_served(&cluster).await;
    all_is_given_back(&cluster).await;
}

#[tokio::test]
async fn what_waits_behind_a_fetch_keeps_no_room() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    let topic = cluster.topic("t", 1);
    let named = (0..2000).map(|i| m::metadata_request::MetadataRequestTopic::default().with_name(Some(new_topic(i))));
    let long = m::MetadataRequest::default().with_topics(Some(named.collect())).with_allow_auto_topic_creation(false);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(cluster.address).await;
        client.send(12, &fetch("t", 0).with_max_wait_ms(i32::MAX)).await;
        client.send(9, &long).await;
        waiting.push(client);
    }
    until(|| cluster.logs().reads.get(&partition(topic, 0)) == Some(&4)).await;
    // The second of those finds what the first may have come before.
    others_are_served(&cluster).await;
    others_are_served(&cluster).await;
    let mut writer = Client::connect(cluster.address).await;
    writer.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
    for client in &mut waiting {
        client.answer::<m::FetchRequest>(12, 1).await;
        assert_eq!(client.answer::<m::MetadataRequest>(9, 2).await.topics.len(), 2000);
    }
    assert_eq!(metric(&cluster, BUDGET_USED), 0, "an answer that is written keeps nothing of its request");
}

#[tokio::test]
async fn of_clients_that_never_read_those_who_keep_too_much_are_given_up() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    cluster.topic("t", 5000);
    let request = frame(9, 1, &m::MetadataRequest::default().with_topics(None));
    let mut silent = Vec::new();
    for _ in 0..16 {
        let socket = TcpSocket::new_v4().expect("there is TCP");
        socket.set_recv_buffer_size(4096).expect("a size");
        silent.push(socket.connect(cluster.address).await.expect("the listener is there"));
    }
    until(|| metric(&cluster, CONNECTIONS) == 16).await;
    for stream in &mut silent {
        // Each answer is some 200 kB, and few of them are kept.
        stream.write_all(&request.repeat(20)).await.expect("it is read, or will be");
    }
    until(|| metric(&cluster, CONNECTIONS) <= 12).await;
    // Who reads gets its answer, however long it is.
    let mut reader = Client::connect(cluster.address).await;
    let response = reader.ask(9, &m::MetadataRequest::default().with_topics(None)).await;
    assert_eq!(response.topics[0].partitions.len(), 5000);
}

#[tokio::test]
async fn a_produce_of_more_partitions_than_its_budget_has_room_for_is_refused() {
    let cluster = Cluster::start_with(|c| c.request_budget_bytes = 1 << 20).await;
    let mut client = Client::connect(cluster.address).await;
    // As long as the header of a batch: with less they would be too many for the frame.
    let mut request = produce("t", -1, bytes::Bytes::from(vec![0; 61]));
    let partition = request.topic_data[0].partition_data[0].clone();
    let numbered = |index| partition.clone().with_index(index);
    request.topic_data[0].partition_data = (0..2048).map(numbered).collect();
    let response = client.ask(9, &request).await;
    assert_eq!(response.responses[0].partition_responses.len(), 2048);
    request.topic_data[0].partition_data.push(numbered(2048));
    client.send(9, &request).await;
    client.closed().await;
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed() {
    let cluster = Cluster::start_with(|c| c.max_connections = 2).await;
    let mut first = Client::connect(cluster.address).await;
    let mut second = Client::connect(cluster.address).await;
    first.ask(1, &m::MetadataRequest::default()).await;
    second.ask(1, &m::MetadataRequest::default()).await;
    Client::connect(cluster.address).await.closed().await;
    drop(first);
    until(|| metric(&cluster, CONNECTIONS) == 1).await;
    others_are_served(&cluster).await;
}

fn connections_per_ip(cluster: &Cluster, configs: &[(&'static str, &'static str)]) {
    let configs = configs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value)));
    cluster.image.send_modify(|image| image.cluster_configs = configs.collect());
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_allowed_from_when_that_is_said() {
    let cluster = Cluster::start().await;
    let mut first = Client::connect(cluster.address).await;
    let mut second = Client::connect(cluster.address).await;
    first.ask(1, &m::MetadataRequest::default()).await;
    second.ask(1, &m::MetadataRequest::default()).await;
    connections_per_ip(&cluster, &[("max.connections.per.ip", "1")]);
    Client::connect(cluster.address).await.closed().await;
    // Those that are there stay.
    first.ask(1, &m::MetadataRequest::default()).await;
    connections_per_ip(
        &cluster,
        &[("max.connections.per.ip", "1"), ("max.connections.per.ip.overrides", "127.0.0.1:3,::1:9")],
    );
    let mut third = Client::connect(cluster.address).await;
    third.ask(1, &m::MetadataRequest::default()).await;
    Client::connect(cluster.external).await.closed().await;
    drop((first, third));
    until(|| metric(&cluster, CONNECTIONS) == 1).await;
    others_are_served(&cluster).await;
}

#[tokio::test]
async fn the_file_says_how_many_connections_an_address_may_have_where_nobody_else_does() {
    let per_ip = ConnectionsPerIp::new(5, "127.0.0.1:1").expect("well formed");
    let cluster = Cluster::start_with(|c| c.connections_per_ip = per_ip).await;
    let mut first = Client::connect(cluster.address).await;
    first.ask(1, &m::MetadataRequest::default()).await;
    Client::connect(cluster.address).await.closed().await;
    connections_per_ip(&cluster, &[("max.connections.per.ip.overrides", "")]);
    others_are_served(&cluster).await;
}

fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

#[tokio::test]
async fn what_is_named_again_and_again_is_answered_once() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let groups = vec![m::GroupId(text("g")); 3000];
    let described = client.ask(5, &m::DescribeGroupsRequest::default().with_groups(groups.clone())).await;
    assert_eq!(described.groups.len(), 1);
    let group = m::offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(groups[0].clone());
    let fetched = client.ask(8, &m::OffsetFetchRequest::default().with_groups(vec![group; 3000])).await;
    assert_eq!(fetched.groups.len(), 1);
    let resource = m::describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let configs = client.ask(4, &m::DescribeConfigsRequest::default().with_resources(vec![resource; 3000])).await;
    assert_eq!(configs.results.len(), 1);
    let partitions = m::elect_leaders_request::TopicPartitions::default()
        .with_topic(super::name("t"))
        .with_partitions([vec![0; 3000], vec![7]].concat());
    let request =
        m::ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions])).with_timeout_ms(10_000);
    let elected = client.ask(2, &request).await;
    let of_topic = &elected.replica_election_results[0].partition_result;
    assert_eq!(of_topic.len(), 2, "{of_topic:?}");
    assert_eq!(of_topic.iter().find(|p| p.partition_id == 7).expect("answered").error_code, 3);
    let topic = m::list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
        .with_name(super::name("t"))
        .with_partition_indexes(vec![0]);
    let request = m::ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic; 3000]));
    assert_eq!(client.ask(0, &request).await.error_code, 0);
    let mut request = fetch("t", 0);
    request.max_wait_ms = 0;
    request.topics[0].partitions = vec![request.topics[0].partitions[0].clone(); 3000];
    let fetched = client.ask::<m::FetchRequest>(12, &request).await;
    assert_eq!(fetched.responses[0].partitions.len(), 1);
}

#[tokio::test]
async fn a_filter_of_more_words_than_there_are_is_refused() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let words = |n: usize| (0..n).map(|i| text(&i.to_string())).collect();
    let list = |words| m::ListGroupsRequest::default().with_states_filter(words);
    assert_eq!(client.ask(4, &list(words(65))).await.error_code, 42);
    assert_eq!(client.ask(4, &list(vec![text("Stable"); 10_000])).await.error_code, 0);
}

#[tokio::test]
async fn a_commit_that_names_its_group_in_too_many_records_is_refused() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 300);
    let mut client = Client::connect(cluster.address).await;
    let partition = |index| {
        m::offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(1)
    };
    let topic = m::offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(super::name("t"))
        .with_partitions((0..300).map(partition).collect());
    let request = m::OffsetCommitRequest::default()
        .with_group_id(m::GroupId(text(&"g".repeat(32_000))))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = client.ask(8, &request).await;
    assert!(answer.topics[0].partitions.iter().all(|p| p.error_code == 28), "{:?}", answer.topics[0].partitions[0]);
}
