//! ListPartitionReassignments: the partitions that are being moved (KIP-455).

use super::Handlers;
use chronik_core::cluster::{Partition, Topic};
use chronik_core::ids::BrokerId;
use chronik_wire::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment, StrBytes, message,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn handle(
    handlers: &Handlers,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = handlers.controller.image();
    let topics = match request.topics {
        None => image.topic_ids.values().filter_map(|id| ongoing(image.topics.get(id)?, None)).collect(),
        Some(named) => {
            let mut wanted: BTreeMap<StrBytes, BTreeSet<i32>> = BTreeMap::new();
            for topic in named {
                wanted.entry(StrBytes::from(&*topic.name)).or_default().extend(topic.partition_indexes);
            }
            wanted.iter().filter_map(|(name, wanted)| ongoing(image.topic_by_name(name)?, Some(wanted))).collect()
        }
    };
    message!(ListPartitionReassignmentsResponse { topics: topics })
}

/// A topic's partitions that are being moved, if there are any; of those that are asked for.
fn ongoing(topic: &Topic, wanted: Option<&BTreeSet<i32>>) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<_> = (0..)
        .zip(&topic.partitions)
        .filter(|(index, p)| p.is_reassigning() && wanted.is_none_or(|wanted| wanted.contains(index)))
        .map(|(index, p)| partition(index, p))
        .collect();
    (!partitions.is_empty())
        .then(|| message!(OngoingTopicReassignment { name: StrBytes::from(&*topic.name), partitions: partitions }))
}

fn partition(index: i32, p: &Partition) -> OngoingPartitionReassignment {
    let numbers = |ids: &[BrokerId]| -> Vec<i32> { ids.iter().map(|id| id.0).collect() };
    message!(OngoingPartitionReassignment {
        partition_index: index,
        replicas: numbers(&p.replicas),
        adding_replicas: numbers(&p.adding),
        removing_replicas: numbers(&p.removing),
    })
}
