//! Raft's messages to the peers, and what their answers prove: that this broker was still the leader.
#![expect(clippy::result_large_err, reason = "openraft asks for its own errors")]

use super::acks::Acks;
use super::electorate::Electorate;
use super::encoding;
use super::handover::HandedOver;
use super::link::{CallError, Link};
use super::links::Links;
use super::proto;
use super::raft_log::LogStore;
use super::silence::{Said, Silence};
use super::types::{
    AppendEntriesRequest, AppendEntriesResponse, LogId, Node, Snapshot, SnapshotMeta, SnapshotResponse, TypeConfig,
    Vote, VoteRequest, VoteResponse,
};
use chronik_core::ids::BrokerId;
use openraft::error::{
    Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;

/// How long openraft leaves an unreachable peer alone; how often it is dialled is up to its [`Link`].
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries to ask for one vote.
const VOTE_PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a snapshot in one message.
const CHUNK_BYTES: usize = 128 * 1024;

/// Encoded bytes from which on a single entry is a large one: it may take longer on its way than openraft waits, which is
/// one heartbeat.
const LARGE_BYTES: usize = 64 * 1024;
/// How long such an entry may take.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

type RpcError = RPCError<BrokerId, Node, RaftError<BrokerId>>;

/// Makes the network's end for each peer.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) me: BrokerId,
    pub(super) links: Links,
    pub(super) log: LogStore,
    pub(super) handed_over: HandedOver,
    pub(super) silence: Silence,
    pub(super) acks: Acks,
    pub(super) electorate: Electorate,
    /// What a voter accepted longer ago says nothing: it may follow another leader by now.
    pub(super) lately: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: BrokerId, node: &Node) -> Peer {
        self.links.learn(target, node.0.clone());
        Peer { target, link: self.links.to(target), network: self.clone(), large: None }
    }
}

/// One peer.
pub(super) struct Peer {
    target: BrokerId,
    link: Option<Link>,
    network: Network,
    large: Option<Large>,
}

/// A large entry on its way. openraft gives up waiting and asks for the same again; sent anew each time it would never
/// arrive, and nothing behind it.
struct Large {
    vote: Vote,
    entry: LogId,
    sent: Instant,
    answer: JoinHandle<Result<proto::RaftResponse, CallError>>,
}

impl Drop for Large {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Peer {
    fn body(message: &impl Serialize) -> Result<Vec<u8>, RpcError> {
        encoding::encode(message).map_err(|e| RPCError::Network(NetworkError::new(&e)))
    }

    fn caller(&self) -> proto::Caller {
        self.network.links.caller(self.target)
    }

    /// Whether what it begins with is on its way already.
    fn is_sending(&self, rpc: &AppendEntriesRequest) -> bool {
        let Some(entry) = rpc.entries.first() else { return false };
        self.large.as_ref().is_some_and(|large| large.vote == rpc.vote && large.entry == entry.log_id)
    }

    /// Waits for the answer to the entry that is on its way, however often it is asked for.
    async fn large_answer(&mut self) -> Result<(proto::RaftResponse, Instant), CallError> {
        let Some(large) = &mut self.large else { return Err(CallError::NotConnected) };
        let sent = large.sent;
        let answer = (&mut large.answer).await;
        self.large = None;
        let lost = |_| CallError::Lost(Status::internal("the call was given up"));
        Ok((answer.map_err(lost).flatten()?, sent))
    }

    fn followed_by_others(&self, vote: &Vote) -> bool {
        let Network { me, electorate, lately, acks, .. } = &self.network;
        acks.by_majority((*me, vote.leader_id().term), electorate, |id| id != self.target, *lately)
    }

    fn link(&self) -> Result<&Link, RpcError> {
        self.link.as_ref().ok_or_else(|| unreachable_because(&Status::unavailable("no address")))
    }
}

fn unreachable_because(status: &Status) -> RpcError {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(status.message().to_owned())))
}

fn rpc_error(error: CallError) -> RpcError {
    match error {
        CallError::NotConnected => unreachable_because(&Status::unavailable("not connected")),
        CallError::Lost(status) | CallError::Refused(status) => unreachable_because(&status),
    }
}

fn answer<T: DeserializeOwned>(response: &proto::RaftResponse) -> Result<T, RpcError> {
    encoding::decode(&response.body).map_err(|e| RPCError::Network(NetworkError::new(&e)))
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse, RpcError> {
        if self.is_sending(&rpc) && rpc.entries.len() > 1 {
            // Something was appended meanwhile. Asked for alone it is waited for, and not sent again.
            return Err(PayloadTooLarge::new_entries_hint(1).into());
        }
        let mut large_message = false;
        let result = if self.is_sending(&rpc) {
            self.large_answer().await
        } else {
            if !rpc.entries.is_empty() {
                self.large = None;
            }
            let followed_by_others = self.followed_by_others(&rpc.vote);
            let body = Self::body(&rpc)?;
            large_message = body.len() > LARGE_BYTES;
            let large = (rpc.entries.len() == 1 && large_message).then(|| rpc.entries[0].log_id);
            let request = proto::RaftRequest { caller: Some(self.caller()), body, followed_by_others };
            if let Some(entry) = large {
                let (link, sent) = (self.link()?.clone(), Instant::now());
                let (acks, target) = (self.network.acks.clone(), self.target);
                let call = move |mut client: super::link::Client| async move {
                    let _large = acks.sends_large(target);
                    client.append_entries(request).await
                };
                let answer = tokio::spawn(async move { link.call(LARGE_TIMEOUT, call).await });
                self.large = Some(Large { vote: rpc.vote, entry, sent, answer });
                self.large_answer().await
            } else {
                let mut sent = Instant::now();
                let call = |mut client: super::link::Client| {
                    sent = Instant::now();
                    async move { client.append_entries(request).await }
                };
                // Before openraft gives up by itself, which would not make a message smaller.
                let patience = if large_message { option.hard_ttl() * 9 / 10 } else { option.hard_ttl() };
                let response = self.link()?.call(patience, call).await;
                response.map(|response| (response, sent))
            }
        };
        let (response, sent) = match result {
            Ok((response, sent)) => (answer(&response)?, sent),
            // Sent again as it was it would take as long again.
            Err(CallError::Lost(_)) if rpc.entries.len() > 1 && large_message => {
                return Err(PayloadTooLarge::new_entries_hint(rpc.entries.len() as u64 / 2).into());
            }
            Err(error) => return Err(rpc_error(error)),
        };
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.network.acks.accepted(self.target, rpc.vote.leader_id().term, sent);
        }
        Ok(response)
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        let (caller, body) = (Some(self.caller()), Self::body(&rpc)?);
        let founders = self.network.log.standing().founders_to_send();
        let handed_over = self.network.handed_over.for_election(rpc.vote.leader_id().term);
        let request = proto::VoteRequest { caller, body, founders, handed_over };
        let link = self.link()?;
        let deadline = Instant::now() + option.hard_ttl();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (request, again) = (request.clone(), Instant::now() + VOTE_PAUSE);
            // openraft asks once an election, and a connection that was not used since the peer's restart is found
            // dead only by this call.
            match link.call(left, |mut client| async move { client.vote(request).await }).await {
                Ok(response) => {
                    let vote: VoteResponse = answer(&response)?;
                    // Before raft counts it.
                    if vote.vote_granted {
                        // Who does not say may have heard a leader just now.
                        let silence = Duration::from_millis(response.silence_ms.unwrap_or_default());
                        let leases_run = Duration::from_millis(response.leases_run_ms);
                        let term = rpc.vote.leader_id().term;
                        self.network.silence.told(self.target, term, Instant::now(), Said { silence, leases_run });
                    }
                    return Ok(vote);
                }
                Err(CallError::NotConnected | CallError::Lost(_)) if again < deadline => {
                    tokio::time::sleep_until(again).await;
                }
                Err(error) => return Err(rpc_error(error)),
            }
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig, Fatal<BrokerId>>> {
        let head: (Vote, SnapshotMeta) = (vote, snapshot.meta);
        let head = encoding::encode(&head).map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
        let followed_by_others = self.followed_by_others(&vote);
        let first = proto::SnapshotChunk { caller: Some(self.caller()), head, data: Vec::new(), followed_by_others };
        let data = *snapshot.snapshot;
        let chunks = (0..data.len().div_ceil(CHUNK_BYTES)).map(move |i| {
            let data = data[i * CHUNK_BYTES..((i + 1) * CHUNK_BYTES).min(data.len())].to_vec();
            proto::SnapshotChunk { data, ..Default::default() }
        });
        let stream = futures::stream::iter(std::iter::once(first).chain(chunks));
        let unreachable = |why: String| StreamingError::Unreachable(Unreachable::new(&io::Error::other(why)));
        let Some(link) = &self.link else { return Err(unreachable("no address".into())) };
        let (acks, target) = (self.network.acks.clone(), self.target);
        let call = link.call(option.hard_ttl(), move |mut client| async move {
            let _large = acks.sends_large(target);
            client.install_snapshot(stream).await
        });
        let response = tokio::select! {
            response = call => response.map_err(|e| unreachable(format!("{e:?}")))?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        encoding::decode(&response.body).map_err(|e| StreamingError::Network(NetworkError::new(&e)))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
