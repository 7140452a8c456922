//! OffsetFetch: of one group, or of several (version 8 and later).

use super::errors::Code as _;
use super::groups::{answer_of, code, group_id, optional, wire};
use super::leaders::find_topic;
use super::{Handlers, Reply, RequestContext, answer};
use crate::coordinators::limited;
use crate::partitions::Hold;
use chronik_core::cluster::Image;
use chronik_core::groups::response::FetchedOffset;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, StrBytes, Uuid, message, wire_id,
};
use chronik_wire::{ErrorCode, Header, TopicRef};
use futures::future::join_all;
use std::sync::Arc;

/// The first version that asks for several groups.
const BATCHED: i16 = 8;
/// The first version that names topics by their ids.
const BY_ID: i16 = 10;

/// Topics of one group: its name, and the partitions.
type Topics = Vec<(Arc<str>, Vec<i32>)>;

pub(super) fn begin(
    handlers: &Arc<Handlers>,
    header: Header,
    context: &RequestContext,
    request: OffsetFetchRequest,
    hold: &Hold,
) -> Reply {
    if header.version < BATCHED {
        return begin_one(handlers, header, context, &request, hold);
    }
    let image = handlers.controller.image();
    let groups: Vec<_> = request
        .groups
        .iter()
        .map(|group| begin_group(handlers, &image, header.version, context, group, request.require_stable, hold))
        .collect();
    answer(header, async move { message!(OffsetFetchResponse { groups: join_all(groups).await }) })
}

/// Versions that ask for one group.
fn begin_one(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &OffsetFetchRequest,
    hold: &Hold,
) -> Reply {
    let version = header.version;
    let wanted = || -> Result<(Request, Topics), GroupError> {
        let topics = request.topics.as_ref().map(|topics| {
            topics.iter().map(|t| Ok((limited(&t.name)?, t.partition_indexes.clone()))).collect::<Result<_, _>>()
        });
        let topics: Option<Topics> = topics.transpose()?;
        let asked = topics.clone().unwrap_or_default();
        let group = group_id(&request.group_id)?;
        Ok((Request::OffsetFetch { group, member: None, topics, require_stable: request.require_stable }, asked))
    };
    let asked = wanted()
        .map(|(wanted, topics)| (handlers.coordinators.ask(&request.group_id, context.client(), wanted, hold), topics));
    answer(header, async move {
        let (fetched, topics) = match asked {
            Ok((asked, topics)) => (answer_of!(asked.await, OffsetFetch).flatten(), topics),
            Err(error) => (Err(error), Vec::new()),
        };
        let described = |name: &Arc<str>, offsets: &mut dyn Iterator<Item = FetchedOffset>| {
            let partitions = offsets.map(|offset| {
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
            message!(OffsetFetchResponseTopic { name: wire(name), partitions: partitions.collect() })
        };
        match fetched {
            Ok(fetched) => {
                let topics = fetched.into_iter().map(|t| described(&t.topic, &mut t.partitions.into_iter()));
                message!(OffsetFetchResponse { topics: topics.collect() })
            }
            // Before version 2 there is no place for an error but the partitions.
            Err(error) if version < 2 => {
                let topics = topics
                    .iter()
                    .map(|(name, partitions)| described(name, &mut partitions.iter().map(|p| failed(*p, Some(error)))));
                message!(OffsetFetchResponse { topics: topics.collect() })
            }
            Err(error) => message!(OffsetFetchResponse { error_code: error.code().0 }),
        }
    })
}

fn failed(partition: i32, error: Option<GroupError>) -> FetchedOffset {
    FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: Arc::from(""), error }
}

/// One group of a request for several.
fn begin_group(
    handlers: &Arc<Handlers>,
    image: &Image,
    version: i16,
    context: &RequestContext,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
    hold: &Hold,
) -> impl Future<Output = OffsetFetchResponseGroup> + Send + use<> {
    let id = StrBytes::from(&*asked.group_id);
    // Topics whose ids nobody has are answered here.
    let mut unknown = Vec::new();
    let begun = wanted(image, version, asked, require_stable, &mut unknown)
        .map(|wanted| handlers.coordinators.ask(&asked.group_id, context.client(), wanted, hold));
    let handlers = Arc::clone(handlers);
    async move {
        let fetched = match begun {
            Ok(begun) => answer_of!(begun.await, OffsetFetch).flatten(),
            Err(error) => Err(error),
        };
        let error = code(&fetched);
        let image = handlers.controller.image();
        let mut topics = Vec::new();
        for topic in fetched.unwrap_or_default() {
            let mut described = message!(OffsetFetchResponseTopics {
                partitions: topic.partitions.iter().map(|p| partition(p, None)).collect()
            });
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
                message!(OffsetFetchResponseTopics {
                    topic_id: topic_id,
                    partitions: partitions.into_iter().map(refuse).collect()
                })
            }));
        }
        message!(OffsetFetchResponseGroup { group_id: id, topics: topics, error_code: error })
    }
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
