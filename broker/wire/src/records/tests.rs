//! Every kind of record there and back, Kafka's own bytes, and bytes that are none.

use super::*;
use chronik_core::groups::record::{
    ClassicMemberMetadata, ConsumerGroupMemberValue, CurrentMemberAssignmentValue, GroupMemberValue,
    GroupMetadataValue, OffsetCommitValue, OwnedPartitions, TopicPartitions,
};
use chronik_core::groups::{RecordKey, RecordValue};
use chronik_core::ids::TopicId;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use std::sync::Arc;

fn group() -> Arc<str> {
    "group".into()
}

fn topics() -> Vec<TopicPartitions> {
    vec![TopicPartitions { topic_id: TopicId(uuid::Uuid::from_u128(7)), partitions: vec![0, 5] }]
}

fn commit(expire_timestamp: i64, topic_id: u128) -> GroupRecord {
    GroupRecord {
        key: RecordKey::OffsetCommit { group: group(), topic: "topic".into(), partition: 3 },
        value: Some(RecordValue::OffsetCommit(OffsetCommitValue {
            offset: 1 << 40,
            leader_epoch: if expire_timestamp < 0 { 4 } else { -1 },
            metadata: "metadata".into(),
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp,
            topic_id: TopicId(uuid::Uuid::from_u128(topic_id)),
        })),
    }
}

/// Two partitions, owned since these epochs.
fn owned(since: &[i32]) -> Vec<OwnedPartitions> {
    let topic_id = TopicId(uuid::Uuid::from_u128(9));
    vec![OwnedPartitions { topic_id, partitions: vec![0, 7], since: since.to_vec() }]
}

fn classic_group() -> GroupRecord {
    let member = GroupMemberValue {
        member_id: "member".into(),
        group_instance_id: Some("instance".into()),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(b"subscription"),
        assignment: Bytes::from_static(b"assignment"),
    };
    GroupRecord {
        key: RecordKey::GroupMetadata(group()),
        value: Some(RecordValue::GroupMetadata(GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 9,
            protocol: Some("range".into()),
            leader: Some("member".into()),
            current_state_timestamp: 1_700_000_000_000,
            members: vec![member.clone(), GroupMemberValue { group_instance_id: None, ..member }],
        })),
    }
}

fn consumer_member(classic: Option<ClassicMemberMetadata>) -> GroupRecord {
    GroupRecord {
        key: RecordKey::ConsumerGroupMember(group(), "member".into()),
        value: Some(RecordValue::ConsumerGroupMember(ConsumerGroupMemberValue {
            instance_id: None,
            rack_id: Some("rack".into()),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            subscribed_topic_names: vec!["a".into(), "b".into()],
            subscribed_topic_regex: Some("a.*".into()),
            rebalance_timeout_ms: 45_000,
            server_assignor: Some("uniform".into()),
            classic,
        })),
    }
}

fn all() -> Vec<GroupRecord> {
    let classic = ClassicMemberMetadata {
        session_timeout_ms: 45_000,
        supported_protocols: vec![("range".into(), Bytes::from_static(b"metadata"))],
    };
    let of = |key, value| GroupRecord { key, value };
    vec![
        commit(-1, 7),
        commit(-1, 0),
        commit(1_800_000_000_000, 0),
        classic_group(),
        consumer_member(None),
        consumer_member(Some(classic)),
        of(
            RecordKey::ConsumerGroupMetadata(group()),
            Some(RecordValue::ConsumerGroupMetadata { epoch: 3, metadata_hash: -12 }),
        ),
        of(
            RecordKey::ConsumerGroupMetadata(group()),
            Some(RecordValue::ConsumerGroupMetadata { epoch: 3, metadata_hash: 0 }),
        ),
        of(
            RecordKey::ConsumerGroupTargetAssignmentMetadata(group()),
            Some(RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch: 3 }),
        ),
        of(
            RecordKey::ConsumerGroupTargetAssignmentMember(group(), "member".into()),
            Some(RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions: topics() }),
        ),
        of(
            RecordKey::ConsumerGroupCurrentMemberAssignment(group(), "member".into()),
            Some(RecordValue::ConsumerGroupCurrentMemberAssignment(CurrentMemberAssignmentValue {
                member_epoch: 5,
                previous_member_epoch: 4,
                state: 1,
                assigned: owned(&[3, 5]),
                pending_revocation: owned(&[]),
            })),
        ),
        of(
            RecordKey::ConsumerGroupRegularExpression(group(), "a.*".into()),
            Some(RecordValue::ConsumerGroupRegularExpression { topics: vec!["ab".into()], version: 8, timestamp: 9 }),
        ),
        of(RecordKey::GroupMetadata(group()), None),
    ]
}

#[test]
fn every_record_comes_back_as_it_was() {
    for record in all() {
        let (key, value) = encode(&record).unwrap();
        assert_eq!(decode(&key, value.as_ref()).unwrap(), Decoded::Group(record));
    }
}

#[test]
fn a_batch_of_records_comes_back_as_it_was() {
    let records: Vec<_> = all().iter().map(|r| encode(r).unwrap()).collect();
    let batch = build_batch(&records, 1_700_000_000_000).unwrap();
    let header = batch.header();
    assert_eq!((header.record_count, header.last_offset_delta), (records.len() as i32, records.len() as i32 - 1));
    let found: Vec<_> = records_of(&batch).unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = records.into_iter().map(|(key, value)| (Some(key), value)).collect();
    assert_eq!(found, expected);
}

#[test]
fn another_codec_reads_the_batch() {
    use kafka_protocol::records::RecordBatchDecoder;
    let records: Vec<_> = all().iter().map(|r| encode(r).unwrap()).collect();
    let mut bytes = build_batch(&records, 1_700_000_000_000).unwrap().into_bytes();
    let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
    let found: Vec<_> = set.records.iter().map(|r| (r.key.clone().unwrap(), r.value.clone())).collect();
    assert_eq!(found, records);
    assert!(set.records.iter().all(|r| r.timestamp == 1_700_000_000_000));
}

/// Old versions, as Kafka wrote them.
#[test]
fn older_versions_get_the_defaults_of_what_they_lack() {
    let RecordKey::OffsetCommit { group, .. } = commit(-1, 0).key else { panic!("another key") };
    let key = [&[0, 0, 0, 5][..], group.as_bytes(), &[0, 5], b"topic", &[0, 0, 0, 3]].concat();
    for (version, fields) in [
        (0, [&5_i64.to_be_bytes()[..], &[0, 1, b'm'], &7_i64.to_be_bytes()].concat()),
        (1, [&5_i64.to_be_bytes()[..], &[0, 1, b'm'], &7_i64.to_be_bytes(), &9_i64.to_be_bytes()].concat()),
        (2, [&5_i64.to_be_bytes()[..], &[0, 1, b'm'], &7_i64.to_be_bytes()].concat()),
        (3, [&5_i64.to_be_bytes()[..], &[0, 0, 0, 2], &[0, 1, b'm'], &7_i64.to_be_bytes()].concat()),
        (4, [&5_i64.to_be_bytes()[..], &[0, 0, 0, 2], &[2, b'm'], &7_i64.to_be_bytes(), &[0]].concat()),
    ] {
        let value = Bytes::from([&[0, version][..], &fields].concat());
        let found = decode(&Bytes::from(key.clone()), Some(&value)).unwrap();
        let expected = OffsetCommitValue {
            offset: 5,
            leader_epoch: if version >= 3 { 2 } else { -1 },
            metadata: "m".into(),
            commit_timestamp: 7,
            expire_timestamp: if version == 1 { 9 } else { -1 },
            topic_id: TopicId::default(),
        };
        let expected = GroupRecord { key: commit(-1, 0).key, value: Some(RecordValue::OffsetCommit(expected)) };
        assert_eq!(found, Decoded::Group(expected), "v{version}");
    }
}

#[test]
fn keys_of_other_kinds_are_not_an_error() {
    for version in [4_i16, 9, 15, 17, 100, -1] {
        let key = Bytes::from([&version.to_be_bytes()[..], &[0, 5], b"group"].concat());
        assert_eq!(decode(&key, None).unwrap(), Decoded::Unknown(version));
    }
}

#[test]
fn a_value_of_an_unknown_version_is_an_error() {
    let (key, value) = encode(&commit(-1, 0)).unwrap();
    let mut value = value.unwrap().to_vec();
    value[1] = 5;
    assert!(matches!(decode(&key, Some(&value.into())), Err(RecordError::Version { version: 5, .. })));
}

#[test]
fn what_a_schema_cannot_say_is_refused() {
    let long: Arc<str> = "x".repeat(40_000).into();
    let record = GroupRecord { key: RecordKey::GroupMetadata(long), value: None };
    assert!(matches!(encode(&record), Err(RecordError::TooLong(40_000))));
}

/// Of a log that Kafka wrote, say, whose group goes from the consumer protocol to the classic one.
#[test]
fn a_classic_group_with_a_string_that_is_too_long_for_the_usual_version_is_written_in_a_later_one() {
    let mut record = classic_group();
    let (_, usual) = encode(&record).unwrap();
    assert_eq!(usual.unwrap()[..2], [0, 3]);
    let Some(RecordValue::GroupMetadata(group)) = &mut record.value else { panic!("another record") };
    group.members[0].client_id = "x".repeat(40_000).into();
    let (key, value) = encode(&record).unwrap();
    assert_eq!(value.as_ref().unwrap()[..2], [0, 4]);
    assert_eq!(decode(&key, value.as_ref()).unwrap(), Decoded::Group(record));
}

#[test]
fn no_mutation_does_harm() {
    let mut rng = StdRng::seed_from_u64(5);
    let records: Vec<_> = all().iter().filter(|r| r.value.is_some()).map(|r| encode(r).unwrap()).collect();
    for i in 0..50_000 {
        let (key, value) = &records[i % records.len()];
        let mut bytes = [value.clone().unwrap().to_vec(), key.to_vec()];
        for _ in 0..=rng.next_u32() % 3 {
            let which = &mut bytes[rng.next_u32() as usize % 2];
            let at = rng.next_u32() as usize % which.len();
            which[at] = rng.next_u32() as u8;
        }
        let [mut value, key] = bytes;
        value.truncate(value.len() - rng.next_u32() as usize % 3);
        let _ = decode(&key.into(), Some(&value.into()));
    }
}

#[test]
fn lengths_beyond_a_batch_end_its_records_with_an_error() {
    let records: Vec<_> = all().iter().map(|r| encode(r).unwrap()).collect();
    let good = build_batch(&records, 0).unwrap().into_bytes();
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        let at = 61 + rng.next_u32() as usize % (bytes.len() - 61);
        bytes[at] = rng.next_u32() as u8;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = chronik_core::record::RecordBatch::check(bytes.into()).unwrap();
        assert!(records_of(&batch).unwrap().count() <= records.len());
    }
}
