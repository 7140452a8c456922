//! Where each leader epoch starts in a log (KIP-101), and the question that truncation asks of it: where
//! does an epoch end (KIP-279)?

use crate::ids::{LeaderEpoch, Offset};

/// Leader epochs with the offset of their first record, both strictly ascending.
///
/// Only a leader's own epoch may start at the log's end, with no record yet. It is dropped when the leadership
/// ends before one was written, because no follower can know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs(Vec<(LeaderEpoch, Offset)>);

impl Epochs {
    /// From what a log's batches say. Entries that contradict an earlier one are left out.
    pub(super) fn new(mut entries: Vec<(LeaderEpoch, Offset)>) -> Self {
        let mut last: Option<(LeaderEpoch, Offset)> = None;
        entries.retain(|&(epoch, start)| {
            let follows = last.is_none_or(|(e, s)| epoch > e && start > s);
            if follows {
                last = Some((epoch, start));
            }
            follows
        });
        Self(entries)
    }

    /// Notes that `epoch` starts at `start`, if it is newer than all that are known. Epochs that turn out to
    /// hold no record (they would start at `start` or later) are forgotten.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest().is_some_and(|latest| epoch <= latest) {
            return;
        }
        self.drop_from(start);
        // Epochs are few, and of most partitions of a broker with very many there are one or two.
        self.0.reserve_exact(1);
        self.0.push((epoch, start));
    }

    /// Forgets the epochs that start at `end` or later: the log ends there.
    pub(super) fn drop_from(&mut self, end: Offset) {
        while self.0.last().is_some_and(|&(_, start)| start >= end) {
            self.0.pop();
        }
    }

    /// Forgets what is before `start`: the log begins there, and so does the epoch of its first record. If that comes
    /// behind a gap, nobody can say where in the gap its epoch began: the whole gap counts as its own, so that nothing
    /// that an older leader wrote there is taken for a part of this log.
    pub(super) fn drop_before(&mut self, start: Offset) {
        let before = self.0.partition_point(|&(_, first)| first <= start).saturating_sub(1);
        self.0.drain(..before);
        if let Some((_, first)) = self.0.first_mut() {
            *first = start;
        }
    }

    /// The newest epoch.
    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|&(epoch, _)| epoch)
    }

    /// The greatest epoch that is not above `epoch`, and where it ends in a log that ends at `log_end`.
    ///
    /// As Kafka answers: for an epoch older than all known ones, that epoch and the start of the oldest known
    /// one; `None` for one newer than all known ones, and for an empty map.
    pub(super) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch > self.latest()? {
            return None;
        }
        let above = self.0.partition_point(|&(e, _)| e <= epoch);
        let end = self.0.get(above).map_or(log_end, |&(_, start)| start);
        let floor = above.checked_sub(1).map_or(epoch, |i| self.0[i].0);
        Some((floor, end))
    }

    /// The epoch of the record at `offset`, which is below the log's end.
    pub(super) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.0[..self.0.partition_point(|&(_, start)| start <= offset)].last().map(|&(epoch, _)| epoch)
    }

    /// The entries, oldest first.
    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.0
    }

    /// Whether the entries ascend and none starts beyond `log_end`.
    pub(super) fn valid(&self, log_end: Offset) -> bool {
        self.0.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1) && self.0.last().is_none_or(|&(_, start)| start <= log_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        Epochs::new(entries.iter().map(|&(e, o)| (LeaderEpoch(e), Offset(o))).collect())
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_known_one() {
        let map = epochs(&[(1, 0), (2, 5), (5, 9)]);
        // (asked, answer)
        for (asked, answer) in [
            (0, Some((0, 0))),
            (1, Some((1, 5))),
            (2, Some((2, 9))),
            (3, Some((2, 9))),
            (4, Some((2, 9))),
            (5, Some((5, 12))),
            (6, None),
        ] {
            let expected = answer.map(|(e, o)| (LeaderEpoch(e), Offset(o)));
            assert_eq!(map.end_of(LeaderEpoch(asked), Offset(12)), expected, "epoch {asked}");
        }
        assert_eq!(epochs(&[]).end_of(LeaderEpoch(0), Offset(0)), None);
    }

    #[test]
    fn each_record_has_the_epoch_that_started_last() {
        let map = epochs(&[(1, 2), (4, 5)]);
        for (offset, epoch) in [(1, None), (2, Some(1)), (4, Some(1)), (5, Some(4)), (9, Some(4))] {
            assert_eq!(map.at(Offset(offset)), epoch.map(LeaderEpoch), "offset {offset}");
        }
    }

    #[test]
    fn epochs_take_no_more_room_than_they_need() {
        let mut map = Epochs::new(vec![(LeaderEpoch(1), Offset(0))]);
        map.assign(LeaderEpoch(2), Offset(5));
        assert_eq!((map.0.len(), map.0.capacity()), (2, 2));
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut map = epochs(&[(1, 0)]);
        map.assign(LeaderEpoch(2), Offset(5));
        map.assign(LeaderEpoch(3), Offset(5));
        assert_eq!(map, epochs(&[(1, 0), (3, 5)]));
        map.assign(LeaderEpoch(2), Offset(7));
        assert_eq!(map, epochs(&[(1, 0), (3, 5)]), "an old epoch cannot start again");
        map.drop_from(Offset(5));
        assert_eq!(map, epochs(&[(1, 0)]));
    }

    #[test]
    fn a_log_that_begins_later_has_its_first_epoch_begin_with_it() {
        for (start, left) in [
            (0, &[(1, 0), (3, 5), (4, 9)][..]),
            (4, &[(1, 4), (3, 5), (4, 9)]),
            (5, &[(3, 5), (4, 9)]),
            (8, &[(3, 8), (4, 9)]),
            (12, &[(4, 12)]),
        ] {
            let mut map = epochs(&[(1, 0), (3, 5), (4, 9)]);
            map.drop_before(Offset(start));
            assert_eq!(map, epochs(left), "from {start}");
            assert!(map.valid(Offset(12)));
        }
        let mut map = epochs(&[(3, 5), (4, 9)]);
        map.drop_before(Offset(2));
        assert_eq!(map, epochs(&[(3, 2), (4, 9)]), "with a gap in front of its first record");
        let mut map = epochs(&[(3, 5), (4, 9)]);
        map.drop_before(Offset(8));
        // As Kafka answers for what is older than all that it knows.
        assert_eq!(map.end_of(LeaderEpoch(1), Offset(12)), Some((LeaderEpoch(1), Offset(8))));
    }

    proptest! {
        #[test]
        fn any_two_logs_agree_after_truncating_by_epoch(cut in 0..30_i64, a in 1..20_i64, b in 1..20_i64, gap in 0..3_i64) {
            // Two logs share a prefix up to `cut`, written in epoch 1, then went on in epochs 2 and 3.
            let mut leader = epochs(&[(1, 0)]);
            let mut follower = leader.clone();
            if cut == 0 {
                leader = Epochs::default();
                follower = Epochs::default();
            }
            follower.assign(LeaderEpoch(2), Offset(cut));
            leader.assign(LeaderEpoch(3 + gap as i32), Offset(cut));
            let (leader_end, follower_end) = (Offset(cut + a), Offset(cut + b));
            let (epoch, end) = leader.end_of(LeaderEpoch(2), leader_end).unwrap();
            let own = follower.end_of(epoch, follower_end).unwrap().1;
            prop_assert_eq!(own.min(end), Offset(cut));
        }
    }
}
