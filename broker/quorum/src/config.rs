//! What a broker needs to take part in the quorum, and how fast things are noticed.

use super::damages::Damages;
use super::lags::LagsQuestion;
use crate::peers::Peers;
use chronik_core::cluster::{Endpoint, LeaderBalanceConfig, Member};
use chronik_core::ids::{BrokerId, ClusterId, DirectoryId, IncarnationId, TopicPartition};
use chronik_log::Pulse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What a broker needs to take part.
#[derive(Debug)]
pub struct ControllerConfig {
    /// This broker, as others reach it.
    pub me: Member,
    /// Where others reach this broker's controller port.
    pub endpoint: Endpoint,
    /// The voters of a new cluster, with their controller ports: the same list on each of its first brokers. Without
    /// this broker it founds none, and joins one. Where there is a cluster, the metadata log says who votes.
    pub voters: Vec<(BrokerId, Endpoint)>,
    /// The members of a new cluster: the same list on each of its first brokers.
    pub members: Vec<Member>,
    /// Controller ports to knock at first, whoever of the cluster is there.
    pub seeds: Vec<(BrokerId, Endpoint)>,
    /// The controller port, bound.
    pub listener: TcpListener,
    /// The metadata log's directory.
    pub dir: PathBuf,
    /// The cluster that this broker's data directory belongs to, if it has been part of one: then it never
    /// founds another.
    pub cluster_id: Option<ClusterId>,
    /// The data directory's identity.
    pub directory: DirectoryId,
    /// This process.
    pub incarnation: IncarnationId,
    /// The processes of which one was the last to register with that directory, this one among them. None where that is
    /// not known. A directory that knows others only is an old copy, and is not believed to hold what was written since.
    pub known_incarnations: Vec<IncarnationId>,
    /// Partitions of which the data directory has lost something: told with the registration, so that this broker
    /// is not believed to hold them.
    pub damaged: Vec<TopicPartition>,
    /// How fast things are noticed.
    pub timings: Timings,
    /// What topics get that do not say otherwise.
    pub defaults: TopicDefaults,
    /// Where peers are.
    pub peers: Peers,
    /// The file system that the data is on, as last looked at: told to the controller's leader.
    pub disk: watch::Receiver<Option<DiskSpace>>,
    /// What the log has lost: told to the controller's leader.
    pub damages: watch::Receiver<Arc<Damages>>,
    /// Asked how far followers are behind of what is led here.
    pub lags: mpsc::Sender<LagsQuestion>,
    /// Cancelled when the broker is to stop, by this or by others.
    pub stop: CancellationToken,
    /// How long the disk that holds the partitions has been at what it is doing.
    pub data_disk: Pulse,
    /// A broker whose disk has been at something for so long gives up its lease, and says so to the controller.
    pub disk_stall_timeout: Duration,
    /// When leaderships go back to their preferred replicas by themselves; `None` if they do not.
    pub leader_balance: Option<LeaderBalanceConfig>,
    /// Entries of the metadata log after which a snapshot is made: [`crate::SNAPSHOT_ENTRIES`] but in tests.
    pub snapshot_entries: u64,
}

/// A file system's size, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it.
    pub total: u64,
    /// What a process without privileges can still write.
    pub free: u64,
}

/// How fast things are noticed.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Between the raft leader's heartbeats.
    pub raft_heartbeat: Duration,
    /// A voter that has not heard the raft leader for `election_max` plus a random time between the two asks the
    /// others whether they would elect it: with 150 and 300 ms a leader may be silent for 450 ms, so that a loaded
    /// machine keeps its leader, and a dead one is replaced within 600 ms, before the brokers' leases end.
    pub election_min: Duration,
    /// See `election_min`. Voters refuse other candidates for this long after they heard the leader.
    pub election_max: Duration,
    /// Between a broker's heartbeats to the controller leader.
    pub heartbeat: Duration,
    /// A broker that is not heard for this long is fenced.
    pub session: Duration,
    /// A broker acts as a leader for this long after it sent a heartbeat that was answered: less than the
    /// session, so that it stops before it is fenced.
    pub lease: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self::with_session(Duration::from_secs(1))
    }
}

impl Timings {
    /// Timings for this `broker.session.timeout.ms`: ten heartbeats a session, and a lease of seven tenths. Raft's own
    /// grow with a session of more than a second: who sets it says that the network, or the machine, is slower. An
    /// entry must reach a voter and be answered within `raft_heartbeat`.
    pub fn with_session(session: Duration) -> Self {
        let scale = session.max(Duration::from_secs(1)) / 1000;
        Self {
            raft_heartbeat: scale * 50,
            election_min: scale * 150,
            election_max: scale * 300,
            heartbeat: (session / 10).max(Duration::from_millis(20)),
            session,
            lease: session * 7 / 10,
        }
    }
}

/// What topics get that do not say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
}
