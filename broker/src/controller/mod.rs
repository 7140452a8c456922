//! The controller quorum as one broker takes part in it: every broker applies the same metadata log to the same
//! image, and the voters among them agree on that log (Raft, by openraft).
//!
//! [`start`] begins; [`ControllerHandle`] is how the rest of the broker asks for something;
//! [`Controller::subscribe`] is how it learns what changed. Nothing on the produce or fetch path waits for any
//! of this.

mod bootstrap;
pub mod handle;
mod heartbeats;
mod leader;
mod link;
mod links;
mod liveness;
mod proposer;
mod proto;
mod publisher;
mod raft_log;
mod raft_network;
mod registration;
mod requests;
mod server;
mod standing;
mod state_machine;
mod summary;
mod types;

pub use handle::{AlterPartition, ControllerError, ControllerHandle, CreateTopic, Registration, TopicError};
pub use raft_log::OpenError;

use crate::events::Updates;
use crate::peers::Peers;
use chronik_core::cluster::{Endpoint, Member};
use chronik_core::ids::{BrokerId, ClusterId, DirectoryId, IncarnationId};
use publisher::Publisher;
use raft_log::{LogStore, LogThread};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::Raft;

/// What a broker needs to take part.
#[derive(Debug)]
pub struct ControllerConfig {
    /// This broker, as others reach it.
    pub me: Member,
    /// Where others reach this broker's controller port.
    pub endpoint: Endpoint,
    /// The voters of a new cluster, with their controller ports: the same list on every broker.
    pub voters: Vec<(BrokerId, Endpoint)>,
    /// The members of a new cluster: the same list on every broker.
    pub members: Vec<Member>,
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
    /// How fast things are noticed.
    pub timings: Timings,
    /// What topics get that do not say otherwise.
    pub defaults: TopicDefaults,
    /// Where peers are.
    pub peers: Peers,
}

/// How fast things are noticed.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Between the raft leader's heartbeats.
    pub raft_heartbeat: Duration,
    /// A voter that has not heard the raft leader for `election_max` plus a random time between the two stands
    /// for election: with 150 and 300 ms a leader may be silent for 450 ms, so that a loaded machine keeps its
    /// leader, and a dead one is replaced within 600 ms, before the brokers' leases end.
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
    /// Timings for this `broker.session.timeout.ms`: ten heartbeats a session, and a lease of seven tenths.
    pub fn with_session(session: Duration) -> Self {
        Self {
            raft_heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
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

/// Why the controller could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata log cannot be opened.
    #[error("cannot open the metadata log: {0}")]
    Open(#[from] OpenError),
    /// The metadata log's content does not make a state.
    #[error("cannot read the metadata log: {0}")]
    State(String),
    /// The timings contradict each other.
    #[error("impossible timings: {0}")]
    Timings(String),
    /// openraft did not start.
    #[error("cannot start raft: {0}")]
    Raft(String),
}

/// A running controller. Dropping it stops it without waiting.
pub struct Controller {
    raft: Raft,
    handle: ControllerHandle,
    publisher: Publisher,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    log: LogThread,
    _guard: DropGuard,
}

/// Entries after which a snapshot is made.
const SNAPSHOT_ENTRIES: u64 = 5000;
/// Entries that are kept behind a snapshot, for followers that are not far behind.
const KEPT_ENTRIES: u64 = 1000;
/// A snapshot must be sent and installed within this.
const SNAPSHOT_TIMEOUT_MS: u64 = 30_000;
/// Stopping waits so long for connections to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts to take part: opens the log, listens, finds the others, founds a cluster if there is none, and
/// registers this broker.
pub async fn start(config: ControllerConfig) -> Result<Controller, StartError> {
    let dir = config.dir.clone();
    let opened = tokio::task::spawn_blocking(move || LogStore::open(&dir)).await;
    let (log, thread) = opened.map_err(|e| StartError::State(e.to_string()))??;
    let publisher = Publisher::new(config.me.id, config.incarnation);
    let images = publisher.images();
    let machine = state_machine::StateMachine::open(log.clone(), publisher.clone())
        .map_err(|e| StartError::State(e.to_string()))?;

    let me = config.me.id;
    let others = config.voters.iter().filter(|(id, _)| *id != me).cloned().collect();
    let links = links::Links::new(me, config.peers.clone(), others, config.cluster_id, images.clone());
    let acks = raft_network::Acks::default();
    let network = raft_network::Network { links: links.clone(), log: log.clone(), acks: acks.clone() };
    let raft = Raft::new(me, raft_config(&config, log.standing().proven)?, network, log.clone(), machine)
        .await
        .map_err(|e| StartError::Raft(e.to_string()))?;

    let proposer = proposer::Proposer::start(me, raft.clone());
    let (leading, leader_handle) = leader::Leader::new(&config, raft.clone(), proposer.clone(), acks, images.clone());
    let (leader_seen, leader) = watch::channel(None);
    let (registering, registration) = watch::channel(Registration::default());
    let (displacing, displaced) = mpsc::channel(1);
    let (requests, asked) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let voters: Vec<BrokerId> = config.voters.iter().map(|(id, _)| *id).collect();

    let service = server::Service {
        me,
        directory: config.directory,
        voters: voters.clone(),
        raft: raft.clone(),
        log: log.clone(),
        links: links.clone(),
        peers: config.peers.clone(),
        proposer: proposer.clone(),
        leader: leader_handle.clone(),
    };
    let bootstrap = bootstrap::Bootstrap {
        me,
        directory: config.directory,
        voters: config.voters.clone(),
        raft: raft.clone(),
        log,
        links: links.clone(),
    };
    let registrar = registration::Registrar {
        member: config.me.clone(),
        directory: config.directory,
        incarnation: config.incarnation,
        controller: config.endpoint.clone(),
        voters: voters.clone(),
        links: links.clone(),
        leader: leader.clone(),
        leading: leader_handle.clone(),
        proposer: proposer.clone(),
        image: images.clone(),
        displaced,
    };
    let heart = heartbeats::Heart {
        me,
        incarnation: config.incarnation,
        interval: config.timings.heartbeat,
        lease: config.timings.lease,
        links: links.apart("heartbeats"),
        leader: leader.clone(),
        leading: leader_handle,
        image: images.clone(),
        registration: registering,
        displaced: displacing,
    };
    let answering = requests::Requests {
        me,
        defaults: config.defaults,
        links: links.clone(),
        proposer,
        leader: leader.clone(),
        image: images.clone(),
        registration: registration.clone(),
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(server::serve(config.listener, service, stop.clone()));
    let mut spawn = |task: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    };
    for voter in voters.iter().filter(|id| **id != me) {
        links.to(*voter, None);
    }
    if voters.contains(&me) {
        spawn(Box::pin(bootstrap.run()));
    }
    spawn(Box::pin(leading.run()));
    spawn(Box::pin(registrar.run()));
    spawn(Box::pin(heart.run()));
    spawn(Box::pin(answering.run(asked)));
    spawn(Box::pin(follow_leader(raft.clone(), leader_seen)));

    let handle = ControllerHandle::new(requests, images, registration, leader);
    let guard = stop.clone().drop_guard();
    Ok(Controller { raft, handle, publisher, tasks, stop, log: thread, _guard: guard })
}

fn raft_config(config: &ControllerConfig, proven: bool) -> Result<Arc<openraft::Config>, StartError> {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let timings = &config.timings;
    if timings.lease >= timings.session || timings.heartbeat * 3 > timings.lease {
        return Err(StartError::Timings(format!(
            "a lease of {:?} must be shorter than the session of {:?} and take three heartbeats of {:?}",
            timings.lease, timings.session, timings.heartbeat
        )));
    }
    let raft = openraft::Config {
        cluster_name: "chronik".into(),
        heartbeat_interval: ms(timings.raft_heartbeat),
        election_timeout_min: ms(timings.election_min),
        election_timeout_max: ms(timings.election_max),
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        replication_lag_threshold: SNAPSHOT_ENTRIES + KEPT_ENTRIES,
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        enable_elect: proven,
        ..Default::default()
    };
    raft.validate().map(Arc::new).map_err(|e| StartError::Timings(e.to_string()))
}

/// Tells who leads, and logs it.
async fn follow_leader(raft: Raft, leader: watch::Sender<Option<BrokerId>>) {
    let mut metrics = raft.server_metrics();
    loop {
        let (now, term) = {
            let metrics = metrics.borrow_and_update();
            (metrics.current_leader, metrics.vote.leader_id().term)
        };
        let changed = leader.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if let (true, Some(id)) = (changed, now) {
            tracing::info!(broker = %id, term, "broker {id} leads the controller quorum");
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

impl Controller {
    /// How the rest of the broker asks for something.
    pub fn handle(&self) -> ControllerHandle {
        self.handle.clone()
    }

    /// What changes, in the metadata log's order, from the moment on at which this process's own registration
    /// is applied: the first update is the whole image then.
    pub fn subscribe(&self) -> Updates {
        self.publisher.subscribe()
    }

    /// Set when the metadata log could not be written: the broker must end, since what is on the disk is
    /// unknown until it is opened again.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.log.failed.clone()
    }

    /// Stops taking part, and waits until the log is closed.
    pub async fn shutdown(self) {
        let Self { raft, handle, publisher, mut tasks, stop, log, _guard } = self;
        stop.cancel();
        if let Err(error) = raft.shutdown().await {
            tracing::debug!(%error, "raft had ended before");
        }
        drop((raft, handle, publisher));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tasks.shutdown().await;
        }
        let joined = tokio::task::spawn_blocking(move || log.thread.join());
        if tokio::time::timeout(STOP_TIMEOUT, joined).await.is_err() {
            tracing::warn!("the metadata log is still in use");
        }
    }
}

#[cfg(test)]
mod tests;
