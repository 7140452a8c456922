//! One group: its offsets, and its members by one of the two protocols.

use super::classic::ClassicGroup;
use super::consumer::ConsumerGroup;
use super::event::Config;
use super::offsets::Offsets;
use super::record::{RecordKey, RecordValue};
use super::step::Step;
use std::time::Duration;

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    /// Its members.
    pub(super) kind: GroupKind,
    /// What it has committed.
    pub(super) offsets: Offsets,
    /// The last append with a record of this group. What is told of the group waits for it.
    pub(super) written: Option<u64>,
}

/// By which protocol a group's members work.
#[derive(Debug)]
pub(super) enum GroupKind {
    /// JoinGroup, SyncGroup. Also groups without members that only commit.
    Classic(Box<ClassicGroup>),
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// A group without members and offsets.
    pub(super) fn empty() -> Self {
        Self { kind: GroupKind::Classic(Box::default()), offsets: Offsets::default(), written: None }
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
            (RecordKey::GroupMetadata(_), Some(RecordValue::GroupMetadata(value))) => {
                self.kind = GroupKind::Classic(Box::new(ClassicGroup::load(value)));
            }
            (RecordKey::GroupMetadata(_), _) => {
                // The tombstone of a group that was converted stands before the records of what it became.
                if let GroupKind::Classic(classic) = &mut self.kind {
                    **classic = ClassicGroup::default();
                }
            }
            (key, value) => {
                if matches!(self.kind, GroupKind::Classic(_)) && value.is_some() {
                    self.kind = GroupKind::Consumer(Box::default());
                }
                if let GroupKind::Consumer(consumer) = &mut self.kind {
                    let gone = value.is_none() && matches!(key, RecordKey::ConsumerGroupMetadata(_));
                    consumer.load(key, value);
                    if gone {
                        self.kind = GroupKind::Classic(Box::default());
                    }
                }
            }
        }
    }

    /// Whether the group is nothing but its name, as after its tombstones.
    pub(super) fn is_nothing(&self) -> bool {
        self.offsets.is_empty() && matches!(&self.kind, GroupKind::Classic(classic) if classic.is_nothing())
    }

    /// Notes the append that the step has written records of this group to.
    pub(super) fn touched(&mut self, step: &mut Step<'_>) {
        if let Some(number) = step.take_touched() {
            self.written = Some(number);
        }
    }

    /// How long a session lasts at least after a stall: about the interval between two heartbeats.
    pub(super) fn heartbeat_grace(&self, member: &str, config: &Config) -> Duration {
        match &self.kind {
            GroupKind::Classic(classic) => classic.heartbeat_interval(member),
            GroupKind::Consumer(_) => config.consumer_heartbeat_interval,
        }
    }
}
