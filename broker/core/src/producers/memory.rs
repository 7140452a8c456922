//! What a broker remembers of all producers together: beyond a bound, those are forgotten that have been idle for the
//! longest, whatever partition they wrote to.
//!
//! Each broker does so by itself, as each holds other partitions. That is safe, as forgetting always is: an unknown producer
//! may go on in the middle of its sequence (decision 11), on a leader that has forgotten it and on a follower that has and
//! leads later. What is lost is that a retry of its last batches would be recognised; it is the one that has least to retry.

use super::Producers;
use crate::ids::Offset;
use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Between two marks at least.
const STEP: Duration = Duration::from_secs(10);
/// Marks that are kept: the older they are, the greater are the distances between them.
const MARKS: usize = 16;
/// Of one partition's producers this part is forgotten at a time.
const SHARE: usize = 8;

/// When a log was appended to, roughly: by this broker's clock, as timestamps of records may be any.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// Since that time, for [`STEP`], the log was appended to up to there. Ascending.
    marks: Vec<(Instant, Offset)>,
}

impl Appended {
    /// The log that ends at `end` was written before this broker knew the time.
    pub fn before(end: Offset) -> Self {
        Self { marks: vec![(Instant::default(), end)] }
    }

    /// The log ends at `end` now.
    pub fn note(&mut self, now: Instant, end: Offset) {
        if let Some((_, marked)) = self.marks.last_mut().filter(|(at, _)| now.since(*at) < STEP) {
            *marked = end;
            return;
        }
        if self.marks.len() == MARKS {
            // One tells of the batches of the one before it too, where that makes the least difference for its age.
            let blur = |n: &usize| {
                let before = n.checked_sub(1).map_or(Instant::default(), |n| self.marks[n].0);
                let later = self.marks[*n + 1].0;
                later.since(before).as_secs_f64() / now.since(later).as_secs_f64()
            };
            let merged = (0..MARKS - 1).min_by(|a, b| blur(a).total_cmp(&blur(b)));
            self.marks.remove(merged.unwrap_or_default());
        }
        self.marks.push((now, end));
    }

    /// The log was cut back to `end`.
    pub fn cut(&mut self, end: Offset) {
        let kept = self.marks.partition_point(|(_, marked)| *marked <= end);
        self.marks.truncate(kept + 1);
        if let Some((_, marked)) = self.marks.get_mut(kept) {
            *marked = end;
        }
    }

    /// When the batch that ends at `end` was written, as if batches were written at marks alone.
    fn written_at(&self, now: Instant, end: Offset) -> Instant {
        self.marks.iter().find(|(_, marked)| *marked >= end).map_or(now, |(at, _)| *at)
    }
}

/// Forgets producers until all of them take `bytes` at most, those first that have been idle for the longest; among those
/// that are alike, of the partitions that know most. Returns for each partition that has forgotten any the offset where the
/// last batch of the last one of them ended.
pub fn forget_idlest<'a, K: Copy + Ord>(
    now: Instant,
    partitions: impl IntoIterator<Item = (K, &'a mut Producers, &'a Appended)>,
    bytes: usize,
) -> BTreeMap<K, Offset> {
    let mut known: Vec<_> = partitions.into_iter().filter(|(_, producers, _)| !producers.is_empty()).collect();
    let mut left: usize = known.iter().map(|(_, producers, _)| producers.memory()).sum();
    let place = |producers: &Producers, appended: &Appended| {
        producers.idlest().map(|end| (Reverse(appended.written_at(now, end)), producers.memory()))
    };
    let mut idlest: BinaryHeap<_> = known
        .iter()
        .enumerate()
        .filter_map(|(n, (_, producers, appended))| Some((place(producers, appended)?, n)))
        .collect();
    let mut forgotten = BTreeMap::new();
    while left > bytes
        && let Some(((Reverse(since), _), n)) = idlest.pop()
    {
        let (key, producers, appended) = &mut known[n];
        let before = producers.memory();
        // No more than are as idle as the first, nor than is needed.
        for _ in 0..producers.len().div_ceil(SHARE) {
            let Some(end) = producers.idlest().filter(|end| appended.written_at(now, *end) <= since) else { break };
            producers.forget_oldest();
            forgotten.insert(*key, end);
            if left - (before - producers.memory()) <= bytes {
                break;
            }
        }
        left -= before - producers.memory();
        idlest.extend(place(producers, appended).map(|place| (place, n)));
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ProducerId;
    use crate::record::testing::BatchBuilder;

    /// A partition whose producers write one batch each.
    #[derive(Default)]
    struct Partition {
        producers: Producers,
        appended: Appended,
        end: i64,
    }

    impl Partition {
        fn write(&mut self, at_s: u64, ids: std::ops::Range<i64>) -> &mut Self {
            for id in ids {
                let mut header = BatchBuilder::new(1).producer(id, at_s as i16, 0).header();
                header.base_offset = Offset(self.end);
                self.end += 1;
                self.producers.observe(&header);
                self.appended.note(seconds(at_s), Offset(self.end));
            }
            self
        }

        fn ids(&self) -> Vec<i64> {
            self.producers.iter().map(|p| p.id.0).collect()
        }
    }

    fn seconds(n: u64) -> Instant {
        Instant(n * 1_000_000)
    }

    /// What so many producers of one batch take.
    fn room(producers: usize) -> usize {
        let mut one = Partition::default();
        producers * one.write(0, 0..1).producers.memory()
    }

    fn forget(now_s: u64, partitions: &mut [Partition], producers: usize) -> Vec<(usize, i64)> {
        let known = partitions.iter_mut().enumerate().map(|(n, p)| (n, &mut p.producers, &p.appended));
        let forgotten = forget_idlest(seconds(now_s), known, room(producers));
        forgotten.into_iter().map(|(n, end)| (n, end.0)).collect()
    }

    #[test]
    fn those_leave_first_that_have_been_idle_for_the_longest_whatever_their_partition() {
        let mut all = [Partition::default(), Partition::default(), Partition::default()];
        all[0].write(100, 0..3).write(400, 3..4);
        all[1].write(200, 4..7);
        all[2].write(300, 7..8);
        assert_eq!(forget(500, &mut all, 8), [], "there is room for all");
        assert_eq!(forget(500, &mut all, 4), [(0, 3), (1, 1)]);
        assert_eq!(all.each_ref().map(Partition::ids), [vec![3], vec![5, 6], vec![7]]);
        // Who wrote again has not been idle.
        all[1].write(600, 5..6);
        assert_eq!(forget(700, &mut all, 2), [(1, 3), (2, 1)]);
        assert_eq!(all.each_ref().map(Partition::ids), [vec![3], vec![5], vec![]]);
        assert_eq!(forget(700, &mut all, 0).len(), 2);
    }

    #[test]
    fn of_those_that_are_alike_the_partition_with_most_gives_up_most() {
        let mut all = [Partition::default(), Partition::default()];
        all[0].write(1, 0..800);
        all[1].write(2, 800..810);
        let mut started = [Partition::default(), Partition::default()];
        for (now, before) in started.iter_mut().zip(&all) {
            now.producers = before.producers.clone();
        }
        // A start knows nothing of when they wrote.
        forget(5, &mut started, 200);
        assert_eq!(started[1].ids().len(), 10);
        assert_eq!(started[0].ids(), (610..800).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_written_before_the_start_is_older_than_what_was_written_since() {
        let mut all = [Partition::default(), Partition::default()];
        all[0].write(50, 0..5);
        all[0].appended = Appended::before(Offset(5));
        all[1].write(3, 5..10);
        forget(60, &mut all, 5);
        assert_eq!(all[0].ids(), [0_i64; 0]);
        assert_eq!(all[1].ids().len(), 5);
    }

    #[test]
    fn few_marks_tell_of_a_long_time() {
        let mut appended = Appended::default();
        for n in 0..100_000 {
            appended.note(seconds(n), Offset(n as i64));
        }
        assert!(appended.marks.len() <= MARKS);
        let at = |n: i64| appended.written_at(seconds(100_000), Offset(n)).0 / 1_000_000;
        for n in [0, 1_000, 50_000, 99_000] {
            assert!(at(n) + 10 > n as u64, "{n} is said to be older than it is");
        }
        assert!(at(1_000) < at(90_000));
        appended.cut(Offset(40_000));
        assert_eq!(appended.written_at(seconds(7), Offset(60_000)), seconds(7));
    }

    #[test]
    fn a_forgotten_producer_may_go_on_in_the_middle() {
        let mut all = [Partition::default()];
        all[0].write(1, 0..2);
        forget(2, &mut all, 1);
        let header = BatchBuilder::new(1).producer(0, 0, 1).header();
        assert_eq!(all[0].producers.check(&header, ProducerId(0)), super::super::Check::Unknown);
    }
}
