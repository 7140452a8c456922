//! What is cut off was never committed.

use crate::checker::{Committed, Invariant};
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::{Event, Role};

impl World {
    pub(crate) fn check_truncation(&mut self, node: NodeId, tp: TopicPartition, to: Offset) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(log) = process.logs.get(&tp) else { return };
        let committed = self.checker.committed.get(&tp).map_or(&[][..], Vec::as_slice);
        let cut = log.from(to);
        if !self.has_to_keep(node, tp) {
            // It was given up before: what nobody counts on may be cut, and filled again.
            self.checker.high_watermarks.remove(&(node, tp));
        }
        let counted = self.is_counted(node, tp);
        let damaged = process.unreadable.contains_key(&tp);
        // Who was found to differ from a former era's leader, and was chosen for the next one, gives its copy up when others have
        // all of it.
        let may_differ = self.checker.era(tp) > 0;
        let mut lost = cut.iter().map(Committed::from).find(|batch| committed.contains(batch));
        if !self.checker.is_of_era(node, tp) || self.checker.awaits_era(tp) {
            // Whoever leads now has to have it, and not this one.
            lost = None;
        }
        if let Some(agreed) = self.checker.agreed.get_mut(&(node, tp)) {
            *agreed = (*agreed).min(cut.first().map_or(to, |batch| batch.header().base_offset));
        }
        if let Some(batch) = lost.filter(|_| counted || !(self.checker.compacts || damaged || may_differ)) {
            self.checker.fail(
                Invariant::Truncation,
                format!("broker {node} cuts {tp} back to {to}, and {batch:?} is committed"),
            );
        }
    }

    /// Nothing is removed from a log's start but what somebody asked for.
    pub(crate) fn check_start(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(replica) = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp)) else { return };
        let (start, asked) = (replica.log_start(), self.checker.removed_before(tp));
        if start > asked && self.checker.is_of_era(node, tp) {
            let how = format!("broker {node}'s log of {tp} starts at {start}, and only {asked} was asked for");
            self.checker.fail(Invariant::Truncation, how);
        }
    }

    /// Somebody asks a leader to remove records, by retention or otherwise.
    pub(crate) fn remove_records(&mut self, node: NodeId, tp: TopicPartition) {
        let Some((from, committed)) = self.removable(node, tp) else { return };
        // What is not committed is not removed, whoever asks for it.
        let to = if self.rng.per_mille(100) {
            committed.plus(self.rng.within(1, 3) as i64)
        } else {
            Offset(self.rng.within(from.0 as u64, committed.0 as u64) as i64)
        };
        self.remove_before(node, tp, to);
    }

    /// Between which offsets a leader may be asked for a new start. One of a former era changes nothing.
    pub(crate) fn removable(&self, node: NodeId, tp: TopicPartition) -> Option<(Offset, Offset)> {
        let process = self.nodes[node].process.as_ref()?;
        let replica = process.replicas.get(&tp).filter(|r| r.status().role == Role::Leader)?;
        self.checker.is_of_era(node, tp).then(|| (replica.log_start(), replica.status().committed))
    }

    /// Asks a leader to remove all before an offset.
    pub(crate) fn remove_before(&mut self, node: NodeId, tp: TopicPartition, to: Offset) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.inbox.push_back((tp, Event::AdvanceStart { to }));
        self.drain(node);
        // A leader that hears of its lease with this may commit it in the same step.
        let replica = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp));
        if replica.is_some_and(|r| to <= r.status().committed) {
            let removed = self.checker.removed.entry(tp).or_default();
            *removed = (*removed).max(to);
        }
    }
}
