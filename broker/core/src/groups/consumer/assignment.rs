//! A set of partitions.

use crate::groups::record::TopicPartitions;
use crate::ids::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// Partitions by topic. No topic is without partitions, so equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignment(BTreeMap<TopicId, BTreeSet<i32>>);

impl Assignment {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.0.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    pub(super) fn insert(&mut self, topic: TopicId, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    /// All partitions, by topic id and partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.0.iter().flat_map(|(topic, partitions)| partitions.iter().map(|p| (*topic, *p)))
    }

    /// The partitions by topic.
    pub(super) fn topics(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    /// Whether no partition is in both.
    pub(super) fn is_disjoint_from(&self, other: &Self) -> bool {
        self.0.iter().all(|(topic, partitions)| other.0.get(topic).is_none_or(|o| partitions.is_disjoint(o)))
    }

    /// As records and answers have it: ascending.
    pub(super) fn to_topics(&self) -> Vec<TopicPartitions> {
        let of = |(topic_id, partitions): (&TopicId, &BTreeSet<i32>)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        };
        self.0.iter().map(of).collect()
    }
}

impl From<&[TopicPartitions]> for Assignment {
    fn from(topics: &[TopicPartitions]) -> Self {
        topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p))).collect()
    }
}

impl FromIterator<(TopicId, i32)> for Assignment {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(partitions: I) -> Self {
        let mut assignment = Self::default();
        for (topic, partition) in partitions {
            assignment.insert(topic, partition);
        }
        assignment
    }
}
