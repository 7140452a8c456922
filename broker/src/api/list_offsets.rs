//! ListOffsets: where a partition begins and ends, and what was written when.

use super::Handlers;
use super::errors::Code as _;
use super::leaders::{epoch, find_partition, find_topic};
use crate::partitions::{FoundOffset, OffsetSpec, ReadError};
use chronik_core::cluster::Topic;
use chronik_core::ids::{LeaderEpoch, TopicPartition};
use chronik_wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse, message,
};
use chronik_wire::{ErrorCode, Header, TopicRef};
use futures::future::join_all;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// So many searches by timestamp at once, for all clients together. Each holds on to all that its partition has in
/// memory, and waits for the disk.
pub(super) const SEARCHES: usize = 2;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// What a timestamp of a request asks for.
enum Asked {
    Spec(OffsetSpec),
    /// Something that only a log with remote storage has.
    Nothing,
    Unsupported,
}

fn asked(timestamp: i64, version: i16) -> Asked {
    match (timestamp, version) {
        (0.., _) => Asked::Spec(OffsetSpec::Timestamp(timestamp)),
        (LATEST, _) => Asked::Spec(OffsetSpec::Latest),
        (EARLIEST, _) | (EARLIEST_LOCAL, 8..) => Asked::Spec(OffsetSpec::Earliest),
        (MAX_TIMESTAMP, 7..) => Asked::Spec(OffsetSpec::MaxTimestamp),
        (LATEST_TIERED, 9..) | (EARLIEST_PENDING_UPLOAD, 11..) => Asked::Nothing,
        _ => Asked::Unsupported,
    }
}

pub(super) async fn handle(handlers: &Handlers, header: Header, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = handlers.controller.image();
    let twice = named_twice(&request.topics);
    let one_search = Mutex::new(());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = find_topic(&image, &TopicRef::Name(topic.name.clone()));
        let answers = topic.partitions.iter().map(async |p| {
            let found = if twice.contains(&(&*topic.name, p.partition_index)) {
                Err(ErrorCode::INVALID_REQUEST)
            } else {
                find(handlers, &one_search, header.version, found, p).await
            };
            answer(header.version, p.partition_index, found)
        });
        let partitions = join_all(answers).await;
        topics.push(message!(ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions }));
    }
    message!(ListOffsetsResponse { topics: topics })
}

/// The partitions that a request names more than once. As in Kafka, none of their mentions is answered.
fn named_twice(topics: &[ListOffsetsTopic]) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let named = topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&*t.name, p.partition_index)));
    named.filter(|partition| !seen.insert(*partition)).collect()
}

async fn find(
    handlers: &Handlers,
    one_search: &Mutex<()>,
    version: i16,
    topic: Result<&Topic, ErrorCode>,
    p: &ListOffsetsPartition,
) -> Result<FoundOffset, ErrorCode> {
    let partition = topic.and_then(|topic| find_partition(topic, p.partition_index))?;
    let epoch = epoch(p.current_leader_epoch);
    let found = match asked(p.timestamp, version) {
        Asked::Unsupported => return Err(ErrorCode::UNSUPPORTED_VERSION),
        Asked::Nothing => Ok(FoundOffset { offset: None, timestamp: None, leader_epoch: None }),
        Asked::Spec(spec @ (OffsetSpec::Earliest | OffsetSpec::Latest)) => {
            handlers.partitions.offset(partition, epoch, spec).await
        }
        Asked::Spec(spec @ (OffsetSpec::Timestamp(_) | OffsetSpec::MaxTimestamp)) => {
            // One request has one search at a time, so that others get theirs in between.
            let _searching = one_search.lock().await;
            search(handlers, partition, epoch, spec).await
        }
    };
    found.map_err(|e| code(e, version))
}

/// Looks for a timestamp when there is room for it.
async fn search(
    handlers: &Handlers,
    partition: TopicPartition,
    epoch: Option<LeaderEpoch>,
    spec: OffsetSpec,
) -> Result<FoundOffset, ReadError> {
    // An error would mean that the semaphore is closed, which nobody does.
    let permit = Arc::clone(&handlers.searches).acquire_owned().await.ok();
    let partitions = handlers.partitions.clone();
    // A search goes on when its client has gone away, and so does what it takes up.
    let search = tokio::spawn(async move {
        let found = partitions.offset(partition, epoch, spec).await;
        drop(permit);
        found
    });
    search.await.unwrap_or(Err(ReadError::NotLeader))
}

fn answer(version: i16, partition: i32, found: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    let mut response = message!(ListOffsetsPartitionResponse {
        partition_index: partition,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    });
    match found {
        Ok(found) => {
            response.offset = found.offset.map_or(-1, |o| o.0);
            response.timestamp = found.timestamp.unwrap_or(-1);
            if version >= 4 {
                response.leader_epoch = found.leader_epoch.map_or(-1, |e| e.0);
            }
        }
        Err(error) => response.error_code = error.0,
    }
    response
}

/// Clients before version 5 know another word for it.
fn code(error: ReadError, version: i16) -> ErrorCode {
    match (error, version) {
        (ReadError::OffsetNotAvailable, ..5) => ErrorCode::LEADER_NOT_AVAILABLE,
        (error, _) => error.code(),
    }
}
