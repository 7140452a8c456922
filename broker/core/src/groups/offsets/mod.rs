//! What a group has committed.

mod commit;
mod delete;
mod fetch;

use super::record::OffsetCommitValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Committed offsets by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, OffsetCommitValue>>,
}

impl Offsets {
    /// Sets an offset.
    pub(super) fn set(&mut self, topic: &Arc<str>, partition: i32, value: OffsetCommitValue) {
        match self.topics.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, value);
            }
            None => {
                self.topics.insert(topic.clone(), BTreeMap::from([(partition, value)]));
            }
        }
    }

    /// Forgets an offset; says whether there was one.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let removed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        removed
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
