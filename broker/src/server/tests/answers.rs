//! What is answered when something is wrong.

use super::client::{Client, batch, seal};
use super::cluster::Cluster;
use super::{fetch, name, produce, text};
use crate::partitions::ReadError;
use bytes::{BufMut as _, Bytes, BytesMut};
use chronik_core::ids::BrokerId;
use chronik_core::replication::ProduceError;
use kafka_protocol::messages as m;
use tokio::io::AsyncWriteExt as _;

fn with(change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = batch(2, 50);
    change(&mut bytes);
    bytes.freeze()
}

fn sealed(change: impl FnOnce(&mut BytesMut)) -> Bytes {
    with(|bytes| {
        change(bytes);
        seal(bytes);
    })
}

/// Of a transaction of producer 5, epoch 0, from sequence 0 on.
fn transactional(batch: &mut BytesMut) {
    batch[22] = 0x10;
    batch[43..51].copy_from_slice(&5_i64.to_be_bytes());
    batch[51..57].fill(0);
}

#[tokio::test]
async fn batches_that_are_wrong() {
    let cluster = Cluster::start_with(|c| c.max_message_bytes = 1000).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for (what, version, records, error) in [
        ("a wrong CRC", 9, with(|b| b[20] ^= 1), 2),
        ("a changed record", 9, with(|b| b[70] ^= 1), 2),
        ("an old format", 9, with(|b| b[16] = 1), 87),
        ("two batches", 9, with(|b| b.put(batch(1, 10))), 87),
        ("no batch", 9, Bytes::new(), 87),
        ("half a batch", 9, with(|b| b.truncate(70)), 2),
        ("half a header", 9, with(|b| b.truncate(30)), 2),
        ("an impossible length", 9, with(|b| b[8] = 0x80), 2),
        ("too long", 9, batch(1, 1000).freeze(), 10),
        ("counts that disagree", 9, sealed(|b| b[60] = 9), 87),
        ("a control batch", 9, sealed(|b| b[22] = 0x20), 87),
        ("a transactional batch", 9, sealed(transactional), 53),
        ("a transactional batch of nobody", 9, sealed(|b| b[22] = 0x10), 87),
        ("more records than bytes", 9, batch(8, 50).freeze(), 87),
        ("an unknown compression", 9, sealed(|b| b[22] = 5), 76),
        ("zstd from an old client", 6, sealed(|b| b[22] = 4), 76),
    ] {
        let response = client.ask(version, &produce("t", -1, records)).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (error, -1), "{what}");
        if error == 87 {
            assert!(partition.record_errors.is_empty(), "no record of it is to blame: {what}");
            assert!(partition.error_message.is_some(), "{what}");
        }
    }
    assert!(cluster.logs().batches.is_empty());
}

#[tokio::test]
async fn produce_requests_that_are_wrong() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let good = || batch(1, 10).freeze();
    let mut other_partition = produce("t", -1, good());
    other_partition.topic_data[0].partition_data[0].index = 1;
    let mut negative_partition = produce("t", -1, good());
    negative_partition.topic_data[0].partition_data[0].index = -1;
    for (request, error) in [
        (produce("none", -1, good()), 3),
        (other_partition, 3),
        (negative_partition, 3),
        (produce("t", 5, good()), 21),
        (produce("t", -1, good()).with_transactional_id(Some(text("tx").into())), 53),
    ] {
        let response = client.ask(9, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, error, "{request:?}");
    }
    let mut by_id = produce("", -1, good());
    by_id.topic_data[0].topic_id = uuid::Uuid::from_u128(9);
    let response = client.ask(13, &by_id).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 100);
}

#[tokio::test]
async fn what_owners_refuse() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    for (refusal, error) in [
        (ProduceError::NoRoom, 56),
        (ProduceError::NotEnoughReplicas, 19),
        (ProduceError::NotEnoughReplicasAfterAppend, 20),
        (ProduceError::OutOfOrderSequence, 45),
        (ProduceError::DuplicateSequence, 46),
        (ProduceError::InvalidProducerEpoch, 47),
        (ProduceError::NotLeader, 6),
    ] {
        cluster.logs().refuse_produce = Some(refusal);
        let response = client.ask(9, &produce("t", -1, batch(1, 10).freeze())).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, error);
    }
    for (refusal, error) in [
        (ReadError::UnknownPartition, 6),
        (ReadError::NotLeader, 6),
        (ReadError::FencedLeaderEpoch, 74),
        (ReadError::UnknownLeaderEpoch, 75),
        (ReadError::OffsetNotAvailable, 78),
        (ReadError::Storage, 56),
    ] {
        cluster.logs().refuse_read = Some(refusal);
        let response = client.ask(12, &fetch("t", 0).with_max_wait_ms(5)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, error);
        for (version, storage) in [(5, 6), (6, 56)] {
            let answered = client.ask(version, &fetch("t", 0).with_max_wait_ms(5)).await;
            let expected = if error == 56 { storage } else { error };
            assert_eq!(answered.responses[0].partitions[0].error_code, expected, "version {version}");
        }
        let topic = m::list_offsets_request::ListOffsetsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![m::list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1)]);
        let request = m::ListOffsetsRequest::default().with_topics(vec![topic]);
        assert_eq!(client.ask(5, &request).await.topics[0].partitions[0].error_code, error);
        let old = if error == 78 { 5 } else { error };
        assert_eq!(client.ask(4, &request).await.topics[0].partitions[0].error_code, old);
    }
}

#[tokio::test]
async fn a_former_leader_names_the_new_one() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 1);
    cluster.is_led_elsewhere(id, BrokerId(1));
    let mut client = Client::connect(cluster.address).await;
    for (version, leader) in [(9, -1), (10, 1)] {
        let response = client.ask(version, &produce("t", -1, batch(1, 10).freeze())).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
        let endpoints: Vec<_> = response.node_endpoints.iter().map(|e| (e.node_id.0, e.host.to_string())).collect();
        assert_eq!(endpoints, vec![(1, "broker-1".to_owned()); usize::from(version == 10)]);
    }
    for (version, leader) in [(15, -1), (16, 1)] {
        let mut request = fetch("", 0);
        request.topics[0].topic_id = id.0;
        let response = client.ask(version, &request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
        assert_eq!(response.node_endpoints.len(), usize::from(version == 16));
    }
}

#[tokio::test]
async fn a_reader_with_an_older_epoch_is_told_the_leader_and_its_epoch() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 1);
    cluster.logs().refuse_read = Some(ReadError::FencedLeaderEpoch);
    let mut client = Client::connect(cluster.address).await;
    let mut request = fetch("t", 0);
    request.topics[0].topic_id = id.0;
    let response = client.ask(16, &request).await;
    let partition = &response.responses[0].partitions[0];
    let leader = &partition.current_leader;
    assert_eq!((partition.error_code, leader.leader_id.0, leader.leader_epoch), (74, 0, 7));
    assert_eq!(response.node_endpoints.len(), 1);
}

#[tokio::test]
async fn fetch_requests_that_are_wrong() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    // An error is answered at once, however long the client would wait.
    let patient = |topic, offset| fetch(topic, offset).with_max_wait_ms(i32::MAX).with_min_bytes(1);
    let response = client.ask(12, &patient("t", 99)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 1);
    let response = client.ask(12, &patient("none", 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
    let mut request = patient("", 0);
    request.topics[0].topic_id = uuid::Uuid::from_u128(9);
    let response = client.ask(13, &request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 100);
    let response = client.ask(12, &patient("t", 0).with_session_id(3).with_session_epoch(1)).await;
    assert_eq!(response.error_code, 70);
    let response = client.ask(12, &patient("t", 0).with_replica_id(m::BrokerId(1))).await;
    assert_eq!(response.error_code, 42);
}

#[tokio::test]
async fn metadata_of_what_is_not_there() {
    let cluster = Cluster::start_with(|c| c.auto_create_topics = false).await;
    let id = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let topic = m::metadata_request::MetadataRequestTopic::default;
    let ask = |t| m::MetadataRequest::default().with_topics(Some(vec![t]));
    let response = client.ask(9, &ask(topic().with_name(Some(name("none"))))).await;
    assert_eq!(response.topics[0].error_code, 3);
    let response = client.ask(12, &ask(topic().with_name(None).with_topic_id(uuid::Uuid::from_u128(9)))).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].name.clone()), (100, None));
    let response = client.ask(12, &ask(topic().with_name(None).with_topic_id(id.0))).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].name.clone()), (0, Some(name("t"))));
    cluster.image.send_modify(|image| {
        let mut topic = image.topics[&id].clone();
        topic.partitions[0].leader = None;
        image.topics.insert(id, topic);
    });
    let response = client.ask(9, &ask(topic().with_name(Some(name("t"))))).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id.0), (5, -1));
}

#[tokio::test]
async fn topics_that_cannot_be_created() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let topic = |n| m::create_topics_request::CreatableTopic::default().with_name(name(n)).with_num_partitions(1);
    let twice = m::CreateTopicsRequest::default().with_topics(vec![topic("a"), topic("a"), topic("b c")]);
    let response = client.ask(5, &twice.with_timeout_ms(1000)).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [42, 42, 17]);
    let assignment =
        m::create_topics_request::CreatableReplicaAssignment::default().with_broker_ids(vec![m::BrokerId(0)]);
    let both = topic("d").with_assignments(vec![assignment]);
    let response = client.ask(5, &m::CreateTopicsRequest::default().with_topics(vec![both])).await;
    assert_eq!(response.topics[0].error_code, 42);
    let checked = m::CreateTopicsRequest::default()
        .with_topics(vec![topic("e").with_num_partitions(3)])
        .with_timeout_ms(1000)
        .with_validate_only(true);
    let response = client.ask(5, &checked).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 3));
    assert!(cluster.image.borrow().topics.is_empty());
    // It says what configs the topic would have: those that are asked for, and all others.
    let retention = m::create_topics_request::CreatableTopicConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("77")));
    let checked = m::CreateTopicsRequest::default()
        .with_topics(vec![topic("e").with_configs(vec![retention])])
        .with_timeout_ms(1000)
        .with_validate_only(true);
    let configs = client.ask(5, &checked).await.topics.remove(0).configs.expect("all of them");
    let value = |name: &str| configs.iter().find(|c| *c.name == *name).map(|c| (c.value.as_deref(), c.config_source));
    assert_eq!(value("retention.ms"), Some((Some("77"), 1)));
    assert_eq!(value("cleanup.policy"), Some((Some("delete"), 5)));
}

#[tokio::test]
async fn a_transactional_producer_is_told_for_good() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let request = m::FindCoordinatorRequest::default().with_key_type(1);
    // The only error that librdkafka, which asks in these versions, does not repeat its question after.
    for version in 1..=2 {
        let found = client.ask(version, &request.clone().with_key(text("tx"))).await;
        assert_eq!((found.error_code, found.node_id.0), (53, -1), "{version}");
        assert!(found.error_message.is_some_and(|said| said.contains("leave transactional.id out")));
    }
    // Java's producer shows its user the text, unless the error is that one.
    let found = client.ask(3, &request.clone().with_key(text("tx"))).await;
    assert_eq!((found.error_code, found.node_id.0), (35, -1));
    for version in 4..=6 {
        let found = client.ask(version, &request.clone().with_coordinator_keys(vec![text("tx")])).await;
        let found = &found.coordinators[0];
        assert_eq!((found.error_code, found.node_id.0), (35, -1), "{version}");
        assert!(found.error_message.as_ref().is_some_and(|said| said.contains("leave transactional.id out")));
    }
}

#[tokio::test]
async fn keys_without_a_coordinator_are_refused() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    for key_type in [2, 3, -1] {
        let request = m::FindCoordinatorRequest::default().with_key_type(key_type);
        let found = client.ask(6, &request.with_coordinator_keys(vec![text("k")])).await;
        assert_eq!(found.coordinators[0].error_code, 42, "{key_type}");
    }
}

/// A frame by hand, of versions that the client's codec does not know.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(8 + 2 + 1 + body.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(77);
    frame.put_i16(-1);
    frame.put_u8(0);
    frame.put_slice(body);
    frame
}

/// A client that finds them not listed says so itself, and one that does not look is disconnected, as by Kafka.
#[tokio::test]
async fn requests_of_transactions_are_neither_listed_nor_answered() {
    let cluster = Cluster::start().await;
    for (name, key) in [
        ("AddPartitionsToTxn", 24),
        ("AddOffsetsToTxn", 25),
        ("EndTxn", 26),
        ("WriteTxnMarkers", 27),
        ("TxnOffsetCommit", 28),
        ("DescribeTransactions", 65),
        ("ListTransactions", 66),
    ] {
        let mut client = Client::connect(cluster.address).await;
        let listed = client.ask(3, &super::api_versions()).await;
        assert!(listed.api_keys.iter().all(|served| served.api_key != key), "{name}");
        client.stream.write_all(&frame(key, 0, b"a transaction")).await.expect("it is read");
        client.closed().await;
    }
}

#[tokio::test]
async fn api_versions_of_the_future_are_answered_as_version_0() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    client.stream.write_all(&frame(18, 99, b"whatever comes then")).await.expect("it is read");
    let answer = client.receive().await.expect("an answer");
    assert_eq!(answer[..6], [0, 0, 0, 77, 0, 35]);
    let count = chronik_wire::SERVED.len();
    assert_eq!(answer[6..10], (count as i32).to_be_bytes());
    assert_eq!(answer.len(), 10 + 6 * count, "nothing follows the list in version 0");
    // The connection goes on.
    client.ask(0, &m::ApiVersionsRequest::default()).await;
}

#[tokio::test]
async fn a_client_that_looks_for_another_broker_is_told() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.address).await;
    let ours = b"\x17AAAAAAAAAAAAAAAAAAAAAQ";
    let theirs = b"\x17AAAAAAAAAAAAAAAAAAAAAg";
    for (cluster_id, node, error) in
        [(&b"\0"[..], -1, 0), (ours, 0, 0), (ours, 1, 129), (theirs, 0, 129), (theirs, -1, 129)]
    {
        let mut body = b"\x02a\x02b".to_vec();
        body.put_slice(cluster_id);
        body.put_i32(node);
        body.put_u8(0);
        client.stream.write_all(&frame(18, 5, &body)).await.expect("it is read");
        let answer = client.receive().await.expect("an answer");
        assert_eq!(i16::from_be_bytes([answer[4], answer[5]]), error);
    }
}

#[tokio::test]
async fn what_is_not_served_closes_the_connection() {
    let cluster = Cluster::start().await;
    for (key, version) in [(50, 0), (999, 0), (-1, 0), (0, 2), (3, 99), (1, -1)] {
        let mut client = Client::connect(cluster.address).await;
        client.stream.write_all(&frame(key, version, &[0; 16])).await.expect("it is read");
        assert!(client.receive().await.is_none(), "{key} v{version}");
    }
}
