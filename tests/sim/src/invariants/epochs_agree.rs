//! Replicas agree where each epoch starts, as far as they are committed.

use crate::checker::Invariant;
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::RecordBatch;

type Epochs = [(LeaderEpoch, Offset)];

/// The epochs of a log that begins there. The epoch that holds its start begins with it.
fn beginning_at(epochs: &Epochs, start: Offset) -> Vec<(LeaderEpoch, Offset)> {
    let before = epochs.partition_point(|(_, first)| *first <= start).saturating_sub(1);
    epochs[before..].iter().map(|(epoch, first)| (*epoch, start.max(*first))).collect()
}

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
        if !self.checker.is_of_era(node, tp) {
            return;
        }
        let up_to = replica.status().committed.min(self.checker.committed_end(tp));
        let start = replica.log_start();
        let (known, found) = (self.checker.epochs.get(&tp).map_or(&[][..], Vec::as_slice), replica.epochs());
        let from = self.checker.known_from(tp);
        let known = beginning_at(known, start.max(from));
        let found = if from > start { beginning_at(found, from) } else { found.to_vec() };
        let (known, found) = (
            &known[..known.partition_point(|(_, first)| *first < up_to)],
            &found[..found.partition_point(|(_, first)| *first < up_to)],
        );
        if known != found && !(self.checker.compacts && self.may_be_taken_for(tp, found, known, up_to)) {
            let how = format!("broker {node} has epochs of {tp} start at {found:?}, and up to {up_to} it is {known:?}");
            self.checker.fail(Invariant::EpochsAgree, how);
        }
    }

    /// Whether a replica of a compacted log may have its epochs start where `found` says. Nothing may be of an older epoch
    /// than it is committed in: records that an older leader left behind would be taken for a part of the log. Of a newer
    /// one may be offsets that compaction has left nothing of.
    fn may_be_taken_for(&self, tp: TopicPartition, found: &Epochs, known: &Epochs, up_to: Offset) -> bool {
        let at = |epochs: &Epochs, offset| {
            epochs[..epochs.partition_point(|(_, first)| *first <= offset)].last().map(|(epoch, _)| *epoch)
        };
        let mut firsts: Vec<Offset> = found.iter().chain(known).map(|(_, first)| *first).collect();
        firsts.push(up_to);
        firsts.sort_unstable();
        firsts.windows(2).all(|range| {
            let (found, known) = (at(found, range[0]), at(known, range[0]));
            found == known || found > known && self.checker.may_lack(tp, range[0], range[1])
        })
    }
}
