//! When partitions' segments are full, as topics say (`segment.bytes`, `segment.ms`).

use chronik_core::ids::TopicPartition;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// When a segment is full: the next batch begins another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLimit {
    /// Bytes at most, but for a batch that is larger by itself.
    pub bytes: u64,
    /// Milliseconds at most between the timestamp of its first batch and that of the next. What has no timestamps is
    /// not counted.
    pub ms: i64,
}

/// The limits of partitions that differ from the options'. They may be changed at any time, and count from the next
/// append on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SegmentLimits(Arc<RwLock<HashMap<TopicPartition, SegmentLimit>>>);

impl SegmentLimits {
    /// Sets a partition's limit; `None` for that of the options. A partition that is deleted keeps its limit until it is
    /// taken away.
    pub fn set(&self, partition: TopicPartition, limit: Option<SegmentLimit>) {
        let mut limits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match limit {
            Some(limit) => limits.insert(partition, limit),
            None => limits.remove(&partition),
        };
    }

    pub(crate) fn of(&self, partition: TopicPartition) -> Option<SegmentLimit> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }
}
