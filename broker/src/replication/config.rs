//! What both ends of a connection share: what they need of their broker, and the bounds of a handshake.

use crate::partitions::Owners;
use chronik_core::ids::{BrokerId, DirectoryId};
use chronik_quorum::ControllerHandle;
use chronik_quorum::peers::Peers;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a handshake may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// No handshake frame is longer.
pub(super) const HANDSHAKE_FRAME: usize = 1024;

/// What replication needs of its broker.
#[derive(Clone)]
pub struct ReplicationConfig {
    /// This broker.
    pub me: BrokerId,
    /// This broker's data directory.
    pub directory: DirectoryId,
    /// Where the others are.
    pub peers: Peers,
    /// Whom to believe about the cluster.
    pub controller: ControllerHandle,
    /// Where messages go.
    pub owners: Owners,
    /// Ends everything.
    pub stop: CancellationToken,
}
