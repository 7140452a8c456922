//! Values, by the kind of their key. Fields that a version lacks get the defaults of Kafka's schemas.

use super::RecordError;
use super::fields::{Reader, Writer, topic_id};
use bytes::Bytes;
use chronik_core::groups::record::{
    ClassicMemberMetadata, ConsumerGroupMemberValue, CurrentMemberAssignmentValue, GroupMemberValue,
    GroupMetadataValue, OffsetCommitValue,
};
use chronik_core::groups::{RecordKey, RecordValue};
use chronik_core::ids::TopicId;
use kafka_wire_core::{DecodeError, Decoder};
use std::sync::Arc;

/// The first version of an offset with compact lengths, and the one that is written.
const OFFSET_FLEXIBLE: i16 = 4;
/// The only version of an offset with a time of its own to expire at.
const OFFSET_EXPIRES: i16 = 1;
/// The first version of a classic group with compact lengths.
const GROUP_FLEXIBLE: i16 = 4;
/// The version of a classic group that is written: the newest without compact lengths, as by Kafka. One with a string that
/// is too long for it is written in the first version that has room for it.
const GROUP_WRITTEN: i16 = 3;

pub(super) fn decode(key: &RecordKey, bytes: &Bytes) -> Result<RecordValue, RecordError> {
    let (r, version) = Reader::new(bytes)?;
    Ok(match key {
        RecordKey::OffsetCommit { .. } => {
            let version = known("OffsetCommitValue", version, 4)?;
            RecordValue::OffsetCommit(offset(r.flexible(version >= OFFSET_FLEXIBLE), version)?)
        }
        RecordKey::GroupMetadata(_) => {
            let version = known("GroupMetadataValue", version, 4)?;
            RecordValue::GroupMetadata(group(r.flexible(version >= GROUP_FLEXIBLE), version)?)
        }
        RecordKey::ConsumerGroupMetadata(_) => {
            known("ConsumerGroupMetadataValue", version, 0)?;
            consumer_group(r.flexible(true))?
        }
        RecordKey::ConsumerGroupMember(..) => {
            known("ConsumerGroupMemberMetadataValue", version, 0)?;
            RecordValue::ConsumerGroupMember(consumer_member(r.flexible(true))?)
        }
        RecordKey::ConsumerGroupTargetAssignmentMetadata(_) => {
            known("ConsumerGroupTargetAssignmentMetadataValue", version, 0)?;
            let mut r = r.flexible(true);
            let assignment_epoch = r.i32()?;
            r.no_tags()?;
            RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch }
        }
        RecordKey::ConsumerGroupTargetAssignmentMember(..) => {
            known("ConsumerGroupTargetAssignmentMemberValue", version, 0)?;
            let mut r = r.flexible(true);
            let topic_partitions = r.partitions()?;
            r.no_tags()?;
            RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions }
        }
        RecordKey::ConsumerGroupCurrentMemberAssignment(..) => {
            known("ConsumerGroupCurrentMemberAssignmentValue", version, 0)?;
            RecordValue::ConsumerGroupCurrentMemberAssignment(current_assignment(r.flexible(true))?)
        }
        RecordKey::ConsumerGroupRegularExpression(..) => {
            known("ConsumerGroupRegularExpressionValue", version, 0)?;
            let mut r = r.flexible(true);
            let (topics, version, timestamp) = (r.array(Reader::string)?, r.i64()?, r.i64()?);
            r.no_tags()?;
            RecordValue::ConsumerGroupRegularExpression { topics, version, timestamp }
        }
    })
}

fn known(what: &'static str, version: i16, newest: i16) -> Result<i16, RecordError> {
    if (0..=newest).contains(&version) { Ok(version) } else { Err(RecordError::Version { what, version }) }
}

fn offset(mut r: Reader, version: i16) -> Result<OffsetCommitValue, DecodeError> {
    let mut value = OffsetCommitValue {
        offset: r.i64()?,
        leader_epoch: if version >= 3 { r.i32()? } else { -1 },
        metadata: r.string()?,
        commit_timestamp: r.i64()?,
        expire_timestamp: if version == OFFSET_EXPIRES { r.i64()? } else { -1 },
        topic_id: TopicId::default(),
    };
    r.tags(|tag, d| {
        if tag == 0 {
            value.topic_id = topic_id(d.read_uuid()?);
        }
        Ok(tag == 0)
    })?;
    Ok(value)
}

fn group(mut r: Reader, version: i16) -> Result<GroupMetadataValue, DecodeError> {
    let value = GroupMetadataValue {
        protocol_type: r.string()?,
        generation: r.i32()?,
        protocol: r.nullable_string()?,
        leader: r.nullable_string()?,
        current_state_timestamp: if version >= 2 { r.i64()? } else { -1 },
        members: r.array(|r| group_member(r, version))?,
    };
    r.no_tags()?;
    Ok(value)
}

fn group_member(r: &mut Reader, version: i16) -> Result<GroupMemberValue, DecodeError> {
    let member_id = r.string()?;
    let group_instance_id = if version >= 3 { r.nullable_string()? } else { None };
    let (client_id, client_host) = (r.string()?, r.string()?);
    let rebalance_timeout_ms = if version >= 1 { Some(r.i32()?) } else { None };
    let session_timeout_ms = r.i32()?;
    let (subscription, assignment) = (r.bytes()?, r.bytes()?);
    r.no_tags()?;
    Ok(GroupMemberValue {
        member_id,
        group_instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription,
        assignment,
    })
}

fn consumer_group(mut r: Reader) -> Result<RecordValue, DecodeError> {
    let epoch = r.i32()?;
    let mut metadata_hash = 0;
    r.tags(|tag, d| {
        if tag == 0 {
            metadata_hash = d.read_i64()?;
        }
        Ok(tag == 0)
    })?;
    Ok(RecordValue::ConsumerGroupMetadata { epoch, metadata_hash })
}

fn consumer_member(mut r: Reader) -> Result<ConsumerGroupMemberValue, DecodeError> {
    let mut value = ConsumerGroupMemberValue {
        instance_id: r.nullable_string()?,
        rack_id: r.nullable_string()?,
        client_id: r.string()?,
        client_host: r.string()?,
        subscribed_topic_names: r.array(Reader::string)?,
        subscribed_topic_regex: r.nullable_string()?,
        rebalance_timeout_ms: r.i32()?,
        server_assignor: r.nullable_string()?,
        classic: None,
    };
    r.tags(|tag, d| {
        if tag == 0 && d.read_struct_presence()? {
            value.classic = Some(classic_member(d)?);
        }
        Ok(tag == 0)
    })?;
    Ok(value)
}

fn classic_member(d: &mut Decoder) -> Result<ClassicMemberMetadata, DecodeError> {
    let session_timeout_ms = d.read_i32()?;
    let count = d.read_compact_array_len()?;
    let supported_protocols = d.read_vec(count, |d| {
        let name: Arc<str> = Arc::from(&*d.read_compact_string()?);
        let metadata = Bytes::copy_from_slice(&d.read_compact_bytes()?);
        d.read_tagged_fields()?;
        Ok((name, metadata))
    })?;
    d.read_tagged_fields()?;
    Ok(ClassicMemberMetadata { session_timeout_ms, supported_protocols })
}

fn current_assignment(mut r: Reader) -> Result<CurrentMemberAssignmentValue, DecodeError> {
    let value = CurrentMemberAssignmentValue {
        member_epoch: r.i32()?,
        previous_member_epoch: r.i32()?,
        state: r.i8()?,
        assigned: r.owned_partitions()?,
        pending_revocation: r.owned_partitions()?,
    };
    r.no_tags()?;
    Ok(value)
}

pub(super) fn encode(key: &RecordKey, value: &RecordValue) -> Result<Bytes, RecordError> {
    match (key, value) {
        (RecordKey::OffsetCommit { .. }, RecordValue::OffsetCommit(value)) => encode_offset(value),
        (RecordKey::GroupMetadata(_), RecordValue::GroupMetadata(value)) => encode_group(value),
        (RecordKey::ConsumerGroupMetadata(_), RecordValue::ConsumerGroupMetadata { epoch, metadata_hash }) => {
            let mut w = Writer::new(0, true);
            w.i32(*epoch);
            let hash = (0, Bytes::copy_from_slice(&metadata_hash.to_be_bytes()));
            w.tags(if *metadata_hash == 0 { &[] } else { std::slice::from_ref(&hash) })?;
            Ok(w.finish())
        }
        (RecordKey::ConsumerGroupMember(..), RecordValue::ConsumerGroupMember(value)) => encode_consumer_member(value),
        (
            RecordKey::ConsumerGroupTargetAssignmentMetadata(_),
            RecordValue::ConsumerGroupTargetAssignmentMetadata { assignment_epoch },
        ) => {
            let mut w = Writer::new(0, true);
            w.i32(*assignment_epoch);
            w.tags(&[])?;
            Ok(w.finish())
        }
        (
            RecordKey::ConsumerGroupTargetAssignmentMember(..),
            RecordValue::ConsumerGroupTargetAssignmentMember { topic_partitions },
        ) => {
            let mut w = Writer::new(0, true);
            w.partitions(topic_partitions)?;
            w.tags(&[])?;
            Ok(w.finish())
        }
        (
            RecordKey::ConsumerGroupCurrentMemberAssignment(..),
            RecordValue::ConsumerGroupCurrentMemberAssignment(value),
        ) => {
            let mut w = Writer::new(0, true);
            w.i32(value.member_epoch);
            w.i32(value.previous_member_epoch);
            w.i8(value.state);
            w.owned_partitions(&value.assigned)?;
            w.owned_partitions(&value.pending_revocation)?;
            w.tags(&[])?;
            Ok(w.finish())
        }
        (
            RecordKey::ConsumerGroupRegularExpression(..),
            RecordValue::ConsumerGroupRegularExpression { topics, version, timestamp },
        ) => {
            let mut w = Writer::new(0, true);
            w.array(topics, |w, topic| w.string(topic))?;
            w.i64(*version);
            w.i64(*timestamp);
            w.tags(&[])?;
            Ok(w.finish())
        }
        _ => Err(RecordError::Mismatch),
    }
}

fn encode_offset(value: &OffsetCommitValue) -> Result<Bytes, RecordError> {
    let version = if value.expire_timestamp >= 0 { OFFSET_EXPIRES } else { OFFSET_FLEXIBLE };
    let mut w = Writer::new(version, version >= OFFSET_FLEXIBLE);
    w.i64(value.offset);
    if version >= 3 {
        w.i32(value.leader_epoch);
    }
    w.string(&value.metadata)?;
    w.i64(value.commit_timestamp);
    if version == OFFSET_EXPIRES {
        w.i64(value.expire_timestamp);
    }
    let id = (0, Bytes::copy_from_slice(value.topic_id.0.as_bytes()));
    w.tags(if value.topic_id == TopicId::default() { &[] } else { std::slice::from_ref(&id) })?;
    Ok(w.finish())
}

fn encode_group(value: &GroupMetadataValue) -> Result<Bytes, RecordError> {
    match encode_group_in(GROUP_WRITTEN, value) {
        Err(RecordError::TooLong(_)) => encode_group_in(GROUP_FLEXIBLE, value),
        encoded => encoded,
    }
}

fn encode_group_in(version: i16, value: &GroupMetadataValue) -> Result<Bytes, RecordError> {
    let mut w = Writer::new(version, version >= GROUP_FLEXIBLE);
    w.string(&value.protocol_type)?;
    w.i32(value.generation);
    w.nullable_string(value.protocol.as_deref())?;
    w.nullable_string(value.leader.as_deref())?;
    w.i64(value.current_state_timestamp);
    w.array(&value.members, |w, member| {
        w.string(&member.member_id)?;
        w.nullable_string(member.group_instance_id.as_deref())?;
        w.string(&member.client_id)?;
        w.string(&member.client_host)?;
        w.i32(member.rebalance_timeout_ms);
        w.i32(member.session_timeout_ms);
        w.bytes(&member.subscription)?;
        w.bytes(&member.assignment)?;
        w.tags(&[])
    })?;
    w.tags(&[])?;
    Ok(w.finish())
}

fn encode_consumer_member(value: &ConsumerGroupMemberValue) -> Result<Bytes, RecordError> {
    let mut w = Writer::new(0, true);
    w.nullable_string(value.instance_id.as_deref())?;
    w.nullable_string(value.rack_id.as_deref())?;
    w.string(&value.client_id)?;
    w.string(&value.client_host)?;
    w.array(&value.subscribed_topic_names, |w, name| w.string(name))?;
    w.nullable_string(value.subscribed_topic_regex.as_deref())?;
    w.i32(value.rebalance_timeout_ms);
    w.nullable_string(value.server_assignor.as_deref())?;
    let Some(classic) = &value.classic else {
        w.tags(&[])?;
        return Ok(w.finish());
    };
    let mut t = Writer::tagged();
    // A structure that may be null is preceded by 1, or -1 for null.
    t.i8(1);
    t.i32(classic.session_timeout_ms);
    t.array(&classic.supported_protocols, |t, (name, metadata)| {
        t.string(name)?;
        t.bytes(metadata)?;
        t.tags(&[])
    })?;
    t.tags(&[])?;
    w.tags(&[(0, t.finish())])?;
    Ok(w.finish())
}
