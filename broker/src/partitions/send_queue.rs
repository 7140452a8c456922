//! What waits to be sent to one follower.

use crate::replication::FollowerLink;
use chronik_core::ids::TopicPartition;
use std::collections::{HashMap, VecDeque};

/// Reads that a partition has one after the other while others wait, a megabyte each. After the first one since a checkpoint
/// the follower writes what comes once, in its segment: with one read at a time and many partitions all would be first ones.
const READS_AT_A_TIME: u32 = 8;
/// Partitions whose reads are counted.
const MAX_COUNTED: usize = 64;

/// An owner's partitions that wait to send to one follower. Without it, a follower that comes back and lacks something
/// of thousands of partitions would have the leader read all of them at once, for a connection that takes few.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// The connection had no credit for what they had to send.
    refused: VecDeque<TopicPartition>,
    /// The follower catches up: it lacks what is no longer in memory, or much, and is not in sync.
    behind: VecDeque<TopicPartition>,
    /// The follower is catching up in these, and is to do so slowly.
    throttled: VecDeque<TopicPartition>,
    reading: usize,
    /// Reads of those that go on before others.
    in_a_row: HashMap<TopicPartition, u32>,
}

/// How much may be read from the disk for one follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// Under way for one owner.
    pub(super) at_once: usize,
    /// In each.
    pub(super) bytes: usize,
}

impl SendQueue {
    pub(super) fn refused(&mut self, partition: TopicPartition) {
        self.refused.push_back(partition);
    }

    /// Whether a partition may read what the follower catches up with now. If so calls to [`Self::has_read`] and
    /// [`FollowerLink::has_read`] must follow; if not, it waits. It first waits before all others if what it lacks is in memory:
    /// then the follower has caught up with it but for the newest, and producers may wait for that.
    pub(super) fn may_read(
        &mut self,
        partition: TopicPartition,
        in_memory: bool,
        link: &FollowerLink,
        reads: Reads,
    ) -> bool {
        let may = self.reading < reads.at_once && link.begin_to_read(reads.bytes, self.reading);
        if may {
            self.reading += 1;
        }
        self.ask(partition, in_memory, may);
        may
    }

    fn ask(&mut self, partition: TopicPartition, in_memory: bool, may: bool) {
        if may {
            if self.in_a_row.len() >= MAX_COUNTED {
                self.in_a_row.clear();
            }
            *self.in_a_row.entry(partition).or_default() += 1;
        } else if self.in_a_row.get(&partition).map_or(in_memory, |reads| *reads < READS_AT_A_TIME) {
            self.behind.push_front(partition);
        } else {
            self.in_a_row.remove(&partition);
            self.behind.push_back(partition);
        }
    }

    /// It is too early to read more for it.
    pub(super) fn throttled(&mut self, partition: TopicPartition) {
        self.throttled.push_back(partition);
    }

    /// Those who were too early and try again, so many at most.
    pub(super) fn next_throttled(&mut self, most: usize) -> Vec<TopicPartition> {
        self.throttled.drain(..most.min(self.throttled.len())).collect()
    }

    pub(super) fn has_read(&mut self) {
        self.reading = self.reading.saturating_sub(1);
    }

    /// Who tries again, now that there may be credit or a read has ended. Those who were refused go first: they have
    /// sent all before it, and a producer may wait for what is next.
    pub(super) fn next(&mut self, link: &FollowerLink, reads: Reads) -> Option<TopicPartition> {
        let refused = if link.refuses() { None } else { self.refused.pop_front() };
        refused.or_else(|| {
            let has_room = || self.reading < reads.at_once && link.may_catch_up(reads.bytes, self.reading);
            let may = !self.behind.is_empty() && has_room();
            if may { self.behind.pop_front() } else { None }
        })
    }

    /// The connection is gone, and nobody waits to send on it any more. Reads that have begun still count until they
    /// end.
    pub(super) fn disconnected(&mut self) {
        self.refused.clear();
        self.behind.clear();
        self.throttled.clear();
        self.in_a_row.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{PartitionId, TopicId};

    fn partition(index: i32) -> TopicPartition {
        TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: PartitionId(index) }
    }

    #[test]
    fn a_partition_reads_several_times_before_it_waits_behind_others() {
        let mut queue = SendQueue { behind: (1..100).map(partition).collect(), ..SendQueue::default() };
        for read in 1..READS_AT_A_TIME {
            queue.ask(partition(0), false, true);
            queue.ask(partition(0), false, false);
            assert_eq!(queue.behind.pop_front(), Some(partition(0)), "after {read}");
        }
        queue.ask(partition(0), false, true);
        queue.ask(partition(0), false, false);
        assert_eq!(queue.behind.back(), Some(&partition(0)));
        for other in 1..=100 {
            queue.ask(partition(other), false, true);
        }
        assert!(queue.in_a_row.len() <= MAX_COUNTED);
    }

    #[test]
    fn what_is_in_memory_goes_before_what_has_to_be_read() {
        let mut queue = SendQueue { behind: (1..100).map(partition).collect(), ..SendQueue::default() };
        queue.ask(partition(0), true, false);
        assert_eq!(queue.behind.front(), Some(&partition(0)));
    }
}
