//! What is written to `__consumer_offsets`, by the names of Kafka's schemas. How it is encoded is the wire crate's
//! business; all versions are read, and fields that a version lacks are `None` or empty.

use crate::ids::TopicId;
use bytes::Bytes;
use std::sync::Arc;

/// One record. Compaction keeps the last one of each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// What it is about.
    pub key: RecordKey,
    /// What it says; `None` is a tombstone: the key is deleted.
    pub value: Option<RecordValue>,
}

/// What a record is about. The number is the key's version in Kafka's schemas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// 0 and 1: a committed offset.
    OffsetCommit {
        /// The group.
        group: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// 2: a classic group.
    GroupMetadata(Arc<str>),
    /// 3: a consumer group (KIP-848).
    ConsumerGroupMetadata(Arc<str>),
    /// 5: a member of a consumer group.
    ConsumerGroupMember(Arc<str>, Arc<str>),
    /// 6: the epoch of a consumer group's target assignment.
    ConsumerGroupTargetAssignmentMetadata(Arc<str>),
    /// 7: a member's target assignment.
    ConsumerGroupTargetAssignmentMember(Arc<str>, Arc<str>),
    /// 8: what a member owns.
    ConsumerGroupCurrentMemberAssignment(Arc<str>, Arc<str>),
    /// 16: the topics that a regular expression of subscriptions stands for.
    ConsumerGroupRegularExpression(Arc<str>, Arc<str>),
}

impl RecordKey {
    /// The group that the record is about.
    pub fn group(&self) -> &Arc<str> {
        match self {
            Self::OffsetCommit { group, .. }
            | Self::GroupMetadata(group)
            | Self::ConsumerGroupMetadata(group)
            | Self::ConsumerGroupMember(group, _)
            | Self::ConsumerGroupTargetAssignmentMetadata(group)
            | Self::ConsumerGroupTargetAssignmentMember(group, _)
            | Self::ConsumerGroupCurrentMemberAssignment(group, _)
            | Self::ConsumerGroupRegularExpression(group, _) => group,
        }
    }
}

/// What a record says; the variant is that of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordValue {
    /// Of [`RecordKey::OffsetCommit`].
    OffsetCommit(OffsetCommitValue),
    /// Of [`RecordKey::GroupMetadata`].
    GroupMetadata(GroupMetadataValue),
    /// Of [`RecordKey::ConsumerGroupMetadata`].
    ConsumerGroupMetadata {
        /// The group's epoch.
        epoch: i32,
        /// The hash of the subscribed topics' metadata (version 1 of Kafka 4.1's schema; 0 if unknown).
        metadata_hash: i64,
    },
    /// Of [`RecordKey::ConsumerGroupMember`].
    ConsumerGroupMember(ConsumerGroupMemberValue),
    /// Of [`RecordKey::ConsumerGroupTargetAssignmentMetadata`].
    ConsumerGroupTargetAssignmentMetadata {
        /// The epoch of the group that the target assignment was computed for.
        assignment_epoch: i32,
    },
    /// Of [`RecordKey::ConsumerGroupTargetAssignmentMember`].
    ConsumerGroupTargetAssignmentMember {
        /// By topic.
        topic_partitions: Vec<TopicPartitions>,
    },
    /// Of [`RecordKey::ConsumerGroupCurrentMemberAssignment`].
    ConsumerGroupCurrentMemberAssignment(CurrentMemberAssignmentValue),
    /// Of [`RecordKey::ConsumerGroupRegularExpression`].
    ConsumerGroupRegularExpression {
        /// Names of the topics.
        topics: Vec<Arc<str>>,
        /// The metadata version (offset of the image) that they were resolved at.
        version: i64,
        /// When, in milliseconds since 1970.
        timestamp: i64,
    },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// What the client added.
    pub metadata: Arc<str>,
    /// When it was committed, in milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it expires (versions 1 alone: a retention chosen by old clients); -1 if never said.
    pub expire_timestamp: i64,
    /// The topic's id (version 4); zero if unknown.
    pub topic_id: TopicId,
}

/// A classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Option<Arc<str>>,
    /// When the group came into its state, in milliseconds since 1970 (version 2); -1 if unknown.
    pub current_state_timestamp: i64,
    /// The members.
    pub members: Vec<GroupMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberValue {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id` (version 3).
    pub group_instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// In milliseconds (version 1; the session timeout before that).
    pub rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned it.
    pub assignment: Bytes,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartitions {
    /// The topic.
    pub topic_id: TopicId,
    /// Partitions, ascending.
    pub partitions: Vec<i32>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMemberValue {
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// Subscribed topics by name, ascending.
    pub subscribed_topic_names: Vec<Arc<str>>,
    /// The regular expression that it subscribed to.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// In milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it asked for.
    pub server_assignor: Option<Arc<str>>,
    /// Set while the member uses the classic protocol: its session timeout and protocols.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What a member that uses the classic protocol said when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// By name, in the order of its preference, each with its metadata.
    pub supported_protocols: Vec<(Arc<str>, Bytes)>,
}

/// What a member of a consumer group owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentMemberAssignmentValue {
    /// Its epoch.
    pub member_epoch: i32,
    /// The epoch before, for a heartbeat whose answer was lost.
    pub previous_member_epoch: i32,
    /// Kafka's `MemberState`: 0 stable, 1 unrevoked partitions, 2 unreleased partitions.
    pub state: i8,
    /// What it owns.
    pub assigned: Vec<OwnedPartitions>,
    /// What it was asked to give back.
    pub pending_revocation: Vec<OwnedPartitions>,
}

/// Partitions of one topic that a member of a consumer group owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPartitions {
    /// The topic.
    pub topic_id: TopicId,
    /// Partitions, ascending.
    pub partitions: Vec<i32>,
    /// The epochs that the member had when it was given each of them (KIP-1251): as many as partitions. None, as Kafka wrote
    /// it before 4.3, stands for the member's epoch.
    pub since: Vec<i32>,
}
