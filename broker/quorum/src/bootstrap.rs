//! How a cluster begins: on empty disks, in any start order, by itself.
//!
//! A voter without a log asks the other brokers whether they have one. When a majority of the configured voters, itself
//! included, is empty, and nobody knows of a cluster, it founds one with these voters as its first
//! entry and stands for election at once. Several may do so at the same time: the entry is the same for all.
//! While anybody knows of a cluster it founds none, and waits for the leader to find it. Only what each broker said
//! last counts, and who has not said anything yet is given a moment.

use super::link::CallError;
use super::links::Links;
use super::proto::{self, probe_response::State};
use super::raft_log::LogStore;
use super::standing::Standing;
use super::types::{Node, Raft};
use chronik_core::cluster::Endpoint;
use chronik_core::ids::{BrokerId, ClusterId, DirectoryId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

/// A probe waits this long for a connection and its answer, then begins anew.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between probes of one voter.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to ask one voter for its vote.
const ASK_PAUSE: Duration = Duration::from_millis(10);
/// How long a voter that may found a cluster waits for what the others say.
const SETTLING: Duration = Duration::from_millis(50);

/// What this voter has, for who asks.
pub(super) fn own_state(log: &LogStore, cluster_id: Option<ClusterId>) -> State {
    match log.last_index() {
        None if cluster_id.is_none() => State::Empty,
        Some(0) if cluster_id.is_none() => State::Founded,
        _ => State::Established,
    }
}

/// A voter that begins without a log.
pub(super) struct Bootstrap {
    pub(super) me: BrokerId,
    pub(super) directory: DirectoryId,
    pub(super) voters: Vec<(BrokerId, Endpoint)>,
    /// All others that are known: those may have a cluster that has replaced its first voters.
    pub(super) others: Vec<BrokerId>,
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) links: Links,
}

impl Bootstrap {
    /// Ends when there is a cluster.
    pub(super) async fn run(self) {
        let mut probes = JoinSet::new();
        for id in &self.others {
            probes.spawn(probe(self.links.clone(), *id, Duration::ZERO));
        }
        let mut said: BTreeMap<BrokerId, Probed> = BTreeMap::new();
        let mut waits_for = None;
        while self.is_empty() {
            let mut empty = BTreeMap::from([(self.me, self.directory)]);
            let votes = |id: &BrokerId| self.voters.iter().any(|(voter, _)| voter == id);
            let found = said.iter().filter(|(id, p)| p.state == State::Empty && votes(id));
            empty.extend(found.map(|(id, p)| (*id, p.directory)));
            let known = said.values().any(|p| p.state == State::Established);
            let may_found = !known && empty.len() > self.voters.len() / 2;
            if may_found {
                // Whoever knows of a cluster is as quick to say so as those were who do not.
                let until = *waits_for.get_or_insert_with(|| Instant::now() + SETTLING);
                if said.len() == self.others.len() || Instant::now() >= until {
                    return self.found(empty).await;
                }
            } else {
                waits_for = None;
            }
            // Woken now and then as well, to see whether a leader has come by.
            let wake = waits_for.unwrap_or_else(|| Instant::now() + PAUSE);
            let Ok(Some(Ok((id, answer)))) = timeout_at(wake, probes.join_next()).await else { continue };
            match answer {
                Some(answer) => {
                    let before = said.insert(id, answer);
                    if answer.state == State::Established && before.is_none_or(|p| p.state != answer.state) {
                        tracing::info!("broker {id} has a cluster already: waiting for its leader");
                    }
                }
                None => {
                    said.remove(&id);
                }
            }
            probes.spawn(probe(self.links.clone(), id, PAUSE));
        }
    }

    fn is_empty(&self) -> bool {
        own_state(&self.log, self.links.cluster_id()) == State::Empty
    }

    async fn found(&self, empty: BTreeMap<BrokerId, DirectoryId>) {
        let found_empty: Vec<BrokerId> = empty.keys().copied().collect();
        let standing = Standing { proven: true, founders: empty.into_iter().collect() };
        if let Err(error) = self.log.save_standing(standing).await {
            tracing::error!(%error, "cannot found the cluster");
            return;
        }
        let nodes: BTreeMap<BrokerId, Node> = self.voters.iter().map(|(id, e)| (*id, Node(e.clone()))).collect();
        match self.raft.initialize(nodes).await {
            Ok(()) => tracing::info!(empty = ?found_empty, "a majority of the voters is empty: founded the cluster"),
            // It has voted for another founder meanwhile, whose cluster it is then.
            Err(error) => tracing::debug!(%error, "did not found the cluster"),
        }
    }
}

/// What a voter says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probed {
    pub(super) state: State,
    pub(super) directory: DirectoryId,
    /// It knows of no leader, and when it was started last knew of none but the caller.
    pub(super) leaderless: bool,
}

/// Asks one voter, after a pause.
pub(super) async fn probe(links: Links, id: BrokerId, pause: Duration) -> (BrokerId, Option<Probed>) {
    tokio::time::sleep(pause).await;
    let request = proto::ProbeRequest { caller: Some(links.caller(id)), candidacy: None };
    let answer = links.call(id, PROBE_TIMEOUT, |mut client| async move { client.probe(request).await }).await;
    let answer = answer.ok().and_then(|answer| {
        let directory = DirectoryId(Uuid::from_slice(&answer.directory_id).ok()?);
        Some(Probed { state: answer.state(), directory, leaderless: answer.leaderless })
    });
    (id, answer)
}

/// Asks one voter whether it would vote for this one, until it answers. Who does not know the question does not object.
///
/// Voters that follow a third one seldom call each other: that a connection between them has ended, as the other one was
/// paused or started anew, is found by a call alone.
pub(super) async fn asks(
    links: Links,
    id: BrokerId,
    candidacy: proto::Candidacy,
    patience: Duration,
) -> (BrokerId, bool) {
    let request = proto::ProbeRequest { caller: Some(links.caller(id)), candidacy: Some(candidacy) };
    let deadline = Instant::now() + patience;
    loop {
        let (request, again) = (request.clone(), Instant::now() + ASK_PAUSE);
        let left = deadline.saturating_duration_since(Instant::now());
        match links.call(id, left, |mut client| async move { client.probe(request).await }).await {
            Ok(answer) => return (id, answer.would_vote.unwrap_or(true)),
            Err(CallError::NotConnected | CallError::Lost(_)) if again < deadline => sleep_until(again).await,
            Err(_) => return (id, false),
        }
    }
}
