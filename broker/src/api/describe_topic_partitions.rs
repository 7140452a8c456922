//! DescribeTopicPartitions: topics' partitions, page by page (KIP-966).

use super::Handlers;
use super::metadata::TOPIC_OPERATIONS;
use super::resources::is_topic_name;
use chronik_core::cluster::{Image, Partition, Topic, is_internal};
use chronik_core::ids::BrokerId;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic, PartitionsCursor, StrBytes, message, wire_id,
};
use std::collections::BTreeSet;

pub(super) fn handle(handlers: &Handlers, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = handlers.controller.image();
    let named: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
    let cursor = request.cursor.as_ref().map(|cursor| (&*cursor.topic_name, cursor.partition_index));
    if let Some((topic, partition)) = cursor
        && (partition < 0 || !(named.is_empty() || named.contains(topic)))
    {
        // Not one of the topics that are asked for, or no partition at all.
        return message!(DescribeTopicPartitionsResponse {
            topics: named.into_iter().map(|name| failed(name, ErrorCode::INVALID_REQUEST)).collect(),
        });
    }
    let limit =
        usize::try_from(request.response_partition_limit).unwrap_or(0).min(handlers.config.described_partitions).max(1);
    let from = cursor.map_or("", |(topic, _)| topic);
    let mut page = Page { image: &image, cursor, left: limit, topics: Vec::new(), next: None };
    if named.is_empty() {
        let all = image.topic_ids.keys().map(|name| &**name).skip_while(|name| *name < from);
        page.fill(all, true);
    } else {
        page.fill(named.into_iter().filter(|name| *name >= from), false);
    }
    message!(DescribeTopicPartitionsResponse { topics: page.topics, next_cursor: page.next })
}

/// An answer that has room for so many partitions.
struct Page<'a> {
    image: &'a Image,
    cursor: Option<(&'a str, i32)>,
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<PartitionsCursor>,
}

impl<'a> Page<'a> {
    /// Takes topics in the order of their names until it is full. With `all`, nobody has asked for them by name.
    fn fill(&mut self, names: impl Iterator<Item = &'a str>, all: bool) {
        for name in names {
            if self.left == 0 {
                self.goes_on(name, 0);
                return;
            }
            match self.image.topic_by_name(name) {
                Some(topic) => self.take(topic),
                None if all => {}
                None if is_topic_name(name) => {
                    self.topics.push(failed(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
                }
                None => self.topics.push(failed(name, ErrorCode::INVALID_TOPIC_EXCEPTION)),
            }
            if self.next.is_some() {
                return;
            }
        }
    }

    fn take(&mut self, topic: &Topic) {
        let first = self.cursor.filter(|(name, _)| *name == &*topic.name).map_or(0, |(_, partition)| partition);
        let first = usize::try_from(first).unwrap_or(0);
        let end = topic.partitions.len().min(first.saturating_add(self.left));
        let described: Vec<_> =
            (first..end).filter_map(|index| Some(self.partition(index as i32, topic.partitions.get(index)?))).collect();
        self.left -= described.len();
        self.topics.push(message!(DescribeTopicPartitionsResponseTopic {
            name: Some(StrBytes::from(&*topic.name)),
            topic_id: wire_id(topic.id),
            is_internal: topic.is_internal(),
            partitions: described,
            topic_authorized_operations: TOPIC_OPERATIONS,
        }));
        if end < topic.partitions.len() && end >= first {
            self.goes_on(&topic.name, end as i32);
        }
    }

    fn goes_on(&mut self, topic: &str, partition: i32) {
        let cursor = message!(PartitionsCursor { topic_name: StrBytes::from(topic), partition_index: partition });
        self.next = Some(cursor);
    }

    fn partition(&self, index: i32, state: &Partition) -> DescribeTopicPartitionsResponsePartition {
        let alive = |id: &BrokerId| self.image.alive(*id).is_some();
        let ids = |ids: &[BrokerId]| -> Vec<i32> { ids.iter().map(|id| id.0).collect() };
        message!(DescribeTopicPartitionsResponsePartition {
            partition_index: index,
            leader_id: state.leader.filter(alive).map_or(-1, |id| id.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: ids(&state.replicas),
            isr_nodes: ids(&state.isr),
            eligible_leader_replicas: Some(ids(&state.elr)),
            // Who is in the ELR is never given up here.
            last_known_elr: Some(Vec::new()),
            offline_replicas: state.replicas.iter().filter(|id| !alive(id)).map(|id| id.0).collect(),
        })
    }
}

fn failed(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    message!(DescribeTopicPartitionsResponseTopic {
        error_code: error.0,
        name: Some(StrBytes::from(name)),
        is_internal: is_internal(name),
    })
}
