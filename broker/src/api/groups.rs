//! What the requests of groups have in common.

use super::errors::Code as _;
use crate::coordinators::limited;
use crate::partitions::Reservation;
use chronik_core::groups::request::MemberRef;
use chronik_core::groups::{Client, GroupError, Response};
use chronik_wire::ErrorCode;
use chronik_wire::messages::StrBytes;
use std::sync::Arc;

/// Groups of one request that are asked about at the same time.
pub(super) const TOGETHER: usize = 64;

/// Who asks about several groups, and what the request's memory is counted against.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) reservation: Reservation,
}

/// What a client may do with a group when nothing is forbidden: a bit for each of Kafka's `AclOperation`s that groups
/// have (read, delete, describe, describe and alter configs).
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same when the client did not ask.
pub(super) const NOT_ASKED: i32 = i32::MIN;

/// Takes the answer of one kind out of a coordinator's answer.
macro_rules! answer_of {
    ($answer:expr, $kind:ident) => {
        match $answer {
            Ok(chronik_core::groups::Response::$kind(response)) => Ok(response),
            Ok(other) => Err($crate::api::groups::unexpected(&other)),
            Err(error) => Err(error),
        }
    };
}
pub(super) use answer_of;

/// A coordinator that answers another question than the one it was asked.
pub(super) fn unexpected(response: &Response) -> GroupError {
    tracing::error!(?response, "A group coordinator gave an answer of another kind");
    GroupError::CoordinatorNotAvailable
}

pub(super) fn wire(s: &Arc<str>) -> StrBytes {
    StrBytes::from(&**s)
}

pub(super) fn nullable(s: Option<&Arc<str>>) -> Option<StrBytes> {
    s.map(wire)
}

pub(super) fn optional(s: Option<&StrBytes>) -> Result<Option<Arc<str>>, GroupError> {
    s.map(|s| limited(s)).transpose()
}

/// Why a group is not described; tools show it as it is.
pub(super) fn refusal(error: GroupError, group: &str) -> String {
    match error {
        GroupError::GroupIdNotFound => format!("Group {group} not found."),
        error => error.to_string(),
    }
}

/// A group's id, which has to fit a record.
pub(super) fn group_id(id: &str) -> Result<Arc<str>, GroupError> {
    limited(id).map_err(|_| GroupError::InvalidGroupId)
}

pub(super) fn member(member_id: &str, instance_id: Option<&StrBytes>) -> Result<MemberRef, GroupError> {
    Ok(MemberRef { member_id: limited(member_id)?, instance_id: optional(instance_id)? })
}

/// The code of a result.
pub(super) fn code<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(ErrorCode::NONE, GroupError::code).0
}
