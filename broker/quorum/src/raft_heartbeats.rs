//! Raft's heartbeats beside a message that takes long.
//!
//! openraft sends a follower nothing while something is on its way to it, a heartbeat included. A snapshot, or a large entry,
//! takes longer than a follower waits for its leader; and if a leader needs that follower for its majority, then it would
//! lose that, with all leases, give up, be elected again, and send the same from its beginning.
//!
//! So meanwhile the follower gets what a heartbeat of raft's is, an empty append, over a connection of its own. It names no
//! entry before it and none that is committed, so all that it does there is to say that the leader is there.

use super::acks::Acks;
use super::electorate::Electorate;
use super::encoding;
use super::link::Client;
use super::links::Links;
use super::proto;
use super::types::{AppendEntriesRequest, AppendEntriesResponse, Vote};
use chronik_core::ids::BrokerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// A heartbeat without an answer by then has none.
const PATIENCE: u32 = 4;

/// Whether raft's heartbeats are sent: not while the disk hangs, so that another broker leads. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct RaftPulse(Arc<AtomicBool>);

impl Default for RaftPulse {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl RaftPulse {
    pub(super) fn set(&self, beats: bool) {
        self.0.store(beats, Ordering::Relaxed);
    }

    fn beats(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What they are made of. Cheap to clone.
#[derive(Clone)]
pub(super) struct RaftHeartbeats {
    pub(super) me: BrokerId,
    pub(super) electorate: Electorate,
    /// What a voter accepted longer ago says nothing: it may follow another leader by now.
    pub(super) lately: Duration,
    pub(super) acks: Acks,
    /// Connections for these alone.
    pub(super) links: Links,
    /// From one to the next.
    pub(super) interval: Duration,
    pub(super) pulse: RaftPulse,
}

impl RaftHeartbeats {
    /// Whether a majority follows this leader without that peer.
    pub(super) fn followed_without(&self, peer: BrokerId, leader: &Vote) -> bool {
        let Self { me, electorate, lately, acks, .. } = self;
        acks.by_majority((*me, leader.leader_id().term), electorate, |id| id != peer, *lately)
    }

    async fn beat(&self, follower: BrokerId, leader: &Vote, body: Vec<u8>) {
        let followed_by_others = self.followed_without(follower, leader);
        let request = proto::RaftRequest { caller: Some(self.links.caller(follower)), body, followed_by_others };
        let mut sent = Instant::now();
        let call = |mut client: Client| {
            sent = Instant::now();
            async move { client.append_entries(request).await }
        };
        let Ok(response) = self.links.call(follower, self.interval * PATIENCE, call).await else { return };
        // Who has gone on to another leader says so to the message that takes long, too.
        if matches!(encoding::decode(&response.body), Ok(AppendEntriesResponse::Success)) {
            self.acks.accepted(follower, leader.leader_id().term, sent);
        }
    }
}

/// The heartbeats to one follower, until this is dropped.
pub(super) struct Beats(JoinHandle<()>);

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Beats {
    /// Those of the leader with that vote.
    pub(super) fn begin(heartbeats: RaftHeartbeats, follower: BrokerId, leader: Vote) -> Self {
        Self(tokio::spawn(async move {
            let nothing =
                AppendEntriesRequest { vote: leader, prev_log_id: None, entries: Vec::new(), leader_commit: None };
            let Ok(body) = encoding::encode(&nothing) else { return };
            let mut due = interval_at(Instant::now() + heartbeats.interval, heartbeats.interval);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                if heartbeats.pulse.beats() {
                    heartbeats.beat(follower, &leader, body.clone()).await;
                }
            }
        }))
    }
}
