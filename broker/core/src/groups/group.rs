//! One group: its offsets, and its members by one of the two protocols.

use super::classic::ClassicGroup;
use super::consumer::ConsumerGroup;
use super::event::ConsumerTimeouts;
use super::limits;
use super::offsets::Offsets;
use super::record::{RecordKey, RecordValue};
use super::request::{OffsetCommit, OffsetToCommit, Request};
use super::response::ListedGroup;
use super::step::{Step, Written};
use super::timers::Timer;
use std::sync::Arc;
use std::time::Duration;

/// The interval between the heartbeats of most clients (`heartbeat.interval.ms`).
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its members.
    pub(super) kind: GroupKind,
    /// What it has committed.
    pub(super) offsets: Offsets,
    /// The last appends with records of this group. Answers about the group wait for them.
    pub(super) written: Written,
    /// Bytes that it keeps of what its members said, as last counted.
    pub(super) kept: usize,
}

/// By which protocol a group's members work.
#[derive(Clone, Debug)]
pub(super) enum GroupKind {
    /// JoinGroup, SyncGroup. Also groups without members that only commit.
    Classic(Box<ClassicGroup>),
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// A group without members and offsets.
    pub(super) fn empty(id: &Arc<str>) -> Self {
        let kind = GroupKind::Classic(Box::new(ClassicGroup::new(id)));
        Self { kind, offsets: Offsets::default(), written: Written::default(), kept: 0 }
    }
}

impl Group {
    /// Takes in a record of this group while the shard loads.
    pub(super) fn load(&mut self, key: RecordKey, value: Option<RecordValue>) {
        match (key, value) {
            (RecordKey::OffsetCommit { topic, partition, .. }, Some(RecordValue::OffsetCommit(value))) => {
                self.offsets.set(&topic, partition, value);
            }
            (RecordKey::OffsetCommit { topic, partition, .. }, _) => {
                self.offsets.remove(&topic, partition);
            }
            (RecordKey::GroupMetadata(id), Some(RecordValue::GroupMetadata(value))) => {
                self.kind = GroupKind::Classic(Box::new(ClassicGroup::load(&id, value)));
            }
            (RecordKey::GroupMetadata(id), _) => {
                // The tombstone of a group that was converted stands before the records of what it became.
                if let GroupKind::Classic(classic) = &mut self.kind {
                    **classic = ClassicGroup::new(&id);
                }
            }
            (key, value) => {
                if matches!(self.kind, GroupKind::Classic(_)) && value.is_some() {
                    self.kind = GroupKind::Consumer(Box::new(ConsumerGroup::new(key.group().clone())));
                }
                if let GroupKind::Consumer(consumer) = &mut self.kind {
                    let gone = value.is_none() && matches!(key, RecordKey::ConsumerGroupMetadata(_));
                    consumer.apply(&key, value.as_ref());
                    if gone {
                        self.kind = GroupKind::Classic(Box::new(ClassicGroup::new(key.group())));
                    }
                }
            }
        }
    }

    /// Counts the bytes that it keeps of what its members said, if they may have changed.
    pub(super) fn recount(&mut self, changed: bool) -> usize {
        if changed {
            self.kept = match &self.kind {
                GroupKind::Classic(classic) => classic.kept(),
                GroupKind::Consumer(consumer) => consumer.kept(),
            };
        }
        self.kept
    }

    /// About the bytes that it takes without its members.
    pub(super) fn committed(&self, id: &str) -> usize {
        limits::group(id) + self.offsets.bytes()
    }

    /// By how many bytes an OffsetCommit may make what it has committed larger.
    pub(super) fn growth(&self, commit: &OffsetCommit) -> usize {
        let of = |offset: &OffsetToCommit| {
            let after = limits::committed_offset(&offset.metadata);
            match self.offsets.get(&offset.topic, offset.partition) {
                Some(before) => after.saturating_sub(limits::committed_offset(&before.metadata)),
                None => after,
            }
        };
        let mut topics: Vec<&str> = commit.offsets.iter().map(|offset| &*offset.topic).collect();
        topics.dedup();
        let new = topics.into_iter().filter(|topic| !self.offsets.topics().contains_key(*topic));
        commit.offsets.iter().map(of).sum::<usize>() + new.map(limits::committed_topic).sum::<usize>()
    }

    /// Of the bytes of its members, those that a request may take the place of.
    pub(super) fn kept_of(&self, request: &Request) -> usize {
        match (&self.kind, request) {
            (GroupKind::Classic(classic), Request::JoinGroup(join)) => classic.kept_of(&join.member),
            (GroupKind::Classic(classic), Request::SyncGroup(_)) => classic.assigned(),
            (GroupKind::Consumer(consumer), Request::JoinGroup(join)) => {
                consumer.kept_of_place(&join.member.member_id, join.member.instance_id.as_ref())
            }
            (GroupKind::Consumer(consumer), Request::ConsumerGroupHeartbeat(beat)) => {
                consumer.kept_of_place(&beat.member_id, beat.instance_id.as_ref())
            }
            _ => 0,
        }
    }

    /// Whether the group is nothing but its name, as after its tombstones.
    pub(super) fn is_nothing(&self) -> bool {
        self.offsets.is_empty()
            && match &self.kind {
                GroupKind::Classic(classic) => classic.is_nothing(),
                GroupKind::Consumer(consumer) => consumer.is_nothing(),
            }
    }

    /// How long a deadline is kept at least when requests could not be read or carried out for a while: about the
    /// interval between two heartbeats.
    pub(super) fn grace(&self, timer: &Timer, timeouts: ConsumerTimeouts) -> Duration {
        match (&self.kind, timer) {
            (GroupKind::Consumer(_), _) => timeouts.heartbeat_interval,
            (GroupKind::Classic(classic), Timer::Session(_, member)) => classic.heartbeat_interval(member),
            (GroupKind::Classic(_), _) => HEARTBEAT_INTERVAL,
        }
    }
}

/// Requests that do not depend on the protocol, or refuse the other one.
impl Group {
    /// Whether the group has no members.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            GroupKind::Classic(classic) => classic.is_empty(),
            GroupKind::Consumer(consumer) => consumer.is_empty(),
        }
    }

    /// Whether a member is subscribed to the topic.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        match &self.kind {
            GroupKind::Classic(classic) => classic.subscribes(topic),
            GroupKind::Consumer(consumer) => consumer.subscribes(topic),
        }
    }

    /// Kafka's name of its state.
    pub(super) fn state_name(&self) -> &'static str {
        match &self.kind {
            GroupKind::Classic(classic) => classic.state_name(),
            GroupKind::Consumer(consumer) => consumer.state(),
        }
    }

    /// The group in a list.
    pub(super) fn listed(&self, id: &Arc<str>) -> ListedGroup {
        let protocol_type = match &self.kind {
            GroupKind::Classic(classic) => classic.protocol_type(),
            GroupKind::Consumer(_) => Arc::from("consumer"),
        };
        ListedGroup { group: id.clone(), protocol_type, state: self.state_name(), group_type: self.type_name() }
    }

    /// Writes tombstones for all that is written of the group and its offsets.
    pub(super) fn delete(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        self.delete_offsets(id, |_, _, _| true, step);
        match &mut self.kind {
            GroupKind::Classic(classic) => classic.delete(step),
            GroupKind::Consumer(consumer) => consumer.within(step, ConsumerGroup::delete),
        }
    }

    /// An empty group may change its protocol: its members' records go, its offsets stay.
    pub(super) fn become_classic(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        if let GroupKind::Consumer(consumer) = &mut self.kind
            && consumer.is_empty()
        {
            consumer.within(step, ConsumerGroup::delete);
            self.kind = GroupKind::Classic(Box::new(ClassicGroup::new(id)));
        }
    }

    /// An empty group may change its protocol: its members' records go, its offsets stay.
    pub(super) fn become_consumer(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        if let GroupKind::Classic(classic) = &mut self.kind
            && classic.is_empty()
        {
            if classic.record().is_some() {
                classic.delete(step);
            }
            self.kind = GroupKind::Consumer(Box::new(ConsumerGroup::new(id.clone())));
        }
    }
}
