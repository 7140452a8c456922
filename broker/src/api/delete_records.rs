//! DeleteRecords: what comes before an offset is removed, from the log's start on (KIP-107).
//!
//! Answered when the new start is on the disks of all replicas that are alive, so that whoever is elected among them does not
//! show the records again; `REQUEST_TIMED_OUT` when that takes longer than the request allows. They are removed then all the
//! same. What a replica that is down still has, it drops when it comes back and follows.

use super::errors::Code as _;
use super::leaders::{find_partition, find_topic};
use super::{Deadline, Handlers};
use chronik_core::cluster::Topic;
use chronik_core::ids::Offset;
use chronik_wire::messages::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    DeleteRecordsTopicResult, message,
};
use chronik_wire::{ErrorCode, TopicRef};
use futures::stream::{self, StreamExt as _};

/// Partitions of one topic in which records are removed at the same time.
const TOGETHER: usize = 64;
/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(handlers: &Handlers, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let deadline = Deadline::after(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(in_topic(handlers, topic, deadline).await);
    }
    message!(DeleteRecordsResponse { topics: topics })
}

async fn in_topic(handlers: &Handlers, topic: DeleteRecordsTopic, deadline: Deadline) -> DeleteRecordsTopicResult {
    let image = handlers.controller.image();
    let found = find_topic(&image, &TopicRef::Name(topic.name.clone()));
    let found = match found {
        Ok(topic) if topic.is_internal() => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
        Ok(topic) if !topic.is_deleted_from(&image, handlers.config.me) => Err(ErrorCode::POLICY_VIOLATION),
        found => found,
    };
    let partitions = stream::iter(topic.partitions)
        .map(|asked| async move {
            let removed = one(handlers, found, asked.partition_index, asked.offset, deadline).await;
            message!(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: removed.map_or(-1, |start| start.0),
                error_code: removed.err().unwrap_or(ErrorCode::NONE).0,
            })
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(DeleteRecordsTopicResult { name: topic.name, partitions: partitions })
}

async fn one(
    handlers: &Handlers,
    topic: Result<&Topic, ErrorCode>,
    index: i32,
    offset: i64,
    deadline: Deadline,
) -> Result<Offset, ErrorCode> {
    let partition = topic.and_then(|topic| find_partition(topic, index))?;
    let before = (offset != HIGH_WATERMARK).then_some(Offset(offset));
    let removed = tokio::time::timeout(deadline.left(), handlers.partitions.delete_records(partition, before)).await;
    removed.map_err(|_| ErrorCode::REQUEST_TIMED_OUT)?.map_err(|error| error.code())
}
