//! The controller quorum as one broker takes part in it: every broker applies the same metadata log to the same
//! image, and the voters among them agree on that log (Raft, by openraft).
//!
//! [`start`] begins; [`ControllerHandle`] is how the rest of the broker asks for something;
//! [`Controller::subscribe`] is how it learns what changed. Nothing on the produce or fetch path waits for any
//! of this.

mod acks;
pub mod admin;
mod bootstrap;
mod config;
mod connections;
mod creation;
#[cfg(test)]
mod cuts;
mod damages;
mod disks;
mod elections;
mod electorate;
mod encoding;
pub mod events;
pub mod handle;
mod handover;
mod heartbeats;
mod isr_changes;
mod lags;
mod leader;
mod link;
mod links;
mod liveness;
mod log_size;
mod lost_leader;
mod membership;
mod observed;
mod parts;
pub mod peers;
mod proposer;
mod proto;
mod publisher;
mod raft_log;
mod raft_network;
mod registration;
mod requests;
mod restart;
mod server;
mod silence;
mod standing;
mod starts;
mod state_machine;
mod summary;
mod types;
mod whole_messages;

pub use config::{ControllerConfig, DiskSpace, Timings, TopicDefaults};
pub use damages::{DamagedLog, Damages};
pub use handle::{
    AlterPartition, ControllerError, ControllerHandle, CreateTopic, Declined, IsrChange, Registration, Resignation,
    TopicError,
};
pub use lags::{FollowerLag, LAGS_QUESTIONS, LagsQuestion};
pub use raft_log::OpenError;
pub use starts::{StartProgress, Starter};

use acks::Acks;
use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use electorate::Electorate;
use events::Updates;
use links::Links;
use parts::{Parts, Tasks};
use proposer::Proposer;
use publisher::Publisher;
use raft_log::{LogStore, LogThread};
use silence::Silence;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;
use types::Raft;

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
    admin: admin::AdminHandle,
    publisher: Publisher,
    handover: handover::Handover,
    tasks: Tasks,
    log: LogThread,
    _guard: DropGuard,
}

/// Entries of the metadata log after which a snapshot is made, usually.
pub const SNAPSHOT_ENTRIES: u64 = 5000;
/// This part of them is kept behind a snapshot, for followers that are not far behind.
const KEPT_PART: u64 = 5;
/// A snapshot must be sent and installed within this.
const SNAPSHOT_TIMEOUT_MS: u64 = 30_000;
/// Stopping waits so long for connections to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts to take part: opens the log, listens, finds the others, founds a cluster if there is none, and
/// registers this broker.
pub async fn start(mut config: ControllerConfig) -> Result<Controller, StartError> {
    let dir = config.dir.clone();
    let opened = tokio::task::spawn_blocking(move || LogStore::open(&dir)).await;
    let (log, thread) = opened.map_err(|e| StartError::State(e.to_string()))??;
    let publisher = Publisher::new(config.me.id, config.incarnation);
    let images = publisher.images();
    let machine =
        state_machine::StateMachine::open(&log, publisher.clone()).map_err(|e| StartError::State(e.to_string()))?;

    let me = config.me.id;
    if !config.known_incarnations.is_empty() {
        // A build that does not keep them may have registered in between. An old copy has an old log too.
        config.known_incarnations.extend(log.registrations(me, config.directory));
        let images = images.borrow();
        let last = images.brokers.get(&me).filter(|broker| broker.directory == Some(config.directory));
        config.known_incarnations.extend(last.and_then(|broker| broker.incarnation));
    }
    let electorate = Electorate::new(log.membership());
    compare_voters(&electorate.voters(), &config.voters);
    let configured = config.seeds.iter().chain(&config.voters).filter(|(id, _)| *id != me).cloned().collect();
    let links = Links::new(me, config.peers.clone(), configured, config.cluster_id, images.clone());
    let (acks, handed_over) = (Acks::default(), handover::HandedOver::default());
    let bounds = silence::Bounds { confirmation: config.timings.election_max, lease: config.timings.lease };
    let silence = Silence::new(tokio::time::Instant::now(), bounds);
    let yielding = handover::Yielding::default();
    let network = raft_network::Network {
        me,
        electorate: electorate.clone(),
        lately: config.timings.election_max,
        acks: acks.clone(),
        links: links.clone(),
        log: log.clone(),
        handed_over: handed_over.clone(),
        silence: silence.clone(),
    };
    let led_by = log.forget_leadership();
    let past = restart::Past::new(me, led_by, config.timings.election_max);
    let raft = Raft::new(me, raft_config(&config)?, network, log.clone(), machine)
        .await
        .map_err(|e| StartError::Raft(e.to_string()))?;

    electorate.follows(&raft);
    let timeouts = (config.timings.election_min, config.timings.election_max);
    let knows = (raft.clone(), log.clone(), acks.clone(), electorate.clone());
    let hearing = elections::Hearing::new(me, timeouts, knows);
    let proposer = Proposer::start(me, raft.clone(), images.clone(), electorate.clone(), yielding.clone());
    let parts = Parts {
        config,
        raft,
        log,
        links,
        proposer,
        acks,
        images,
        past,
        handed_over,
        silence,
        yielding,
        electorate,
        changing: admin::Changing::default(),
        hearing,
        starts: starts::Starts::default(),
    };
    Ok(parts.run(publisher, thread))
}

/// Says so where a file names other voters than there are: it changes nothing, and who has edited it should know what does.
fn compare_voters(voters: &BTreeSet<BrokerId>, named: &[(BrokerId, Endpoint)]) {
    let named: BTreeSet<BrokerId> = named.iter().map(|(id, _)| *id).collect();
    if voters.is_empty() || named.is_empty() || *voters == named {
        return;
    }
    let list = |ids: &BTreeSet<BrokerId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        "the configuration names {} as voters, for a cluster that begins; in this one brokers {} vote, which `chronik quorum \
         add-voter` and `remove-voter` change",
        list(&named),
        list(voters)
    );
}

fn raft_config(config: &ControllerConfig) -> Result<Arc<openraft::Config>, StartError> {
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
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        replication_lag_threshold: config.snapshot_entries + config.snapshot_entries / KEPT_PART,
        max_in_snapshot_log_to_keep: config.snapshot_entries / KEPT_PART,
        // A voter asks before it stands: see `elections`.
        enable_elect: false,
        ..Default::default()
    };
    raft.validate().map(Arc::new).map_err(|e| StartError::Timings(e.to_string()))
}

impl Controller {
    /// How the rest of the broker asks for something.
    pub fn handle(&self) -> ControllerHandle {
        self.handle.clone()
    }

    /// The admin API, as this broker answers it.
    pub fn admin(&self) -> admin::AdminHandle {
        self.admin.clone()
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

    /// Gives the leadership of the quorum to another voter, if this broker has it. True once it has not.
    pub async fn hand_over(&self, patience: Duration) -> bool {
        self.handover.run(patience).await
    }

    /// Stops taking part, and waits until the log is closed.
    pub async fn shutdown(self) {
        let Self { raft, handle, admin, publisher, handover, mut tasks, log, _guard } = self;
        tasks.stop.cancel();
        if let Err(error) = raft.shutdown().await {
            tracing::debug!(%error, "raft had ended before");
        }
        drop((raft, handle, admin, publisher, handover));
        let ended = async { while tasks.set.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tasks.set.shutdown().await;
        }
        let joined = tokio::task::spawn_blocking(move || log.thread.join());
        if tokio::time::timeout(STOP_TIMEOUT, joined).await.is_err() {
            tracing::warn!("the metadata log is still in use");
        }
    }
}

#[cfg(test)]
mod tests;
