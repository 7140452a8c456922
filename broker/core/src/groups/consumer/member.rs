//! A member of a consumer group.

use super::assignment::Assignment;
use crate::groups::record::{ConsumerGroupMemberValue, CurrentMemberAssignmentValue, OwnedPartitions, TopicPartitions};
use crate::ids::TopicId;
use std::collections::BTreeMap;
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
    /// What it was asked to revoke, and may still use.
    pub(super) revoking: Assignment,
    /// The epoch at which it was given each partition of these two: who commits at an older one did not have it then.
    pub(super) since: BTreeMap<(TopicId, i32), i32>,
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
            since: BTreeMap::new(),
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
    pub(super) fn owns(&self, partitions: &Assignment) -> bool {
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
            assigned: self.owned_partitions(&self.assigned),
            pending_revocation: self.owned_partitions(&self.revoking),
        }
    }

    /// Takes over what a record says that it owns.
    pub(super) fn set_current(&mut self, value: &CurrentMemberAssignmentValue) {
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = State::from_code(value.state);
        (self.assigned, self.revoking) = (Assignment::default(), Assignment::default());
        self.since.clear();
        for (owned, to) in [(&value.assigned, &mut self.assigned), (&value.pending_revocation, &mut self.revoking)] {
            for topic in owned {
                let since = topic.since.iter().copied().chain(std::iter::repeat(value.member_epoch));
                for (partition, since) in topic.partitions.iter().zip(since) {
                    to.insert(topic.topic_id, *partition);
                    self.since.insert((topic.topic_id, *partition), since);
                }
            }
        }
    }

    /// What it owns has changed: what is new it owns from that epoch on.
    pub(super) fn owns_since(&mut self, epoch: i32) {
        let before = std::mem::take(&mut self.since);
        let owned = self.assigned.iter().chain(self.revoking.iter());
        self.since = owned.map(|at| (at, before.get(&at).copied().unwrap_or(epoch))).collect();
    }

    /// Whether it owned all of these at that epoch, and still does.
    pub(super) fn owned_at(&self, epoch: i32, mut partitions: impl Iterator<Item = (TopicId, i32)>) -> bool {
        partitions.all(|at| self.since.get(&at).is_some_and(|since| epoch >= *since))
    }

    /// These partitions, each with the epoch since which the member owns it.
    fn owned_partitions(&self, partitions: &Assignment) -> Vec<OwnedPartitions> {
        let of = |topic: TopicPartitions| OwnedPartitions {
            since: topic.partitions.iter().map(|p| self.since_of(topic.topic_id, *p)).collect(),
            topic_id: topic.topic_id,
            partitions: topic.partitions,
        };
        partitions.to_topics().into_iter().map(of).collect()
    }

    fn since_of(&self, topic: TopicId, partition: i32) -> i32 {
        self.since.get(&(topic, partition)).copied().unwrap_or(self.epoch)
    }
}
