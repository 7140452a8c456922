//! A member of a classic consumer group that speaks the protocol itself, without the waits and retries of a client
//! library: what it measures is the broker's.

use super::raw::Raw;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, RequestKind, SyncGroupRequest, SyncGroupResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

// The newest versions without tagged fields: without KIP-394's second round, among others.
const FIND_COORDINATOR: i16 = 2;
const JOIN: i16 = 3;
const SYNC: i16 = 2;
const HEARTBEAT: i16 = 2;
const LEAVE: i16 = 2;
const OFFSET_COMMIT: i16 = 7;
const OFFSET_FETCH: i16 = 5;

/// An answer may take this long; that of a join waits for all other members.
const PATIENCE: Duration = Duration::from_secs(30);

/// One member on a connection of its own, or one that only commits.
#[derive(Debug)]
pub struct Member {
    group: StrBytes,
    id: StrBytes,
    generation: i32,
    others: Vec<StrBytes>,
    connection: Raw,
}

/// Which port a group's coordinator has, as the broker at this port says.
pub fn coordinator(at: u16, group: &str, patience: Duration) -> Result<u16> {
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    let answer: FindCoordinatorResponse = Raw::connect(at, patience)?.ask(
        ApiKey::FindCoordinator,
        FIND_COORDINATOR,
        &RequestKind::FindCoordinator(request),
    )?;
    accepted("FindCoordinator", answer.error_code)?;
    Ok(u16::try_from(answer.port)?)
}

/// Fails with the error's name.
fn accepted(what: &str, code: i16) -> Result<()> {
    ensure!(code == 0, "{what}: {}", error_name(code));
    Ok(())
}

fn error_name(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "no error".to_owned(), |error| format!("{error:?}"))
}

/// A commit of one partition of a topic, as OffsetCommit in the version that is used here.
fn commit_request(group: &StrBytes, generation: i32, id: &StrBytes, topic: &str, offset: i64) -> RequestKind {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(StrBytes::default()));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(group.clone()))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(id.clone())
        .with_topics(vec![topic]);
    RequestKind::OffsetCommit(request)
}

impl Member {
    /// Somebody who has not joined yet, at the coordinator's port.
    pub fn connect(port: u16, group: &str) -> Result<Self> {
        let connection = Raw::connect(port, PATIENCE)?;
        let group = StrBytes::from_string(group.to_owned());
        Ok(Self { group, id: StrBytes::default(), generation: -1, others: Vec::new(), connection })
    }

    /// The same member, on another connection.
    pub fn again_at(&self, port: u16) -> Result<Self> {
        let connection = Raw::connect(port, PATIENCE)?;
        let Self { group, id, generation, others, .. } = self;
        Ok(Self { group: group.clone(), id: id.clone(), generation: *generation, others: others.clone(), connection })
    }

    /// Whether the broker owes it answers and has sent none.
    pub fn waits(&self) -> Result<bool> {
        self.connection.is_silent()
    }

    /// The same member at another coordinator; an answer may take as long as `patience`.
    pub fn move_to(&mut self, port: u16, patience: Duration) -> Result<()> {
        self.connection = Raw::connect(port, patience)?;
        Ok(())
    }

    /// The generation that it is in.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Asks to join; others may have to do so too before there is an answer.
    pub fn send_join(&mut self, session: Duration) -> Result<()> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06groups\xff\xff\xff\xff"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(self.group.clone()))
            .with_session_timeout_ms(session.as_millis() as i32)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(self.id.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        self.connection.send(ApiKey::JoinGroup, JOIN, &RequestKind::JoinGroup(request))
    }

    /// Waits until it has joined.
    pub fn joined(&mut self) -> Result<()> {
        let answer: JoinGroupResponse = self.connection.answer(ApiKey::JoinGroup, JOIN)?;
        accepted("JoinGroup", answer.error_code)?;
        self.id = answer.member_id;
        self.generation = answer.generation_id;
        self.others = answer.members.into_iter().map(|member| member.member_id).collect();
        Ok(())
    }

    /// Asks for its assignment; the leader brings everybody's.
    pub fn send_sync(&mut self) -> Result<()> {
        let assignment = |id: &StrBytes| {
            SyncGroupRequestAssignment::default()
                .with_member_id(id.clone())
                .with_assignment(Bytes::from_static(&[0; 10]))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(self.group.clone()))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(self.others.iter().map(assignment).collect());
        self.connection.send(ApiKey::SyncGroup, SYNC, &RequestKind::SyncGroup(request))
    }

    /// Waits for its assignment. `false` when the group is rebalancing again.
    pub fn synced(&mut self) -> Result<bool> {
        let answer: SyncGroupResponse = self.connection.answer(ApiKey::SyncGroup, SYNC)?;
        rebalances("SyncGroup", answer.error_code).map(|again| !again)
    }

    /// Joins and waits for its assignment, as often as it takes.
    pub fn join(&mut self, session: Duration) -> Result<()> {
        loop {
            self.send_join(session)?;
            self.joined()?;
            self.send_sync()?;
            if self.synced()? {
                return Ok(());
            }
        }
    }

    /// Sends a heartbeat.
    pub fn send_heartbeat(&mut self) -> Result<()> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(self.group.clone()))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        self.connection.send(ApiKey::Heartbeat, HEARTBEAT, &RequestKind::Heartbeat(request))
    }

    /// The answer to a heartbeat. `false` when the group is rebalancing.
    pub fn heartbeat_answer(&mut self) -> Result<bool> {
        let answer: HeartbeatResponse = self.connection.answer(ApiKey::Heartbeat, HEARTBEAT)?;
        rebalances("Heartbeat", answer.error_code).map(|again| !again)
    }

    /// Leaves the group.
    pub fn leave(mut self) -> Result<()> {
        let request =
            LeaveGroupRequest::default().with_group_id(GroupId(self.group.clone())).with_member_id(self.id.clone());
        let answer: LeaveGroupResponse =
            self.connection.ask(ApiKey::LeaveGroup, LEAVE, &RequestKind::LeaveGroup(request))?;
        accepted("LeaveGroup", answer.error_code)
    }

    /// Commits an offset of partition 0 of a topic. The inner error is the broker's.
    pub fn commit(&mut self, topic: &str, offset: i64) -> Result<Result<(), ResponseError>> {
        self.send_commit(topic, offset)?;
        self.committed_or_not()
    }

    /// Asks for a commit, and does not wait for its answer.
    pub fn send_commit(&mut self, topic: &str, offset: i64) -> Result<()> {
        let request = commit_request(&self.group, self.generation, &self.id, topic, offset);
        self.connection.send(ApiKey::OffsetCommit, OFFSET_COMMIT, &request)
    }

    /// The answer to the first commit that has had none.
    pub fn committed_or_not(&mut self) -> Result<Result<(), ResponseError>> {
        let answer: OffsetCommitResponse = self.connection.answer(ApiKey::OffsetCommit, OFFSET_COMMIT)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first()).context("a partition")?;
        Ok(ResponseError::try_from_code(partition.error_code).map_or(Ok(()), Err))
    }

    /// The committed offset of partition 0 of a topic; -1 if there is none.
    pub fn committed(&mut self, topic: &str) -> Result<i64> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_indexes(vec![0]);
        let request =
            OffsetFetchRequest::default().with_group_id(GroupId(self.group.clone())).with_topics(Some(vec![topic]));
        let answer: OffsetFetchResponse =
            self.connection.ask(ApiKey::OffsetFetch, OFFSET_FETCH, &RequestKind::OffsetFetch(request))?;
        accepted("OffsetFetch", answer.error_code)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first()).context("a partition")?;
        accepted("OffsetFetch", partition.error_code)?;
        Ok(partition.committed_offset)
    }
}

/// Whether the answer says that the group rebalances; any other error is one.
fn rebalances(what: &str, code: i16) -> Result<bool> {
    if ResponseError::try_from_code(code) == Some(ResponseError::RebalanceInProgress) {
        return Ok(true);
    }
    accepted(what, code).map(|()| false)
}
