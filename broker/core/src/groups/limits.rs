//! What clients may say, and how much of it is kept.
//!
//! A record that cannot be written would end the shard with all its groups, as its memory would differ from the log. So
//! what could never be written is refused before a group sees it. What members say is kept for as long as they stay, which
//! costs a client one request: it is counted, for each group and for the whole broker. So are names of groups and committed
//! offsets, which are kept for a week.

use super::record::ConsumerGroupMemberValue;
use super::request::{Client, MemberRef, Request};
use super::response::GroupError;
use bytes::Bytes;
use std::sync::Arc;

/// The longest string that a key of `__consumer_offsets` can have, and an answer in an old version.
pub const MAX_STRING: usize = i16::MAX as usize;

/// The longest string that a member id can begin with: a UUID follows it.
const MAX_ID: usize = MAX_STRING - "-00000000-0000-0000-0000-000000000000".len();

/// Protocols that a member may offer. Each is looked for among those of all others.
const MAX_PROTOCOLS: usize = 100;

/// Bytes that what the members of one consumer group said may take in memory. That of a classic group is bounded by its
/// one record.
pub(super) const MAX_GROUP_BYTES: usize = 128 << 20;

/// What a string takes beside its bytes: a pointer, the counts in front of it, and what the allocator adds.
pub(super) const STRING: usize = 48;

/// What a member takes beside what it said: places in maps, timers, an assignment's roots.
const MEMBER: usize = 512;

/// What a group takes without its members and offsets, beside its id, which stands in records and timers too.
const GROUP: usize = 1024;

/// What a committed offset takes beside what its client added, and a topic beside its name.
const OFFSET: usize = 160;
const TOPIC: usize = 256;

/// Bytes that a broker has room for, beside what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For what members say.
    pub members: usize,
    /// For groups and their committed offsets.
    pub offsets: usize,
}

impl Room {
    /// As much as there is.
    pub const ENDLESS: Self = Self { members: usize::MAX, offsets: usize::MAX };
}

impl Request {
    /// Whether all strings of it that may get into a record, or into a member id, fit there.
    pub(super) fn check_lengths(&self, client: &Client) -> Result<(), GroupError> {
        if self.group().is_some_and(|group| group.len() > MAX_STRING) {
            return Err(GroupError::InvalidGroupId);
        }
        let fits = match self {
            Self::JoinGroup(join) => {
                let names = join.protocols.iter().all(|(name, _)| name.len() <= MAX_STRING);
                let few = join.protocols.len() <= MAX_PROTOCOLS;
                few && names && join.protocol_type.len() <= MAX_STRING && join.member.fits() && client.fits()
            }
            Self::SyncGroup(sync) => sync.member.fits(),
            Self::Heartbeat { member, .. } => member.fits(),
            Self::LeaveGroup { members, .. } => members.iter().all(MemberRef::fits),
            Self::OffsetCommit(commit) => {
                let topics = commit.offsets.iter().all(|offset| offset.topic.len() <= MAX_STRING);
                topics && commit.member.fits()
            }
            Self::ConsumerGroupHeartbeat(heartbeat) => {
                let short = |s: &Option<Arc<str>>| s.as_ref().is_none_or(|s| s.len() <= MAX_STRING);
                let mut names = heartbeat.subscribed_topic_names.iter().flatten();
                let others = [&heartbeat.rack_id, &heartbeat.subscribed_topic_regex, &heartbeat.server_assignor];
                heartbeat.member_id.len() <= MAX_STRING
                    && heartbeat.instance_id.as_ref().is_none_or(|id| id.len() <= MAX_ID)
                    && others.into_iter().all(short)
                    && names.all(|name| name.len() <= MAX_STRING)
                    && client.fits()
            }
            Self::OffsetFetch { .. }
            | Self::DescribeGroup(_)
            | Self::ListGroups { .. }
            | Self::DeleteGroup(_)
            | Self::OffsetDelete { .. }
            | Self::ConsumerGroupDescribe(_) => true,
        };
        if fits { Ok(()) } else { Err(GroupError::InvalidRequest) }
    }

    /// About the bytes that a group keeps of it while the member stays, beside what has come to the log for good.
    pub(super) fn kept(&self, client: &Client) -> usize {
        match self {
            Self::JoinGroup(join) => classic_member(join.member.instance_id.as_ref(), client, &join.protocols),
            Self::SyncGroup(sync) => sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum(),
            Self::ConsumerGroupHeartbeat(heartbeat) if heartbeat.member_epoch >= 0 => {
                let names = heartbeat.subscribed_topic_names.iter().flatten().map(string).sum::<usize>();
                let joins = if heartbeat.member_epoch == 0 { MEMBER + client.id.len() } else { 0 };
                let others = [&heartbeat.instance_id, &heartbeat.rack_id, &heartbeat.subscribed_topic_regex]
                    .into_iter()
                    .flatten();
                joins + names + others.map(string).sum::<usize>()
            }
            _ => 0,
        }
    }
}

impl MemberRef {
    fn fits(&self) -> bool {
        self.member_id.len() <= MAX_STRING && self.instance_id.as_ref().is_none_or(|id| id.len() <= MAX_ID)
    }
}

impl Client {
    /// Whether a member id can begin with its `client.id`. One that is no UTF-8 is three times as long as it came.
    fn fits(&self) -> bool {
        self.id.len() <= MAX_ID && self.host.len() <= MAX_STRING
    }
}

impl ConsumerGroupMemberValue {
    /// About the bytes that it takes in memory.
    pub(super) fn kept(&self) -> usize {
        let of = |s: &Option<Arc<str>>| s.as_ref().map_or(0, string);
        let names = self.subscribed_topic_names.iter().map(string).sum::<usize>();
        let classic = self.classic.iter().flat_map(|classic| &classic.supported_protocols).map(protocol).sum::<usize>();
        let others = [&self.instance_id, &self.rack_id, &self.subscribed_topic_regex, &self.server_assignor];
        MEMBER + self.client_id.len() + others.into_iter().map(of).sum::<usize>() + names + classic
    }
}

/// What a group takes without its members and offsets.
pub(super) fn group(id: &str) -> usize {
    GROUP + 2 * id.len()
}

/// What a committed offset takes to which a client added that.
pub(super) fn committed_offset(metadata: &str) -> usize {
    OFFSET + metadata.len()
}

/// What a topic takes that a group has committed offsets of.
pub(super) fn committed_topic(name: &str) -> usize {
    TOPIC + name.len()
}

/// What a member of a classic group takes, without what it is assigned.
pub(super) fn classic_member(instance: Option<&Arc<str>>, client: &Client, protocols: &[(Arc<str>, Bytes)]) -> usize {
    // The member id begins with one of the two.
    let ids = client.id.len() + instance.map_or(0, |id| id.len());
    MEMBER + 2 * ids + protocols.iter().map(protocol).sum::<usize>()
}

/// What a string takes.
pub(super) fn string(s: &Arc<str>) -> usize {
    STRING + s.len()
}

fn protocol((name, metadata): &(Arc<str>, Bytes)) -> usize {
    2 * STRING + name.len() + metadata.len()
}
