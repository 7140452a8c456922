//! A quorum's leader that is gone is replaced at once, and not when it has been missed for an election timeout.
//!
//! When a process ends, its kernel ends its connections and refuses new ones. A voter that lost a connection with the
//! leader dials its controller port; when that is refused, it asks the other voters whether they agree that the leader is
//! gone (a pre-vote, as raft's is). Each of them dials for itself. Only when a majority of all voters, itself included,
//! has been refused, the voter stands for election, and its requests for votes name the leader's term, upon which the
//! voters wait for that leader no longer, as when it hands over (see [`super::handover`]).
//!
//! So one voter that is mistaken, or cut off, disturbs nobody. A leader that lives, and whose port refuses a majority
//! of the voters, could be deposed while its last leases run: its successor fences nobody by silence before they end, which it
//! knows from the voters (see [`super::silence`]).
//!
//! Of several voters that lost their leader the one with the longest log stands, and of these the one with the greatest
//! id: votes would be split, and repeated after a timeout, if they all did.

use super::electorate::is_majority;
use super::links::Links;
use super::proto;
use super::raft_log::LogStore;
use super::types::Raft;
use crate::handover::HandedOver;
use crate::peers::Peers;
use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A leader that a connection was lost with is looked at after these pauses: the kernel closes the sockets of a killed
/// process one by one, and its port may accept for a moment longer than its connections last.
const LOOKS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(6),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
];
/// A dial that has no answer by then says nothing.
const DIAL: Duration = Duration::from_millis(50);
/// Another voter has so long to dial and to answer.
const ASK: Duration = Duration::from_millis(100);

/// How a voter finds that its leader is gone. Cheap to clone.
#[derive(Clone)]
pub(super) struct LostLeader {
    pub(super) me: BrokerId,
    pub(super) raft: Raft,
    pub(super) links: Links,
    pub(super) peers: Peers,
    pub(super) log: LogStore,
    pub(super) handed_over: HandedOver,
    /// Another voter takes the leader for gone.
    pub(super) hint: Arc<Notify>,
}

/// A leadership of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) term: u64,
    pub(super) leader: BrokerId,
}

/// A voter as others judge it: the greatest of those that are left stands for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Term and index of the log's last entry.
    pub(super) log: Option<(u64, u64)>,
    pub(super) id: BrokerId,
}

/// What a voter makes of another one's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Disagrees,
    Agrees,
    /// The leader is gone, and this voter should take its place.
    StandsItself,
}

/// `own` and `asked` are the leaderships that the two know of, `gone` whether the leader's port refused this voter too.
fn opinion(own: Option<Leadership>, asked: Leadership, gone: bool, me: Candidate, candidate: Candidate) -> Opinion {
    if own != Some(asked) || asked.leader == me.id || !gone {
        Opinion::Disagrees
    } else if candidate > me {
        Opinion::Agrees
    } else {
        Opinion::StandsItself
    }
}

impl LostLeader {
    /// Runs until raft has stopped.
    pub(super) async fn run(self) {
        let mut losses = self.peers.losses();
        loop {
            let lost = tokio::select! {
                lost = losses.recv() => match lost {
                    Ok(peer) => Some(peer),
                    Err(RecvError::Lagged(_)) => None,
                    Err(RecvError::Closed) => return,
                },
                () = self.hint.notified() => None,
            };
            if let Some(lost_one) = self.leadership()
                && lost.is_none_or(|peer| peer == lost_one.leader)
            {
                self.replace(lost_one).await;
            }
        }
    }

    /// Stands for election once the leader is gone and a majority says so too; gives up when it does not go.
    async fn replace(&self, lost: Leadership) {
        for pause in LOOKS {
            sleep(pause).await;
            if self.leadership() != Some(lost) {
                return;
            }
            let goes = self.is_gone(lost.leader).await && self.majority_agrees(lost).await;
            // Another voter may have been elected meanwhile, which this one's higher term would depose.
            if goes && self.leadership() == Some(lost) {
                tracing::info!(broker = %lost.leader, "broker {} is gone, which led the controller quorum", lost.leader);
                self.handed_over.by(lost.term);
                if let Err(error) = self.raft.trigger().elect().await {
                    tracing::debug!(%error, "raft has stopped");
                }
                return;
            }
        }
    }

    /// Whether the candidate may stand for election, as far as this voter knows.
    pub(super) async fn agrees(&self, asked: Leadership, candidate: Candidate) -> bool {
        let gone = self.is_gone(asked.leader).await;
        match opinion(self.leadership(), asked, gone, self.candidate(), candidate) {
            Opinion::Agrees => self.log.standing().proven,
            Opinion::StandsItself => {
                self.hint.notify_one();
                false
            }
            Opinion::Disagrees => false,
        }
    }

    /// The leadership of another voter that this one follows, if it is a voter whose vote is believed.
    fn leadership(&self) -> Option<Leadership> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let is_voter = metrics.membership_config.membership().voter_ids().any(|id| id == self.me);
        let leader = metrics.current_leader.filter(|id| *id != self.me && is_voter && self.log.standing().proven)?;
        Some(Leadership { term: metrics.vote.leader_id().term, leader })
    }

    fn candidate(&self) -> Candidate {
        let log = self.raft.data_metrics().borrow().last_log.map(|id| (id.leader_id.term, id.index));
        Candidate { log, id: self.me }
    }

    /// Whether nobody listens where the leader's controller port is.
    async fn is_gone(&self, leader: BrokerId) -> bool {
        let Some(endpoint) = self.endpoint(leader) else { return false };
        self.peers.refuses(leader, &endpoint, DIAL).await
    }

    fn endpoint(&self, voter: BrokerId) -> Option<Endpoint> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().get_node(&voter).map(|node| node.0.clone())
    }

    async fn majority_agrees(&self, lost: Leadership) -> bool {
        let configs: Vec<BTreeSet<BrokerId>> = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_joint_config().clone()
        };
        let voters: BTreeSet<BrokerId> = configs.iter().flatten().copied().collect();
        let mut asked = JoinSet::new();
        for voter in voters.into_iter().filter(|id| *id != self.me && *id != lost.leader) {
            let (links, candidate) = (self.links.clone(), self.candidate());
            asked.spawn(async move { ask(links, voter, lost, candidate).await.then_some(voter) });
        }
        let mut agree = BTreeSet::from([self.me]);
        while !is_majority(&configs, |id| agree.contains(&id)) {
            match asked.join_next().await {
                Some(answer) => agree.extend(answer.ok().flatten()),
                None => return false,
            }
        }
        true
    }
}

/// Asks one voter.
pub(super) async fn ask(links: Links, voter: BrokerId, lost: Leadership, candidate: Candidate) -> bool {
    let request = proto::LostLeaderRequest {
        caller: Some(links.caller(voter)),
        term: lost.term,
        leader: lost.leader.0,
        last_log: candidate.log.map(|(term, index)| proto::LogEnd { term, index, leader: None }),
    };
    let call = |mut client: super::link::Client| async move { client.lost_leader(request).await };
    links.call(voter, ASK, call).await.is_ok_and(|answer| answer.agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership(term: u64, leader: i32) -> Leadership {
        Leadership { term, leader: BrokerId(leader) }
    }

    fn candidate(id: i32, log: Option<(u64, u64)>) -> Candidate {
        Candidate { log, id: BrokerId(id) }
    }

    #[test]
    fn a_voter_agrees_only_on_its_own_leader_that_refuses_it_too_and_only_with_who_is_ahead_of_it() {
        let led = Some(leadership(5, 0));
        let me = candidate(2, Some((5, 10)));
        for (what, own, asked, gone, other, expected) in [
            ("as long a log, greater id", led, (5, 0), true, (3, Some((5, 10))), Opinion::Agrees),
            ("a longer log", led, (5, 0), true, (1, Some((5, 11))), Opinion::Agrees),
            ("a newer log", led, (5, 0), true, (1, Some((6, 1))), Opinion::Agrees),
            ("as long a log, lesser id", led, (5, 0), true, (1, Some((5, 10))), Opinion::StandsItself),
            ("a shorter log", led, (5, 0), true, (3, Some((5, 9))), Opinion::StandsItself),
            ("an older log", led, (5, 0), true, (3, Some((4, 90))), Opinion::StandsItself),
            ("no log", led, (5, 0), true, (3, None), Opinion::StandsItself),
            ("a leader that answers", led, (5, 0), false, (3, Some((5, 11))), Opinion::Disagrees),
            ("another leader", led, (5, 1), true, (3, Some((5, 11))), Opinion::Disagrees),
            ("a former term", led, (4, 0), true, (3, Some((5, 11))), Opinion::Disagrees),
            ("a later term", led, (6, 0), true, (3, Some((5, 11))), Opinion::Disagrees),
            ("no leader", None, (5, 0), true, (3, Some((5, 11))), Opinion::Disagrees),
            ("itself", Some(leadership(5, 2)), (5, 2), true, (3, Some((5, 11))), Opinion::Disagrees),
        ] {
            let (asked, other) = (leadership(asked.0, asked.1), candidate(other.0, other.1));
            assert_eq!(opinion(own, asked, gone, me, other), expected, "{what}");
        }
    }

    /// Whichever of them asks first: never two, and one if all can be asked.
    #[test]
    fn of_those_that_are_left_exactly_one_gets_a_majority() {
        let led = leadership(5, 0);
        for logs in [[3, 3, 3, 3], [1, 2, 3, 4], [4, 3, 2, 1], [2, 9, 9, 1]] {
            let left: Vec<_> = (1..5).zip(logs).map(|(id, index)| candidate(id, Some((5, index)))).collect();
            let agrees =
                |voter: &Candidate, c: &Candidate| opinion(Some(led), led, true, *voter, *c) == Opinion::Agrees;
            let elected = |c: &&Candidate| {
                let others = left.iter().filter(|voter| voter.id != c.id && agrees(voter, c)).count();
                1 + others > 5 / 2 && others == left.len() - 1
            };
            assert_eq!(left.iter().filter(elected).count(), 1, "{logs:?}");
        }
    }
}
