//! Keys: the version says what the record is about. None of them is written with compact lengths.

use super::RecordError;
use super::fields::{Reader, Writer};
use bytes::Bytes;
use chronik_core::groups::RecordKey;

/// Reads a key, or returns the version of one that is not known.
pub(super) fn decode(bytes: &Bytes) -> Result<Result<RecordKey, i16>, RecordError> {
    let (mut r, version) = Reader::new(bytes)?;
    Ok(Ok(match version {
        0 | 1 => RecordKey::OffsetCommit { group: r.string()?, topic: r.string()?, partition: r.i32()? },
        2 => RecordKey::GroupMetadata(r.string()?),
        3 => RecordKey::ConsumerGroupMetadata(r.string()?),
        5 => RecordKey::ConsumerGroupMember(r.string()?, r.string()?),
        6 => RecordKey::ConsumerGroupTargetAssignmentMetadata(r.string()?),
        7 => RecordKey::ConsumerGroupTargetAssignmentMember(r.string()?, r.string()?),
        8 => RecordKey::ConsumerGroupCurrentMemberAssignment(r.string()?, r.string()?),
        16 => RecordKey::ConsumerGroupRegularExpression(r.string()?, r.string()?),
        unknown => return Ok(Err(unknown)),
    }))
}

pub(super) fn encode(key: &RecordKey) -> Result<Bytes, RecordError> {
    let one = |version, group: &str| {
        let mut w = Writer::new(version, false);
        w.string(group)?;
        Ok(w.finish())
    };
    let two = |version, group: &str, name: &str| {
        let mut w = Writer::new(version, false);
        w.string(group)?;
        w.string(name)?;
        Ok(w.finish())
    };
    match key {
        RecordKey::OffsetCommit { group, topic, partition } => {
            let mut w = Writer::new(1, false);
            w.string(group)?;
            w.string(topic)?;
            w.i32(*partition);
            Ok(w.finish())
        }
        RecordKey::GroupMetadata(group) => one(2, group),
        RecordKey::ConsumerGroupMetadata(group) => one(3, group),
        RecordKey::ConsumerGroupMember(group, member) => two(5, group, member),
        RecordKey::ConsumerGroupTargetAssignmentMetadata(group) => one(6, group),
        RecordKey::ConsumerGroupTargetAssignmentMember(group, member) => two(7, group, member),
        RecordKey::ConsumerGroupCurrentMemberAssignment(group, member) => two(8, group, member),
        RecordKey::ConsumerGroupRegularExpression(group, expression) => two(16, group, expression),
    }
}
