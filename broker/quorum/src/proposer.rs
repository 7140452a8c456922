//! Proposing commands on the leader: those that come while an entry is on its way share the next one.

use super::handover::Yielding;
use super::types::{Batch, Raft};
use chronik_core::cluster::{Image, MetadataCommand, Outcome};
use chronik_core::ids::{BrokerId, MetadataOffset};
use tokio::sync::{mpsc, oneshot, watch};

/// Commands of one entry at most.
const BATCH: usize = 64;

/// The way to propose something while this broker is the leader. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proposer {
    proposals: mpsc::UnboundedSender<Proposal>,
    image: watch::Receiver<Image>,
    pub(super) yielding: Yielding,
}

type Reply = oneshot::Sender<Result<(Outcome, MetadataOffset), ProposeError>>;

struct Proposal {
    command: MetadataCommand,
    /// The only term in which it may be proposed.
    term: Option<u64>,
    reply: Reply,
}

/// Why a command has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProposeError {
    /// This broker is not the leader, or is giving that away: nothing was proposed.
    NotLeader,
    /// It may take effect or not: leadership was lost meanwhile, or the broker is stopping.
    Unknown,
}

impl Proposer {
    /// Starts the proposing task; it ends with the last handle.
    pub(super) fn start(me: BrokerId, raft: Raft, image: watch::Receiver<Image>, yielding: Yielding) -> Self {
        let (proposals, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(me, raft, queue, yielding.clone()));
        Self { proposals, image, yielding }
    }

    /// Proposes a command, and waits until it is applied here. One that the cluster's metadata version does not allow
    /// is refused, and not written: a broker that cannot read it would stop at it.
    pub(super) async fn propose(&self, command: MetadataCommand) -> Result<(Outcome, MetadataOffset), ProposeError> {
        self.propose_at(None, command).await
    }

    /// The same, in that term only: what a leader found out in one says nothing in the next. A leader in between may
    /// have given a lease to a broker that was to be fenced.
    pub(super) async fn propose_in(
        &self,
        term: u64,
        command: MetadataCommand,
    ) -> Result<(Outcome, MetadataOffset), ProposeError> {
        self.propose_at(Some(term), command).await
    }

    async fn propose_at(
        &self,
        term: Option<u64>,
        command: MetadataCommand,
    ) -> Result<(Outcome, MetadataOffset), ProposeError> {
        if let Some(refused) = not_allowed(&self.image.borrow(), &command) {
            return Ok(refused);
        }
        let (reply, answer) = oneshot::channel();
        if self.proposals.send(Proposal { command, term, reply }).is_err() {
            return Err(ProposeError::NotLeader);
        }
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }
}

/// The refusal of a command that the cluster's metadata version, as far as it is known here, does not allow. The
/// version only grows, so nothing is let through that is not allowed. Before there is a cluster nothing is known.
pub(super) fn not_allowed(image: &Image, command: &MetadataCommand) -> Option<(Outcome, MetadataOffset)> {
    image.cluster_id?;
    image.allows(command).err().map(|refusal| (Err(refusal), image.offset))
}

async fn run(me: BrokerId, raft: Raft, mut queue: mpsc::UnboundedReceiver<Proposal>, yielding: Yielding) {
    let mut proposals = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut proposals, BATCH).await > 0 {
        // Who gave up while the ones before were on their way asks again: that would be in the log twice.
        proposals.retain(|p| !p.reply.is_closed());
        if proposals.is_empty() {
            continue;
        }
        // openraft says "forward to the leader" of an entry that it never took and of one that was overwritten
        // by a new leader alike; only what is known before is certain.
        let mut metrics = raft.server_metrics();
        let (leads, term) = {
            let metrics = metrics.borrow();
            (metrics.current_leader == Some(me), metrics.vote.leader_id().term)
        };
        // A log that grows would never be all in the successor's.
        let may_propose = leads && !yielding.is_in(term);
        let (now, not_now): (Vec<_>, Vec<_>) =
            proposals.drain(..).partition(|p| may_propose && p.term.is_none_or(|t| t == term));
        refuse(not_now.into_iter().map(|p| p.reply), ProposeError::NotLeader);
        if now.is_empty() {
            continue;
        }
        let (commands, replies): (Vec<_>, Vec<_>) = now.into_iter().map(|p| (p.command, p.reply)).unzip();
        let result = tokio::select! {
            result = raft.client_write(Batch(commands)) => result,
            // openraft has no answer for an entry whose place a snapshot of the next leader takes.
            _ = metrics.wait_for(|m| m.current_leader != Some(me) || m.vote.leader_id().term != term) => {
                refuse(replies, ProposeError::Unknown);
                continue;
            }
        };
        // Who asked may have given up: then nobody takes the answer.
        match result {
            Ok(written) => {
                let offset = MetadataOffset(written.log_id.index);
                for (reply, outcome) in replies.into_iter().zip(written.data) {
                    let _ = reply.send(Ok((outcome, offset)));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a metadata entry has no known outcome");
                refuse(replies, ProposeError::Unknown);
            }
        }
    }
}

fn refuse(replies: impl IntoIterator<Item = Reply>, why: ProposeError) {
    for reply in replies {
        let _ = reply.send(Err(why));
    }
}
