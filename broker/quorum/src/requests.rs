//! What the rest of the broker asks of the controller, carried to the leader wherever it is, and asked again
//! when the leader changes. A retry may find that the first try was carried out: topics know their creation by
//! its id ([`Creation`]), and whatever is refused after a try of unknown outcome is answered as unknown.

use super::admin::AdminHandle;
use super::creation::Creation;
use super::encoding;
use super::handle::{
    ControllerError, CreateTopic, Declined, IsrChange, Registration, Request, Resignation, TopicError,
};
use super::isr_changes::{self, IsrChanges};
use super::link::{CallError, Client};
use super::links::Links;
use super::proposer::{ProposeError, Proposer, not_allowed};
use super::proto::proposed::State;
use super::{TopicDefaults, proto};
use chronik_admin::{Admin as _, ChangeVotersRequest, ChangeVotersResponse, FactsRequest, FactsResponse};
use chronik_core::cluster::{Answer, Image, Leaving, MetadataCommand, Outcome, Refusal, ResignedPartitions};
use chronik_core::ids::{BrokerEpoch, BrokerId, MetadataOffset, ProducerId, TopicId, TopicPartition};
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Response, Status};

/// One try at one leader.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// Producer ids are given out to brokers by so many, as in Kafka.
const PRODUCER_IDS: u32 = 1000;
/// Replicas named in one request to create a topic at most.
const MAX_NAMED_REPLICAS: usize = 100_000;

/// The other end of a [`super::ControllerHandle`].
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) me: BrokerId,
    pub(super) defaults: TopicDefaults,
    pub(super) links: Links,
    pub(super) proposer: Proposer,
    pub(super) leader: watch::Receiver<Option<BrokerId>>,
    pub(super) image: watch::Receiver<Image>,
    pub(super) registration: watch::Receiver<Registration>,
    pub(super) admin: AdminHandle,
}

/// A command's outcome.
struct Decided {
    outcome: Outcome,
    offset: MetadataOffset,
    /// An earlier try may have been carried out as well.
    repeated: bool,
}

impl Requests {
    pub(super) async fn run(self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (isr_changes, queue) = mpsc::channel(isr_changes::QUEUE);
        let carried = IsrChanges::new(self.clone(), queue).run();
        let take = async {
            // Ends what carries ISR changes as well.
            let isr_changes = isr_changes;
            self.take(&mut requests, &isr_changes).await;
        };
        tokio::join!(carried, take);
    }

    async fn take(&self, requests: &mut mpsc::UnboundedReceiver<Request>, isr_changes: &mpsc::Sender<IsrChange>) {
        while let Some(request) = requests.recv().await {
            let request = match request {
                // Of more than it has room for, each is asked for again by its partition.
                Request::AlterPartition(change) => {
                    if let Err(TrySendError::Full(change)) = isr_changes.try_send(change) {
                        change.tell(Err(ControllerError::NotAsked));
                    }
                    continue;
                }
                other => other,
            };
            let this = self.clone();
            tokio::spawn(async move {
                match request {
                    Request::CreateTopic { topic, reply } => answer(reply, this.create_topic(topic)).await,
                    Request::DeleteTopic { topic, reply } => answer(reply, this.delete_topic(topic)).await,
                    Request::Alter { command, validate_only, reply } => {
                        Box::pin(answer(reply, this.alter(command, validate_only))).await;
                    }
                    // Carried apart from these.
                    Request::AlterPartition(change) => drop(change),
                    Request::Decide { command, reply } => answer(reply, this.command(command)).await,
                    Request::Facts { reply } => answer(reply, this.facts()).await,
                    Request::ChangeVoters { request, reply } => answer(reply, this.change_voters(request)).await,
                    Request::Leave { reply } => answer(reply, this.leave()).await,
                    Request::Resign { resignation, reply } => answer(reply, this.resign(resignation)).await,
                    Request::ProducerIds { reply } => answer(reply, this.producer_ids()).await,
                }
            });
        }
    }

    async fn create_topic(mut self, topic: CreateTopic) -> Result<TopicId, TopicError> {
        let id = TopicId(uuid::Uuid::new_v4());
        let name = topic.name.clone();
        let validate_only = topic.validate_only;
        let named: usize = topic.assignments.values().map(Vec::len).sum();
        if named > MAX_NAMED_REPLICAS {
            return Err(TopicError::InvalidAssignment(format!("{named} replicas named in one topic")));
        }
        let mut creation = Creation::new(topic, self.defaults, id);
        let command = creation.command();
        // A try on the image here: what can never be accepted does not go into the log.
        let image = self.image.borrow().clone();
        let tried = image.try_out(&command).map(|_| id).map_err(|refusal| topic_error(&name, refusal));
        match &tried {
            Err(
                TopicError::InvalidName(_)
                | TopicError::InvalidPartitions(_)
                | TopicError::InvalidConfig(_)
                | TopicError::PolicyViolation(_),
            ) => return tried,
            _ if validate_only => return tried,
            _ => {}
        }
        let next = || {
            creation.try_again(TopicId(uuid::Uuid::new_v4()));
            creation.command()
        };
        let decided = self.decide_by(command, next).await;
        self.applied(decided.offset).await;
        creation.created(decided.outcome, &self.image.borrow()).map_err(|refusal| topic_error(&name, refusal))
    }

    async fn delete_topic(mut self, topic: TopicId) -> Result<(), TopicError> {
        let decided = self.decide(MetadataCommand::DeleteTopic { id: topic }).await;
        self.applied(decided.offset).await;
        match decided.outcome {
            Ok(_) => Ok(()),
            Err(_) if decided.repeated => Ok(()),
            Err(_) => Err(TopicError::Unknown),
        }
    }

    /// More partitions, or other configs.
    async fn alter(mut self, command: MetadataCommand, validate_only: bool) -> Result<(), TopicError> {
        // A try on the image here: what can never be accepted does not go into the log.
        let image = self.image.borrow().clone();
        let tried = image.try_out(&command).map(|_| ()).map_err(|refusal| topic_error("", refusal));
        if validate_only || matches!(&tried, Err(TopicError::InvalidConfig(_) | TopicError::PolicyViolation(_))) {
            return tried;
        }
        let decided = self.decide(command).await;
        self.applied(decided.offset).await;
        match decided.outcome {
            Ok(_) => Ok(()),
            // The try before may be what made this one impossible.
            Err(_) if decided.repeated => Err(TopicError::Unavailable),
            Err(refusal) => Err(topic_error("", refusal)),
        }
    }

    async fn command(mut self, command: MetadataCommand) -> Result<Answer, Declined> {
        if matches!(command, MetadataCommand::AlterPartitionReassignments { .. }) {
            let image = self.image.borrow().clone();
            if let Err(refusal @ Refusal::PolicyViolation(_)) = image.try_out(&command) {
                return Err(refusal.into());
            }
        }
        let decided = self.decide(command).await;
        self.applied(decided.offset).await;
        match decided.outcome {
            Ok(answer) => Ok(answer),
            // The try before may be what made this one impossible.
            Err(_) if decided.repeated => Err(Declined::Unavailable),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn facts(self) -> Result<FactsResponse, Status> {
        let request = FactsRequest { max_partitions: 1, lags: false };
        self.admin.facts(tonic::Request::new(request)).await.map(Response::into_inner)
    }

    async fn change_voters(self, request: ChangeVotersRequest) -> Result<ChangeVotersResponse, Status> {
        self.admin.change_voters(tonic::Request::new(request)).await.map(Response::into_inner)
    }

    async fn leave(self) -> Result<(), ControllerError> {
        let fence = MetadataCommand::Fence { id: self.me, epoch: self.broker_epoch()? };
        self.decide(fence).await.outcome.map(|_| ()).map_err(|refusal| ControllerError::Refused(refusal.to_string()))
    }

    /// Asked for twice, it is the same: who has been succeeded has nothing left to give up.
    ///
    /// Who leads leaves the in-sync set only after it has applied the entry that names its successor, so that is asked
    /// for first, and as such: were the first request sent again, after its answer was lost, it must not do more.
    async fn resign(mut self, mut resignation: Resignation) -> Result<Vec<TopicPartition>, ControllerError> {
        if resignation.leaving != Leaving::Leadership && self.leads_any_of(&resignation.partitions) {
            self.decide_resignation(Resignation { leaving: Leaving::Leadership, ..resignation.clone() }).await?;
        }
        let withheld = self.withhold(&mut resignation);
        if !withheld.is_empty() && resignation.partitions == ResignedPartitions::These(Vec::new()) {
            return Ok(withheld);
        }
        let mut kept = self.decide_resignation(resignation).await?;
        kept.extend(withheld);
        Ok(kept)
    }

    /// Takes those copies out of a resignation which would leave their partitions to brokers that are about to stop.
    fn withhold(&self, resignation: &mut Resignation) -> Vec<TopicPartition> {
        let ResignedPartitions::These(these) = &mut resignation.partitions else { return Vec::new() };
        if resignation.leaving != Leaving::Copy {
            return Vec::new();
        }
        let image = self.image.borrow();
        let is_kept = |tp: &TopicPartition| image.only_one_that_stops_can_succeed(self.me, *tp);
        let (withheld, rest): (Vec<_>, Vec<_>) = std::mem::take(these).into_iter().partition(is_kept);
        *these = rest;
        withheld
    }

    fn leads_any_of(&self, partitions: &ResignedPartitions) -> bool {
        let image = self.image.borrow();
        match partitions {
            ResignedPartitions::All => image.partitions().any(|(_, _, p)| p.leader == Some(self.me)),
            ResignedPartitions::These(these) => {
                these.iter().any(|tp| image.partition(*tp).is_some_and(|p| p.leader == Some(self.me)))
            }
        }
    }

    async fn decide_resignation(&mut self, resignation: Resignation) -> Result<Vec<TopicPartition>, ControllerError> {
        let command = MetadataCommand::Resign {
            broker: self.me,
            broker_epoch: self.broker_epoch()?,
            partitions: resignation.partitions,
            leaving: resignation.leaving,
            reason: resignation.reason,
        };
        let decided = self.decide(command).await;
        self.applied(decided.offset).await;
        match decided.outcome {
            Ok(Answer::Resigned { kept }) => Ok(kept),
            Ok(other) => Err(ControllerError::Refused(format!("{other:?} is no answer to a resignation"))),
            Err(refusal) => Err(ControllerError::Refused(refusal.to_string())),
        }
    }

    async fn producer_ids(self) -> Result<Range<ProducerId>, ControllerError> {
        let epoch = self.broker_epoch()?;
        let command = MetadataCommand::AllocateProducerIds { broker: self.me, epoch, count: PRODUCER_IDS };
        match self.decide(command).await.outcome {
            Ok(Answer::ProducerIds(block)) => Ok(block),
            Ok(other) => Err(ControllerError::Refused(format!("{other:?} is no block of producer ids"))),
            Err(refusal) => Err(ControllerError::Refused(refusal.to_string())),
        }
    }

    pub(super) fn broker_epoch(&self) -> Result<BrokerEpoch, ControllerError> {
        let registered = self.registration.borrow().epoch;
        registered.ok_or_else(|| ControllerError::Refused("this broker is not registered".into()))
    }

    /// Waits until this broker's image is at least there.
    async fn applied(&mut self, offset: MetadataOffset) {
        // An error means that the broker is stopping.
        let _ = self.image.wait_for(|image| image.offset >= offset).await;
    }

    /// Asks until there is an outcome. Who asked ends this by giving up.
    async fn decide(&self, command: MetadataCommand) -> Decided {
        let same = command.clone();
        self.decide_by(command, || same.clone()).await
    }

    /// The same; after a try that may have been carried out, the next one is what `next` says.
    async fn decide_by(&self, mut command: MetadataCommand, mut next: impl FnMut() -> MetadataCommand) -> Decided {
        // A leader of an older version could not even read it.
        if let Some((outcome, offset)) = not_allowed(&self.image.borrow(), &command) {
            return Decided { outcome, offset, repeated: false };
        }
        let mut leader = self.leader.clone();
        let mut repeated = false;
        let mut backoff = Backoff::default();
        loop {
            let Some(at) = *leader.borrow_and_update() else {
                changed(&mut leader).await;
                continue;
            };
            let sent = AtomicBool::new(false);
            let tried = tokio::select! {
                tried = self.ask(at, std::slice::from_ref(&command), &sent) => tried,
                // Whoever leads now is asked at once; what the other one did with it, nobody knows.
                () = self.next_leader(at) => {
                    if sent.load(Ordering::Relaxed) {
                        repeated = true;
                        command = next();
                    }
                    continue;
                }
            };
            match tried.into_iter().next().unwrap_or(Err(Tried::Nothing)) {
                Ok((outcome, offset)) => return Decided { outcome, offset, repeated },
                Err(Tried::Nothing) => {}
                Err(Tried::Something) => {
                    repeated = true;
                    command = next();
                }
            }
            // Without a change, it may be the leader again that it was.
            let _ = tokio::time::timeout(backoff.pause(), changed(&mut leader)).await;
        }
    }

    /// Waits until somebody else leads than `at`.
    async fn next_leader(&self, at: BrokerId) {
        let mut leader = self.leader.clone();
        if leader.wait_for(|now| now.is_some_and(|now| now != at)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One try to have commands decided by `leader`, each by itself; their outcomes in their order. `sent` is set once
    /// they are on their way.
    pub(super) async fn ask(&self, leader: BrokerId, commands: &[MetadataCommand], sent: &AtomicBool) -> Vec<Try> {
        if leader == self.me {
            sent.store(true, Ordering::Relaxed);
            futures::future::join_all(commands.iter().map(|command| self.here(command))).await
        } else {
            self.at(leader, commands, sent).await.unwrap_or_else(|tried| vec![Err(tried); commands.len()])
        }
    }

    async fn here(&self, command: &MetadataCommand) -> Try {
        match tokio::time::timeout(TIMEOUT, self.proposer.propose(command.clone())).await {
            Ok(Ok(decided)) => Ok(decided),
            Ok(Err(ProposeError::NotLeader)) => Err(Tried::Nothing),
            Ok(Err(ProposeError::Unknown)) | Err(_) => Err(Tried::Something),
        }
    }

    /// An error is that of all of them.
    async fn at(&self, leader: BrokerId, commands: &[MetadataCommand], sent: &AtomicBool) -> Result<Vec<Try>, Tried> {
        let bodies: Result<Vec<_>, _> = commands.iter().map(encoding::encode).collect();
        let mut bodies = bodies.map_err(|_| Tried::Nothing)?.into_iter();
        let Some(body) = bodies.next() else { return Ok(Vec::new()) };
        let request = proto::ProposeRequest { caller: Some(self.links.caller(leader)), body, more: bodies.collect() };
        let call = |mut client: Client| {
            sent.store(true, Ordering::Relaxed);
            async move { client.propose(request).await }
        };
        match self.links.call(leader, TIMEOUT, call).await {
            Ok(answer) => Ok(outcomes(&answer, commands.len())),
            Err(CallError::NotConnected | CallError::Refused(_)) => Err(Tried::Nothing),
            Err(CallError::Lost(_)) => Err(Tried::Something),
        }
    }
}

/// What an answer says of each of so many commands.
fn outcomes(answer: &proto::ProposeResponse, commands: usize) -> Vec<Try> {
    let decided = |outcome: &[u8], offset| match encoding::decode(outcome) {
        Ok(outcome) => Ok((outcome, MetadataOffset(offset))),
        Err(_) => Err(Tried::Something),
    };
    let first = if answer.not_leader { Err(Tried::Nothing) } else { decided(&answer.outcome, answer.offset) };
    let more = answer.more.iter().map(|proposed| match proposed.state() {
        State::Decided => decided(&proposed.outcome, proposed.offset),
        State::NotLeader => Err(Tried::Nothing),
        State::Unknown => Err(Tried::Something),
    });
    // A leader of a former version has passed over all but the first.
    let rest = std::iter::repeat(Err(Tried::Nothing));
    std::iter::once(first).chain(more).chain(rest).take(commands).collect()
}

/// What one try led to.
pub(super) type Try = Result<(Outcome, MetadataOffset), Tried>;

/// What a try without an outcome may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Nothing,
    Something,
}

/// Waits until the leader changes. At the end of the broker, that is never.
pub(super) async fn changed(leader: &mut watch::Receiver<Option<BrokerId>>) {
    if leader.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Pauses between tries that led to nothing, unless the leader changes: 20 ms, and twice as long each time, up to half a
/// second.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl Backoff {
    /// How long the next one is.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_millis(500));
        pause
    }
}

/// Works out an answer for as long as somebody waits for it.
async fn answer<T>(mut reply: oneshot::Sender<T>, work: impl Future<Output = T>) {
    tokio::select! {
        result = work => {
            // It may have given up just now.
            let _ = reply.send(result);
        }
        () = reply.closed() => {}
    }
}

fn topic_error(name: &str, refusal: Refusal) -> TopicError {
    match refusal {
        Refusal::TopicExists(name) => TopicError::Exists(name),
        Refusal::UnknownTopic => TopicError::Unknown,
        Refusal::InvalidTopicName(why) => TopicError::InvalidName(why),
        Refusal::InvalidPartitions(why) => TopicError::InvalidPartitions(why),
        Refusal::InvalidReplicationFactor(why) => TopicError::InvalidReplicationFactor(why),
        Refusal::InvalidAssignment(why) => TopicError::InvalidAssignment(why),
        Refusal::InvalidConfig(why) => TopicError::InvalidConfig(why),
        Refusal::PolicyViolation(why) => TopicError::PolicyViolation(why),
        Refusal::UnknownBroker(id) => TopicError::InvalidRequest(format!("broker {id} is not a member")),
        Refusal::VersionTooLow { .. } => TopicError::InvalidRequest(refusal.to_string()),
        // None of these is an answer to the creation of a topic, except that there is no cluster yet.
        other => {
            tracing::debug!(topic = name, refusal = %other, "a topic was refused");
            TopicError::Unavailable
        }
    }
}
