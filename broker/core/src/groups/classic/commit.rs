//! Who may commit, delete and expire offsets of a classic group.

use super::{ClassicGroup, State};
use crate::groups::request::MemberRef;
use crate::groups::response::GroupError;
use crate::groups::step::Step;

/// From when on the retention of an offset is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) enum RetainedSince {
    /// From its commit.
    Commit,
    /// From the moment that the group became empty, in milliseconds since 1970.
    Moment(i64),
}

impl ClassicGroup {
    /// Whether the offsets of that member and generation are taken.
    pub(in crate::groups) fn may_commit(&self, member: &MemberRef, generation: i32) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            // A simple consumer, or an administrator.
            return Ok(());
        }
        if generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some() {
            self.validate(&member.member_id, member.instance_id.as_deref())?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else {
            return Err(GroupError::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit shows that the member lives.
    pub(in crate::groups) fn has_committed(&self, member: &MemberRef, step: &mut Step<'_>) {
        self.start_session(&member.member_id, step);
    }

    /// Whether offsets may be deleted, other than those of subscribed topics.
    pub(in crate::groups) fn may_delete_offsets(&self) -> Result<(), GroupError> {
        if self.state == State::Empty || self.usable_as_consumer() { Ok(()) } else { Err(GroupError::NonEmptyGroup) }
    }

    /// From when on offsets of topics that nobody is subscribed to are kept for the retention time; `None` if they
    /// are kept without end.
    pub(in crate::groups) fn retained_since(&self) -> Option<RetainedSince> {
        if self.protocol_type.is_none() {
            return Some(RetainedSince::Commit);
        }
        match self.state {
            State::Empty => Some(self.state_since.map_or(RetainedSince::Commit, RetainedSince::Moment)),
            State::Stable if self.usable_as_consumer() && self.subscribed.is_some() => Some(RetainedSince::Commit),
            _ => None,
        }
    }
}
