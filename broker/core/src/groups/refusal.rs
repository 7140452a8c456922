//! The answer that refuses a request as a whole.

use super::request::Request;
use super::response::{FetchedOffset, FetchedTopic, GroupError, JoinedGroup, Response};
use std::sync::Arc;

/// Refuses a request.
pub(super) fn refuse(request: &Request, error: GroupError) -> Response {
    match request {
        Request::JoinGroup(join) => Response::JoinGroup(JoinedGroup::refused(error, &join.member.member_id)),
        Request::SyncGroup(_) => Response::SyncGroup(Err(error)),
        Request::Heartbeat { .. } => Response::Heartbeat(Err(error)),
        Request::LeaveGroup { .. } => Response::LeaveGroup(Err(error)),
        Request::OffsetCommit(commit) => Response::OffsetCommit(vec![Err(error); commit.offsets.len()]),
        Request::OffsetFetch { .. } => Response::OffsetFetch(Err(error)),
        Request::DescribeGroup(_) => Response::DescribeGroup(Err((error, None))),
        Request::ListGroups { .. } => Response::ListGroups(Err(error)),
        Request::DeleteGroup(_) => Response::DeleteGroup(Err(error)),
        Request::OffsetDelete { .. } => Response::OffsetDelete(Err(error)),
        Request::ConsumerGroupHeartbeat(_) => Response::ConsumerGroupHeartbeat(Err((error, None))),
        Request::ConsumerGroupDescribe(_) => Response::ConsumerGroupDescribe(Err((error, None))),
    }
}

impl Response {
    /// The refusal of the request that this would have answered.
    pub(super) fn refused(self, error: GroupError) -> Self {
        match self {
            Self::JoinGroup(joined) => Self::JoinGroup(JoinedGroup::refused(error, &joined.member_id)),
            Self::SyncGroup(_) => Self::SyncGroup(Err(error)),
            Self::Heartbeat(_) => Self::Heartbeat(Err(error)),
            Self::LeaveGroup(_) => Self::LeaveGroup(Err(error)),
            Self::OffsetCommit(answers) => Self::OffsetCommit(vec![Err(error); answers.len()]),
            Self::OffsetFetch(_) => Self::OffsetFetch(Err(error)),
            Self::DescribeGroup(_) => Self::DescribeGroup(Err((error, None))),
            Self::ListGroups(_) => Self::ListGroups(Err(error)),
            Self::DeleteGroup(_) => Self::DeleteGroup(Err(error)),
            Self::OffsetDelete(_) => Self::OffsetDelete(Err(error)),
            Self::ConsumerGroupHeartbeat(_) => Self::ConsumerGroupHeartbeat(Err((error, None))),
            Self::ConsumerGroupDescribe(_) => Self::ConsumerGroupDescribe(Err((error, None))),
        }
    }
}

impl JoinedGroup {
    /// A refusal, with the member id that the answer carries.
    pub(super) fn refused(error: GroupError, member_id: &Arc<str>) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: Arc::from(""),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: Vec::new(),
        }
    }
}

impl FetchedOffset {
    /// No offset is committed.
    pub(super) fn none(partition: i32) -> Self {
        Self { partition, offset: -1, leader_epoch: -1, metadata: Arc::from(""), error: None }
    }
}

/// No offset is committed of any of these; `None` stands for all topics.
pub(super) fn nothing_committed(topics: Option<&[(Arc<str>, Vec<i32>)]>) -> Vec<FetchedTopic> {
    topics
        .unwrap_or_default()
        .iter()
        .map(|(topic, partitions)| FetchedTopic {
            topic: topic.clone(),
            partitions: partitions.iter().map(|p| FetchedOffset::none(*p)).collect(),
        })
        .collect()
}
