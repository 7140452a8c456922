//! Replicas agree where each epoch starts, as far as they are committed.

use crate::checker::Invariant;
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::TopicPartition;
use chronik_core::record::RecordBatch;

impl World {
    /// Notes where an epoch starts, when its first batch is committed.
    pub(crate) fn note_epoch(&mut self, tp: TopicPartition, batch: &RecordBatch) {
        let header = batch.header();
        let epochs = self.checker.epochs.entry(tp).or_default();
        if epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
            epochs.push((header.leader_epoch, header.base_offset));
        }
    }

    /// Each replica tells the same of what it takes for committed.
    pub(crate) fn check_epochs(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(replica) = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp)) else { return };
        let (up_to, start) = (replica.status().committed, replica.log_start());
        let (known, found) = (self.checker.epochs.get(&tp).map_or(&[][..], Vec::as_slice), replica.epochs());
        // The epoch that holds the log's start begins with it.
        let before = known.partition_point(|(_, first)| *first <= start).saturating_sub(1);
        let known: Vec<_> = known[before..].iter().map(|(epoch, first)| (*epoch, start.max(*first))).collect();
        let (known, found) = (
            &known[..known.partition_point(|(_, first)| *first < up_to)],
            &found[..found.partition_point(|(_, first)| *first < up_to)],
        );
        if known != found {
            let how = format!("broker {node} has epochs of {tp} start at {found:?}, and up to {up_to} it is {known:?}");
            self.checker.fail(Invariant::EpochsAgree, how);
        }
    }
}
