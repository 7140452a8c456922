//! ListOffsets: where a partition begins and ends, and what was written when.

use super::Handlers;
use super::leaders::{epoch, find_partition, find_topic};
use crate::partitions::{FoundOffset, OffsetSpec, ReadError};
use crate::wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, message,
};
use crate::wire::{ErrorCode, Header, TopicRef};
use chronik_core::cluster::Topic;
use futures::future::join_all;

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
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&image, &TopicRef::Name(topic.name.clone()));
        let partitions = join_all(topic.partitions.iter().map(|p| one(handlers, header.version, found, p))).await;
        topics.push(message!(ListOffsetsTopicResponse { name: topic.name, partitions: partitions }));
    }
    message!(ListOffsetsResponse { topics: topics })
}

async fn one(
    handlers: &Handlers,
    version: i16,
    topic: Result<&Topic, ErrorCode>,
    p: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let found = async {
        let partition = topic.and_then(|topic| find_partition(topic, p.partition_index))?;
        match asked(p.timestamp, version) {
            Asked::Unsupported => Err(ErrorCode::UNSUPPORTED_VERSION),
            Asked::Nothing => Ok(FoundOffset { offset: None, timestamp: None, leader_epoch: None }),
            Asked::Spec(spec) => {
                let found = handlers.partitions.offset(partition, epoch(p.current_leader_epoch), spec).await;
                found.map_err(|e| code(e, version))
            }
        }
    };
    let mut response = message!(ListOffsetsPartitionResponse {
        partition_index: p.partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    });
    match found.await {
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
        (error, _) => (&error).into(),
    }
}
