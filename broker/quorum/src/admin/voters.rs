//! Who votes in the controller quorum, changed one voter at a time.

use super::confirm::{Member, View};
use super::permits::about_brokers;
use super::{Calls, Failure, TIMEOUT, unsure};
use crate::handover;
use crate::types::Node;
use api::refusal::Kind;
use chronik_admin as api;
use chronik_core::cluster::{CaughtUp, VoterChange, VoterObjection, next_voter_change};
use chronik_core::ids::BrokerId;
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// How long another voter may take to take over from a leader whose vote is removed: less than one try of a call.
const HANDOVER: Duration = Duration::from_secs(1);

/// Who was heard lately has so long to answer once more.
const FRESH: Duration = Duration::from_secs(1);
/// Between looks at who has.
const PAUSE: Duration = Duration::from_millis(20);

/// The voters that are being changed to, if they are. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Changing(Arc<Mutex<Option<BTreeSet<BrokerId>>>>);

/// For as long as a change is under way.
struct UnderWay(Changing);

impl Changing {
    /// Whether a change is under way on this broker.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn begin(&self, wanted: &BTreeSet<BrokerId>) -> Result<UnderWay, Status> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            None => {
                *current = Some(wanted.clone());
                Ok(UnderWay(self.clone()))
            }
            // The same call once more, as its answer was lost.
            Some(other) if other == wanted => Err(unsure("that change of the voters is under way")),
            Some(_) => Err(Status::failed_precondition("another change of the voters is under way")),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Calls {
    pub(super) async fn change_voters(
        &self,
        request: api::ChangeVotersRequest,
    ) -> Result<api::ChangeVotersResponse, Failure> {
        let set = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<BTreeSet<_>>();
        let (wanted, seen) = (set(&request.voters), set(&request.seen));
        let _under_way = self.changing.begin(&wanted)?;
        let mut first = true;
        loop {
            let (view, voters, observers) = self.fresh_view().await?;
            let ids: BTreeSet<BrokerId> = voters.keys().copied().collect();
            if std::mem::take(&mut first) && !seen.is_empty() && ids != seen && ids != wanted {
                let text = format!("others vote by now: {}", names(&ids));
                return Err(Status::failed_precondition(text).into());
            }
            if view.quorum.changing {
                self.change_membership(unfinished()).await?;
                continue;
            }
            match next_voter_change(self.me, &voters, &observers, &wanted) {
                Ok(Some(change)) => self.change_voter(change).await?,
                Ok(None) => return Ok(api::ChangeVotersResponse::default()),
                Err(objection) => return refused(&objection),
            }
        }
    }

    /// A view, once all that had been heard lately have answered again, or have not in time; and who is caught up by it.
    /// One that has just gone is not counted on.
    async fn fresh_view(&self) -> Result<(View, CaughtUp, CaughtUp), Failure> {
        let asked = Instant::now();
        loop {
            let view = self.view().await?;
            let answered = |m: &Member| m.id == self.me || m.heard_at >= Some(asked);
            let mut members = view.quorum.voters.iter().chain(&view.quorum.observers);
            if members.all(|m| !m.heard || answered(m)) || asked.elapsed() > FRESH {
                let caught_up =
                    |members: &[Member]| members.iter().map(|m| (m.id, m.caught_up && answered(m))).collect();
                let (voters, observers) = (caught_up(&view.quorum.voters), caught_up(&view.quorum.observers));
                return Ok((view, voters, observers));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn change_voter(&self, change: VoterChange) -> Result<(), Failure> {
        match change {
            VoterChange::Add(id) => {
                tracing::info!(broker = %id, "broker {id} becomes a voter");
                self.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
            }
            VoterChange::Remove(id) if id == self.me => {
                let led_by = self.raft.server_metrics().borrow().vote;
                if !self.handover.run(HANDOVER).await {
                    // It leads no more: the others elect one.
                    handover::forget_leader(&self.raft, |vote| *vote == led_by).await;
                }
                Err(Failure::NotLeader)
            }
            VoterChange::Remove(id) => {
                tracing::info!(broker = %id, "broker {id} votes no more");
                self.change_membership(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
            }
        }
    }

    /// Changes who votes or who is a member, by one entry, or two for who votes. Who is removed from the voters stays an
    /// observer.
    pub(super) async fn change_membership(&self, change: ChangeMembers<BrokerId, Node>) -> Result<(), Failure> {
        match tokio::time::timeout(TIMEOUT, self.raft.change_membership(change, true)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(Failure::NotLeader),
            Ok(Err(error)) => Err(unsure(&error.to_string()).into()),
            Err(_) => Err(unsure("the outcome is not known").into()),
        }
    }
}

/// What ends a change whose second entry was never written, as its leader stopped before: the voters stay those that
/// they were being changed to.
pub(crate) fn unfinished() -> ChangeMembers<BrokerId, Node> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

fn names(ids: &BTreeSet<BrokerId>) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn refused(objection: &VoterObjection) -> Result<api::ChangeVotersResponse, Failure> {
    let brokers = match objection {
        VoterObjection::Nobody => return Err(Status::invalid_argument(objection.to_string()).into()),
        VoterObjection::Unknown(_) => return Err(Status::not_found(objection.to_string()).into()),
        VoterObjection::Behind(id) => vec![*id],
        VoterObjection::NoMajority { without, .. } => vec![*without],
        VoterObjection::StillNoMajority { behind, .. } => behind.clone(),
    };
    Ok(api::ChangeVotersResponse { refusals: vec![about_brokers(Kind::Votes, objection.to_string(), &brokers)] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn two_changes_at_once_are_refused_and_the_same_one_is_waited_for() {
        let set = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<BTreeSet<_>>();
        let changing = Changing::default();
        let first = changing.begin(&set(&[0, 1, 2])).unwrap_or_else(|_| panic!("nothing is under way"));
        let code = |ids: &[i32]| changing.begin(&set(ids)).err().map(|status| status.code());
        assert_eq!(code(&[0, 1]), Some(Code::FailedPrecondition));
        assert_eq!(code(&[0, 1, 2]), Some(Code::Unavailable));
        drop(first);
        assert_eq!(code(&[0, 1]), None);
    }
}
