//! Another codec's opinion of our bytes, beyond what the listener's tests ask it for.

use super::messages::{LeaderIdAndEpoch, NodeEndpoint, StrBytes, Uuid, message};
use super::{
    ErrorCode, FetchResponse, FetchedPartition, FetchedTopic, Header, Request, RequestKind, SERVED, TopicRef, WireError,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages as other;
use kafka_protocol::protocol::{Decodable as _, Encodable as _};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

fn full_fetch_response() -> FetchResponse {
    let led_elsewhere = FetchedPartition {
        diverging: Some((3, 99)),
        leader: Some(message!(LeaderIdAndEpoch { leader_id: 2, leader_epoch: 8 })),
        ..FetchedPartition::failed(1, ErrorCode::NOT_LEADER_OR_FOLLOWER)
    };
    let filled = FetchedPartition {
        high_watermark: 500,
        log_start: 5,
        read_committed: true,
        preferred_replica: 4,
        records: vec![Bytes::from_static(b"first batch, "), Bytes::from_static(b"second batch")],
        ..FetchedPartition::failed(0, ErrorCode::NONE)
    };
    FetchResponse {
        session_id: 77,
        error: ErrorCode::NONE,
        topics: vec![FetchedTopic {
            name: StrBytes::from("topic"),
            id: Uuid::from_bytes([7; 16]),
            partitions: vec![filled, led_elsewhere],
        }],
        endpoints: vec![message!(NodeEndpoint { node_id: 2, host: StrBytes::from("host"), port: 9092, rack: None })],
    }
}

#[test]
fn fetch_responses_are_encoded_as_the_other_codec_does() {
    for version in 4..=18 {
        let header = Header { api: RequestKind::Fetch, version, correlation_id: 5 };
        let frame: Vec<u8> = full_fetch_response().encode(header).expect("it can be encoded").into_chunks().concat();
        let ours = Bytes::from(frame).slice(if version >= 12 { 9.. } else { 8.. });
        let decoded = other::FetchResponse::decode(&mut ours.clone(), version).expect("the other codec reads it");
        let partitions = &decoded.responses[0].partitions;
        assert_eq!(partitions[0].records.as_deref(), Some(&b"first batch, second batch"[..]));
        assert_eq!(partitions[0].aborted_transactions, Some(Vec::new()));
        assert_eq!(partitions[1].aborted_transactions, None);
        if version >= 12 {
            assert_eq!((partitions[1].diverging_epoch.epoch, partitions[1].diverging_epoch.end_offset), (3, 99));
            assert_eq!((partitions[1].current_leader.leader_id.0, partitions[1].current_leader.leader_epoch), (2, 8));
        }
        assert_eq!(decoded.node_endpoints.len(), usize::from(version >= 16));
        let mut theirs = BytesMut::new();
        decoded.encode(&mut theirs, version).expect("the other codec writes it");
        assert_eq!(theirs, ours, "v{version}");
    }
}

#[test]
fn the_table_of_versions_agrees_with_the_codec() {
    use kafka_wire::{KafkaMessage, KafkaRequest};
    fn check<T: KafkaRequest + KafkaMessage>() {
        let served = SERVED.iter().find(|s| s.api as i16 == T::API_KEY.value()).expect("served");
        for version in served.min..=served.max {
            let header = Header { api: served.api, version, correlation_id: 0 };
            let known = kafka_wire_core::ApiVersion::new(version);
            assert!(T::supports(known), "{} v{version}", T::NAME);
            assert_eq!(header.flexible(), T::is_flexible(known), "{} v{version}", T::NAME);
        }
    }
    check::<kafka_wire::ProduceRequest>();
    check::<kafka_wire::FetchRequest>();
    check::<kafka_wire::ListOffsetsRequest>();
    check::<kafka_wire::MetadataRequest>();
    check::<kafka_wire::FindCoordinatorRequest>();
    check::<kafka_wire::ApiVersionsRequest>();
    check::<kafka_wire::CreateTopicsRequest>();
    check::<kafka_wire::DeleteTopicsRequest>();
    check::<kafka_wire::DeleteRecordsRequest>();
    check::<kafka_wire::InitProducerIdRequest>();
    check::<kafka_wire::OffsetForLeaderEpochRequest>();
    check::<kafka_wire::DescribeConfigsRequest>();
    check::<kafka_wire::DescribeAclsRequest>();
    check::<kafka_wire::SaslHandshakeRequest>();
    check::<kafka_wire::SaslAuthenticateRequest>();
    check::<kafka_wire::DescribeClusterRequest>();
    check::<kafka_wire::OffsetCommitRequest>();
    check::<kafka_wire::OffsetFetchRequest>();
    check::<kafka_wire::JoinGroupRequest>();
    check::<kafka_wire::HeartbeatRequest>();
    check::<kafka_wire::LeaveGroupRequest>();
    check::<kafka_wire::SyncGroupRequest>();
    check::<kafka_wire::DescribeGroupsRequest>();
    check::<kafka_wire::ListGroupsRequest>();
    check::<kafka_wire::DeleteGroupsRequest>();
    check::<kafka_wire::OffsetDeleteRequest>();
    check::<kafka_wire::ConsumerGroupHeartbeatRequest>();
    check::<kafka_wire::ConsumerGroupDescribeRequest>();
    check::<kafka_wire::AlterConfigsRequest>();
    check::<kafka_wire::IncrementalAlterConfigsRequest>();
    check::<kafka_wire::CreatePartitionsRequest>();
    check::<kafka_wire::DescribeLogDirsRequest>();
    check::<kafka_wire::DescribeProducersRequest>();
    check::<kafka_wire::ListConfigResourcesRequest>();
    check::<kafka_wire::DescribeTopicPartitionsRequest>();
    check::<kafka_wire::ElectLeadersRequest>();
    check::<kafka_wire::UpdateFeaturesRequest>();
    check::<kafka_wire::UnregisterBrokerRequest>();
    check::<kafka_wire::DescribeQuorumRequest>();
    check::<kafka_wire::AddRaftVoterRequest>();
    check::<kafka_wire::RemoveRaftVoterRequest>();
    check::<kafka_wire::AlterPartitionReassignmentsRequest>();
    check::<kafka_wire::ListPartitionReassignmentsRequest>();
}

/// A frame without its length.
fn framed(key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(1);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}

fn produce_frame(version: i16) -> Bytes {
    let partition = other::produce_request::PartitionProduceData::default()
        .with_index(4)
        .with_records(Some(Bytes::from_static(b"records")));
    let mut topic = other::produce_request::TopicProduceData::default().with_partition_data(vec![partition; 2]);
    if version >= 13 {
        topic.topic_id = uuid::Uuid::from_bytes([7; 16]);
    } else {
        topic.name = other::TopicName("topic".to_owned().into());
    }
    let request = other::ProduceRequest::default()
        .with_transactional_id(Some(other::TransactionalId("tx".to_owned().into())))
        .with_acks(-1)
        .with_timeout_ms(1234)
        .with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("the other codec writes it");
    framed(0, version, version >= 9, &body)
}

#[test]
fn produce_requests_of_the_other_codec_are_understood_without_a_copy() {
    for version in 3..=13 {
        let frame = produce_frame(version);
        let range = frame.as_ptr_range();
        let decoded = Request::decode(frame).expect("it is a request");
        let Request::Produce(request) = decoded.request else { panic!("of another kind") };
        assert_eq!(request.transactional_id.as_deref(), Some("tx"));
        assert_eq!((request.acks, request.timeout_ms), (-1, 1234));
        let topic = &request.topics[0];
        let named = if version >= 13 {
            TopicRef::Id(Uuid::from_bytes([7; 16]))
        } else {
            TopicRef::Name(StrBytes::from("topic"))
        };
        assert_eq!(topic.topic, named);
        assert_eq!(topic.partitions.len(), 2);
        for (index, records) in &topic.partitions {
            let records = records.as_ref().expect("records");
            assert_eq!((*index, &records[..]), (4, &b"records"[..]));
            assert!(range.contains(&records.as_ptr()), "a slice of the frame");
        }
    }
}

#[test]
fn more_partitions_than_a_frame_can_fill_are_refused() {
    // Version 9, one topic without a name, a million empty partitions of six bytes each.
    let mut body = BytesMut::new();
    body.put_slice(&[0, 255, 255, 0, 0, 0, 1, 2, 1]);
    body.put_slice(&[0xc1, 0x84, 0x3d]);
    body.put_bytes(0, 6_000_000);
    let refused = Request::decode(framed(0, 9, true, &body));
    assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
}

#[test]
fn counts_beyond_the_frame_are_refused() {
    for (key, version, flexible, body) in [
        (3, 1, false, &[0x7f, 0xff, 0xff, 0xff][..]),
        (3, 9, true, &[0xff, 0xff, 0xff, 0xff, 0x07]),
        (0, 3, false, &[255, 255, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]),
        (19, 2, false, &[0x00, 0x0f, 0x42, 0x41]),
    ] {
        let refused = Request::decode(framed(key, version, flexible, body));
        assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
    }
}

#[test]
fn no_mutation_of_a_frame_does_harm() {
    let frames: Vec<Bytes> = SERVED
        .iter()
        .flat_map(|s| (s.min..=s.max).map(move |version| framed(s.api as i16, version, version > 3, &[1; 64])))
        .chain((3..=13).map(produce_frame))
        .collect();
    let mut rng = StdRng::seed_from_u64(11);
    let mut understood = 0;
    for i in 0..200_000 {
        let mut bytes = BytesMut::from(&frames[i % frames.len()][..]);
        for _ in 0..rng.next_u32() % 4 {
            let at = rng.next_u32() as usize % bytes.len();
            bytes[at] = rng.next_u32() as u8;
        }
        let len = bytes.len() - rng.next_u32() as usize % 4;
        understood += usize::from(Request::decode(bytes.split_to(len).freeze()).is_ok());
    }
    assert!(understood > 1000, "mutations reach the bodies: {understood} were understood");
}
