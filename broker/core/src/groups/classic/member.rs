//! A member of a classic group.

use crate::groups::event::Ticket;
use crate::groups::record::GroupMemberValue;
use crate::groups::request::{Client, JoinGroup};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Protocols by name, in the order of preference, each with the member's metadata.
pub(super) type Protocols = Vec<(Arc<str>, Bytes)>;

/// A member.
#[derive(Debug)]
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

    /// Bytes that the member adds to the group's record at most.
    pub(super) fn weight(&self) -> usize {
        let largest = self.protocols.iter().map(|(_, metadata)| metadata.len()).max().unwrap_or(0);
        FIXED_WEIGHT + self.client.id.len() * 2 + self.client.host.len() + largest
    }
}

/// What a member adds to the group's record beside its strings: the member id's UUID, timeouts, lengths.
pub(super) const FIXED_WEIGHT: usize = 128;

/// Copies, so that a member does not keep the whole frame that it came in.
fn owned(protocols: &[(Arc<str>, Bytes)]) -> Protocols {
    protocols.iter().map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata))).collect()
}

/// A timeout of the wire; a negative one is none.
pub(super) fn milliseconds(timeout: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout).unwrap_or(0))
}
