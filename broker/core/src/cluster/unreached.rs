//! A leader that the controller hears and no other broker reaches: its replication port is blocked, or the network is cut
//! between some brokers and not between others. It has its lease and commits nothing, as nobody follows it. So it gives up by
//! itself what others can lead.
//!
//! Every broker dials every other one, whatever they share. So a broker to which nobody has had a connection for longer than a
//! session, while the controller has others for alive, is cut off from them. There have to be two of them: of two brokers that
//! do not reach each other nobody knows which one is cut off, and leaderships would go to and fro. It is not decided by
//! partition: what makes thousands of them at once leaves followers without a subscription for that long on a busy machine.

use super::image::{Image, Partition, Topic};
use crate::ids::{BrokerId, TopicPartition};
use crate::time::Instant;
use std::time::Duration;

/// Others that the controller has for alive.
const WITNESSES: usize = 2;
/// Where nobody reaches anybody, leaderships would go round: each further time is waited for twice as long, up to that many
/// times as long as the first.
const PATIENCE_MAX: u32 = 16;

/// How long a broker has been out of reach.
#[derive(Clone, Copy, Debug)]
pub struct Unreached {
    first: Duration,
    patience: Duration,
    since: Option<Instant>,
}

/// What a broker knows of itself at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Another broker has a connection to it, or had one since it was looked last.
    pub reached: bool,
    /// The controller gives it a lease.
    pub has_lease: bool,
    /// How many others the controller has for alive.
    pub others: usize,
}

impl Unreached {
    /// Within a session those are fenced that are gone themselves; it waits for half of one beyond that.
    pub fn new(session: Duration) -> Self {
        let first = session.saturating_mul(3) / 2;
        Self { first, patience: first, since: None }
    }

    /// Whether the broker should give up now what others can lead. If nothing comes of it, it is due again after as long.
    pub fn is_due(&mut self, now: Instant, reach: Reach) -> bool {
        if reach.reached {
            *self = Self { patience: self.first, since: None, ..*self };
            return false;
        }
        if !reach.has_lease || reach.others < WITNESSES {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let due = now.since(since) >= self.patience;
        if due {
            self.since = Some(now);
        }
        due
    }

    /// It has given up something.
    pub fn gave_up(&mut self) {
        self.patience = self.patience.saturating_mul(2).min(self.first.saturating_mul(PATIENCE_MAX));
    }
}

impl Image {
    /// Partitions that the broker leads, and that another one could lead now.
    pub fn leaderships_for_others(&self, leader: BrokerId) -> Vec<TopicPartition> {
        let given = |(tp, _, p): (TopicPartition, &Topic, &Partition)| {
            let led = p.leader == Some(leader);
            let another = || p.isr.iter().any(|id| *id != leader && self.may_lead(*id));
            (led && another()).then_some(tp)
        };
        self.partitions().filter_map(given).collect()
    }

    /// Whether another broker leads the partition, and waits for this one, as it is in sync.
    pub fn is_in_sync_under_another(&self, id: BrokerId, partition: TopicPartition) -> bool {
        self.partition(partition).is_some_and(|p| p.leader.is_some_and(|leader| leader != id) && p.isr.contains(&id))
    }
}
