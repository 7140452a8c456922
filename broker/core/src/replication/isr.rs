//! The leader's view of the in-sync replicas: what is committed at the controller, and what may be by now
//! because the leader has proposed it (KIP-497).

use crate::ids::{BrokerId, PartitionEpoch};
use std::collections::BTreeSet;

/// A view of the ISR. The controller's truth is, at any time, either the committed set or one of those
/// proposed on top of it under the same partition epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrView {
    committed: BTreeSet<BrokerId>,
    partition_epoch: PartitionEpoch,
    /// Boxed, as hardly ever anything is.
    proposed: Option<Box<Proposed>>,
}

/// What was proposed since the committed state was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proposed {
    /// All members of any proposal that may take effect.
    union: BTreeSet<BrokerId>,
    /// The members of every proposal that may take effect.
    intersection: BTreeSet<BrokerId>,
    /// A request is on its way.
    in_flight: bool,
    /// The outcome of an earlier request is unknown: it may have taken effect, or may still.
    unsure: bool,
}

/// Which way the ISR is being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrState {
    /// Nothing is proposed.
    Committed,
    /// Members may have been added.
    PendingExpand,
    /// Members may have been removed.
    PendingShrink,
}

impl IsrView {
    /// The state that the metadata log has.
    pub(super) fn committed_at(partition_epoch: PartitionEpoch, isr: impl IntoIterator<Item = BrokerId>) -> Self {
        Self { committed: isr.into_iter().collect(), partition_epoch, proposed: None }
    }

    /// The committed ISR.
    pub fn committed(&self) -> &BTreeSet<BrokerId> {
        &self.committed
    }

    /// The partition epoch at which it was committed.
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// Every broker that may be in the ISR: what is committed must be on all of them.
    pub fn maximal(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let proposed = self.proposed.iter().flat_map(|p| &p.union).filter(|id| !self.committed.contains(id));
        self.committed.iter().chain(proposed).copied()
    }

    /// How many brokers are surely in the ISR. The strict rule of KIP-966 (nothing is committed below
    /// `min.insync.replicas`) is judged by this count: a member that is only proposed does not yet lend its
    /// disk to the guarantee, and one that is perhaps removed no longer does.
    pub(super) fn surely_in_sync(&self) -> usize {
        match &self.proposed {
            None => self.committed.len(),
            Some(p) => self.committed.intersection(&p.intersection).count(),
        }
    }

    /// Which way it is being changed.
    pub fn state(&self) -> IsrState {
        match &self.proposed {
            None => IsrState::Committed,
            Some(p) if self.committed.is_subset(&p.intersection) => IsrState::PendingExpand,
            Some(_) => IsrState::PendingShrink,
        }
    }

    /// Whether a request is on its way; there is never more than one.
    pub fn in_flight(&self) -> bool {
        self.proposed.as_ref().is_some_and(|p| p.in_flight)
    }

    /// Whether the outcome of an earlier request is unknown. Only a proposal that is accepted, even one that
    /// changes nothing, ends that: it moves the partition epoch, so that the earlier one can win no more.
    pub fn unsure(&self) -> bool {
        self.proposed.as_ref().is_some_and(|p| p.unsure)
    }

    /// Notes that `isr` has been proposed.
    pub(super) fn propose(&mut self, isr: &BTreeSet<BrokerId>) {
        let p = self.proposed.get_or_insert_with(|| {
            let (union, intersection) = (isr.clone(), isr.clone());
            Box::new(Proposed { union, intersection, in_flight: true, unsure: false })
        });
        p.union.extend(isr);
        p.intersection.retain(|id| isr.contains(id));
        p.in_flight = true;
    }

    /// The request that is on its way has failed. `refused`: it is known that it can never take effect; that
    /// says nothing of an earlier one whose outcome is unknown (it may be the very reason of the refusal).
    pub(super) fn failed(&mut self, refused: bool) {
        let Some(p) = &mut self.proposed else { return };
        p.in_flight = false;
        p.unsure |= !refused;
        if !p.unsure {
            self.proposed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> BTreeSet<BrokerId> {
        ids.iter().map(|&id| BrokerId(id)).collect()
    }

    fn view(ids: &[i32]) -> IsrView {
        IsrView::committed_at(PartitionEpoch(4), set(ids))
    }

    fn maximal(view: &IsrView) -> BTreeSet<BrokerId> {
        view.maximal().collect()
    }

    #[test]
    fn a_proposed_expansion_counts_for_the_high_watermark_but_not_for_the_minimum() {
        let mut view = view(&[1]);
        view.propose(&set(&[1, 2]));
        assert_eq!((view.state(), maximal(&view), view.surely_in_sync()), (IsrState::PendingExpand, set(&[1, 2]), 1));
    }

    #[test]
    fn a_proposed_shrink_counts_for_neither() {
        let mut view = view(&[1, 2, 3]);
        view.propose(&set(&[1]));
        assert_eq!(
            (view.state(), maximal(&view), view.surely_in_sync()),
            (IsrState::PendingShrink, set(&[1, 2, 3]), 1)
        );
    }

    #[test]
    fn a_refusal_undoes_the_proposal() {
        let mut view = view(&[1, 2]);
        view.propose(&set(&[1, 2, 3]));
        view.failed(true);
        assert_eq!(view, self::view(&[1, 2]));
    }

    #[test]
    fn a_refusal_after_an_unknown_outcome_proves_nothing() {
        let mut view = view(&[1, 2]);
        view.propose(&set(&[1, 2, 3]));
        view.failed(false);
        view.propose(&set(&[1]));
        view.failed(true);
        assert!(view.unsure() && !view.in_flight());
        assert_eq!((maximal(&view), view.surely_in_sync()), (set(&[1, 2, 3]), 1));
    }
}
