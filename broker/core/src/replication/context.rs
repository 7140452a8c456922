//! What a role has at hand when an event comes: the replica's log, the metadata, the time, and where its commands go.

use super::event::{Command, Config, PartitionState};
use super::log::Log;
use crate::ids::BrokerId;
use crate::time::Instant;

/// What every role needs to decide, for the length of one step.
pub(super) struct Context<'a> {
    pub(super) me: BrokerId,
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) log: &'a mut Log,
    /// What is to be done, in order.
    pub(super) out: &'a mut Vec<Command>,
    /// What the metadata log says.
    pub(super) state: &'a PartitionState,
    /// This broker may act as a leader until then.
    pub(super) lease: Instant,
    /// Whether the disk takes what is appended.
    pub(super) room: bool,
}

impl Context<'_> {
    /// Whether this broker may still act as a leader.
    pub(super) fn lease_holds(&self) -> bool {
        self.now < self.lease
    }

    /// In-sync replicas without which nothing is committed: never more than there are replicas.
    pub(super) fn min_insync(&self) -> usize {
        self.state.min_insync_replicas.min(self.state.replicas.len())
    }
}
