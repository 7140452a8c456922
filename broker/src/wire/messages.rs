//! The messages of the requests that are served, as the codec generates them from Kafka's schemas.

pub(crate) use kafka_wire::api_versions_response::ApiVersion as ServedVersions;
pub(crate) use kafka_wire::create_topics_request::CreatableTopic;
pub(crate) use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
pub(crate) use kafka_wire::delete_topics_request::DeleteTopicState;
pub(crate) use kafka_wire::delete_topics_response::DeletableTopicResult;
pub(crate) use kafka_wire::describe_cluster_response::DescribeClusterBroker;
pub(crate) use kafka_wire::describe_configs_request::DescribeConfigsResource;
pub(crate) use kafka_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
pub(crate) use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
pub(crate) use kafka_wire::find_coordinator_response::Coordinator;
pub(crate) use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
pub(crate) use kafka_wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
pub(crate) use kafka_wire::metadata_request::MetadataRequestTopic;
pub(crate) use kafka_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
pub(crate) use kafka_wire::offset_for_leader_epoch_request::OffsetForLeaderPartition;
pub(crate) use kafka_wire::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
pub(crate) use kafka_wire::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
pub(crate) use kafka_wire::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, FetchRequest, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceResponse,
};
pub(crate) use kafka_wire_core::{StrBytes, Uuid};

use chronik_core::ids::TopicId;

/// Makes a message from some of its fields; the others keep Kafka's defaults.
macro_rules! message {
    ($type:ty { $($field:ident : $value:expr),* $(,)? }) => {{
        let mut message = <$type>::default();
        $(message.$field = $value;)*
        message
    }};
}
pub(crate) use message;

/// A topic's id on the wire.
pub(crate) fn wire_id(id: TopicId) -> Uuid {
    Uuid::from_bytes(*id.0.as_bytes())
}

/// A topic's id from the wire; `None` for the zero id that stands for "none".
pub(crate) fn topic_id(id: Uuid) -> Option<TopicId> {
    (!id.is_zero()).then(|| TopicId(uuid::Uuid::from_bytes(id.to_bytes())))
}

/// A cluster id as clients see it: 22 characters of URL-safe base64, as Kafka writes its own.
pub(crate) fn cluster_id_text(id: chronik_core::ids::ClusterId) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.0.as_u128();
    // 128 bits are 21 digits of 6 bits and one of 2, which stands in the upper bits of its digit.
    (0..22u32)
        .map(|i| {
            let digit = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
            char::from(DIGITS[(digit & 0x3f) as usize])
        })
        .collect()
}
