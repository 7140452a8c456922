//! The promises of the contract, one file each, and when each is looked at.

mod acknowledged_is_committed;
mod committed_order;
mod converges;
mod elected_is_eligible;
mod epochs_agree;
mod high_watermark_monotone;
mod in_sync_holds_committed;
mod one_leader_an_epoch;
mod producer_order;
mod truncation;

pub(crate) use elected_is_eligible::{broken_by_entry, elected_uncleanly};

use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::TopicPartition;

impl World {
    /// After a step of one replica.
    pub(crate) fn check_replica(&mut self, node: NodeId, tp: TopicPartition) {
        self.check_leadership(node, tp);
        self.check_committed_order(node, tp);
        self.check_high_watermark(node, tp);
        self.check_epochs(node, tp);
        self.check_start(node, tp);
    }

    /// After every step.
    pub(crate) fn check_all(&mut self) {
        self.note_unclean();
        if let Some((invariant, how)) = self.controller.broken.take() {
            self.checker.fail(invariant, how);
        }
        self.check_in_sync();
    }

    /// At the end of a run.
    pub(crate) fn check_at_end(&mut self) {
        self.check_acknowledged();
    }
}
