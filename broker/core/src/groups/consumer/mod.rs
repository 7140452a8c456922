//! Groups of the consumer protocol (KIP-848): the coordinator decides who is to own what, and leads each member there
//! by its heartbeats.
//!
//! | epoch | of | grows |
//! |---|---|---|
//! | group epoch | the group | when members, subscriptions or the subscribed topics change |
//! | assignment epoch | the target assignment | when it is computed for the group's epoch |
//! | member epoch | a member | when it has given back what it must, and takes over what it may |
//!
//! All of a group but its deadlines is what its records say: a change is made by writing a record and applying it, the
//! same way as when the record is loaded.

mod apply;
mod assignment;
mod assignors;
mod classic_protocol;
mod context;
mod describe;
mod heartbeat;
mod member;
mod migration;
mod offsets;
mod re2;
mod reconcile;
mod remove;
mod step;
mod subscription;
mod target;
#[cfg(test)]
mod tests;

use crate::groups::limits::MAX_GROUP_BYTES;
use crate::groups::record::{ConsumerGroupMemberValue, GroupRecord, RecordKey, RecordValue};
use crate::groups::shared::Shared;
use crate::ids::{MetadataOffset, TopicId};
use crate::time::Instant;
use assignment::Assignment;
pub use assignors::Assignor;
pub(in crate::groups) use context::{Deadline, Refusal, StepContext};
use member::{Member, State};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
pub(in crate::groups) use step::{may_found, without_group};

/// A group whose members use the consumer protocol. A copy of it, as is made before a step that may have to be undone,
/// shares all that grows with it.
#[derive(Clone, Debug)]
pub(in crate::groups) struct ConsumerGroup {
    id: Arc<str>,
    /// The group's epoch; 0 if it does not exist.
    epoch: i32,
    /// The hash of the topics that [`Self::epoch`] goes by.
    metadata_hash: i64,
    /// The epoch that the target assignment was computed for.
    assignment_epoch: i32,
    members: Shared<BTreeMap<Arc<str>, Member>>,
    /// Bytes that are kept of what they said.
    kept: usize,
    /// Member ids by `group.instance.id`.
    static_members: Shared<BTreeMap<Arc<str>, Arc<str>>>,
    /// The target assignment by member id.
    targets: Shared<BTreeMap<Arc<str>, Assignment>>,
    /// The topics that regular expressions stand for.
    regexes: Shared<BTreeMap<Arc<str>, Resolved>>,
    /// The member that may use a partition: assigned to it, or not given back by it yet. Only looked up, never listed.
    owners: Shared<HashMap<(TopicId, i32), Arc<str>>>,
    refresh: Refresh,
}

/// What a regular expression stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    /// Names of topics, ascending.
    topics: Vec<Arc<str>>,
    /// The metadata version that they were last found to differ at.
    version: i64,
    /// When that was, in milliseconds since 1970.
    timestamp: i64,
}

/// What has to be looked at again since the cluster's topics changed. Not written: after a load, all of it.
#[derive(Clone, Debug, Default)]
struct Refresh {
    /// The topics have changed since the group's hash was compared with them.
    topics: bool,
    /// The version of the topics that each regular expression was last resolved at.
    resolved_at: Shared<BTreeMap<Arc<str>, MetadataOffset>>,
    /// The version at which topics last came or went.
    changed_at: MetadataOffset,
    /// Regular expressions are not resolved again before.
    not_before: Instant,
}

impl ConsumerGroup {
    /// A group that does not exist yet.
    pub(in crate::groups) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: 0,
            metadata_hash: 0,
            assignment_epoch: 0,
            members: Shared::default(),
            kept: 0,
            static_members: Shared::default(),
            targets: Shared::default(),
            regexes: Shared::default(),
            owners: Shared::default(),
            refresh: Refresh { topics: true, ..Refresh::default() },
        }
    }

    /// Whether it has no members.
    pub(in crate::groups) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members it has.
    pub(in crate::groups) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// About the bytes that are kept of what its members said.
    pub(in crate::groups) fn kept(&self) -> usize {
        self.kept
    }

    /// Of these, those of the member that has the id or the instance id of one that comes.
    pub(in crate::groups) fn kept_of_place(&self, member: &str, instance: Option<&Arc<str>>) -> usize {
        let by_instance = instance.and_then(|instance| self.static_members.get(instance));
        self.kept_of(by_instance.map_or(member, |id| id))
    }

    /// Of these, those of a member.
    fn kept_of(&self, member: &str) -> usize {
        self.members.get(member).map_or(0, |member| member.about.kept())
    }

    /// Whether a member may say that, in the place of another one or of what it said before.
    fn has_room_for(&self, replaced: &str, about: &ConsumerGroupMemberValue) -> bool {
        let (before, after) = (self.kept_of(replaced), about.kept());
        after <= before || self.kept - before + after <= MAX_GROUP_BYTES
    }

    /// Whether there is nothing of it in the log. (While loading, there may be its targets before its epoch.)
    pub(in crate::groups) fn is_nothing(&self) -> bool {
        let no_epoch = self.epoch == 0 && self.assignment_epoch == 0;
        no_epoch && self.members.is_empty() && self.targets.is_empty() && self.regexes.is_empty()
    }

    /// Kafka's name of its state.
    pub(in crate::groups) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|m| m.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The epoch after this one. As in Kafka, a group begins with 1, and the topics that its first member names make it
    /// 2; a regular expression does so later, when it stands for some.
    fn next_epoch(&self) -> i32 {
        let names_topics = self.members.values().any(|m| !m.about.subscribed_topic_names.is_empty());
        match self.epoch {
            0 if names_topics => 2,
            epoch => epoch.saturating_add(1),
        }
    }

    /// All records are loaded: sessions begin.
    pub(in crate::groups) fn loaded(&mut self, context: &mut StepContext<'_>) {
        self.find_owners();
        self.refresh = Refresh { topics: true, changed_at: context.image.offset, ..Refresh::default() };
        for (id, member) in self.members.iter() {
            let session = member.session_timeout(context.timeouts.session);
            context.deadlines.push((Deadline::Session(id.clone()), Some(session)));
            if member.state == State::UnrevokedPartitions {
                context.deadlines.push((Deadline::Rebalance(id.clone()), Some(member.rebalance_timeout())));
            }
        }
    }

    /// Topics were created or deleted, or have more partitions. What follows from it is decided at the next heartbeat.
    pub(in crate::groups) fn topics_changed(&mut self, version: MetadataOffset) {
        self.refresh.topics = true;
        self.refresh.changed_at = version;
    }

    /// Writes a record, and lets the group be as it says.
    fn write(&mut self, key: RecordKey, value: Option<RecordValue>, context: &mut StepContext<'_>) {
        self.apply(&key, value.as_ref());
        context.records.push(GroupRecord { key, value });
    }
}
