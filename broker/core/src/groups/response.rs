//! What a coordinator answers, and the errors it may answer with.

use super::record::TopicPartitions;
use bytes::Bytes;
use std::sync::Arc;

/// Why a request is refused. Each is one of Kafka's error codes, and is used where Kafka uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the names are those of Kafka's protocol, and its message says what each means")]
pub enum GroupError {
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    #[error("the generation is not the current one")]
    IllegalGeneration,
    #[error("the protocols do not fit those of the other members")]
    InconsistentGroupProtocol,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the member is not known")]
    UnknownMemberId,
    #[error("the session timeout is not within the allowed range")]
    InvalidSessionTimeout,
    #[error("a rebalance is in progress")]
    RebalanceInProgress,
    #[error("the metadata of an offset is too large")]
    OffsetMetadataTooLarge,
    #[error("the offsets are too much for one commit")]
    OffsetsTooLarge,
    #[error("the member must join again with the id it was given")]
    MemberIdRequired,
    #[error("the group has its largest size")]
    GroupMaxSizeReached,
    #[error("another member has the same group.instance.id")]
    FencedInstanceId,
    #[error("the group is not empty")]
    NonEmptyGroup,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("offsets may still be changed by a transaction")]
    UnstableOffsetCommit,
    #[error("the request is not valid")]
    InvalidRequest,
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("the member's epoch is fenced")]
    FencedMemberEpoch,
    #[error("the instance id is not released yet")]
    UnreleasedInstanceId,
    #[error("the assignor is not supported")]
    UnsupportedAssignor,
    #[error("the member's epoch is stale")]
    StaleMemberEpoch,
    #[error("the regular expression is not valid")]
    InvalidRegularExpression,
    #[error("the group uses another protocol")]
    UnsupportedVersion,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To JoinGroup.
    JoinGroup(JoinedGroup),
    /// To SyncGroup.
    SyncGroup(Result<SyncedGroup, GroupError>),
    /// To Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To LeaveGroup: of the group, or of each member in the request's order.
    LeaveGroup(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetCommit: of each offset in the request's order. `GroupIdNotFound` is `ILLEGAL_GENERATION` before
    /// version 9.
    OffsetCommit(Vec<Result<(), GroupError>>),
    /// To OffsetFetch.
    OffsetFetch(Result<Vec<FetchedTopic>, GroupError>),
    /// To DescribeGroup. A group that does not exist is an error from version 6 on, and dead before; the text says more, if
    /// there is more to say.
    DescribeGroup(Result<DescribedGroup, (GroupError, Option<String>)>),
    /// To ListGroups.
    ListGroups(Result<Vec<ListedGroup>, GroupError>),
    /// To DeleteGroup.
    DeleteGroup(Result<(), GroupError>),
    /// To OffsetDelete: of the group, or of each partition in the request's order.
    OffsetDelete(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To ConsumerGroupHeartbeat; an error may carry a text.
    ConsumerGroupHeartbeat(Result<ConsumerGroupHeartbeat, (GroupError, Option<String>)>),
    /// To ConsumerGroupDescribe; an error may carry a text.
    ConsumerGroupDescribe(Result<DescribedConsumerGroup, (GroupError, Option<String>)>),
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// `MemberIdRequired` comes with a member id.
    pub error: Option<GroupError>,
    /// The generation; -1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    /// The leader need not compute an assignment (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Arc<str>,
    /// All members with their metadata of the chosen protocol, for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member, as it is listed in the JoinGroup answer of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// Its metadata of the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedGroup {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// What the member is assigned.
    pub assignment: Bytes,
}

/// Committed offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Its name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// -1 if there is none.
    pub offset: i64,
    /// -1 if unknown.
    pub leader_epoch: i32,
    /// What the client added.
    pub metadata: Arc<str>,
    /// Why this one cannot be answered.
    pub error: Option<GroupError>,
}

/// A classic group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// The chosen protocol; empty if there is none.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a classic group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// Its metadata of the chosen protocol.
    pub metadata: Bytes,
    /// What it is assigned.
    pub assignment: Bytes,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: Arc<str>,
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// Kafka's name of its type: `classic` or `consumer`.
    pub group_type: &'static str,
}

/// The answer to ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeat {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its epoch.
    pub member_epoch: i32,
    /// When to send the next one, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it is assigned, if that has changed or the member asked for it.
    pub assignment: Option<Vec<TopicPartitions>>,
}

/// A consumer group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// The group's epoch.
    pub group_epoch: i32,
    /// The epoch of the target assignment.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedConsumerMember>,
}

/// A member of a consumer group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub member_epoch: i32,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// Subscribed topics by name.
    pub subscribed_topic_names: Vec<Arc<str>>,
    /// The regular expression that it subscribed to.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// What it owns.
    pub assignment: Vec<TopicPartitions>,
    /// What it is to own.
    pub target_assignment: Vec<TopicPartitions>,
    /// Whether it uses the classic protocol.
    pub classic: bool,
}
