//! The one place that says which of Kafka's error codes our errors are.

use crate::partitions::{DeleteError, FetchError, ReadError};
use chronik_core::cluster::Refusal;
use chronik_core::groups::GroupError;
use chronik_core::record::{BatchError, HeaderError, RecordsError, WalkError};
use chronik_core::replication::ProduceError;
use chronik_quorum::{Declined, TopicError};
use chronik_wire::ErrorCode;

/// An error that a client gets as an answer.
pub(crate) trait Code {
    /// The code by which Kafka's clients know it.
    fn code(&self) -> ErrorCode;
}

impl Code for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            // Asked only of partitions that the metadata has: what is missing is here, not in the cluster.
            ReadError::UnknownPartition | ReadError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ReadError::FencedLeaderEpoch => ErrorCode::FENCED_LEADER_EPOCH,
            ReadError::UnknownLeaderEpoch => ErrorCode::UNKNOWN_LEADER_EPOCH,
            ReadError::OffsetNotAvailable => ErrorCode::OFFSET_NOT_AVAILABLE,
            ReadError::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl Code for FetchError {
    fn code(&self) -> ErrorCode {
        match self {
            FetchError::Read(error) => error.code(),
            FetchError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl Code for DeleteError {
    fn code(&self) -> ErrorCode {
        match self {
            DeleteError::UnknownPartition | DeleteError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            DeleteError::OutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl Code for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            ProduceError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ProduceError::NoRoom => ErrorCode::KAFKA_STORAGE_ERROR,
            ProduceError::NotEnoughReplicas => ErrorCode::NOT_ENOUGH_REPLICAS,
            ProduceError::NotEnoughReplicasAfterAppend => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ProduceError::OutOfOrderSequence => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            ProduceError::InvalidProducerEpoch => ErrorCode::INVALID_PRODUCER_EPOCH,
            ProduceError::DuplicateSequence => ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
        }
    }
}

impl Code for BatchError {
    fn code(&self) -> ErrorCode {
        match self {
            // More bytes than the batch has: a second one, where Kafka takes one a partition.
            BatchError::Header(HeaderError::Short { have, need }) if have > need => ErrorCode::INVALID_RECORD,
            BatchError::Header(HeaderError::Magic(_)) | BatchError::Invalid(_) => ErrorCode::INVALID_RECORD,
            BatchError::Header(HeaderError::Short { .. } | HeaderError::Length(_)) | BatchError::Crc { .. } => {
                ErrorCode::CORRUPT_MESSAGE
            }
            BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            BatchError::Compression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        }
    }
}

impl Code for RecordsError {
    fn code(&self) -> ErrorCode {
        match self {
            // Upon this a producer sends what it has in smaller batches.
            RecordsError::Unreadable(WalkError::TooLong { .. }) => ErrorCode::MESSAGE_TOO_LARGE,
            RecordsError::Rejected { .. } if self.rejected().any(|r| r.reason.is_timestamp()) => {
                ErrorCode::INVALID_TIMESTAMP
            }
            RecordsError::Unreadable(WalkError::Malformed { .. }) | RecordsError::Rejected { .. } => {
                ErrorCode::INVALID_RECORD
            }
        }
    }
}

impl Code for TopicError {
    fn code(&self) -> ErrorCode {
        match self {
            TopicError::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
            TopicError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            TopicError::InvalidName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            TopicError::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
            TopicError::InvalidReplicationFactor(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
            TopicError::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            TopicError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
            TopicError::PolicyViolation(_) => ErrorCode::POLICY_VIOLATION,
            TopicError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
            TopicError::Unavailable => ErrorCode::REQUEST_TIMED_OUT,
        }
    }
}

impl Code for Declined {
    fn code(&self) -> ErrorCode {
        match self {
            Declined::Unavailable => ErrorCode::REQUEST_TIMED_OUT,
            Declined::Refused(refusal) => refusal.code(),
        }
    }
}

impl Code for Refusal {
    fn code(&self) -> ErrorCode {
        match self {
            Refusal::UnknownTopic | Refusal::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Refusal::InvalidReplicationFactor(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
            Refusal::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            Refusal::NoReassignment => ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            Refusal::UnknownBroker(_) => ErrorCode::BROKER_ID_NOT_REGISTERED,
            Refusal::InvalidMetadataVersion(_) => ErrorCode::INVALID_UPDATE_VERSION,
            Refusal::VersionTooLow { .. } => ErrorCode::UNSUPPORTED_VERSION,
            Refusal::PolicyViolation(_) => ErrorCode::POLICY_VIOLATION,
            Refusal::NoCluster => ErrorCode::NOT_CONTROLLER,
            _ => ErrorCode::INVALID_REQUEST,
        }
    }
}

impl Code for GroupError {
    fn code(&self) -> ErrorCode {
        match self {
            GroupError::CoordinatorLoadInProgress => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            GroupError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            GroupError::NotCoordinator => ErrorCode::NOT_COORDINATOR,
            GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
            GroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
            GroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
            GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
            GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
            GroupError::OffsetsTooLarge => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
            GroupError::GroupMaxSizeReached => ErrorCode::GROUP_MAX_SIZE_REACHED,
            GroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
            GroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
            GroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
            GroupError::GroupSubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            GroupError::UnstableOffsetCommit => ErrorCode::UNSTABLE_OFFSET_COMMIT,
            GroupError::InvalidRequest => ErrorCode::INVALID_REQUEST,
            GroupError::UnknownTopicOrPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            GroupError::FencedMemberEpoch => ErrorCode::FENCED_MEMBER_EPOCH,
            GroupError::UnreleasedInstanceId => ErrorCode::UNRELEASED_INSTANCE_ID,
            GroupError::UnsupportedAssignor => ErrorCode::UNSUPPORTED_ASSIGNOR,
            GroupError::StaleMemberEpoch => ErrorCode::STALE_MEMBER_EPOCH,
            GroupError::InvalidRegularExpression => ErrorCode::INVALID_REGULAR_EXPRESSION,
            GroupError::UnsupportedVersion => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}
