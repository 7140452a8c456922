//! How a member comes from what it owns to what it is to own: it gives back first, and is given nothing that another
//! member may still use.

use super::assignment::Assignment;
use super::member::{Member, State};
use crate::ids::TopicId;

/// A member's way to a target assignment.
pub(super) struct Reconciliation<'a> {
    /// The epoch of the target assignment.
    pub(super) target_epoch: i32,
    /// What the member is to own.
    pub(super) target: &'a Assignment,
    /// What the member says that it owns; `None` if it did not say.
    pub(super) owned: Option<&'a Assignment>,
}

impl Reconciliation<'_> {
    /// Takes the member as far as it can go. `taken` tells whether another member may still use a partition.
    pub(super) fn advance(&self, member: &mut Member, taken: impl Fn(TopicId, i32) -> bool) {
        match member.state {
            State::Stable if member.epoch == self.target_epoch => {}
            State::Stable | State::UnreleasedPartitions => self.next(member, member.epoch, taken),
            State::UnrevokedPartitions if self.may_own(&member.revoking) => {}
            State::UnrevokedPartitions => {
                let epoch = member.epoch.saturating_add(1).min(self.target_epoch);
                self.next(member, epoch, taken);
            }
            State::Unknown(_) => self.next(member, self.target_epoch, taken),
        }
    }

    /// Whether the member must be taken to own some of these.
    fn may_own(&self, partitions: &Assignment) -> bool {
        self.owned.is_none_or(|owned| !owned.is_disjoint_from(partitions))
    }

    fn next(&self, member: &mut Member, epoch: i32, taken: impl Fn(TopicId, i32) -> bool) {
        let target = self.target;
        let (mut assigned, revoking): (Vec<_>, Vec<_>) =
            member.assigned.iter().partition(|(topic, partition)| target.contains(*topic, *partition));
        let revoking: Assignment = revoking.into_iter().collect();
        if !revoking.is_empty() && self.may_own(&revoking) {
            member.state = State::UnrevokedPartitions;
            member.enter(epoch);
            member.assigned = assigned.into_iter().collect();
            member.revoking = revoking;
            member.owns_since(epoch);
            return;
        }
        let missing = target.iter().filter(|(topic, partition)| !member.assigned.contains(*topic, *partition));
        let (unreleased, free): (Vec<_>, Vec<_>) = missing.partition(|(topic, partition)| taken(*topic, *partition));
        assigned.extend(free);
        member.state = if unreleased.is_empty() { State::Stable } else { State::UnreleasedPartitions };
        member.enter(self.target_epoch);
        member.assigned = assigned.into_iter().collect();
        member.revoking = Assignment::default();
        member.owns_since(self.target_epoch);
    }
}
