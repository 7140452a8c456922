//! Consumers that read from a follower (KIP-392): whom a leader sends there, and what a follower lets them read.

use super::leader::Leader;
use super::replica::{Replica, Role};
use crate::ids::{BrokerId, Offset};
use crate::time::Instant;
use std::cmp::Reverse;

impl Replica {
    /// Of `candidates`, the follower that a consumer had better read from at `offset`: in sync, known to have that
    /// offset, and the furthest of them. `None` while this replica does not lead under a lease.
    pub fn read_replica(&self, now: Instant, candidates: &[BrokerId], offset: Offset) -> Option<BrokerId> {
        self.leadership(now)?;
        let Role::Leader(leader) = &self.role else { return None };
        leader.read_replica(candidates, offset)
    }

    /// What consumers may read here while this replica follows: everything below is committed, whoever leads next, and
    /// on this disk. `None` if it does not follow, and if it cannot know that it is one of those that count: fenced or
    /// without a lease, not in sync, not heard of by the leader of the newest epoch, or damaged.
    pub fn readable_by_following(&self, now: Instant) -> Option<Offset> {
        let Role::Follower(follower) = &self.role else { return None };
        let state = &self.state;
        let counts = state.isr.contains(&self.me) && state.replicas.iter().any(|(id, e)| *id == self.me && e.is_some());
        let current = follower.epoch == state.leader_epoch && follower.is_streaming();
        let whole = self.damage.is_none() && self.log.damaged.is_none();
        (counts && current && whole && now < self.lease).then_some(self.log.high_watermark.min(self.log.durable))
    }
}

impl Leader {
    fn read_replica(&self, candidates: &[BrokerId], offset: Offset) -> Option<BrokerId> {
        let in_sync = candidates.iter().filter(|id| self.isr.committed().contains(id));
        let reached = in_sync.filter_map(|id| Some((self.followers.get(id)?.readable_at(offset)?, Reverse(*id))));
        reached.max().map(|(_, Reverse(id))| id)
    }
}
