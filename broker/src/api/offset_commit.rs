//! OffsetCommit. Offsets of topics and partitions that do not exist are refused here; the others go to the group.

use super::errors::Code as _;
use super::groups::{answer_of, group_id, member};
use super::leaders::{find_partition, find_topic};
use super::{Handlers, Reply, RequestContext, answer};
use crate::partitions::Reservation;
use chronik_core::groups::request::{OffsetCommit, OffsetToCommit};
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic, StrBytes,
    Uuid, message,
};
use chronik_wire::{ErrorCode, Header, TopicRef};
use std::sync::Arc;

/// The first version that names topics by their ids.
const BY_ID: i16 = 10;
/// The first version that knows the errors of consumer groups (KIP-848).
const CONSUMER_GROUPS: i16 = 9;

/// Bytes of one request's records at most: a few bytes of it name a partition, and its record names the group once more.
const MAX_BYTES: usize = 8 << 20;

/// The answer as far as it is known: partitions without an error wait for the group's.
struct Topic {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &OffsetCommitRequest,
    reservation: &Reservation,
) -> Reply {
    let version = header.version;
    let (topics, offsets) = checked(handlers, version, request);
    let asked = wanted(version, request, offsets).and_then(fitting).map(|wanted| {
        let nothing = wanted.offsets.is_empty();
        let ask = || {
            handlers.coordinators.ask(&request.group_id, context.client(), Request::OffsetCommit(wanted), reservation)
        };
        (!nothing).then(ask)
    });
    answer((&handlers.errors, header), async move {
        let committed = match asked {
            Ok(Some(asked)) => answer_of!(asked.await, OffsetCommit),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        respond(version, topics, &committed)
    })
}

/// What the request names, and of it what there is.
fn checked(handlers: &Handlers, version: i16, request: &OffsetCommitRequest) -> (Vec<Topic>, Vec<OffsetToCommit>) {
    let image = handlers.controller.image();
    let mut offsets = Vec::new();
    let topics = request.topics.iter().map(|asked| {
        let by = if version >= BY_ID { TopicRef::Id(asked.topic_id) } else { TopicRef::Name(asked.name.clone()) };
        let found = find_topic(&image, &by);
        let partitions = asked.partitions.iter().map(|p| {
            let error = found.and_then(|topic| find_partition(topic, p.partition_index).map(|_| topic));
            let error = error.map(|topic| {
                offsets.push(OffsetToCommit {
                    topic: Arc::clone(&topic.name),
                    topic_id: topic.id,
                    partition: p.partition_index,
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata: Arc::from(p.committed_metadata.as_deref().unwrap_or_default()),
                });
            });
            (p.partition_index, error.err())
        });
        Topic { name: StrBytes::from(&*asked.name), id: asked.topic_id, partitions: partitions.collect() }
    });
    (topics.collect(), offsets)
}

/// Refuses what is too much for the log at once: each record has the group's and the topic's name in it.
fn fitting(wanted: OffsetCommit) -> Result<OffsetCommit, GroupError> {
    let texts = |o: &OffsetToCommit| wanted.group.len() + o.topic.len() + o.metadata.len();
    if wanted.offsets.iter().map(texts).sum::<usize>() > MAX_BYTES {
        return Err(GroupError::OffsetsTooLarge);
    }
    Ok(wanted)
}

fn wanted(
    version: i16,
    request: &OffsetCommitRequest,
    offsets: Vec<OffsetToCommit>,
) -> Result<OffsetCommit, GroupError> {
    Ok(OffsetCommit {
        group: group_id(&request.group_id)?,
        member: member(&request.member_id, request.group_instance_id.as_ref())?,
        generation_or_epoch: request.generation_id_or_member_epoch,
        knows_member_epochs: version >= CONSUMER_GROUPS,
        retention_ms: (version <= 4 && request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        offsets,
    })
}

fn respond(
    version: i16,
    topics: Vec<Topic>,
    committed: &Result<Vec<Result<(), GroupError>>, GroupError>,
) -> OffsetCommitResponse {
    let mut results = committed.as_deref().unwrap_or_default().iter();
    let mut of_next = || match committed {
        Err(error) => code(*error, version),
        Ok(_) => match results.next() {
            Some(Ok(())) => ErrorCode::NONE,
            Some(Err(error)) => code(*error, version),
            // The coordinator answers for each offset.
            None => ErrorCode::UNKNOWN_SERVER_ERROR,
        },
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, error)| {
            let error = error.unwrap_or_else(&mut of_next);
            message!(OffsetCommitResponsePartition { partition_index: index, error_code: error.0 })
        });
        let partitions = partitions.collect();
        if version >= BY_ID {
            message!(OffsetCommitResponseTopic { topic_id: topic.id, partitions: partitions })
        } else {
            message!(OffsetCommitResponseTopic { name: topic.name, partitions: partitions })
        }
    });
    message!(OffsetCommitResponse { topics: topics.collect() })
}

/// Clients before consumer groups know other words for their errors.
fn code(error: GroupError, version: i16) -> ErrorCode {
    match error {
        GroupError::GroupIdNotFound if version < CONSUMER_GROUPS => ErrorCode::ILLEGAL_GENERATION,
        error => error.code(),
    }
}
