//! What the leader knows for certain: the image as of a moment at which a majority of the voters still followed it.

use super::{Calls, Failure, TIMEOUT, unsure};
use crate::observed::Observed;
use chronik_core::cluster::{Endpoint, Image};
use chronik_core::ids::BrokerId;
use openraft::error::{CheckIsLeaderError, RaftError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Who is heard has so long to come to what was committed when a view was asked for.
const BEHIND: Duration = Duration::from_millis(200);

/// One confirmed view.
pub(super) struct View {
    pub(super) term: u64,
    pub(super) image: Image,
    pub(super) observed: Observed,
    pub(super) quorum: Quorum,
}

/// The quorum, as its leader sees it.
pub(super) struct Quorum {
    pub(super) last_index: u64,
    pub(super) committed: u64,
    pub(super) voters: Vec<Member>,
    pub(super) observers: Vec<Member>,
    /// The voters are being changed: those before and those after are voters.
    pub(super) changing: bool,
}

/// One that has the metadata log.
pub(super) struct Member {
    pub(super) id: BrokerId,
    /// The last entry that it is known to hold.
    pub(super) matched: Option<u64>,
    /// It has answered lately.
    pub(super) heard: bool,
    /// When it had answered last.
    pub(super) heard_at: Option<Instant>,
    /// Where its controller port is.
    pub(super) place: Option<Endpoint>,
    /// It is heard, and holds all that was committed when the view was asked for.
    pub(super) caught_up: bool,
}

impl Calls {
    /// The image and the quorum, after a majority of the voters has confirmed that this broker leads.
    pub(super) async fn view(&self) -> Result<View, Failure> {
        if !self.leader.is_ready() {
            return Err(Failure::NotLeader);
        }
        let committed = match tokio::time::timeout(TIMEOUT, self.raft.ensure_linearizable()).await {
            Ok(Ok(committed)) => committed.map_or(0, |id| id.index),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => return Err(Failure::NotLeader),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
                let who =
                    format!("broker {} led the controller quorum, and no majority confirms that it does", self.me);
                return Err(unsure(&who).into());
            }
            Ok(Err(RaftError::Fatal(_))) => return Err(unsure("the broker is stopping").into()),
        };
        let image = self.image.borrow().clone();
        let term = self.raft.server_metrics().borrow().vote.leader_id().term;
        let observed = self.leader.observed().await.ok_or(Failure::NotLeader)?;
        Ok(View { term, image, observed, quorum: self.caught_up(term, committed).await })
    }

    /// The quorum, once all that are heard hold what was committed, or have not come to it in [`BEHIND`]: the newest
    /// entry may just be on its way to them.
    async fn caught_up(&self, term: u64, committed: u64) -> Quorum {
        let deadline = Instant::now() + BEHIND;
        let mut metrics = self.raft.metrics();
        loop {
            metrics.mark_unchanged();
            let quorum = self.quorum(term, committed);
            let is_behind = |m: &Member| m.heard && !m.caught_up;
            let behind = quorum.voters.iter().chain(&quorum.observers).any(is_behind);
            if !behind || !matches!(tokio::time::timeout_at(deadline, metrics.changed()).await, Ok(Ok(()))) {
                return quorum;
            }
        }
    }

    fn quorum(&self, term: u64, committed: u64) -> Quorum {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let last_index = metrics.last_log_index.unwrap_or_default();
        let membership = metrics.membership_config.membership();
        let member = |id: BrokerId| {
            let place = membership.get_node(&id).map(|node| node.0.clone());
            if id == self.me {
                let (matched, heard_at) = (Some(last_index), Some(Instant::now()));
                return Member { id, matched, heard: true, heard_at, place, caught_up: true };
            }
            let matched = metrics.replication.as_ref().and_then(|r| *r.get(&id)?).map(|id| id.index);
            let heard_at = self.acks.of(id, term);
            let heard = heard_at.is_some_and(|at| at.elapsed() <= self.lately);
            let caught_up = heard && matched.is_some_and(|index| index >= committed);
            Member { id, matched, heard, heard_at, place, caught_up }
        };
        let voters: BTreeSet<BrokerId> = membership.voter_ids().collect();
        Quorum {
            last_index,
            committed,
            voters: voters.into_iter().map(member).collect(),
            observers: membership.learner_ids().map(member).collect(),
            changing: membership.get_joint_config().len() > 1,
        }
    }
}

impl Quorum {
    pub(super) fn is_voter(&self, id: BrokerId) -> bool {
        self.voters.iter().any(|v| v.id == id)
    }

    /// The voters that are not caught up, if without `stopped` those that are make no majority. The only voter of a
    /// cluster is like the only replica of a partition: without it nothing goes on, and nothing can be waited for.
    pub(super) fn votes_missing_without(
        &self,
        stopped: BrokerId,
        stops: impl Fn(BrokerId) -> bool,
    ) -> Option<Vec<BrokerId>> {
        let is_left = |v: &&Member| v.caught_up && v.id != stopped && !stops(v.id);
        let left = self.voters.iter().filter(is_left).count();
        if left > self.voters.len() / 2 || (self.voters.len() == 1 && self.is_voter(stopped)) {
            return None;
        }
        Some(self.voters.iter().filter(|v| !is_left(v)).map(|v| v.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which voters are caught up, who is stopped, and who is missing then.
    type Case = (&'static [bool], i32, Option<&'static [i32]>);

    #[test]
    fn a_majority_of_caught_up_voters_has_to_be_left() {
        let table: [Case; 8] = [
            (&[true], 0, None),
            (&[true], 7, None),
            (&[true, true, true], 0, None),
            (&[true, true, false], 2, None),
            (&[true, true, false], 0, Some(&[0, 2])),
            (&[true, true, false], 7, None),
            (&[true, true, true, false, true], 0, None),
            (&[true, true, true, false, false], 0, Some(&[0, 3, 4])),
        ];
        for (caught_up, stopped, expected) in table {
            let voter = |(id, caught_up): (i32, &bool)| Member {
                id: BrokerId(id),
                matched: None,
                heard: true,
                heard_at: None,
                place: None,
                caught_up: *caught_up,
            };
            let voters = (0..).zip(caught_up).map(voter).collect();
            let quorum = Quorum { last_index: 0, committed: 0, voters, observers: Vec::new(), changing: false };
            let missing = quorum.votes_missing_without(BrokerId(stopped), |_| false);
            let expected = expected.map(|ids| ids.iter().copied().map(BrokerId).collect::<Vec<_>>());
            assert_eq!(missing, expected, "{caught_up:?} without {stopped}");
            let stops = quorum.votes_missing_without(BrokerId(7), |id| id == BrokerId(stopped));
            assert_eq!(stops, if caught_up.len() == 1 && stopped == 0 { Some(vec![BrokerId(0)]) } else { missing });
        }
    }
}
