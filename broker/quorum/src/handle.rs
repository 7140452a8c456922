//! How the rest of the broker asks the controller for something, wherever the controller is by now.

use chronik_admin::{ChangeVotersRequest, ChangeVotersResponse, FactsResponse};
use chronik_core::cluster::config::{ConfigChange, ConfigResource};
use chronik_core::cluster::{Answer, Image, Leaving, MetadataCommand, Refusal, ResignReason, ResignedPartitions};
use chronik_core::ids::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, ProducerId, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

/// The controller, from anywhere in the broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    requests: mpsc::UnboundedSender<Request>,
    image: watch::Receiver<Image>,
    registration: watch::Receiver<Registration>,
    leader: watch::Receiver<Option<BrokerId>>,
}

/// This broker's standing with the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The current registration of this process, once the image has it.
    pub epoch: Option<BrokerEpoch>,
    /// False while fenced (or not registered).
    pub unfenced: bool,
    /// Until when this broker may act as a leader: the sending time of the last heartbeat that the controller
    /// answered, plus the lease (shorter than the session). `None` before the first.
    pub lease_until: Option<Instant>,
}

/// A question for the controller, with the way back.
#[derive(Debug)]
pub enum Request {
    /// Create a topic.
    CreateTopic {
        /// What.
        topic: CreateTopic,
        /// The answer: the new topic's id.
        reply: oneshot::Sender<Result<TopicId, TopicError>>,
    },
    /// Delete a topic.
    DeleteTopic {
        /// Which.
        topic: TopicId,
        /// The answer.
        reply: oneshot::Sender<Result<(), TopicError>>,
    },
    /// Change an ISR.
    AlterPartition(IsrChange),
    /// Change a topic's partitions, or configs.
    Alter {
        /// How.
        command: MetadataCommand,
        /// Only say whether it could be done.
        validate_only: bool,
        /// The answer.
        reply: oneshot::Sender<Result<(), TopicError>>,
    },
    /// What an operator asks for.
    Decide {
        /// The command.
        command: MetadataCommand,
        /// The answer.
        reply: oneshot::Sender<Result<Answer, Declined>>,
    },
    /// What the admin API says of the cluster.
    Facts {
        /// The answer.
        reply: oneshot::Sender<Result<FactsResponse, Status>>,
    },
    /// Change who votes, by the admin API.
    ChangeVoters {
        /// To whom.
        request: ChangeVotersRequest,
        /// The answer.
        reply: oneshot::Sender<Result<ChangeVotersResponse, Status>>,
    },
    /// Fence this broker, which stops.
    Leave {
        /// The answer.
        reply: oneshot::Sender<Result<(), ControllerError>>,
    },
    /// Give up leaderships of this broker.
    Resign {
        /// Which, and how.
        resignation: Resignation,
        /// The answer: the partitions that nobody else can lead.
        reply: oneshot::Sender<Result<Vec<TopicPartition>, ControllerError>>,
    },
    /// A block of producer ids for this broker alone.
    ProducerIds {
        /// The answer.
        reply: oneshot::Sender<Result<Range<ProducerId>, ControllerError>>,
    },
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// Its name, not checked yet.
    pub name: String,
    /// How many partitions; `None` for the default.
    pub partitions: Option<i32>,
    /// How many replicas; `None` for the default.
    pub replication_factor: Option<i16>,
    /// Replicas chosen by the caller, by partition; empty to let the controller choose.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// Topic configs, by Kafka's names, not checked yet.
    pub configs: BTreeMap<String, String>,
    /// Only say whether it could be created.
    pub validate_only: bool,
}

/// A change of one partition's ISR.
#[derive(Clone, Debug)]
pub struct AlterPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The leadership that asks.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that it saw.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// An ISR change that is asked for, with the way back.
pub struct IsrChange {
    /// Which.
    pub change: AlterPartition,
    /// No try begins after that.
    pub(super) deadline: tokio::time::Instant,
    /// An earlier try may have been carried out.
    pub(super) unsure: bool,
    done: Option<Done>,
}

type Done = Box<dyn FnOnce(Result<(), ControllerError>) + Send>;

impl IsrChange {
    /// `done` is told what came of it, once. One that is dropped has an outcome that nobody knows.
    pub fn new(
        change: AlterPartition,
        deadline: tokio::time::Instant,
        done: impl FnOnce(Result<(), ControllerError>) + Send + 'static,
    ) -> Self {
        Self { change, deadline, unsure: false, done: Some(Box::new(done)) }
    }

    /// Tells what came of it.
    pub(super) fn tell(mut self, outcome: Result<(), ControllerError>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for IsrChange {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(ControllerError::Unavailable));
        }
    }
}

impl fmt::Debug for IsrChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsrChange").field("change", &self.change).finish_non_exhaustive()
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// The controller refused: it will never take effect.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No controller answered in time, or nobody knows what came of it: it may still take effect.
    #[error("no controller answered in time")]
    Unavailable,
}

/// Leaderships that this broker gives up.
#[derive(Clone, Debug)]
pub struct Resignation {
    /// Of which partitions.
    pub partitions: ResignedPartitions,
    /// What it gives up beside them.
    pub leaving: Leaving,
    /// Why. [`ResignReason::Stop`] with all partitions: this broker leads nothing again before it registers anew.
    pub reason: ResignReason,
}

/// Why the controller did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// The controller refused: the request will never take effect.
    #[error("refused by the controller: {0}")]
    Refused(String),
    /// It was not sent to any controller, and never will be.
    #[error("no controller was reached in time")]
    NotAsked,
    /// No controller answered in time: the request may still take effect.
    #[error("no controller answered in time")]
    Unavailable,
}

/// Why a topic was not created, changed or deleted, or a config not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is one of that name.
    #[error("topic '{0}' already exists")]
    Exists(String),
    /// There is none.
    #[error("no such topic")]
    Unknown,
    /// The name is not allowed.
    #[error("invalid topic name: {0}")]
    InvalidName(String),
    /// The number of partitions is not allowed.
    #[error("invalid number of partitions: {0}")]
    InvalidPartitions(String),
    /// The replication factor is below 1 or above the number of brokers.
    #[error("invalid replication factor: {0}")]
    InvalidReplicationFactor(String),
    /// The replicas given do not fit.
    #[error("invalid replica assignment: {0}")]
    InvalidAssignment(String),
    /// A config is unknown or has an impossible value.
    #[error("invalid config: {0}")]
    InvalidConfig(String),
    /// More than the cluster takes.
    #[error("{0}")]
    PolicyViolation(String),
    /// A request that cannot be.
    #[error("{0}")]
    InvalidRequest(String),
    /// No controller answered in time: it may still take effect.
    #[error("no controller answered in time")]
    Unavailable,
}

impl ControllerHandle {
    /// A handle over the channels of a running controller client.
    pub fn new(
        requests: mpsc::UnboundedSender<Request>,
        image: watch::Receiver<Image>,
        registration: watch::Receiver<Registration>,
        leader: watch::Receiver<Option<BrokerId>>,
    ) -> Self {
        Self { requests, image, registration, leader }
    }

    /// The newest image that this broker has applied.
    pub fn image(&self) -> Image {
        self.image.borrow().clone()
    }

    /// Follows who leads the controller quorum.
    pub fn leaders(&self) -> watch::Receiver<Option<BrokerId>> {
        self.leader.clone()
    }

    /// Follows the images; the newest only, some may be skipped.
    pub fn images(&self) -> watch::Receiver<Image> {
        self.image.clone()
    }

    /// Follows this broker's registration, fencing and lease.
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.clone()
    }

    /// The controller leader, as far as known.
    pub fn leader(&self) -> Option<BrokerId> {
        *self.leader.borrow()
    }

    /// Creates a topic, and waits until this broker's image has it.
    pub async fn create_topic(&self, topic: CreateTopic, timeout: Duration) -> Result<TopicId, TopicError> {
        self.ask(timeout, |reply| Request::CreateTopic { topic, reply }).await.unwrap_or(Err(TopicError::Unavailable))
    }

    /// Deletes a topic, and waits until this broker's image has it no more.
    pub async fn delete_topic(&self, topic: TopicId, timeout: Duration) -> Result<(), TopicError> {
        self.ask(timeout, |reply| Request::DeleteTopic { topic, reply }).await.unwrap_or(Err(TopicError::Unavailable))
    }

    /// Gives a topic more partitions (`total` in all), and waits until this broker's image has them. `assignments` are
    /// the new partitions' replicas; empty to have them chosen.
    pub async fn create_partitions(
        &self,
        topic: TopicId,
        total: i32,
        assignments: Vec<Vec<BrokerId>>,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<(), TopicError> {
        self.alter(MetadataCommand::CreatePartitions { topic, total, assignments }, validate_only, timeout).await
    }

    /// Changes configs, all or none, and waits until this broker's image has them. With `replace`, those that are not
    /// named lose their values.
    pub async fn alter_configs(
        &self,
        resource: ConfigResource,
        replace: bool,
        changes: Vec<ConfigChange>,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<(), TopicError> {
        self.alter(MetadataCommand::AlterConfigs { resource, replace, changes }, validate_only, timeout).await
    }

    async fn alter(&self, command: MetadataCommand, validate_only: bool, timeout: Duration) -> Result<(), TopicError> {
        self.ask(timeout, |reply| Request::Alter { command, validate_only, reply })
            .await
            .unwrap_or(Err(TopicError::Unavailable))
    }

    /// Asks for an ISR change (KIP-497). An accepted one arrives with the image. `done` is told what came of it, once;
    /// some try may take a moment longer than `timeout`. A change of a partition takes the place of one that waits.
    pub fn alter_partition(
        &self,
        change: AlterPartition,
        timeout: Duration,
        done: impl FnOnce(Result<(), ControllerError>) + Send + 'static,
    ) {
        let deadline = tokio::time::Instant::now() + timeout;
        // One that nobody takes, as the broker is stopping, says so when it is dropped.
        let _ = self.requests.send(Request::AlterPartition(IsrChange::new(change, deadline, done)));
    }

    /// Moves leaderships of this broker to other replicas that are in sync, all in one entry, and waits until this
    /// broker's image has that. The answer names the partitions that stay as they are, as nobody else can lead them.
    pub async fn resign(
        &self,
        resignation: Resignation,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, ControllerError> {
        self.ask(timeout, |reply| Request::Resign { resignation, reply })
            .await
            .unwrap_or(Err(ControllerError::Unavailable))
    }

    /// Has the controller decide a command that somebody asks for by way of this broker, and waits until this broker's
    /// image has what came of it.
    pub async fn decide(&self, command: MetadataCommand, timeout: Duration) -> Result<Answer, Declined> {
        self.ask(timeout, |reply| Request::Decide { command, reply }).await.unwrap_or(Err(Declined::Unavailable))
    }

    /// What the controller's leader says of the cluster, confirmed by a majority.
    pub async fn facts(&self, timeout: Duration) -> Result<FactsResponse, Status> {
        self.ask(timeout, |reply| Request::Facts { reply }).await.unwrap_or_else(|| Err(no_answer()))
    }

    /// Changes who votes in the controller quorum.
    pub async fn change_voters(
        &self,
        request: ChangeVotersRequest,
        timeout: Duration,
    ) -> Result<ChangeVotersResponse, Status> {
        self.ask(timeout, |reply| Request::ChangeVoters { request, reply }).await.unwrap_or_else(|| Err(no_answer()))
    }

    /// Has this broker fenced, as it stops: nobody has to find out that it is gone.
    pub async fn leave(&self, timeout: Duration) -> Result<(), ControllerError> {
        self.ask(timeout, |reply| Request::Leave { reply }).await.unwrap_or(Err(ControllerError::Unavailable))
    }

    /// Asks for a block of producer ids that no other broker gets.
    pub async fn producer_ids(&self, timeout: Duration) -> Result<Range<ProducerId>, ControllerError> {
        self.ask(timeout, |reply| Request::ProducerIds { reply }).await.unwrap_or(Err(ControllerError::Unavailable))
    }

    async fn ask<T>(&self, timeout: Duration, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).ok()?;
        tokio::time::timeout(timeout, answer).await.ok()?.ok()
    }
}

fn no_answer() -> Status {
    Status::unavailable("no controller answered in time")
}
