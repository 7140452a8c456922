//! Proposing commands on the leader: those that come while an entry is on its way share the next one.

use super::electorate::Electorate;
use super::encoding;
use super::handover::Yielding;
use super::types::{Batch, Raft};
use chronik_core::cluster::{Image, MetadataCommand, Outcome, Refusal};
use chronik_core::ids::{BrokerId, MetadataOffset};
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands of one entry at most.
const BATCH: usize = 64;
/// Encoded bytes of one entry at most, a quarter of what a message of raft's may have: one that does not fit is never
/// replicated, and nothing behind it is. The largest that the product makes itself stays below it: a registration after a
/// disk lost something of every partition that a broker may have.
const MAX_ENTRY_BYTES: usize = super::whole_messages::MAX_MESSAGE_BYTES / 4;

/// Bytes of an entry that several commands share: they gain nothing by more, and each goes to all members at once within
/// one of raft's heartbeats.
const SHARED_ENTRY_BYTES: usize = 256 << 10;

/// The way to propose something while this broker is the leader. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proposer {
    proposals: mpsc::UnboundedSender<Proposal>,
    image: watch::Receiver<Image>,
    electorate: Electorate,
    pub(super) yielding: Yielding,
}

type Reply = oneshot::Sender<Result<(Outcome, MetadataOffset), ProposeError>>;

struct Proposal {
    command: MetadataCommand,
    /// Encoded.
    bytes: usize,
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
    pub(super) fn start(
        me: BrokerId,
        raft: Raft,
        image: watch::Receiver<Image>,
        electorate: Electorate,
        yielding: Yielding,
    ) -> Self {
        let (proposals, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(me, raft, queue, yielding.clone()));
        Self { proposals, image, electorate, yielding }
    }

    /// The image as it is here.
    pub(super) fn image(&self) -> Image {
        self.image.borrow().clone()
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
        let bytes = match keeps_voters(&command, |id| self.electorate.is_voter(id)).and_then(|()| size(&command)) {
            Ok(bytes) => bytes,
            Err(refusal) => return Ok((Err(refusal), self.image.borrow().offset)),
        };
        let (reply, answer) = oneshot::channel();
        if self.proposals.send(Proposal { command, bytes, term, reply }).is_err() {
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

/// Refuses to forget a broker that votes: it would go on counting to the majority that everything needs, and nobody would
/// see that it is missing. Who votes is not in the image, so that is asked here, where the membership of the leader decides.
fn keeps_voters(command: &MetadataCommand, votes: impl Fn(BrokerId) -> bool) -> Result<(), Refusal> {
    match command {
        MetadataCommand::UnregisterBroker { id } if votes(*id) => Err(Refusal::BrokerInUse(format!(
            "broker {id} votes in the controller quorum: remove its vote first (chronik quorum remove-voter {id}, or \
             kafka-metadata-quorum remove-controller)"
        ))),
        _ => Ok(()),
    }
}

/// Encoded bytes of a command, or its refusal if no entry may have as many.
fn size(command: &MetadataCommand) -> Result<usize, Refusal> {
    // What cannot be encoded fails where it is written.
    let bytes = encoding::encode(command).map_or(0, |bytes| bytes.len());
    if bytes <= MAX_ENTRY_BYTES {
        return Ok(bytes);
    }
    let text =
        format!("{bytes} bytes of metadata are changed at once, of {MAX_ENTRY_BYTES} at most: ask for less at once");
    Err(Refusal::PolicyViolation(text))
}

async fn run(me: BrokerId, raft: Raft, mut queue: mpsc::UnboundedReceiver<Proposal>, yielding: Yielding) {
    let mut waiting = VecDeque::new();
    let mut proposals = Vec::with_capacity(BATCH);
    loop {
        if waiting.is_empty() {
            if queue.recv_many(&mut proposals, BATCH).await == 0 {
                return;
            }
            waiting.extend(proposals.drain(..));
        }
        // Who gave up while the ones before were on their way asks again: that would be in the log twice.
        waiting.retain(|p| !p.reply.is_closed());
        let proposals = next_entry(&mut waiting);
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
            proposals.into_iter().partition(|p| may_propose && p.term.is_none_or(|t| t == term));
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

/// The first ones that fit one entry, and one at least.
fn next_entry(waiting: &mut VecDeque<Proposal>) -> Vec<Proposal> {
    let mut bytes = 0;
    let fits = |p: &&Proposal| {
        bytes += p.bytes;
        bytes <= SHARED_ENTRY_BYTES
    };
    let n = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
    waiting.drain(..n).collect()
}

fn refuse(replies: impl IntoIterator<Item = Reply>, why: ProposeError) {
    for reply in replies {
        let _ = reply.send(Err(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Election, Endpoint, Member, SupportedVersions};
    use chronik_core::ids::{DirectoryId, IncarnationId, PartitionId, TopicId, TopicPartition};

    fn elect(partitions: usize) -> MetadataCommand {
        let named = (0..partitions).map(|n| TopicPartition {
            topic: TopicId::default(),
            partition: PartitionId(i32::try_from(n).expect("few")),
        });
        MetadataCommand::ElectLeaders { partitions: Some(named.collect()), election: Election::Preferred }
    }

    #[test]
    fn an_entry_that_no_message_holds_is_refused_before_it_is_written() {
        assert!(size(&elect(100_000)).is_ok());
        let of_all = |n| TopicPartition { topic: TopicId(uuid::Uuid::max()), partition: PartitionId(n) };
        let endpoint = Endpoint { host: "here".into(), port: 1 };
        let registers = MetadataCommand::RegisterBroker {
            member: Member { id: BrokerId(0), kafka: endpoint.clone(), replication: endpoint, rack: None },
            directory: DirectoryId(uuid::Uuid::max()),
            incarnation: IncarnationId(uuid::Uuid::max()),
            damaged: (0..50_000).map(of_all).collect(),
            versions: SupportedVersions::HERE,
        };
        assert!(size(&registers).is_ok(), "it could never register again");
        let refused = size(&elect(400_000));
        assert!(
            matches!(&refused, Err(Refusal::PolicyViolation(text)) if text.contains("ask for less")),
            "{refused:?}"
        );
    }

    #[test]
    fn a_voter_is_not_forgotten() {
        let forgets =
            |id| keeps_voters(&MetadataCommand::UnregisterBroker { id: BrokerId(id) }, |id| id == BrokerId(1));
        assert_eq!(forgets(2), Ok(()));
        let refused = forgets(1);
        assert!(
            matches!(&refused, Err(Refusal::BrokerInUse(text)) if text.contains("chronik quorum remove-voter 1")),
            "{refused:?}"
        );
    }

    #[test]
    fn commands_share_an_entry_as_far_as_they_fit() {
        let proposal = |bytes| Proposal { command: elect(0), bytes, term: None, reply: oneshot::channel().0 };
        let half = SHARED_ENTRY_BYTES / 2;
        let mut waiting: VecDeque<_> = [half, half, 1, MAX_ENTRY_BYTES, 2].map(proposal).into();
        let mut entries = Vec::new();
        while !waiting.is_empty() {
            entries.push(next_entry(&mut waiting).iter().map(|p| p.bytes).collect::<Vec<_>>());
        }
        assert_eq!(entries, [vec![half, half], vec![1], vec![MAX_ENTRY_BYTES], vec![2]]);
    }
}
