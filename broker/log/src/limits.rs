//! When partitions' segments are full, as topics say (`segment.bytes`, `segment.ms`, `segment.jitter.ms`), and how dense
//! their indexes are (`index.interval.bytes`).

use chronik_core::ids::{TopicId, TopicPartition};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// When a segment is full: the next batch begins another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLimit {
    /// Bytes at most, but for a batch that is larger by itself; twice as many for each 1,024 segments that a partition has.
    pub bytes: u64,
    /// Milliseconds at most between the timestamp of its first batch and that of the next. What has no timestamps is
    /// not counted.
    pub ms: i64,
    /// By how many milliseconds less that is at most, differently for each partition: so that those of a topic do not
    /// begin new segments at the same time.
    pub jitter_ms: i64,
    /// Bytes of batches between two entries of the index.
    pub index_interval_bytes: u64,
}

impl SegmentLimit {
    /// The milliseconds that count for a partition.
    pub(crate) fn ms_of(&self, partition: TopicPartition) -> i64 {
        let jitter = self.jitter_ms.min(self.ms.saturating_sub(1));
        if jitter <= 0 {
            return self.ms;
        }
        // Mixes the bits, as splitmix64 does: neighbours end up far from each other.
        let topic = partition.topic.0.as_u128();
        let mut mixed = (topic as u64) ^ ((topic >> 64) as u64) ^ u64::from(partition.partition.0 as u32);
        for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
        }
        self.ms - ((mixed >> 1) as i64 % (jitter + 1))
    }
}

/// The limits of topics that differ from the options'. They may be changed at any time, and count from the next append
/// on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SegmentLimits(Arc<RwLock<Limits>>);

#[derive(Debug, Default)]
struct Limits {
    others: Option<SegmentLimit>,
    topics: HashMap<TopicId, SegmentLimit>,
}

impl SegmentLimits {
    /// Sets a topic's limit; `None` for that of all others.
    pub fn set(&self, topic: TopicId, limit: Option<SegmentLimit>) {
        let mut limits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match limit {
            Some(limit) => limits.topics.insert(topic, limit),
            None => limits.topics.remove(&topic),
        };
    }

    /// Sets the limit of topics without one of their own; until then the options say it.
    pub fn set_others(&self, limit: SegmentLimit) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).others = Some(limit);
    }

    pub(crate) fn of(&self, partition: TopicPartition) -> Option<SegmentLimit> {
        let limits = self.0.read().unwrap_or_else(PoisonError::into_inner);
        limits.topics.get(&partition.topic).copied().or(limits.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::PartitionId;

    #[test]
    fn jitter_makes_segments_of_partitions_differently_short_and_none_too_short() {
        let of = |ms, jitter_ms| {
            let limit = SegmentLimit { bytes: 1, ms, jitter_ms, index_interval_bytes: 1 };
            let topic = TopicId(uuid::Uuid::from_u128(7));
            let partition = |n| TopicPartition { topic, partition: PartitionId(n) };
            (0..100).map(|n| limit.ms_of(partition(n))).collect::<Vec<_>>()
        };
        assert!(of(1000, 0).iter().all(|ms| *ms == 1000));
        let mut some = of(1000, 100);
        assert!(some.iter().all(|ms| (900..=1000).contains(ms)), "{some:?}");
        some.sort_unstable();
        some.dedup();
        assert!(some.len() > 30, "{some:?}");
        assert!(of(10, i64::MAX).iter().all(|ms| (1..=10).contains(ms)));
        assert!(of(1, i64::MAX).iter().all(|ms| *ms == 1));
    }
}
