//! What clients ask of a group's coordinator: Kafka's requests, without what the wire's versions make of them.

use super::timers::HeardOf;
use crate::ids::TopicId;
use bytes::Bytes;
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client.id`; empty if none was given.
    pub id: Arc<str>,
    /// Its address, as Kafka writes it ("/127.0.0.1").
    pub host: Arc<str>,
}

/// A request. Each group it names belongs to this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// JoinGroup.
    JoinGroup(JoinGroup),
    /// SyncGroup.
    SyncGroup(SyncGroup),
    /// Heartbeat.
    Heartbeat {
        /// The group.
        group: Arc<str>,
        /// Whose.
        member: MemberRef,
        /// The generation.
        generation: i32,
    },
    /// LeaveGroup; versions before 3 name one member.
    LeaveGroup {
        /// The group.
        group: Arc<str>,
        /// Who leaves.
        members: Vec<MemberRef>,
    },
    /// OffsetCommit.
    OffsetCommit(OffsetCommit),
    /// OffsetFetch, of one group.
    OffsetFetch {
        /// The group.
        group: Arc<str>,
        /// Version 9 and later: the member that asks and its epoch, for consumer groups; `None` when not said.
        member: Option<(Arc<str>, i32)>,
        /// By topic name, with partitions; `None` asks for all.
        topics: Option<Vec<(Arc<str>, Vec<i32>)>>,
        /// Offsets that a transaction may still change are refused with `UnstableOffsetCommit` (there are no
        /// transactions yet).
        require_stable: bool,
    },
    /// DescribeGroups, of one group.
    DescribeGroup(Arc<str>),
    /// ListGroups, of this shard.
    ListGroups {
        /// Kafka's names of states, in any case; empty for all.
        states: Vec<String>,
        /// Kafka's names of types, in any case; empty for all.
        types: Vec<String>,
    },
    /// DeleteGroups, of one group.
    DeleteGroup(Arc<str>),
    /// OffsetDelete.
    OffsetDelete {
        /// The group.
        group: Arc<str>,
        /// By topic name, with partitions.
        topics: Vec<(Arc<str>, Vec<i32>)>,
    },
    /// ConsumerGroupHeartbeat (KIP-848).
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
    /// ConsumerGroupDescribe, of one group.
    ConsumerGroupDescribe(Arc<str>),
}

impl Request {
    /// The member whose deadlines it prolongs, if it is valid.
    pub(super) fn heard_of(&self) -> Option<HeardOf> {
        let member = match self {
            Self::JoinGroup(r) => &r.member.member_id,
            Self::SyncGroup(r) => &r.member.member_id,
            Self::OffsetCommit(r) => &r.member.member_id,
            Self::ConsumerGroupHeartbeat(r) => &r.member_id,
            Self::Heartbeat { member, .. } => &member.member_id,
            Self::LeaveGroup { .. }
            | Self::OffsetFetch { .. }
            | Self::OffsetDelete { .. }
            | Self::DescribeGroup(_)
            | Self::DeleteGroup(_)
            | Self::ConsumerGroupDescribe(_)
            | Self::ListGroups { .. } => return None,
        };
        Some(HeardOf { member: member.clone(), syncs: matches!(self, Self::SyncGroup(_)) })
    }

    /// The group that is asked for; none for all of them.
    pub fn group(&self) -> Option<&Arc<str>> {
        match self {
            Self::JoinGroup(r) => Some(&r.group),
            Self::SyncGroup(r) => Some(&r.group),
            Self::OffsetCommit(r) => Some(&r.group),
            Self::ConsumerGroupHeartbeat(r) => Some(&r.group),
            Self::Heartbeat { group, .. }
            | Self::LeaveGroup { group, .. }
            | Self::OffsetFetch { group, .. }
            | Self::OffsetDelete { group, .. }
            | Self::DescribeGroup(group)
            | Self::DeleteGroup(group)
            | Self::ConsumerGroupDescribe(group) => Some(group),
            Self::ListGroups { .. } => None,
        }
    }
}

/// A member of a group, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRef {
    /// Its id; empty if it has none yet, or is named by its instance id alone.
    pub member_id: Arc<str>,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<Arc<str>>,
}

/// JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: Arc<str>,
    /// Who joins.
    pub member: MemberRef,
    /// Whether the client understands `MEMBER_ID_REQUIRED` (version 4 and later, KIP-394).
    pub requires_known_member_id: bool,
    /// Whether the client understands `skip_assignment` (version 9 and later, KIP-814).
    pub supports_skipping_assignment: bool,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// In milliseconds; the session timeout in version 0.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// By name, in the order of the client's preference, each with its metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Why it joins, for the log.
    pub reason: Option<Arc<str>>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: Arc<str>,
    /// Whose.
    pub member: MemberRef,
    /// The generation.
    pub generation: i32,
    /// What the client takes for the group's protocol type (version 5).
    pub protocol_type: Option<Arc<str>>,
    /// What the client takes for the chosen protocol (version 5).
    pub protocol_name: Option<Arc<str>>,
    /// The leader's assignments by member id; empty of all others.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group: Arc<str>,
    /// Who commits; empty for simple consumers.
    pub member: MemberRef,
    /// The generation (classic) or member epoch (consumer group); negative for simple consumers.
    pub generation_or_epoch: i32,
    /// Whether the client knows member epochs (version 9 and later, KIP-848).
    pub knows_member_epochs: bool,
    /// How long the client wants the offsets to be kept, in milliseconds (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// The offsets. The shell has refused those of topics and partitions that do not exist.
    pub offsets: Vec<OffsetToCommit>,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id, as the image has it.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// What the client adds.
    pub metadata: Arc<str>,
}

/// ConsumerGroupHeartbeat. `None` stands for "as before".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; from version 1 on the client makes it, in version 0 it may be empty.
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave, -2 to leave for a while (static members), else the member's epoch.
    pub member_epoch: i32,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// In milliseconds; -1 as before.
    pub rebalance_timeout_ms: i32,
    /// Subscribed topics by name.
    pub subscribed_topic_names: Option<Vec<Arc<str>>>,
    /// The regular expression to subscribe to (version 1); empty for none any more.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// The assignor to use.
    pub server_assignor: Option<Arc<str>>,
    /// What the member owns.
    pub owned: Option<Vec<super::record::TopicPartitions>>,
}
