//! The quorum's leadership, handed to another voter by a leader that stops.
//!
//! openraft has no transfer of leadership, and a voter that follows a leader refuses every candidate for `election_max`
//! after it heard that leader. A leader that hands over gives no leases and proposes nothing: a log that grows would
//! never be all in the successor's. It asks the voter that has most of the log to stand for election, and that one's
//! requests for votes name the term whose leader asked. A voter that gets such a request first raises its own vote
//! above that leader's, which every voter may do at any time, to nobody's: then there is no leader left to wait for,
//! and the request is decided by the logs, like any other. The leases that were given before end by what the voters say
//! with their votes (see [`super::silence`]). A leader that finds no successor goes on.

use super::electorate::Electorate;
use super::leader::LeaderHandle;
use super::links::Links;
use super::proto;
use super::types::{AppendEntriesRequest, LogId, Raft, Vote};
use chronik_core::ids::BrokerId;
use openraft::CommittedLeaderId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// One try at one voter.
const ASK: Duration = Duration::from_millis(200);
/// An election takes two syncs and two round trips; one that takes longer has failed.
const ELECTION: Duration = Duration::from_millis(300);
/// Between tries: entries are on their way to the voters.
const PAUSE: Duration = Duration::from_millis(10);

/// The term whose leader asked this voter to stand for election; 0 for none. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct HandedOver(Arc<AtomicU64>);

impl HandedOver {
    /// The leader of that term asks.
    pub(super) fn by(&self, term: u64) {
        self.0.fetch_max(term, Ordering::SeqCst);
    }

    /// The term whose leader asked for an election in `term`.
    pub(super) fn for_election(&self, term: u64) -> Option<u64> {
        let asked = self.0.load(Ordering::SeqCst);
        (asked > 0 && term == asked + 1).then_some(asked)
    }
}

/// The term whose leader, which is this broker, is giving its leadership away: it gives no leases meanwhile, and proposes
/// nothing. 0 for none. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Yielding(Arc<AtomicU64>);

impl Yielding {
    /// From now on, in that term.
    fn begins(&self, term: u64) {
        self.0.store(term, Ordering::SeqCst);
    }

    /// Whether it does so in that term.
    pub(super) fn is_in(&self, term: u64) -> bool {
        self.0.load(Ordering::SeqCst) == term
    }

    /// Whether it does so now.
    pub(super) fn is_under_way(&self) -> bool {
        !self.is_in(0)
    }
}

/// For as long as somebody waits for a successor. Who still leads after that goes on as the leader.
struct Trying<'a>(&'a Yielding);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.begins(0);
    }
}

/// Ends what this voter owes to the leader that it follows, if that is one whose leadership is to end.
pub(super) async fn forget_leader(raft: &Raft, ends: impl FnOnce(&Vote) -> bool) {
    let current = raft.server_metrics().borrow().vote;
    if current.is_committed() && ends(&current) {
        let term = current.leader_id().term;
        // Above the leader's, below that of any candidate of the next term, and nobody's.
        let vote = Vote::new(term, BrokerId(i32::MAX));
        // After an entry that no log has: that is refused, once the vote is raised.
        let nowhere = LogId::new(CommittedLeaderId::new(term, BrokerId(i32::MAX)), u64::MAX - 1);
        let request =
            AppendEntriesRequest { vote, prev_log_id: Some(nowhere), entries: Vec::new(), leader_commit: None };
        if let Err(error) = raft.append_entries(request).await {
            tracing::debug!(%error, "raft has stopped");
        }
    }
}

/// Gives this broker's leadership of the quorum away. Cheap to clone.
#[derive(Clone)]
pub(super) struct Handover {
    pub(super) me: BrokerId,
    pub(super) electorate: Electorate,
    pub(super) raft: Raft,
    pub(super) links: Links,
    pub(super) leader: LeaderHandle,
    pub(super) yielding: Yielding,
}

impl Handover {
    /// True once this broker does not lead.
    pub(super) async fn run(&self, patience: Duration) -> bool {
        if self.electorate.voters().len() < 2 {
            return self.leads_in().is_none();
        }
        let deadline = Instant::now() + patience;
        let _trying = Trying(&self.yielding);
        while let Some(term) = self.leads_in().filter(|_| Instant::now() < deadline) {
            // A leader that has nothing committed yet may be one beside another of its term, whom others would take for the one
            // that hands over.
            if !self.leader.is_ready() {
                sleep(PAUSE).await;
                continue;
            }
            self.yielding.begins(term);
            for voter in self.most_caught_up_first() {
                if self.asks(voter, term).await && self.is_succeeded(deadline).await {
                    tracing::info!(broker = %voter, "handed the controller quorum over to broker {voter}");
                    return true;
                }
            }
            sleep(PAUSE).await;
        }
        self.leads_in().is_none()
    }

    /// The term that this broker leads in, if it does.
    fn leads_in(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        (metrics.current_leader == Some(self.me)).then(|| metrics.vote.leader_id().term)
    }

    fn most_caught_up_first(&self) -> Vec<BrokerId> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow();
        let matched = |id: &BrokerId| metrics.replication.as_ref()?.get(id).copied().flatten();
        let mut voters: Vec<_> = self.electorate.voters().into_iter().filter(|id| *id != self.me).collect();
        voters.sort_by_key(|id| std::cmp::Reverse(matched(id)));
        voters
    }

    /// Whether the voter stands for election.
    async fn asks(&self, voter: BrokerId, term: u64) -> bool {
        let last_index = self.raft.data_metrics().borrow().last_log.map_or(0, |id| id.index);
        let request = proto::TakeOverRequest { caller: Some(self.links.caller(voter)), term, last_index };
        let call = |mut client: super::link::Client| async move { client.take_over(request).await };
        match timeout(ASK, self.links.call(voter, ASK, call)).await {
            Ok(Ok(answer)) => answer.stands,
            Ok(Err(error)) => {
                tracing::debug!(?error, "broker {voter} cannot take over");
                false
            }
            Err(_) => false,
        }
    }

    async fn is_succeeded(&self, deadline: Instant) -> bool {
        let mut metrics = self.raft.server_metrics();
        let succeeded = metrics.wait_for(|m| m.current_leader.is_some_and(|id| id != self.me));
        timeout_at(deadline.min(Instant::now() + ELECTION), succeeded).await.is_ok()
    }
}
