//! A member of a consumer group.

use super::assignment::Assignment;
use crate::groups::record::{ConsumerGroupMemberValue, CurrentMemberAssignmentValue};
use std::sync::Arc;
use std::time::Duration;

/// The epoch of a member that joins.
pub(super) const JOIN: i32 = 0;
/// The epoch of a member that leaves.
pub(super) const LEAVE: i32 = -1;
/// The epoch of a static member that leaves and may come back with another member id.
pub(super) const LEAVE_STATIC: i32 = -2;

/// How far a member is on its way to its target assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has what it is to have at its epoch.
    Stable,
    /// It has been asked to give partitions back, and has not said that it has.
    UnrevokedPartitions,
    /// It has given back what it had to, and waits for partitions that others have not given back.
    UnreleasedPartitions,
    /// Written by a later version; only a member that owns nothing can go on from it.
    Unknown(i8),
}

impl State {
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown(code) => code,
        }
    }

    fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            code => Self::Unknown(code),
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// What it said of itself.
    pub(super) about: ConsumerGroupMemberValue,
    /// Its epoch.
    pub(super) epoch: i32,
    /// The epoch before, which it may still believe in if an answer was lost; -1 if there is none.
    pub(super) previous_epoch: i32,
    /// How far it is.
    pub(super) state: State,
    /// What it may use.
    pub(super) assigned: Assignment,
    /// What it was asked to give back, and must be taken to use still.
    pub(super) revoking: Assignment,
}

impl Member {
    /// A member that has said nothing yet.
    pub(super) fn new() -> Self {
        Self {
            about: ConsumerGroupMemberValue {
                instance_id: None,
                rack_id: None,
                client_id: Arc::from(""),
                client_host: Arc::from(""),
                subscribed_topic_names: Vec::new(),
                subscribed_topic_regex: None,
                rebalance_timeout_ms: -1,
                server_assignor: None,
                classic: None,
            },
            epoch: 0,
            previous_epoch: -1,
            state: State::Stable,
            assigned: Assignment::default(),
            revoking: Assignment::default(),
        }
    }

    /// The regular expression that it is subscribed to.
    pub(super) fn regex(&self) -> Option<&Arc<str>> {
        self.about.subscribed_topic_regex.as_ref().filter(|regex| !regex.is_empty())
    }

    /// Whether it has all of the target assignment of that epoch.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == State::Stable && self.epoch == epoch
    }

    /// Whether it is a static member that has left for a while.
    pub(super) fn is_away(&self) -> bool {
        self.epoch == LEAVE_STATIC
    }

    /// Goes to an epoch. The one before is kept while the epoch stays: answers may be lost one after another.
    pub(super) fn enter(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }

    /// Whether all of these are taken to be its own.
    pub(super) fn holds(&self, partitions: &Assignment) -> bool {
        partitions.iter().all(|(t, p)| self.assigned.contains(t, p) || self.revoking.contains(t, p))
    }

    /// How long it may take to give partitions back.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.about.rebalance_timeout_ms).unwrap_or(0))
    }

    /// What it owns, as a record.
    pub(super) fn current(&self) -> CurrentMemberAssignmentValue {
        CurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned: self.assigned.to_topics(),
            pending_revocation: self.revoking.to_topics(),
        }
    }

    /// Takes over what a record says that it owns.
    pub(super) fn set_current(&mut self, value: &CurrentMemberAssignmentValue) {
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = State::from_code(value.state);
        self.assigned = Assignment::from(value.assigned.as_slice());
        self.revoking = Assignment::from(value.pending_revocation.as_slice());
    }
}
