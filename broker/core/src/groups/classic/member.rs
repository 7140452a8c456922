//! A member of a classic group.

use crate::groups::event::Ticket;
use crate::groups::limits;
use crate::groups::record::GroupMemberValue;
use crate::groups::request::{Client, JoinGroup};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Protocols by name, in the order of preference, each with the member's metadata.
pub(super) type Protocols = Vec<(Arc<str>, Bytes)>;

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client: Client,
    /// In milliseconds.
    pub(super) rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Protocols,
    pub(super) assignment: Bytes,
    /// The JoinGroup that waits for the others.
    pub(super) awaiting_join: Option<Ticket>,
    /// The SyncGroup that waits for the leader's.
    pub(super) awaiting_sync: Option<Ticket>,
    /// It has not been in a generation yet, and so cannot heartbeat.
    pub(super) is_new: bool,
}

impl Member {
    /// A member that joins for the first time.
    pub(super) fn new(request: &JoinGroup, client: &Client) -> Self {
        Self {
            instance_id: request.member.instance_id.clone(),
            client: client.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: owned(&request.protocols),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
        }
    }

    /// A member as it was written down.
    pub(super) fn load(value: GroupMemberValue, protocol: Option<&Arc<str>>) -> Self {
        let rebalance_timeout_ms =
            if value.rebalance_timeout_ms < 0 { value.session_timeout_ms } else { value.rebalance_timeout_ms };
        Self {
            instance_id: value.group_instance_id,
            client: Client { id: value.client_id, host: value.client_host },
            rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocol.map(|name| (name.clone(), value.subscription)).into_iter().collect(),
            assignment: value.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// Takes over what a member says that joins again.
    pub(super) fn update(&mut self, request: &JoinGroup) {
        self.protocols = owned(&request.protocols);
        self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.session_timeout_ms = request.session_timeout_ms;
    }

    pub(super) fn session_timeout(&self) -> Duration {
        milliseconds(self.session_timeout_ms)
    }

    /// Its metadata of a protocol; empty if it does not support it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| &**name == protocol)
    }

    /// Whether a session that ends now does not matter: the member waits for an answer, and sends nothing meanwhile.
    /// A new member ends nevertheless, or each retry of a slow join would leave one behind.
    pub(super) fn waits(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// What the member costs.
    pub(super) fn size(&self) -> Size {
        Size::of(self.instance_id.as_ref(), &self.client, &self.protocols)
    }

    /// What it takes in memory, as all that members say is counted.
    pub(super) fn kept(&self) -> usize {
        limits::classic_member(self.instance_id.as_ref(), &self.client, &self.protocols)
    }

    /// What a member costs that joins.
    pub(super) fn sizes(request: &JoinGroup, client: &Client) -> Size {
        Size::of(request.member.instance_id.as_ref(), client, &request.protocols)
    }
}

/// Bytes of members.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// In the group's record, at most, without what is assigned.
    pub(super) written: usize,
    /// In memory.
    pub(super) kept: usize,
}

impl Size {
    fn of(instance: Option<&Arc<str>>, client: &Client, protocols: &[(Arc<str>, Bytes)]) -> Self {
        let largest = protocols.iter().map(|(_, metadata)| metadata.len()).max().unwrap_or(0);
        let all: usize = protocols.iter().map(|(name, metadata)| PROTOCOL + name.len() + metadata.len()).sum();
        // The member id begins with one of the two, and is that of the leader too.
        let strings = FIXED + 3 * (client.id.len() + instance.map_or(0, |i| i.len())) + client.host.len();
        Self { written: strings + largest, kept: strings + all }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.kept += other.kept;
    }
}

/// What a member adds to the group's record beside strings that clients choose: UUIDs, timeouts, lengths.
const FIXED: usize = 128;

/// What a protocol costs beside its name and metadata.
const PROTOCOL: usize = 64;

/// Copies, so that a member does not keep the whole frame that it came in.
fn owned(protocols: &[(Arc<str>, Bytes)]) -> Protocols {
    protocols.iter().map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata))).collect()
}

/// A timeout of the wire; a negative one is none.
pub(super) fn milliseconds(timeout: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout).unwrap_or(0))
}
