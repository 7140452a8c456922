//! Valid request frames of every API in every version, which the mutations start from; encoded by kafka-protocol,
//! which is not the codec that the broker decodes with.

use crate::harness::raw::{frame, header, with_length};
use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest, RequestKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use uuid::Uuid;

/// The topic that the frames name.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) id: Uuid,
}

/// A frame with its length in front, for each API and version that kafka-protocol knows.
pub(super) fn corpus(target: &Target) -> Result<Vec<Bytes>> {
    let mut frames = Vec::new();
    for api in ApiKey::iter() {
        let versions = api.valid_versions();
        for version in versions.min..=versions.max {
            let kinds = requests(api, version, target)?;
            if kinds.is_empty() {
                frames.push(header_and(0, api, version)?);
            }
            for kind in kinds {
                // The codec knows the headers of more versions than bodies. In these a 1 is an empty text or list, and a
                // tag that nobody knows.
                frames.push(frame(api, version, &kind).or_else(|_| header_and(1, api, version))?);
            }
        }
    }
    Ok(frames)
}

/// An API that the broker does not serve, or one whose arguments do not matter.
fn header_and(byte: u8, api: ApiKey, version: i16) -> Result<Bytes> {
    let mut body = header(api, version)?;
    body.put_bytes(byte, 32);
    Ok(with_length(&body))
}

/// Requests that mean something to the broker: the deeper a frame is understood, the deeper its mutations reach.
fn requests(api: ApiKey, version: i16, target: &Target) -> Result<Vec<RequestKind>> {
    let name = TopicName(StrBytes::from_static_str(target.name));
    let text = StrBytes::from_static_str;
    Ok(match api {
        ApiKey::Produce => return produces(version, target),
        ApiKey::Fetch => vec![RequestKind::Fetch(fetch(version, target))],
        ApiKey::ListOffsets => {
            let at = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![at(-1), at(-2), at(1)]);
            vec![RequestKind::ListOffsets(
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]),
            )]
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(name));
            let one =
                MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(version < 4);
            let all = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
            vec![RequestKind::Metadata(one), RequestKind::Metadata(all.with_allow_auto_topic_creation(version < 4))]
        }
        ApiKey::CreateTopics => {
            let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("1000")));
            let topic = CreatableTopic::default()
                .with_name(TopicName(text("never-made")))
                .with_num_partitions(1)
                .with_replication_factor(1)
                .with_configs(vec![config]);
            let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(100);
            vec![RequestKind::CreateTopics(request.with_validate_only(true))]
        }
        ApiKey::DeleteTopics => {
            let gone = TopicName(text("not-there"));
            let request = DeleteTopicsRequest::default().with_timeout_ms(100);
            vec![RequestKind::DeleteTopics(if version >= 6 {
                request.with_topics(vec![DeleteTopicState::default().with_name(Some(gone))])
            } else {
                request.with_topic_names(vec![gone])
            })]
        }
        ApiKey::InitProducerId => {
            vec![RequestKind::InitProducerId(InitProducerIdRequest::default().with_transaction_timeout_ms(1000))]
        }
        ApiKey::DescribeCluster => vec![RequestKind::DescribeCluster(DescribeClusterRequest::default())],
        ApiKey::DescribeConfigs => {
            let resource = |kind, name: &'static str| {
                let keys = Some(vec![text("retention.ms"), text("segment.bytes")]);
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(keys)
            };
            let resources = vec![resource(2, target.name), resource(4, "0")];
            vec![RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(resources))]
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
            let topic = OffsetForLeaderTopic::default().with_topic(name).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1));
            vec![RequestKind::OffsetForLeaderEpoch(request.with_topics(vec![topic]))]
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            vec![RequestKind::FindCoordinator(if version >= 4 {
                request.with_coordinator_keys(vec![text("group")])
            } else {
                request.with_key(text("group"))
            })]
        }
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            vec![RequestKind::ApiVersions(
                request.with_client_software_name(text("hostile")).with_client_software_version(text("1")),
            )]
        }
        _ => groups_and_tools(api),
    })
}

/// Requests that name no group and no topic, and are answered all the same.
fn groups_and_tools(api: ApiKey) -> Vec<RequestKind> {
    let plain = match api {
        ApiKey::OffsetCommit => RequestKind::OffsetCommit(messages::OffsetCommitRequest::default()),
        ApiKey::OffsetFetch => RequestKind::OffsetFetch(messages::OffsetFetchRequest::default()),
        ApiKey::JoinGroup => RequestKind::JoinGroup(messages::JoinGroupRequest::default()),
        ApiKey::Heartbeat => RequestKind::Heartbeat(messages::HeartbeatRequest::default()),
        ApiKey::LeaveGroup => RequestKind::LeaveGroup(messages::LeaveGroupRequest::default()),
        ApiKey::SyncGroup => RequestKind::SyncGroup(messages::SyncGroupRequest::default()),
        ApiKey::DescribeGroups => RequestKind::DescribeGroups(messages::DescribeGroupsRequest::default()),
        ApiKey::ListGroups => RequestKind::ListGroups(messages::ListGroupsRequest::default()),
        ApiKey::DeleteRecords => RequestKind::DeleteRecords(messages::DeleteRecordsRequest::default()),
        ApiKey::AlterConfigs => RequestKind::AlterConfigs(messages::AlterConfigsRequest::default()),
        ApiKey::DescribeLogDirs => RequestKind::DescribeLogDirs(messages::DescribeLogDirsRequest::default()),
        ApiKey::CreatePartitions => RequestKind::CreatePartitions(messages::CreatePartitionsRequest::default()),
        ApiKey::DeleteGroups => RequestKind::DeleteGroups(messages::DeleteGroupsRequest::default()),
        ApiKey::IncrementalAlterConfigs => {
            RequestKind::IncrementalAlterConfigs(messages::IncrementalAlterConfigsRequest::default())
        }
        ApiKey::OffsetDelete => RequestKind::OffsetDelete(messages::OffsetDeleteRequest::default()),
        ApiKey::DescribeProducers => RequestKind::DescribeProducers(messages::DescribeProducersRequest::default()),
        ApiKey::ConsumerGroupHeartbeat => {
            RequestKind::ConsumerGroupHeartbeat(messages::ConsumerGroupHeartbeatRequest::default())
        }
        ApiKey::ConsumerGroupDescribe => {
            RequestKind::ConsumerGroupDescribe(messages::ConsumerGroupDescribeRequest::default())
        }
        ApiKey::SaslHandshake => RequestKind::SaslHandshake(messages::SaslHandshakeRequest::default()),
        ApiKey::SaslAuthenticate => RequestKind::SaslAuthenticate(messages::SaslAuthenticateRequest::default()),
        ApiKey::DescribeAcls => RequestKind::DescribeAcls(messages::DescribeAclsRequest::default()),
        ApiKey::ListConfigResources => {
            RequestKind::ListConfigResources(messages::ListConfigResourcesRequest::default())
        }
        ApiKey::DescribeTopicPartitions => {
            RequestKind::DescribeTopicPartitions(messages::DescribeTopicPartitionsRequest::default())
        }
        ApiKey::ElectLeaders => {
            let none = messages::ElectLeadersRequest::default().with_topic_partitions(Some(Vec::new()));
            RequestKind::ElectLeaders(none)
        }
        ApiKey::AlterPartitionReassignments => {
            RequestKind::AlterPartitionReassignments(messages::AlterPartitionReassignmentsRequest::default())
        }
        ApiKey::ListPartitionReassignments => {
            RequestKind::ListPartitionReassignments(messages::ListPartitionReassignmentsRequest::default())
        }
        ApiKey::UpdateFeatures => RequestKind::UpdateFeatures(messages::UpdateFeaturesRequest::default()),
        ApiKey::DescribeQuorum => RequestKind::DescribeQuorum(messages::DescribeQuorumRequest::default()),
        ApiKey::AddRaftVoter => RequestKind::AddRaftVoter(messages::AddRaftVoterRequest::default().with_voter_id(-1)),
        ApiKey::RemoveRaftVoter => {
            RequestKind::RemoveRaftVoter(messages::RemoveRaftVoterRequest::default().with_voter_id(-1))
        }
        ApiKey::UnregisterBroker => {
            RequestKind::UnregisterBroker(messages::UnregisterBrokerRequest::default().with_broker_id(BrokerId(-1)))
        }
        _ => return Vec::new(),
    };
    vec![plain]
}

fn produces(version: i16, target: &Target) -> Result<Vec<RequestKind>> {
    let mut requests = Vec::new();
    for (acks, producer_id, compression) in
        [(-1, -1, Compression::None), (1, 77, Compression::Gzip), (0, -1, Compression::None)]
    {
        let partition = PartitionProduceData::default().with_records(Some(batch(producer_id, compression)?));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(if version < 13 { target.name } else { "" })))
            .with_topic_id(if version < 13 { Uuid::nil() } else { target.id })
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(100).with_topic_data(vec![topic]);
        requests.push(RequestKind::Produce(request));
    }
    Ok(requests)
}

fn fetch(version: i16, target: &Target) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(4096);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str(if version < 13 { target.name } else { "" })))
        .with_topic_id(if version < 13 { Uuid::nil() } else { target.id })
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(1)
        .with_min_bytes(1)
        .with_max_bytes(65536)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A fetch that nothing satisfies, from the beginning of an empty log, and that asks to be kept for ever.
pub(super) fn endless_fetch(target: &Target) -> Result<Bytes> {
    let request = fetch(12, target).with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX);
    frame(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
}

/// Two records; those of a producer with an id are the first that it sends.
pub(super) fn batch(producer_id: i64, compression: Compression) -> Result<Bytes> {
    let record = |number: i64| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        timestamp_type: TimestampType::Creation,
        offset: number,
        // Consecutive in any case: the encoder makes one batch only of records whose sequences go with their offsets.
        sequence: if producer_id < 0 { number as i32 - 1 } else { number as i32 },
        timestamp: 1_700_000_000_000 + number,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"a value of some length")),
        headers: [(StrBytes::from_static_str("header"), Some(Bytes::from_static(b"x")))].into_iter().collect(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode(&mut bytes, &[record(0), record(1)], &options)?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn two_records_are_one_batch() {
        for (producer_id, sequence) in [(-1, -1), (77, 0)] {
            let mut bytes = batch(producer_id, Compression::None).expect("a batch");
            // A request may bring one for each partition.
            assert_eq!(RecordBatchDecoder::decode_all(&mut bytes.clone()).expect("batches").len(), 1);
            let records = RecordBatchDecoder::decode(&mut bytes).expect("a batch").records;
            assert_eq!(
                records.iter().map(|r| (r.offset, r.producer_id)).collect::<Vec<_>>(),
                [(0, producer_id), (1, producer_id)]
            );
            assert_eq!(records[0].sequence, sequence);
        }
    }

    #[test]
    fn every_api_is_in_the_corpus_and_every_frame_says_its_true_length() {
        let frames = corpus(&Target { name: "target", id: Uuid::from_u128(7) }).expect("every frame encodes");
        let apis: std::collections::HashSet<_> = frames.iter().map(|f| [f[4], f[5]]).collect();
        assert_eq!(apis.len(), ApiKey::iter().count());
        for frame in frames {
            assert_eq!(i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize, frame.len() - 4);
        }
    }
}
