//! What goes to the disk together.

use super::done::Done;
use crate::Op;
use chronik_core::ids::TopicPartition;
use std::collections::{HashMap, HashSet, VecDeque};

/// Truncations, moves of the start and deletions that one round takes at most: each renames files, and appends in the
/// next round wait for that.
const MAX_ROUND_CHANGES: usize = 64;

/// Bytes of a partition in a round from which on it is a large one.
const LARGE: usize = 64 << 10;

/// What all large partitions have beyond that in a round, while there is a small one that waits for it. It is written and
/// synced in little more than the time of a sync. A follower that catches up is sent megabytes at a time; without a bound
/// writes of a few bytes would wait for all of them, twice over.
const MAX_LARGE_BYTES: usize = 1 << 20;

/// Each large partition may have so much of that: with less for each of many, what they have would be too little to be
/// written once (`write_once_bytes`).
const LARGE_AT_LEAST: usize = 256 << 10;

/// Operations that are looked at behind the first one that was left for its size: a queue may have tens of thousands.
const MAX_LOOKED_AT: usize = 1_024;

/// What is committed together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) ops: Vec<Op>,
    pub(super) dones: Vec<Done>,
    pub(super) bytes: usize,
    /// Operations that are no appends.
    changes: usize,
    /// What large partitions have beyond what makes them large, and are to have at least.
    large: usize,
    /// The partitions in it, and what of each.
    partitions: HashMap<TopicPartition, Taken>,
}

#[derive(Clone, Copy, Default)]
struct Taken {
    /// More than appends.
    changed: bool,
    /// Of appends.
    bytes: usize,
}

impl Taken {
    /// Bytes beyond what makes it large, with so many more, or what it is to have of these at least.
    fn large(self, more: usize) -> usize {
        match (self.bytes + more).saturating_sub(LARGE) {
            0 => 0,
            large => large.max(LARGE_AT_LEAST),
        }
    }
}

impl Round {
    /// Takes what makes up the next round off the queue, in order. In a round a partition has either appends, or one
    /// operation of another kind: where a truncation ends is known when all before it is applied, and what comes next
    /// counts on it. What does not fit stays in the queue, and what comes behind it for other partitions goes before
    /// it: thousands of deletions hold back no append but those to their own partitions, and megabytes to one partition
    /// no small append to another.
    ///
    /// `held_back` says what has to wait for something else. There are no more than `max_bytes`, but for an operation that
    /// is larger by itself.
    pub(super) fn take(queue: &mut VecDeque<(Op, Done)>, max_bytes: usize, held_back: impl Fn(&Op) -> bool) -> Self {
        let mut round = Self::default();
        let deferred = round.fill(queue, max_bytes, MAX_LARGE_BYTES.min(max_bytes / 2), &held_back);
        if !deferred.is_empty() && round.has_no_small(&deferred) {
            // Nobody is to be spared: the larger the round, the fewer syncs.
            round.fill(queue, max_bytes, usize::MAX, &held_back);
        }
        round
    }

    /// Takes what fits. Returns the partitions of which something was left as large ones had `max_large` already.
    fn fill(
        &mut self,
        queue: &mut VecDeque<(Op, Done)>,
        max_bytes: usize,
        max_large: usize,
        held_back: impl Fn(&Op) -> bool,
    ) -> HashSet<TopicPartition> {
        let (mut left, mut waiting, mut looked_at) = (VecDeque::new(), HashSet::new(), 0);
        let mut deferred = HashSet::new();
        while looked_at < MAX_LOOKED_AT
            && let Some((op, done)) = queue.pop_front()
        {
            let tp = op.partition();
            looked_at += usize::from(!deferred.is_empty());
            if waiting.contains(&tp) || held_back(&op) || !self.may_take(&op) {
                waiting.insert(tp);
                left.push_back((op, done));
            } else if self.has_too_much_with(&op, max_large) {
                deferred.insert(tp);
                waiting.insert(tp);
                left.push_back((op, done));
            } else if !self.ops.is_empty() && self.bytes + op.bytes() > max_bytes {
                queue.push_front((op, done));
                break;
            } else {
                self.push(op, done);
            }
        }
        while let Some(entry) = left.pop_back() {
            queue.push_front(entry);
        }
        deferred
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether all partitions in it are large, or would be if something of them were not deferred.
    fn has_no_small(&self, deferred: &HashSet<TopicPartition>) -> bool {
        self.partitions.iter().all(|(tp, taken)| taken.large(0) > 0 || deferred.contains(tp))
    }

    /// Whether large partitions would have more than `max_large` beyond what makes them large, with an operation more. The
    /// first of them may.
    fn has_too_much_with(&self, op: &Op, max_large: usize) -> bool {
        let Op::Append { .. } = op else { return false };
        let taken = self.partitions.get(&op.partition()).copied().unwrap_or_default();
        let more = taken.large(op.bytes()) - taken.large(0);
        more > 0 && self.large > 0 && self.large + more > max_large
    }

    fn may_take(&self, op: &Op) -> bool {
        let taken = self.partitions.get(&op.partition());
        match op {
            Op::Append { .. } => taken.is_none_or(|taken| !taken.changed),
            _ => taken.is_none() && self.changes < MAX_ROUND_CHANGES,
        }
    }

    fn push(&mut self, op: Op, done: Done) {
        let changes = !matches!(op, Op::Append { .. });
        self.bytes += op.bytes();
        self.changes += usize::from(changes);
        let taken = self.partitions.entry(op.partition()).or_default();
        if changes {
            taken.changed = true;
        } else {
            self.large += taken.large(op.bytes()) - taken.large(0);
            taken.bytes += op.bytes();
        }
        self.ops.push(op);
        self.dones.push(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
    use chronik_core::record::testing::BatchBuilder;

    const NOTHING_IS_HELD_BACK: fn(&Op) -> bool = |_| false;

    fn queue(sizes: &[(i32, usize)]) -> VecDeque<(Op, Done)> {
        let mut queue: VecDeque<(Op, Done)> = VecDeque::new();
        for (n, (partition, bytes)) in (0..).zip(sizes) {
            let partition = TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: PartitionId(*partition) };
            let batch = BatchBuilder::new(1).payload(*bytes).build().assign(Offset(n), LeaderEpoch(0));
            queue.push_back((Op::Append { partition, batch }, Done::Call(Box::new(|| {}))));
        }
        queue
    }

    /// The partitions and base offsets in a round, in order.
    fn taken(round: &Round) -> Vec<(i32, Offset)> {
        let of = |op: &Op| match op {
            Op::Append { partition, batch } => (partition.partition.0, batch.header().base_offset),
            _ => unreachable!("all are appends"),
        };
        round.ops.iter().map(of).collect()
    }

    #[test]
    fn small_appends_wait_for_a_megabyte_of_large_ones_at_most() {
        let large = 300_000;
        let mut queue =
            queue(&[(0, large), (1, large), (2, large), (3, large), (4, large), (4, large), (5, 10), (4, 10)]);
        let round = Round::take(&mut queue, usize::MAX, NOTHING_IS_HELD_BACK);
        let at = |partition, base| (partition, Offset(base));
        assert_eq!(taken(&round), [at(0, 0), at(1, 1), at(2, 2), at(3, 3), at(5, 6)]);
        let rest = Round::take(&mut queue, usize::MAX, NOTHING_IS_HELD_BACK);
        assert_eq!(taken(&rest), [at(4, 4), at(4, 5), at(4, 7)], "a partition's order stays");
        assert!(queue.is_empty());
    }

    #[test]
    fn few_partitions_have_much_in_a_round_rather_than_many_little() {
        let small = (100, 10);
        let sizes: Vec<_> = (0..8 * 40).map(|n| (n % 8, 16 << 10)).chain([small]).collect();
        let mut queue = queue(&sizes);
        let round = Round::take(&mut queue, 8 << 20, NOTHING_IS_HELD_BACK);
        let mut bytes: Vec<_> = round.partitions.values().map(|taken| taken.bytes).collect();
        bytes.sort_unstable();
        assert_eq!(bytes.len(), 9, "some of each");
        assert!(bytes[..5].iter().all(|bytes| *bytes <= LARGE), "{bytes:?}");
        assert!(bytes[5..].iter().all(|bytes| *bytes >= 256 << 10), "these are written once: {bytes:?}");
        assert!(round.bytes < 2 << 20, "{}", round.bytes);
    }

    #[test]
    fn batches_of_a_few_kilobytes_of_large_partitions_make_a_large_round_too() {
        let sizes: Vec<_> = (0..4 * 32).map(|n| (n / 32, 16 << 10)).collect();
        let mut queue = queue(&sizes);
        let round = Round::take(&mut queue, 8 << 20, NOTHING_IS_HELD_BACK);
        assert_eq!((round.ops.len(), queue.len()), (4 * 32, 0), "nobody small waits");
    }

    #[test]
    fn small_appends_are_spared_in_short_rounds_as_well() {
        let mut queue = queue(&[(0, 600_000), (1, 600_000), (2, 600_000), (3, 10)]);
        let round = Round::take(&mut queue, 1 << 20, NOTHING_IS_HELD_BACK);
        assert_eq!(taken(&round), [(0, Offset(0)), (3, Offset(3))]);
    }

    #[test]
    fn large_appends_that_nobody_waits_for_make_a_large_round() {
        let sizes: Vec<_> = (0..20).map(|n| (n % 4, 500_000)).collect();
        let mut queue = queue(&sizes);
        let round = Round::take(&mut queue, 8 << 20, NOTHING_IS_HELD_BACK);
        assert_eq!((round.ops.len(), queue.len()), (16, 4), "as many as fit in eight megabytes");
        assert_eq!(taken(&round).iter().map(|(_, base)| base.0).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    }
}
