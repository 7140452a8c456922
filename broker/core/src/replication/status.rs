//! What a replica shows of itself to logs and metrics.

use crate::ids::{BrokerId, LeaderEpoch, Offset};
use std::time::Duration;

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing: the partition has no leader, or this broker no part in it.
    Idle,
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It follows, and is cutting its log back first.
    Truncating,
    /// It would have to cut back what is committed. It keeps its log as it is and waits for another leader.
    RefusingToTruncate,
}

/// What clients may read of a leader's log at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// Everything below is committed, and stays that whoever leads.
    pub end: Offset,
    /// The high watermark that clients may see. `None` where they may have seen a greater one from another leader:
    /// before it has reached the start of this leadership's epoch, and when the lease is over.
    pub high_watermark: Option<Offset>,
}

/// How far a follower that is not in sync is behind its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The follower.
    pub follower: BrokerId,
    /// How many offsets it lacks; `None` of one that has not been heard in this leadership.
    pub behind: Option<u64>,
    /// For how long, at least, it has not had all that the leader had: as long as this one leads, at most.
    pub for_at_least: Duration,
}

/// A replica at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub role: Role,
    /// The newest leader epoch that it knows of.
    pub leader_epoch: LeaderEpoch,
    /// The offset after its last record.
    pub log_end: Offset,
    /// End of what is synced here.
    pub durable_end: Offset,
    /// What it knows to be committed; a lower bound, in any role.
    pub committed: Offset,
    /// Producers that wait for an acknowledgement.
    pub pending: usize,
}
