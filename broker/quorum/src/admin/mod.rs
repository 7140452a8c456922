//! The admin API ([`chronik_admin`]): what the controller's leader answers, and how every other broker passes a call on
//! to it.
//!
//! Whatever is answered has been confirmed: the leader asks a majority of the voters whether it still leads (a read
//! index) after the call has come, and answers from what it has applied by then. Who is not sure says so.

mod brokers;
mod calls;
mod confirm;
mod drain;
mod facts;
mod lags;
mod permits;
mod rebalance;
mod server;
mod stop;
mod survey;
mod voters;

pub use server::serve;
pub(super) use voters::{Changing, unfinished};

use super::acks::Acks;
use super::handover::Handover;
use super::lags::LagsQuestion;
use super::leader::LeaderHandle;
use super::link::{CallError, Client};
use super::links::Links;
use super::proposer::{ProposeError, Proposer};
use super::proto;
use super::requests::{Backoff, changed};
use super::starts::Starts;
use super::types::Raft;
use calls::Call;
use chronik_core::cluster::{Image, MetadataCommand, Outcome};
use chronik_core::ids::{BrokerId, IncarnationId, MetadataOffset};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// A call has to have an answer by then, wherever the leader goes meanwhile.
const DEADLINE: Duration = Duration::from_secs(4);
/// One try at one leader.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a call is answered from, on the broker that leads the controller.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) me: BrokerId,
    pub(super) incarnation: IncarnationId,
    /// A voter that has answered longer ago than this may be gone.
    pub(super) lately: Duration,
    pub(super) raft: Raft,
    pub(super) leader: LeaderHandle,
    pub(super) proposer: Proposer,
    pub(super) links: Links,
    pub(super) acks: Acks,
    pub(super) image: watch::Receiver<Image>,
    pub(super) stop: CancellationToken,
    pub(super) handover: Handover,
    pub(super) changing: Changing,
    /// Answers what this broker knows of followers.
    pub(super) lags: mpsc::Sender<LagsQuestion>,
    /// The brokers that open their logs.
    pub(super) starts: Starts,
}

/// Why a call has no answer.
#[derive(Debug)]
enum Failure {
    /// This broker is not the leader: nothing was done.
    NotLeader,
    /// What the client is told.
    Refused(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Calls {
    /// A call that another broker passes on, answered here if this one leads.
    pub(super) async fn forwarded(&self, name: &str, body: &[u8]) -> proto::AdminResponse {
        match calls::dispatch(self, name, body).await {
            Ok(body) => proto::AdminResponse { body, ..Default::default() },
            Err(Failure::NotLeader) => proto::AdminResponse { not_leader: true, ..Default::default() },
            Err(Failure::Refused(status)) => proto::AdminResponse {
                code: status.code().into(),
                message: status.message().to_owned(),
                ..Default::default()
            },
        }
    }

    /// Has a command in the metadata log, and says what came of it.
    async fn propose(&self, command: MetadataCommand) -> Result<(Outcome, MetadataOffset), Failure> {
        match tokio::time::timeout(TIMEOUT, self.proposer.propose(command)).await {
            Ok(Ok(decided)) => Ok(decided),
            Ok(Err(ProposeError::NotLeader)) => Err(Failure::NotLeader),
            Ok(Err(ProposeError::Unknown)) | Err(_) => Err(unsure("the outcome is not known").into()),
        }
    }
}

/// The admin API on any broker. Cheap to clone.
#[derive(Clone)]
pub struct AdminHandle {
    pub(super) calls: Calls,
    leader: watch::Receiver<Option<BrokerId>>,
}

impl AdminHandle {
    pub(super) fn new(calls: Calls, leader: watch::Receiver<Option<BrokerId>>) -> Self {
        Self { calls, leader }
    }

    /// Has a call answered by whoever leads. As every call is idempotent, one of unknown outcome is made again. Who gets no
    /// answer is told which voters there are.
    async fn call<C: Call>(&self, request: C) -> Result<C::Answer, Status> {
        let deadline = Instant::now() + DEADLINE;
        let body = request.encode_to_vec();
        let (mut leader, mut changes) = (self.leader.clone(), self.leader.clone());
        let mut last = unsure("nobody is known to lead the controller quorum");
        let mut backoff = Backoff::default();
        while Instant::now() < deadline {
            let at = *leader.borrow_and_update();
            let ask = async {
                match at {
                    None => Err(Failure::NotLeader),
                    Some(id) if id == self.calls.me => request.clone().answer(&self.calls).await,
                    Some(id) => self.at::<C>(id, body.clone()).await,
                }
            };
            let tried = tokio::select! {
                tried = tokio::time::timeout_at(deadline, ask) => tried,
                // Whoever leads now is asked at once.
                Ok(_) = changes.wait_for(|now| now.is_some() && *now != at) => continue,
            };
            match tried {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failure::Refused(status))) if status.code() != Code::Unavailable => return Err(status),
                Ok(Err(Failure::Refused(status))) => last = status,
                Ok(Err(Failure::NotLeader)) => {}
                Err(_) => last = unsure("the controller's leader has not answered in time"),
            }
            // Nobody is asked before there is a leader.
            let until = if at.is_some() { deadline.min(Instant::now() + backoff.pause()) } else { deadline };
            let _ = tokio::time::timeout_at(until, changed(&mut leader)).await;
        }
        Err(self.with_survey(&last).await)
    }

    async fn at<C: Call>(&self, leader: BrokerId, body: Vec<u8>) -> Result<C::Answer, Failure> {
        let request = admin_request(&self.calls.links, leader, C::NAME, body);
        let call = |mut client: Client| async move { client.admin(request).await };
        match self.calls.links.call(leader, DEADLINE, call).await {
            Ok(answer) => answer_of::<C::Answer>(&answer),
            Err(error) => Err(unsure(&format!("broker {leader}, the controller's leader, {}", said(&error))).into()),
        }
    }
}

fn admin_request(links: &Links, to: BrokerId, name: &str, body: Vec<u8>) -> proto::AdminRequest {
    proto::AdminRequest { caller: Some(links.caller(to)), name: name.into(), body }
}

fn answer_of<A: prost::Message + Default>(answer: &proto::AdminResponse) -> Result<A, Failure> {
    if answer.not_leader {
        return Err(Failure::NotLeader);
    }
    if answer.code != 0 {
        return Err(Status::new(Code::from_i32(answer.code), answer.message.clone()).into());
    }
    A::decode(&*answer.body).map_err(|_| Status::internal("the answer of a peer is not understood").into())
}

fn said(error: &CallError) -> String {
    match error {
        CallError::NotConnected => "is not reached".into(),
        CallError::Lost(status) => format!("did not answer: {}", status.message()),
        CallError::Refused(status) => format!("refused: {}", status.message()),
    }
}

/// Nobody can be sure at the moment: never an empty answer instead.
fn unsure(why: &str) -> Status {
    Status::unavailable(why)
}
