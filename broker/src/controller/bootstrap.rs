//! How a cluster begins: on empty disks, in any start order, by itself.
//!
//! A voter without a log asks the other voters whether they have one. When a majority of the voters, itself
//! included, is empty, and nobody knows of a cluster, it founds one with the configured voters as its first
//! entry and stands for election at once. Several may do so at the same time: the entry is the same for all.
//! When anybody knows of a cluster it never founds one, and waits for the leader to find it.

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
use uuid::Uuid;

/// A probe waits this long for a connection and its answer, then begins anew.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between probes of a voter that is not empty, or not in order.
const PAUSE: Duration = Duration::from_millis(100);

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
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) links: Links,
}

impl Bootstrap {
    /// Ends when there is a cluster.
    pub(super) async fn run(self) {
        if !self.is_empty() {
            return;
        }
        let mut empty = BTreeMap::from([(self.me, self.directory)]);
        let mut probes = JoinSet::new();
        for (id, _) in self.voters.iter().filter(|(id, _)| *id != self.me) {
            probes.spawn(probe(self.links.clone(), *id, Duration::ZERO));
        }
        while self.is_empty() {
            if empty.len() > self.voters.len() / 2 {
                self.found(empty).await;
                return;
            }
            // Woken now and then as well, to see whether a leader has come by.
            let answer = tokio::time::timeout(PAUSE, probes.join_next()).await;
            let Ok(Some(Ok((id, answer)))) = answer else { continue };
            match answer {
                Some((State::Empty, directory)) => {
                    empty.insert(id, directory);
                }
                Some((State::Established, _)) => {
                    tracing::info!("broker {id} has a cluster already: waiting for its leader");
                    return;
                }
                _ => {
                    probes.spawn(probe(self.links.clone(), id, PAUSE));
                }
            }
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
        self.raft.runtime_config().elect(true);
    }
}

/// Asks one voter, after a pause.
async fn probe(links: Links, id: BrokerId, pause: Duration) -> (BrokerId, Option<(State, DirectoryId)>) {
    tokio::time::sleep(pause).await;
    let request = proto::ProbeRequest { caller: Some(links.caller(id)) };
    let answer = links.call(id, PROBE_TIMEOUT, |mut client| async move { client.probe(request).await }).await;
    let answer = answer.ok().and_then(|answer| {
        let directory = Uuid::from_slice(&answer.directory_id).ok()?;
        Some((answer.state(), DirectoryId(directory)))
    });
    (id, answer)
}
