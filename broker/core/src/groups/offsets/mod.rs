//! What a group has committed.

mod commit;
mod delete;
mod fetch;

use super::limits;
use super::record::OffsetCommitValue;
use super::shared::Shared;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Committed offsets by topic and partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    topics: Shared<BTreeMap<Arc<str>, BTreeMap<i32, OffsetCommitValue>>>,
    /// About the bytes that they take in memory.
    bytes: usize,
}

impl Offsets {
    /// Sets an offset.
    pub(super) fn set(&mut self, topic: &Arc<str>, partition: i32, value: OffsetCommitValue) {
        self.bytes += limits::committed_offset(&value.metadata);
        let former = if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.insert(partition, value)
        } else {
            self.bytes += limits::committed_topic(topic);
            self.topics.insert(topic.clone(), BTreeMap::from([(partition, value)]));
            None
        };
        self.bytes -= former.map_or(0, |former| limits::committed_offset(&former.metadata));
    }

    /// Forgets an offset; says whether there was one.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
            self.bytes -= limits::committed_topic(topic);
        }
        self.bytes -= removed.as_ref().map_or(0, |removed| limits::committed_offset(&removed.metadata));
        removed.is_some()
    }

    /// About the bytes that they take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset of a partition.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.topics.get(topic)?.get(&partition)
    }

    /// Whether nothing is committed.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// All, by topic.
    pub(super) fn topics(&self) -> &BTreeMap<Arc<str>, BTreeMap<i32, OffsetCommitValue>> {
        &self.topics
    }

    /// All: topic, partition, offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetCommitValue)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |(p, value)| (topic, *p, value)))
    }
}
