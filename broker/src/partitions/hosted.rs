//! One partition that this broker holds, as its owner has it.

use super::deletions::Deletion;
use super::series::AppendReply;
use super::tail::Tail;
use super::waiter::Waiter;
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerId, Offset, TopicPartition};
use chronik_core::replication::{Config, LogState, PartitionState, Replica, Ticket};
use chronik_core::time::Instant;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Producers that wait in one partition; with more, it is seen whether they still do.
const MANY_TICKETS: usize = 256;

/// What is known to be damaged may be read in the end, but is not tried more often than this: a follower that needs it asks at
/// each tick.
const READ_DAMAGED_AGAIN: Duration = Duration::from_mins(1);

/// When it was last tried to read what is known to be damaged.
#[derive(Debug, Default)]
pub(super) struct DamageTry(Option<Instant>);

impl DamageTry {
    /// Whether to try again. If so it is noted.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|at| now >= at + READ_DAMAGED_AGAIN);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// A replica, and what the shell keeps for it.
pub(super) struct Hosted {
    pub(super) replica: Replica,
    pub(super) tail: Tail,
    /// Producers that wait, each answered exactly once.
    pub(super) tickets: HashMap<Ticket, AppendReply>,
    /// Readers that wait for something new; gone with their requests.
    pub(super) waiters: Vec<Waiter>,
    /// Up to where the answers said that records are readable here while the replica follows.
    readable_by_following: Option<Offset>,
    /// Who waits for the log's start to reach an offset.
    pub(super) deletions: Vec<Deletion>,
    /// Whom the replica follows.
    pub(super) following: Option<BrokerId>,
    /// Whether its topic is one of the cluster's own.
    pub(super) internal: bool,
    /// Whether the owner lets the replica hear that time passes.
    pub(super) ticks: bool,
    /// What the replica remembers of producers, as its owner has counted it.
    pub(super) producer_bytes: usize,
    /// When a follower was last read for what is known to be damaged.
    pub(super) damage: DamageTry,
    /// Tells it from a former replica of the same partition here, whose log was dropped.
    pub(super) life: u64,
}

impl Hosted {
    pub(super) fn new(me: BrokerId, config: Arc<Config>, log: LogState, life: u64) -> Self {
        let tail = Tail::new(log.end);
        Self {
            replica: Replica::new(me, config, log),
            tail,
            tickets: HashMap::new(),
            waiters: Vec::new(),
            readable_by_following: None,
            deletions: Vec::new(),
            following: None,
            internal: false,
            ticks: false,
            producer_bytes: 0,
            damage: DamageTry::default(),
            life,
        }
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        // Those whose request has been answered meanwhile would pile up in a partition without traffic.
        if self.waiters.len() == self.waiters.capacity() {
            self.waiters.retain(Waiter::is_wanted);
            // A request that waits for much asks again while its first waiter is still here.
            self.waiters.sort_unstable_by_key(Waiter::key);
            self.waiters.dedup_by_key(|waiter| waiter.key());
        }
        self.waiters.push(waiter);
    }

    /// Lets go of the memory that was needed only while it had something to do.
    pub(super) fn rest(&mut self) {
        self.tickets.shrink_to_fit();
        self.waiters.retain(Waiter::is_wanted);
        self.waiters.shrink_to_fit();
        self.deletions.shrink_to_fit();
    }

    /// Takes out the tickets of requests that have timed out, once there are many: a producer may go on and on asking
    /// for the outcome of one batch.
    pub(super) fn abandoned(&mut self) -> BTreeSet<Ticket> {
        if self.tickets.len() < MANY_TICKETS {
            return BTreeSet::new();
        }
        self.tickets.extract_if(|_, reply| reply.is_closed()).map(|(ticket, _)| ticket).collect()
    }

    /// Wakes the readers of a following replica if they may be served now and could not before, or the other way round.
    pub(super) fn wake_if_readable_changed(&mut self, now: Instant) {
        let readable = self.replica.readable_by_following(now);
        if readable != self.readable_by_following {
            self.readable_by_following = readable;
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.wake();
        }
    }
}

/// A partition's state as its replica wants to hear it.
pub(super) fn partition_state(image: &Image, partition: TopicPartition) -> Option<PartitionState> {
    let topic = image.topics.get(&partition.topic)?;
    let state = image.partition(partition)?;
    Some(PartitionState {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        isr: state.isr.clone(),
        replicas: state.replicas.iter().map(|id| (*id, image.alive(*id).and_then(|b| b.epoch))).collect(),
        stopping: image.stopping(&state.replicas),
        elr: state.elr.to_vec(),
        removing: state.removing.to_vec(),
        min_insync_replicas: state.min_insync_replicas(topic.min_insync_replicas),
        older_producers: topic.older_producers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hosted_is_small_as_there_may_be_ten_thousand() {
        let bytes = size_of::<Hosted>();
        assert!(bytes <= 784, "it takes {bytes} bytes: what few have at a time belongs into a box");
    }

    #[test]
    fn what_is_damaged_is_tried_at_once_and_then_now_and_then() {
        let (mut damage, begin) = (DamageTry::default(), Instant::default());
        let due = [0, 100, 59_999, 60_000, 60_100, 130_000].map(|ms| damage.is_due(begin + Duration::from_millis(ms)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
