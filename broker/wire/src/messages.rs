//! The messages of the requests that are served, as the codec generates them from Kafka's schemas.

pub use kafka_wire::alter_configs_response::AlterConfigsResourceResponse;
pub use kafka_wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
pub use kafka_wire::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
pub use kafka_wire::api_versions_response::ApiVersion as ServedVersions;
pub use kafka_wire::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
pub use kafka_wire::consumer_group_describe_response as consumer_group_describe;
pub use kafka_wire::consumer_group_heartbeat_request::TopicPartitions as OwnedTopicPartitions;
pub use kafka_wire::consumer_group_heartbeat_response as consumer_group_heartbeat;
pub use kafka_wire::create_partitions_request::CreatePartitionsTopic;
pub use kafka_wire::create_partitions_response::CreatePartitionsTopicResult;
pub use kafka_wire::create_topics_request::CreatableTopic;
pub use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
pub use kafka_wire::delete_groups_response::DeletableGroupResult;
pub use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
pub use kafka_wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
pub use kafka_wire::delete_topics_request::DeleteTopicState;
pub use kafka_wire::delete_topics_response::DeletableTopicResult;
pub use kafka_wire::describe_cluster_response::DescribeClusterBroker;
pub use kafka_wire::describe_configs_request::DescribeConfigsResource;
pub use kafka_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
pub use kafka_wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
pub use kafka_wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
pub use kafka_wire::describe_producers_response::{
    PartitionResponse as DescribedProducers, ProducerState, TopicResponse as DescribeProducersTopicResult,
};
pub use kafka_wire::describe_topic_partitions_response::{
    Cursor as PartitionsCursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
pub use kafka_wire::elect_leaders_request::TopicPartitions as ElectedPartitions;
pub use kafka_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
pub use kafka_wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
pub use kafka_wire::find_coordinator_response::Coordinator;
pub use kafka_wire::incremental_alter_configs_request::AlterableConfig as IncrementalConfig;
pub use kafka_wire::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalAlterConfigsResult;
pub use kafka_wire::join_group_request::JoinGroupRequestProtocol;
pub use kafka_wire::join_group_response::JoinGroupResponseMember;
pub use kafka_wire::leave_group_request::MemberIdentity;
pub use kafka_wire::leave_group_response::MemberResponse;
pub use kafka_wire::list_config_resources_response::ConfigResource as ListedConfigResource;
pub use kafka_wire::list_groups_response::ListedGroup;
pub use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
pub use kafka_wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
pub use kafka_wire::list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment};
pub use kafka_wire::metadata_request::MetadataRequestTopic;
pub use kafka_wire::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
pub use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
pub use kafka_wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
pub use kafka_wire::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
pub use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
pub use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
pub use kafka_wire::offset_for_leader_epoch_request::OffsetForLeaderPartition;
pub use kafka_wire::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
pub use kafka_wire::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
pub use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
pub use kafka_wire::update_features_request::FeatureUpdateKey;
pub use kafka_wire::update_features_response::UpdatableFeatureResult;
pub use kafka_wire::*;
pub use kafka_wire_core::{StrBytes, Uuid};

use chronik_core::ids::TopicId;

/// Makes a message from some of its fields; the others keep Kafka's defaults.
#[macro_export]
macro_rules! message {
    ($type:ty { $($field:ident : $value:expr),* $(,)? }) => {{
        let mut message = <$type>::default();
        $(message.$field = $value;)*
        message
    }};
}
pub use message;

/// A topic's id on the wire.
pub fn wire_id(id: TopicId) -> Uuid {
    Uuid::from_bytes(*id.0.as_bytes())
}

/// A topic's id from the wire; `None` for the zero id that stands for "none".
pub fn topic_id(id: Uuid) -> Option<TopicId> {
    (!id.is_zero()).then(|| TopicId(uuid::Uuid::from_bytes(id.to_bytes())))
}

/// A cluster id as clients see it.
pub fn cluster_id_text(id: chronik_core::ids::ClusterId) -> String {
    id_text(id.0.as_u128())
}

/// A topic's id as Kafka's tools print it.
pub fn topic_id_text(id: Uuid) -> String {
    id_text(u128::from_be_bytes(id.to_bytes()))
}

/// 22 characters of URL-safe base64, as Kafka writes its own ids.
fn id_text(bits: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits are 21 digits of 6 bits and one of 2, which stands in the upper bits of its digit.
    (0..22u32)
        .map(|i| {
            let digit = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
            char::from(DIGITS[(digit & 0x3f) as usize])
        })
        .collect()
}
