//! Kafka's error codes, and the one place that says which of them our errors are.

use crate::controller::TopicError;
use crate::partitions::{FetchError, ReadError};
use chronik_core::record::{BatchError, HeaderError};
use chronik_core::replication::ProduceError;

/// An error code of the Kafka protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub i16);

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        impl ErrorCode {
            $(pub(crate) const $name: Self = Self($code);)*

            /// Kafka's name for the code.
            pub(crate) fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

codes! {
    UNKNOWN_SERVER_ERROR = -1,
    NONE = 0,
    OFFSET_OUT_OF_RANGE = 1,
    CORRUPT_MESSAGE = 2,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    LEADER_NOT_AVAILABLE = 5,
    NOT_LEADER_OR_FOLLOWER = 6,
    REQUEST_TIMED_OUT = 7,
    REPLICA_NOT_AVAILABLE = 9,
    MESSAGE_TOO_LARGE = 10,
    COORDINATOR_LOAD_IN_PROGRESS = 14,
    COORDINATOR_NOT_AVAILABLE = 15,
    INVALID_TOPIC_EXCEPTION = 17,
    NOT_ENOUGH_REPLICAS = 19,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20,
    INVALID_REQUIRED_ACKS = 21,
    UNSUPPORTED_VERSION = 35,
    TOPIC_ALREADY_EXISTS = 36,
    INVALID_PARTITIONS = 37,
    INVALID_REPLICATION_FACTOR = 38,
    INVALID_REPLICA_ASSIGNMENT = 39,
    INVALID_CONFIG = 40,
    INVALID_REQUEST = 42,
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    DUPLICATE_SEQUENCE_NUMBER = 46,
    INVALID_PRODUCER_EPOCH = 47,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    KAFKA_STORAGE_ERROR = 56,
    FETCH_SESSION_ID_NOT_FOUND = 70,
    FENCED_LEADER_EPOCH = 74,
    UNKNOWN_LEADER_EPOCH = 75,
    UNSUPPORTED_COMPRESSION_TYPE = 76,
    OFFSET_NOT_AVAILABLE = 78,
    INVALID_RECORD = 87,
    UNKNOWN_TOPIC_ID = 100,
    MISMATCHED_ENDPOINT_TYPE = 114,
    UNSUPPORTED_ENDPOINT_TYPE = 115,
    REBOOTSTRAP_REQUIRED = 129,
}

impl From<&ReadError> for ErrorCode {
    fn from(error: &ReadError) -> Self {
        match error {
            // Asked only of partitions that the metadata has: what is missing is here, not in the cluster.
            ReadError::UnknownPartition | ReadError::NotLeader => Self::NOT_LEADER_OR_FOLLOWER,
            ReadError::FencedLeaderEpoch => Self::FENCED_LEADER_EPOCH,
            ReadError::UnknownLeaderEpoch => Self::UNKNOWN_LEADER_EPOCH,
            ReadError::OffsetNotAvailable => Self::OFFSET_NOT_AVAILABLE,
            ReadError::Storage => Self::KAFKA_STORAGE_ERROR,
        }
    }
}

impl From<&FetchError> for ErrorCode {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::Read(error) => error.into(),
            FetchError::OutOfRange { .. } => Self::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl From<&ProduceError> for ErrorCode {
    fn from(error: &ProduceError) -> Self {
        match error {
            ProduceError::NotLeader => Self::NOT_LEADER_OR_FOLLOWER,
            ProduceError::NotEnoughReplicas => Self::NOT_ENOUGH_REPLICAS,
            ProduceError::NotEnoughReplicasAfterAppend => Self::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ProduceError::OutOfOrderSequence => Self::OUT_OF_ORDER_SEQUENCE_NUMBER,
            ProduceError::InvalidProducerEpoch => Self::INVALID_PRODUCER_EPOCH,
            ProduceError::DuplicateSequence => Self::DUPLICATE_SEQUENCE_NUMBER,
        }
    }
}

impl From<&BatchError> for ErrorCode {
    fn from(error: &BatchError) -> Self {
        match error {
            // More bytes than the batch has: a second one, where Kafka takes one a partition.
            BatchError::Header(HeaderError::Short { have, need }) if have > need => Self::INVALID_RECORD,
            BatchError::Header(HeaderError::Magic(_)) | BatchError::Invalid(_) => Self::INVALID_RECORD,
            BatchError::Header(HeaderError::Short { .. } | HeaderError::Length(_)) | BatchError::Crc { .. } => {
                Self::CORRUPT_MESSAGE
            }
            BatchError::TooLarge { .. } => Self::MESSAGE_TOO_LARGE,
            BatchError::Compression(_) => Self::UNSUPPORTED_COMPRESSION_TYPE,
        }
    }
}

impl From<&TopicError> for ErrorCode {
    fn from(error: &TopicError) -> Self {
        match error {
            TopicError::Exists(_) => Self::TOPIC_ALREADY_EXISTS,
            TopicError::Unknown => Self::UNKNOWN_TOPIC_OR_PARTITION,
            TopicError::InvalidName(_) => Self::INVALID_TOPIC_EXCEPTION,
            TopicError::InvalidPartitions(_) => Self::INVALID_PARTITIONS,
            TopicError::InvalidReplicationFactor(_) => Self::INVALID_REPLICATION_FACTOR,
            TopicError::InvalidAssignment(_) => Self::INVALID_REPLICA_ASSIGNMENT,
            TopicError::InvalidConfig(_) => Self::INVALID_CONFIG,
            TopicError::Unavailable => Self::REQUEST_TIMED_OUT,
        }
    }
}
