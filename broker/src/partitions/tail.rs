//! The newest batches of a partition, in memory: what readers and followers want is nearly always here.

use chronik_core::ids::Offset;
use chronik_core::record::RecordBatch;
use std::collections::VecDeque;

/// The batches from an offset on up to the log's end, with gaps where the leader's log was compacted.
#[derive(Debug)]
pub(super) struct Tail {
    batches: VecDeque<RecordBatch>,
    start: Offset,
    end: Offset,
}

impl Tail {
    pub(super) fn new(end: Offset) -> Self {
        Self { batches: VecDeque::new(), start: end, end }
    }

    /// The first offset that is here; what comes before is on the disk.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    pub(super) fn push(&mut self, batch: RecordBatch) {
        debug_assert!(batch.header().base_offset >= self.end, "batches follow each other");
        self.end = batch.header().end_offset();
        if self.batches.capacity() == 0 {
            // Of most partitions of a broker with very many there is one.
            self.batches.reserve_exact(1);
        }
        self.batches.push_back(batch);
    }

    /// Forgets what lies at or after `to`.
    pub(super) fn truncate(&mut self, to: Offset) {
        while self.batches.back().is_some_and(|b| b.header().end_offset() > to) {
            self.batches.pop_back();
        }
        self.end = to;
        if self.batches.back().is_none_or(|b| b.header().end_offset() != to) {
            // The cut is inside a batch that is gone as a whole: the disk knows better.
            self.batches.clear();
            self.start = to;
        }
    }

    /// Forgets the first batch if it ends at or before `below` and begins at `base`.
    pub(super) fn evict(&mut self, base: Offset, below: Offset) -> bool {
        match self.batches.front() {
            Some(first) if first.header().base_offset == base => {
                let evictable = first.header().end_offset() <= below;
                if evictable {
                    self.start = first.header().end_offset();
                    self.batches.pop_front();
                    if self.batches.is_empty() {
                        self.batches = VecDeque::new();
                    }
                }
                evictable
            }
            // Truncated meanwhile, or forgotten already.
            _ => true,
        }
    }

    /// Whole batches, the first of which holds `from`, all of which end at or before `up_to`: as many as fit
    /// into `max_bytes`, and one at least. `None` if the beginning is not here.
    pub(super) fn read(&self, from: Offset, up_to: Offset, max_bytes: usize) -> Option<Vec<RecordBatch>> {
        if from < self.start() {
            return None;
        }
        let first = self.batches.partition_point(|b| b.header().end_offset() <= from);
        let mut bytes = 0;
        let mut found = Vec::new();
        for batch in self.batches.range(first..) {
            bytes += batch.bytes().len();
            if batch.header().end_offset() > up_to || (bytes > max_bytes && !found.is_empty()) {
                break;
            }
            found.push(batch.clone());
        }
        Some(found)
    }

    /// All that is here.
    pub(super) fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::LeaderEpoch;

    fn batch(base: i64, count: i32) -> RecordBatch {
        let mut bytes = vec![0; 61];
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        RecordBatch::check(bytes.into()).unwrap().assign(Offset(base), LeaderEpoch(0))
    }

    fn tail() -> Tail {
        let mut tail = Tail::new(Offset(10));
        for base in [10, 12, 14] {
            tail.push(batch(base, 2));
        }
        tail
    }

    fn bases(found: Option<Vec<RecordBatch>>) -> Option<Vec<i64>> {
        Some(found?.iter().map(|b| b.header().base_offset.0).collect())
    }

    #[test]
    fn a_read_begins_with_the_batch_that_holds_the_offset_and_ends_at_the_limit() {
        let tail = tail();
        assert_eq!(bases(tail.read(Offset(13), Offset(16), 1000)), Some(vec![12, 14]));
        assert_eq!(bases(tail.read(Offset(13), Offset(14), 1000)), Some(vec![12]));
        assert_eq!(bases(tail.read(Offset(10), Offset(16), 1)), Some(vec![10]), "one at least");
        assert_eq!(bases(tail.read(Offset(16), Offset(16), 1000)), Some(vec![]));
        assert_eq!(bases(tail.read(Offset(9), Offset(16), 1000)), None);
    }

    #[test]
    fn what_lies_in_a_gap_is_read_from_behind_it_once_what_is_before_it_is_forgotten() {
        let mut tail = Tail::new(Offset(10));
        tail.push(batch(10, 2));
        tail.push(batch(300, 2));
        assert_eq!(bases(tail.read(Offset(12), Offset(302), 1000)), Some(vec![300]));
        assert!(tail.evict(Offset(10), Offset(12)));
        assert_eq!(bases(tail.read(Offset(12), Offset(302), 1000)), Some(vec![300]));
        assert_eq!(bases(tail.read(Offset(11), Offset(302), 1000)), None);
        assert!(tail.evict(Offset(300), Offset(302)));
        assert_eq!(tail.start(), Offset(302));
    }

    #[test]
    fn truncation_takes_from_the_end_and_eviction_from_the_start() {
        let mut tail = tail();
        tail.truncate(Offset(14));
        assert_eq!(bases(tail.read(Offset(10), Offset(99), 1000)), Some(vec![10, 12]));
        assert!(!tail.evict(Offset(10), Offset(11)), "not on the disk yet");
        assert!(tail.evict(Offset(10), Offset(12)));
        assert_eq!(tail.start(), Offset(12));
        assert!(tail.evict(Offset(10), Offset(12)), "gone already");
        tail.truncate(Offset(5));
        assert_eq!(tail.start(), Offset(5));
    }
}
