//! No two brokers lead, or acknowledge, in one epoch.

use crate::checker::Invariant;
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::TopicPartition;
use chronik_core::replication::Role;

impl World {
    pub(crate) fn check_leadership(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(replica) = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp)) else { return };
        let status = replica.status();
        if status.role != Role::Leader {
            return;
        }
        let epoch = status.leader_epoch;
        let first = *self.checker.led_by.entry((tp, epoch)).or_insert(node);
        if first != node {
            self.checker.fail(
                Invariant::OneLeaderAnEpoch,
                format!("brokers {first} and {node} both lead {tp} in epoch {epoch}"),
            );
        }
    }

    pub(crate) fn check_one_acknowledges(&mut self, node: NodeId, tp: TopicPartition) {
        let now = self.clock(node);
        let Some(replica) = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp)) else { return };
        let Some(epoch) = replica.leadership(now) else {
            self.checker.fail(
                Invariant::LeaseHolds,
                format!("broker {node} acknowledges for {tp} without a leadership or a lease"),
            );
            return;
        };
        let first = *self.checker.acknowledged_by.entry((tp, epoch)).or_insert(node);
        if first != node {
            self.checker.fail(
                Invariant::OneLeaderAnEpoch,
                format!("brokers {first} and {node} both acknowledge for {tp} in epoch {epoch}"),
            );
        }
    }
}
