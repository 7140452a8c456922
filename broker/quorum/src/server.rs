//! The controller port: what peers may ask of this broker. Every request says who calls and whom it means; a
//! stranger, or a call that was meant for somebody else, is refused.

use super::DiskSpace;
use super::admin::Calls;
use super::bootstrap;
use super::connections::{self, Connection};
use super::damages::Damages;
use super::elections::Hearing;
use super::electorate::Electorate;
use super::encoding;
use super::handover::{self, HandedOver, Yielding};
use super::leader::{Heartbeat, LeaderHandle, Verdict};
use super::link::{WINDOW_BYTES, wrong_target};
use super::links::Links;
use super::lost_leader::{Candidate, Leadership, LostLeader};
use super::proposer::{ProposeError, Proposer};
use super::proto::controller_server::{Controller, ControllerServer};
use super::proto::{self, heartbeat_response::Standing, proposed::State};
use super::raft_log::LogStore;
use super::registration;
use super::restart::Past;
use super::silence::Silence;
use super::starts::StartProgress;
use super::types::{AppendEntriesRequest, Node, Raft, Snapshot, SnapshotMeta, Vote, VoteRequest};
use super::whole_messages::{self, MAX_MESSAGE_BYTES};
use crate::peers::Peers;
use chronik_core::cluster::{Endpoint, MetadataCommand, Outcome};
use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, MetadataOffset};
use openraft::ChangeMembers;
use openraft::raft::AppendEntriesResponse;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;
use uuid::Uuid;

/// A caller that does not answer a ping for this long is dropped.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A snapshot from a peer is at most this large.
const MAX_SNAPSHOT_BYTES: usize = 512 * 1024 * 1024;

/// What the service answers from.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) me: BrokerId,
    pub(super) directory: DirectoryId,
    pub(super) electorate: Electorate,
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) links: Links,
    pub(super) peers: Peers,
    pub(super) proposer: Proposer,
    pub(super) leader: LeaderHandle,
    pub(super) past: Past,
    pub(super) admin: Calls,
    pub(super) handed_over: HandedOver,
    pub(super) lost_leader: LostLeader,
    pub(super) hearing: Hearing,
    pub(super) silence: Silence,
    pub(super) yielding: Yielding,
}

/// Serves until stopped.
pub(super) async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let server = ControllerServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let result = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(256)
        .layer(MapRequestLayer::new(whole_messages::of_request))
        .add_service(server)
        .serve_with_incoming_shutdown(connections::accepted(listener), stop.cancelled())
        .await;
    if let Err(error) = result {
        tracing::error!(%error, "the controller port is not served any more");
    }
}

impl Service {
    /// Checks who calls, and remembers where it was seen.
    fn admit(&self, caller: Option<&proto::Caller>, from: Option<IpAddr>) -> Result<BrokerId, Status> {
        let caller = caller.ok_or_else(|| Status::invalid_argument("the request does not say who calls"))?;
        if caller.to != self.me.0 {
            return Err(wrong_target(format!("this is broker {}, not {}", self.me, caller.to)));
        }
        if caller.from < 0 || caller.from == self.me.0 {
            return Err(wrong_target(format!("broker {} cannot call broker {}", caller.from, self.me)));
        }
        if let (Some(theirs), Some(ours)) = (cluster_id(&caller.cluster_id)?, self.links.cluster_id())
            && theirs != ours
        {
            let reason = format!("broker {} belongs to cluster {ours}, the caller to {theirs}", self.me);
            return Err(wrong_target(reason));
        }
        let id = BrokerId(caller.from);
        if let Some(ip) = from {
            self.peers.contacted(id, ip);
        }
        Ok(id)
    }

    /// Whether this voter may answer a request for its vote; see [`super::standing`].
    async fn may_vote(&self, founders: &[proto::Founder]) -> Result<(), Status> {
        let mut standing = self.log.standing();
        if standing.proven {
            return Ok(());
        }
        if !self.is_among(founders) {
            return Err(Status::failed_precondition(
                "this voter's disk is new: it does not vote before it has caught up",
            ));
        }
        standing.proven = true;
        self.prove(standing).await
    }

    /// Whether this voter was empty when the cluster was founded, and still is.
    fn is_among(&self, founders: &[proto::Founder]) -> bool {
        let mine = |f: &proto::Founder| f.broker == self.me.0 && f.directory_id == self.directory.0.as_bytes();
        // Who has been in a cluster is no founder of it: if its log is gone, so is what it voted for.
        self.links.cluster_id().is_none() && self.log.last_index().is_none() && founders.iter().any(mine)
    }

    /// Whether this voter would vote for the candidate; see [`super::elections`].
    fn would_vote(&self, candidate: BrokerId, candidacy: &proto::Candidacy) -> bool {
        // An older version does not say who led, and raft decides.
        let log = candidacy.last_log.map(|end| (end.term, end.leader.unwrap_or(i32::MAX), end.index));
        !self.past.waits_for_another_than(candidate)
            && (self.log.standing().proven || self.is_among(&candidacy.founders))
            && self.hearing.would_vote(candidate, log)
    }

    /// Whether this broker may follow the leader that calls; see [`super::standing`].
    fn may_follow(&self, followed_by_others: bool) -> Result<(), Status> {
        if followed_by_others || self.log.standing().proven {
            return Ok(());
        }
        Err(Status::failed_precondition(
            "this broker's disk is new: it follows a leader only that a majority follows without it",
        ))
    }

    async fn prove(&self, standing: super::standing::Standing) -> Result<(), Status> {
        self.log.save_standing(standing).await.map_err(|e| Status::internal(e.to_string()))
    }

    /// A voter on a new disk is as good as any other once it has all that was committed when it came.
    async fn caught_up(&self, leader: &Vote, committed: Option<super::types::LogId>) -> Result<(), Status> {
        let mut standing = self.log.standing();
        if standing.proven {
            return Ok(());
        }
        let Some(committed) = committed else { return Ok(()) };
        if committed.leader_id != *leader.leader_id() || self.log.last_log_id() < Some(committed) {
            return Ok(());
        }
        if self.electorate.is_voter(self.me) {
            tracing::info!("caught up on a new disk: this voter votes from now on");
        }
        standing.proven = true;
        self.prove(standing).await
    }

    fn not_leader(&self) -> proto::ProposeResponse {
        let leader = self.known_leader();
        let place = leader.and_then(|id| self.electorate.place(BrokerId(id)));
        let (leader_host, leader_port) = place.map_or_else(Default::default, |p| (p.host.to_string(), p.port.into()));
        proto::ProposeResponse { not_leader: true, leader, leader_host, leader_port, ..Default::default() }
    }

    fn known_leader(&self) -> Option<i32> {
        self.hearing.leader().map(|id| id.0)
    }

    async fn propose(&self, command: MetadataCommand) -> Result<Response<proto::ProposeResponse>, Status> {
        match self.proposer.propose(command).await {
            Ok((outcome, MetadataOffset(offset))) => {
                let outcome = encode(&outcome)?;
                Ok(Response::new(proto::ProposeResponse { outcome, offset, ..Default::default() }))
            }
            Err(ProposeError::NotLeader) => Ok(Response::new(self.not_leader())),
            Err(ProposeError::Unknown) => Err(Status::unavailable("the outcome is not known")),
        }
    }
}

/// Whether a broker may propose that itself.
fn may_ask(id: BrokerId, command: &MetadataCommand) -> bool {
    match command {
        MetadataCommand::AlterPartition { leader: asking, .. }
        | MetadataCommand::AllocateProducerIds { broker: asking, .. }
        | MetadataCommand::Resign { broker: asking, .. }
        | MetadataCommand::Fence { id: asking, .. } => *asking == id,
        MetadataCommand::CreateCluster { .. }
        | MetadataCommand::RegisterBroker { .. }
        | MetadataCommand::Unfence { .. } => false,
        // What clients ask for, of any broker.
        _ => true,
    }
}

fn proposed(result: Result<(Outcome, MetadataOffset), ProposeError>) -> Result<proto::Proposed, Status> {
    Ok(match result {
        Ok((outcome, MetadataOffset(offset))) => {
            proto::Proposed { state: State::Decided.into(), outcome: encode(&outcome)?, offset }
        }
        Err(ProposeError::NotLeader) => proto::Proposed { state: State::NotLeader.into(), ..Default::default() },
        Err(ProposeError::Unknown) => proto::Proposed { state: State::Unknown.into(), ..Default::default() },
    })
}

fn cluster_id(bytes: &[u8]) -> Result<Option<ClusterId>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = Uuid::from_slice(bytes).map_err(|_| Status::invalid_argument("a cluster id has 16 bytes"))?;
    Ok(Some(ClusterId(id)))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    encoding::decode(body).map_err(|_| Status::invalid_argument("the request's body is not understood"))
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, Status> {
    encoding::encode(message).map_err(|e| Status::internal(e.to_string()))
}

fn raft_answer(message: &impl Serialize) -> Result<Response<proto::RaftResponse>, Status> {
    Ok(Response::new(proto::RaftResponse { body: encode(message)?, silence_ms: None, leases_run_ms: 0 }))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn ip<T>(request: &Request<T>) -> Option<IpAddr> {
    Connection::of(request).and_then(|connection| connection.from)
}

#[tonic::async_trait]
impl Controller for Service {
    async fn probe(&self, request: Request<proto::ProbeRequest>) -> Result<Response<proto::ProbeResponse>, Status> {
        let from = ip(&request);
        let caller = self.admit(request.get_ref().caller.as_ref(), from)?;
        let state = bootstrap::own_state(&self.log, self.links.cluster_id());
        let directory_id = self.directory.0.as_bytes().to_vec();
        let leaderless = self.known_leader().is_none() && self.past.was_led_by_none_but(caller);
        let would_vote = request.get_ref().candidacy.as_ref().map(|candidacy| self.would_vote(caller, candidacy));
        Ok(Response::new(proto::ProbeResponse { state: state.into(), directory_id, leaderless, would_vote }))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::RaftResponse>, Status> {
        let from = ip(&request);
        let request = request.into_inner();
        let candidate = self.admit(request.caller.as_ref(), from)?;
        if self.past.waits_for_another_than(candidate) {
            let reason = "this voter has just come back: it waits for who led when it stopped";
            return Err(Status::failed_precondition(reason));
        }
        // Before raft sees the term, which it would give way to.
        if self.hearing.keeps_leading(request.handed_over) {
            return Err(Status::failed_precondition("this broker leads, and a majority of the voters follows it"));
        }
        let rpc: VoteRequest = decode(&request.body)?;
        self.may_vote(&request.founders).await?;
        if let Some(term) = request.handed_over {
            handover::forget_leader(&self.raft, |vote| vote.leader_id().term == term).await;
        }
        let term = rpc.vote.leader_id().term;
        let vote = self.raft.vote(rpc).await.map_err(stopped)?;
        let mut answer = raft_answer(&vote)?;
        if vote.vote_granted {
            // From now on it accepts nothing of a former leader.
            let said = self.silence.votes(term, Instant::now());
            answer.get_mut().silence_ms = Some(millis(said.silence));
            answer.get_mut().leases_run_ms = millis(said.leases_run);
        }
        Ok(answer)
    }

    async fn take_over(
        &self,
        request: Request<proto::TakeOverRequest>,
    ) -> Result<Response<proto::TakeOverResponse>, Status> {
        let from = ip(&request);
        let proto::TakeOverRequest { caller, term, last_index } = request.into_inner();
        let leader = self.admit(caller.as_ref(), from)?;
        let led_by_caller = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            metrics.current_leader == Some(leader) && metrics.vote.leader_id().term == term
        };
        let has_all = self.log.last_index() >= Some(last_index);
        let stands = led_by_caller && has_all && self.electorate.is_voter(self.me) && self.log.standing().proven;
        if stands {
            self.handed_over.by(term);
            self.raft.trigger().elect().await.map_err(stopped)?;
        }
        Ok(Response::new(proto::TakeOverResponse { stands }))
    }

    async fn lost_leader(
        &self,
        request: Request<proto::LostLeaderRequest>,
    ) -> Result<Response<proto::LostLeaderResponse>, Status> {
        let from = ip(&request);
        let proto::LostLeaderRequest { caller, term, leader, last_log } = request.into_inner();
        let id = self.admit(caller.as_ref(), from)?;
        let candidate = Candidate { log: last_log.map(|end| (end.term, end.index)), id };
        let agrees = self.lost_leader.agrees(Leadership { term, leader: BrokerId(leader) }, candidate).await;
        Ok(Response::new(proto::LostLeaderResponse { agrees }))
    }

    async fn append_entries(
        &self,
        request: Request<proto::RaftRequest>,
    ) -> Result<Response<proto::RaftResponse>, Status> {
        let from = ip(&request);
        let request = request.into_inner();
        self.admit(request.caller.as_ref(), from)?;
        self.may_follow(request.followed_by_others)?;
        let rpc: AppendEntriesRequest = decode(&request.body)?;
        let (leader, committed) = (rpc.vote, rpc.leader_commit);
        self.silence.ends(Instant::now());
        self.hearing.hears(&leader);
        let response = self.raft.append_entries(rpc).await.map_err(stopped)?;
        if response == AppendEntriesResponse::Success {
            self.caught_up(&leader, committed).await?;
        }
        raft_answer(&response)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<proto::RaftResponse>, Status> {
        let from = ip(&request);
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        self.admit(first.caller.as_ref(), from)?;
        self.may_follow(first.followed_by_others)?;
        let (vote, meta): (Vote, SnapshotMeta) = decode(&first.head)?;
        let mut data = first.data;
        while let Some(chunk) = chunks.message().await? {
            if data.len() + chunk.data.len() > MAX_SNAPSHOT_BYTES {
                return Err(Status::invalid_argument("the snapshot is too large"));
            }
            data.extend_from_slice(&chunk.data);
        }
        let snapshot = Snapshot { meta, snapshot: Box::new(data) };
        self.silence.ends(Instant::now());
        self.hearing.hears(&vote);
        let answer = raft_answer(&self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?);
        #[cfg(test)]
        self.peers.caller.installs_a_snapshot();
        answer
    }

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::ProposeResponse>, Status> {
        let from = ip(&request);
        let request = request.into_inner();
        let id = self.admit(request.caller.as_ref(), from)?;
        let command: MetadataCommand = decode(&request.body)?;
        if !matches!(&command, MetadataCommand::RegisterBroker { member, .. } if member.id == id) {
            return Err(Status::invalid_argument("a broker registers itself"));
        }
        let port = u16::try_from(request.controller_port).map_err(|_| Status::invalid_argument("no port"))?;
        let node = Node(Endpoint { host: request.controller_host.into(), port });
        // What is proposed now would not be in the successor's log yet.
        if !self.leader.is_ready() || self.yielding.is_under_way() {
            return Ok(Response::new(self.not_leader()));
        }
        if self.electorate.place(id).as_ref() != Some(&node.0) {
            // A new member begins as an observer; one that has moved is found from now on by all.
            let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, node)]));
            match self.raft.change_membership(nodes, true).await {
                Ok(_) => {}
                Err(e) if e.forward_to_leader::<Node>().is_some() => return Ok(Response::new(self.not_leader())),
                Err(e) => return Err(stopped(e)),
            }
        }
        let known = request.known_incarnations.iter().map(|id| Uuid::from_slice(id).map(IncarnationId));
        let known: Vec<_> =
            known.collect::<Result<_, _>>().map_err(|_| Status::invalid_argument("an incarnation has 16 bytes"))?;
        let command = registration::believed(command, &known, &self.proposer.image());
        self.propose(command).await
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeResponse>, Status> {
        let from = ip(&request);
        let request = request.into_inner();
        let id = self.admit(request.caller.as_ref(), from)?;
        let first: MetadataCommand = decode(&request.body)?;
        let more: Vec<MetadataCommand> = request.more.iter().map(|body| decode(body)).collect::<Result<_, _>>()?;
        if !more.iter().chain([&first]).all(|command| may_ask(id, command)) {
            return Err(Status::invalid_argument("a broker cannot ask for that, or not for another one"));
        }
        // At once, so that they share entries.
        let more = futures::future::join_all(more.into_iter().map(|command| self.proposer.propose(command)));
        let (first, more) = tokio::join!(Service::propose(self, first), more);
        let mut answer = first?;
        answer.get_mut().more = more.into_iter().map(proposed).collect::<Result<_, _>>()?;
        Ok(answer)
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let from = ip(&request);
        let connection = Connection::of(&request).cloned();
        let request = request.into_inner();
        let broker = self.admit(request.caller.as_ref(), from)?;
        let (epoch, applied) = (BrokerEpoch(request.broker_epoch), MetadataOffset(request.applied));
        let disk = (request.disk_total > 0).then_some(DiskSpace { total: request.disk_total, free: request.disk_free });
        let damages = request.damages.as_ref().map(|said| Arc::new(Damages::from_proto(said)));
        let (version, stalled, number) = (request.version, request.stalled, request.number);
        let heartbeat = Heartbeat { broker, epoch, applied, version, disk, damages, stalled, number, connection };
        let standing = match self.leader.heartbeat(heartbeat).await {
            Verdict::Granted => Standing::Granted,
            Verdict::Heard => Standing::Heard,
            Verdict::NotLeader => Standing::NotLeader,
            Verdict::Stale => Standing::Stale,
        };
        let bounds = self.silence.own();
        Ok(Response::new(proto::HeartbeatResponse {
            standing: standing.into(),
            leader: self.known_leader(),
            lease_ms: millis(bounds.lease),
            leases_run_ms: millis(bounds.longest()),
        }))
    }

    async fn starting(
        &self,
        request: Request<proto::StartingRequest>,
    ) -> Result<Response<proto::StartingResponse>, Status> {
        let proto::StartingRequest { caller, read, total } = request.into_inner();
        // It does not show itself by that: nobody listens at its ports yet.
        let broker = self.admit(caller.as_ref(), None)?;
        self.admin.starts.heard(Instant::now(), broker, StartProgress { read, total });
        Ok(Response::new(proto::StartingResponse {}))
    }

    async fn admin(&self, request: Request<proto::AdminRequest>) -> Result<Response<proto::AdminResponse>, Status> {
        let from = ip(&request);
        let request = request.into_inner();
        self.admit(request.caller.as_ref(), from)?;
        Ok(Response::new(self.admin.forwarded(&request.name, &request.body).await))
    }
}
