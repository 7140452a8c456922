//! The listener and the requests from outside: raw sockets, and another codec for the client's side.

mod admin;
mod answers;
mod client;
mod cluster;
mod every_version;
mod every_version_groups;
mod fetch_sessions;
mod groups;
mod hostile;
mod lag;
mod list_offsets;
mod listeners;
mod missing;
mod operations;
mod order;
mod records;
mod too_few_in_sync;

use bytes::Bytes;
use client::DEADLINE;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ProduceRequest, TopicName, fetch_request, produce_request,
};
use kafka_protocol::protocol::StrBytes;

fn text(s: &'static str) -> StrBytes {
    StrBytes::from_static_str(s)
}

fn name(s: &'static str) -> TopicName {
    TopicName(text(s))
}

/// A request to append a batch to partition 0.
fn produce(topic: &'static str, acks: i16, batch: Bytes) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData::default().with_records(Some(batch));
    let topic =
        produce_request::TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(60_000).with_topic_data(vec![topic])
}

/// A request to read partition 0 from an offset on.
fn fetch(topic: &'static str, offset: i64) -> FetchRequest {
    let partition =
        fetch_request::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20).with_topics(vec![topic])
}

/// Asks what is served, as software with a name.
fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default().with_client_software_name(text("test")).with_client_software_version(text("1"))
}

/// Waits for something to become true.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("true within the deadline");
}
