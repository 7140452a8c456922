//! What is in the batches that producers send: what is refused, what is put right, and in which order they come.

use super::client::{Client, batch};
use super::cluster::{Cluster, partition};
use super::{name, produce};
use bytes::Bytes;
use chronik_core::record::samples::{Sample, batch_of, encoded, filled, samples};
use chronik_core::record::testing::BatchBuilder;
use chronik_core::record::{Compression, RecordBatch};
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3_600_000;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

async fn send(client: &mut Client, batch: Bytes) -> PartitionProduceResponse {
    client.ask(9, &produce("t", -1, batch)).await.responses[0].partition_responses[0].clone()
}

#[tokio::test]
async fn content_that_cannot_be_read_is_refused() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let two = encoded(&samples(2, 20));
    let long_ago = |codec, count, body: &[u8]| batch_of(codec, count, body).timestamps(1000, 1001).bytes();
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        assert_eq!(send(&mut client, long_ago(codec, 2, &two)).await.error_code, 0, "{codec:?}");
        let one_byte = BatchBuilder::new(i32::MAX).with(22, &[codec as u8]).records(&[0]).bytes();
        assert_eq!(one_byte.len(), 62);
        for (what, batch) in [
            ("62 bytes for all offsets there are", one_byte),
            ("a record too many", long_ago(codec, 1, &two)),
            ("a record too few", long_ago(codec, 3, &two)),
            ("a byte too many", long_ago(codec, 2, &[&two[..], &[0]].concat())),
            ("a base offset", batch_of(codec, 2, &two).with(7, &[1]).bytes()),
        ] {
            let refused = send(&mut client, batch).await;
            assert_eq!((refused.error_code, refused.base_offset), (87, -1), "{what}, {codec:?}");
            assert!(refused.record_errors.is_empty(), "it is the batch that is wrong: {what}, {codec:?}");
            assert!(refused.error_message.is_some_and(|m| !m.is_empty()), "{what}, {codec:?}");
        }
    }
}

#[tokio::test]
async fn records_with_timestamps_of_the_future_are_named() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let mut records = samples(5, 20);
    records[1].timestamp_delta = 2 * HOUR;
    records[4].timestamp_delta = 3 * HOUR;
    let refused =
        send(&mut client, batch_of(Compression::Zstd, 5, &encoded(&records)).timestamps(now(), 0).bytes()).await;
    assert_eq!(refused.error_code, 32);
    let named: Vec<_> = refused.record_errors.iter().map(|r| r.batch_index).collect();
    assert_eq!(named, [1, 4]);
    assert!(refused.record_errors.iter().all(|r| r.batch_index_error_message.is_some()));
    let in_microseconds = filled(1, 50).timestamps(now() * 1000, now() * 1000).bytes();
    assert_eq!(send(&mut client, in_microseconds).await.error_code, 32);
    assert_eq!(send(&mut client, filled(1, 50).timestamps(now() + HOUR / 2, 0).bytes()).await.error_code, 0);
}

#[tokio::test]
async fn a_header_is_put_right() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let body = encoded(&samples(3, 20));
    let log_append_time = [Compression::Lz4 as u8 | 8];
    for batch in [
        batch_of(Compression::Lz4, 3, &body).timestamps(1000, 0),
        batch_of(Compression::Lz4, 3, &body).timestamps(1000, i64::MAX),
        batch_of(Compression::Lz4, 3, &body).timestamps(1000, 5000).with(22, &log_append_time),
    ] {
        let taken = send(&mut client, batch.bytes()).await;
        assert_eq!((taken.error_code, taken.log_append_time_ms), (0, -1));
    }
    let right = batch_of(Compression::Lz4, 3, &body).timestamps(1000, 1002).build();
    for batch in &cluster.logs().batches[&partition(topic, 0)] {
        let read = RecordBatch::check(batch.bytes().clone()).expect("its CRC is right");
        assert_eq!(read.header().crc, right.header().crc, "what the CRC covers is the same");
    }
}

/// A batch of one record that decompresses to so many bytes.
fn large(len: usize) -> Bytes {
    let record = Sample { value: Some(vec![7; len]), ..Sample::default() };
    batch_of(Compression::Gzip, 1, &encoded(&[record])).timestamps(1000, 1000).bytes()
}

#[tokio::test]
async fn batches_that_take_long_to_check_keep_their_place() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let mut ids = Vec::new();
    for round in 1..=4 {
        ids.push(client.send(9, &produce("t", -1, large(8 << 20))).await);
        ids.push(client.send(9, &produce("t", -1, filled(round + 1, 50).bytes())).await);
    }
    let mut next = 0;
    for (n, id) in (0..).zip(ids) {
        let response = client.answer::<kafka_protocol::messages::ProduceRequest>(9, id).await;
        let answered = &response.responses[0].partition_responses[0];
        assert_eq!((answered.error_code, answered.base_offset), (0, next), "request {n}");
        next += if n % 2 == 0 { 1 } else { n / 2 + 2 };
    }
    let counts: Vec<_> = cluster.logs().batches[&partition(topic, 0)].iter().map(|b| b.header().record_count).collect();
    assert_eq!(counts, [1, 2, 1, 3, 1, 4, 1, 5]);
}

#[tokio::test]
async fn what_decompresses_to_too_much_is_too_large() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let zeros = encoded(&[Sample { value: Some(vec![0; 257 << 20]), ..Sample::default() }]);
    let bomb = batch_of(Compression::Zstd, 1, &zeros).timestamps(1000, 1000).bytes();
    assert!(bomb.len() < 100_000);
    let refused = send(&mut client, bomb).await;
    assert_eq!(refused.error_code, 10);
    assert!(refused.error_message.expect("it says why").contains("decompresses"));
}

#[tokio::test]
async fn a_short_batch_does_not_decompress_to_more_because_a_long_one_may() {
    let cluster = Cluster::start_with(|c| c.max_message_bytes = 90 << 20).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let zeros = encoded(&[Sample { value: Some(vec![0; 257 << 20]), ..Sample::default() }]);
    let bomb = batch_of(Compression::Zstd, 1, &zeros).timestamps(1000, 1000).bytes();
    let refused = send(&mut client, bomb).await;
    assert_eq!(refused.error_code, 10);
    assert!(refused.error_message.expect("it says why").contains("decompresses"));
}

#[tokio::test]
async fn a_compacted_topic_takes_no_more_than_what_is_cleaned_in_memory() {
    let cluster = Cluster::start().await;
    let id = cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let of = |len: usize| {
        let record = Sample { key: Some(vec![1]), value: Some(vec![0; len]), ..Sample::default() };
        batch_of(Compression::Zstd, 1, &encoded(&[record])).timestamps(1000, 1000).bytes()
    };
    assert_eq!(send(&mut client, of(65 << 20)).await.error_code, 0);
    cluster.image.send_modify(|image| {
        let mut topic = image.topics[&id].clone();
        topic.configs.insert("cleanup.policy".into(), "compact".into());
        image.topics.insert(id, topic);
    });
    let refused = send(&mut client, of(65 << 20)).await;
    assert_eq!(refused.error_code, 10);
    assert!(refused.error_message.expect("it says why").contains("decompresses"));
    assert_eq!(send(&mut client, of(63 << 20)).await.error_code, 0);
}

#[tokio::test]
async fn the_file_says_whose_time_records_get_where_nobody_else_does() {
    let cluster = Cluster::start_with(|config| config.timestamps.append_time = true).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let response = client.ask(9, &produce("t", -1, batch(1, 100).freeze())).await;
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 0);
    assert!(answer.log_append_time_ms > 0, "the broker's time");
}

#[tokio::test]
async fn nothing_is_deleted_when_deletion_is_disabled() {
    let cluster = Cluster::start_with(|config| config.delete_topics = false).await;
    cluster.topic("t", 1);
    let mut client = Client::connect(cluster.address).await;
    let delete = m::DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    assert_eq!(client.ask(4, &delete).await.responses[0].error_code, 73);
    assert!(cluster.image.borrow().topic_by_name("t").is_some());
}
