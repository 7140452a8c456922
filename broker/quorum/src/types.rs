//! What openraft's types are filled with.

use chronik_core::cluster::{Endpoint, MetadataCommand, Outcome};
use chronik_core::ids::BrokerId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

openraft::declare_raft_types!(
    /// The metadata quorum.
    pub(crate) TypeConfig:
        D = Batch,
        R = Vec<Outcome>,
        NodeId = BrokerId,
        Node = Node,
        SnapshotData = Vec<u8>,
);

pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<BrokerId>;
pub(super) type Vote = openraft::Vote<BrokerId>;
pub(super) type StoredMembership = openraft::StoredMembership<BrokerId, Node>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<BrokerId, Node>;
pub(super) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(super) type StorageError = openraft::StorageError<BrokerId>;
pub(super) type AppendEntriesRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(super) type AppendEntriesResponse = openraft::raft::AppendEntriesResponse<BrokerId>;
pub(super) type VoteRequest = openraft::raft::VoteRequest<BrokerId>;
pub(super) type VoteResponse = openraft::raft::VoteResponse<BrokerId>;
pub(super) type SnapshotResponse = openraft::raft::SnapshotResponse<BrokerId>;

/// Commands that share a log entry, and with it a sync and a round trip: those that came while the entry
/// before was on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch(pub Vec<MetadataCommand>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// Where a member of the quorum is reached, as of when it became one; newer addresses come from the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node(pub Endpoint);

impl Default for Node {
    fn default() -> Self {
        Self(Endpoint { host: Arc::from(""), port: 0 })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host, self.0.port)
    }
}
