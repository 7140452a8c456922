//! What waits to be sent to one follower.

use crate::replication::FollowerLink;
use chronik_core::ids::TopicPartition;
use std::collections::VecDeque;

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
    /// [`FollowerLink::has_read`] must follow; if not, it waits for its turn.
    pub(super) fn may_read(&mut self, partition: TopicPartition, link: &FollowerLink, reads: Reads) -> bool {
        let may = self.reading < reads.at_once && link.begin_to_read(reads.bytes, self.reading);
        if may {
            self.reading += 1;
        } else {
            self.behind.push_back(partition);
        }
        may
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

    /// The connection is gone, and with it all who waited for it; what is being read will still end.
    pub(super) fn disconnected(&mut self) {
        self.refused.clear();
        self.behind.clear();
        self.throttled.clear();
    }
}
