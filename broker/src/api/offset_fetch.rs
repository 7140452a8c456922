//! OffsetFetch: of one group, or of several (version 8 and later).

use super::errors::Code as _;
use super::groups::{Sender, TOGETHER, answer_of, code, group_id, optional, wire};
use super::leaders::find_topic;
use super::{Handlers, each_once};
use crate::coordinators::limited;
use chronik_core::cluster::Image;
use chronik_core::groups::response::FetchedOffset;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, StrBytes, Uuid, message, wire_id,
};
use chronik_wire::{ErrorCode, Header, TopicRef};
use futures::stream::{self, StreamExt as _};
use std::sync::Arc;

/// The first version that asks for several groups.
const BATCHED: i16 = 8;
/// The first version that names topics by their ids.
const BY_ID: i16 = 10;

/// Topics of one group: its name, and the partitions.
type Topics = Vec<(Arc<str>, Vec<i32>)>;

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    sender: &Sender,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = header.version;
    if version < BATCHED {
        return one(handlers, version, sender, &request).await;
    }
    let require_stable = request.require_stable;
    let groups = stream::iter(each_once(request.groups, |group| group.group_id.clone()))
        .map(|group| async move { one_of_several(handlers, version, sender, &group, require_stable).await })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(OffsetFetchResponse { groups: groups })
}

/// Versions that ask for one group.
async fn one(handlers: &Handlers, version: i16, sender: &Sender, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let fetched = match wanted_of_one(request) {
        Ok(wanted) => {
            let asked = handlers.coordinators.ask(&request.group_id, &sender.client, wanted, &sender.reservation);
            answer_of!(asked.await, OffsetFetch).flatten()
        }
        Err(error) => Err(error),
    };
    match fetched {
        Ok(fetched) => {
            let topics = fetched.into_iter().map(|t| topic(version, wire(&t.topic), &t.partitions));
            message!(OffsetFetchResponse { topics: topics.collect() })
        }
        // Before version 2 there is no place for an error but the partitions.
        Err(error) if version < 2 => {
            let topics = request.topics.iter().flatten().map(|asked| {
                let partitions: Vec<_> = asked.partition_indexes.iter().map(|p| failed(*p, Some(error))).collect();
                topic(version, asked.name.clone(), &partitions)
            });
            message!(OffsetFetchResponse { topics: topics.collect() })
        }
        Err(error) => message!(OffsetFetchResponse { error_code: error.code().0 }),
    }
}

fn wanted_of_one(request: &OffsetFetchRequest) -> Result<Request, GroupError> {
    let topics = request.topics.as_ref().map(|topics| {
        topics.iter().map(|t| Ok((limited(&t.name)?, t.partition_indexes.clone()))).collect::<Result<_, _>>()
    });
    Ok(Request::OffsetFetch {
        group: group_id(&request.group_id)?,
        member: None,
        topics: topics.transpose()?,
        require_stable: request.require_stable,
    })
}

fn topic(version: i16, name: StrBytes, offsets: &[FetchedOffset]) -> OffsetFetchResponseTopic {
    let partitions = offsets.iter().map(|offset| {
        let mut partition = message!(OffsetFetchResponsePartition {
            partition_index: offset.partition,
            committed_offset: offset.offset,
            metadata: Some(wire(&offset.metadata)),
            error_code: offset.error.map_or(0, |error| error.code().0),
        });
        if version >= 5 {
            partition.committed_leader_epoch = offset.leader_epoch;
        }
        partition
    });
    message!(OffsetFetchResponseTopic { name: name, partitions: partitions.collect() })
}

fn failed(partition: i32, error: Option<GroupError>) -> FetchedOffset {
    FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: Arc::from(""), error }
}

/// One group of a request for several.
async fn one_of_several(
    handlers: &Handlers,
    version: i16,
    sender: &Sender,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    // Topics whose ids nobody has are answered here.
    let mut unknown = Vec::new();
    let fetched = match wanted(&handlers.controller.image(), version, asked, require_stable, &mut unknown) {
        Ok(wanted) => {
            let asked = handlers.coordinators.ask(&asked.group_id, &sender.client, wanted, &sender.reservation);
            answer_of!(asked.await, OffsetFetch).flatten()
        }
        Err(error) => Err(error),
    };
    let error = code(&fetched);
    let image = handlers.controller.image();
    let mut topics = Vec::new();
    for topic in fetched.unwrap_or_default() {
        let partitions = topic.partitions.iter().map(|p| partition(p, None)).collect();
        let mut described = message!(OffsetFetchResponseTopics { partitions: partitions });
        if version >= BY_ID {
            // One that was deleted since it was committed has no id to be named by.
            let Some(found) = image.topic_by_name(&topic.topic) else { continue };
            described.topic_id = wire_id(found.id);
        } else {
            described.name = wire(&topic.topic);
        }
        topics.push(described);
    }
    if error == 0 {
        topics.extend(unknown.into_iter().map(|(topic_id, partitions): (Uuid, Vec<i32>)| {
            let refuse = |p| partition(&failed(p, None), Some(ErrorCode::UNKNOWN_TOPIC_ID));
            let partitions = partitions.into_iter().map(refuse).collect();
            message!(OffsetFetchResponseTopics { topic_id: topic_id, partitions: partitions })
        }));
    }
    message!(OffsetFetchResponseGroup { group_id: asked.group_id.clone(), topics: topics, error_code: error })
}

fn wanted(
    image: &Image,
    version: i16,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
    unknown: &mut Vec<(Uuid, Vec<i32>)>,
) -> Result<Request, GroupError> {
    let topics = asked.topics.as_ref().map(|topics| named(image, version, topics, unknown)).transpose()?;
    let member = match (version >= 9, optional(asked.member_id.as_ref())?) {
        (true, Some(id)) => Some((id, asked.member_epoch)),
        _ => None,
    };
    Ok(Request::OffsetFetch { group: group_id(&asked.group_id)?, member, topics, require_stable })
}

fn named(
    image: &Image,
    version: i16,
    topics: &[OffsetFetchRequestTopics],
    unknown: &mut Vec<(Uuid, Vec<i32>)>,
) -> Result<Topics, GroupError> {
    let mut all = Vec::with_capacity(topics.len());
    for topic in topics {
        if version < BY_ID {
            all.push((limited(&topic.name)?, topic.partition_indexes.clone()));
        } else if let Ok(found) = find_topic(image, &TopicRef::Id(topic.topic_id)) {
            all.push((Arc::clone(&found.name), topic.partition_indexes.clone()));
        } else {
            unknown.push((topic.topic_id, topic.partition_indexes.clone()));
        }
    }
    Ok(all)
}

fn partition(offset: &FetchedOffset, error: Option<ErrorCode>) -> OffsetFetchResponsePartitions {
    let error = error.or(offset.error.map(|error| error.code())).unwrap_or(ErrorCode::NONE);
    message!(OffsetFetchResponsePartitions {
        partition_index: offset.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(wire(&offset.metadata)),
        error_code: error.0,
    })
}
