//! How the rest of the broker asks a group's coordinator, and where that is.

use super::partitioner::partition_for;
use super::topic::{self, OffsetsTopic};
use crate::partitions::Reservation;
use chronik_core::cluster::{Image, Topic};
use chronik_core::groups::{Client, GroupError, Request, Response, Ticket};
use chronik_core::ids::{BrokerId, PartitionId, TopicId};
use chronik_quorum::{ControllerHandle, CreateTopic, TopicError};
use futures::future::join_all;
use imbl::OrdMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tracing::warn;

/// How long the creation of `__consumer_offsets` may take until a client gets a retriable error.
const CREATION: Duration = Duration::from_secs(2);

/// An answer, or why there is none.
pub(crate) type Answer = Result<Response, GroupError>;

/// A request on its way to a shard.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) client: Client,
    pub(super) request: Request,
    /// What the request's memory is counted against, until it is answered.
    pub(super) reservation: Reservation,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The way to a shard's task.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) requests: mpsc::Sender<Asked>,
    /// Requests whose clients are gone: as many as there are requests at most.
    pub(super) abandoned: mpsc::UnboundedSender<Ticket>,
}

/// The shards of this broker, by partition.
pub(super) type Routes = OrdMap<PartitionId, Route>;

/// The group coordinators, from anywhere in the broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Coordinators {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: BrokerId,
    controller: ControllerHandle,
    topic: OffsetsTopic,
    routes: watch::Receiver<Routes>,
    next_ticket: AtomicU64,
    /// One creation of the topic at a time.
    creating: Mutex<()>,
}

/// A request that waits. Dropped before its answer has come, it says so to the shard.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    abandoned: mpsc::UnboundedSender<Ticket>,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            // A shard that has ended keeps nothing of the request.
            let _ = self.abandoned.send(self.ticket);
        }
    }
}

impl Coordinators {
    pub(super) fn new(
        me: BrokerId,
        controller: ControllerHandle,
        topic: OffsetsTopic,
        routes: watch::Receiver<Routes>,
    ) -> Self {
        let shared =
            Shared { me, controller, topic, routes, next_ticket: AtomicU64::new(0), creating: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// How an internal topic is created when a client asks for its metadata.
    pub(crate) fn internal_topic(&self, name: &str) -> Option<CreateTopic> {
        (name == topic::NAME).then(|| self.shared.to_create())
    }

    /// Asks the group's coordinator, if it is here. The request is on its way when this returns: the order of calls is
    /// the order in which a group sees them.
    pub(crate) fn ask(
        &self,
        group: &str,
        client: &Client,
        request: Request,
        reservation: &Reservation,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let begun = self.route(group).and_then(|route| self.send(&route, client, request, reservation));
        answered(begun)
    }

    /// Asks every shard of this broker.
    pub(crate) fn ask_all(
        &self,
        client: &Client,
        request: &Request,
        reservation: &Reservation,
    ) -> impl Future<Output = Vec<Answer>> + Send + use<> {
        join_all(self.ask_each(client, request, reservation))
    }

    /// Asks every shard of this broker. Each answers for itself: one may wait long for a commit.
    pub(super) fn ask_each(
        &self,
        client: &Client,
        request: &Request,
        reservation: &Reservation,
    ) -> Vec<impl Future<Output = Answer> + Send + use<>> {
        let routes = self.shared.routes.borrow().clone();
        let begun = routes.values().map(|route| self.send(route, client, request.clone(), reservation));
        begun.map(answered).collect()
    }

    fn send(
        &self,
        route: &Route,
        client: &Client,
        request: Request,
        reservation: &Reservation,
    ) -> Result<(Waiting, oneshot::Receiver<Answer>), GroupError> {
        let ticket = Ticket(self.shared.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let asked = Asked { ticket, client: client.clone(), request, reservation: Arc::clone(reservation), reply };
        route.requests.try_send(asked).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GroupError::CoordinatorNotAvailable,
            mpsc::error::TrySendError::Closed(_) => GroupError::NotCoordinator,
        })?;
        Ok((Waiting { ticket, abandoned: route.abandoned.clone(), answered: false }, answer))
    }

    fn route(&self, group: &str) -> Result<Route, GroupError> {
        let image = self.shared.controller.images();
        let image = image.borrow();
        let topic = image.topic_by_name(topic::NAME).ok_or(GroupError::NotCoordinator)?;
        let partition = partition_of(topic, group);
        if let Some(route) = self.shared.routes.borrow().get(&partition) {
            return Ok(route.clone());
        }
        let leader = topic.partitions.get(partition.0 as usize).and_then(|p| p.leader);
        // Without a lease the metadata may be old, as after a restart.
        let lease = self.shared.controller.registration().borrow().lease_until;
        let leads = leader == Some(self.shared.me) && lease.is_some_and(|until| Instant::now() < until);
        Err(if leads { GroupError::CoordinatorLoadInProgress } else { GroupError::NotCoordinator })
    }

    /// Creates `__consumer_offsets` if it is not there yet. Takes [`CREATION`] at most, however many wait for it.
    pub(crate) async fn ensure_topic(&self) -> Result<(), GroupError> {
        if self.shared.controller.image().topic_by_name(topic::NAME).is_some() {
            return Ok(());
        }
        let created = tokio::time::timeout(CREATION, self.create_topic()).await;
        created.unwrap_or(Err(GroupError::CoordinatorNotAvailable)).map(|_| ())
    }

    /// The group's coordinator, as far as this broker knows.
    pub(crate) fn find(&self, group: &str) -> Result<BrokerId, GroupError> {
        let image = self.shared.controller.image();
        let topic = image.topic_by_name(topic::NAME).ok_or(GroupError::CoordinatorNotAvailable)?;
        leader_of(&image, topic, partition_of(topic, group)).ok_or(GroupError::CoordinatorNotAvailable)
    }

    /// Whether that broker is the group's coordinator, as far as the image knows.
    pub(crate) fn leads(image: &Image, broker: BrokerId, group: &str) -> bool {
        let topic = image.topic_by_name(topic::NAME);
        let leader = topic.and_then(|topic| topic.partitions.get(partition_of(topic, group).0 as usize)?.leader);
        leader == Some(broker)
    }

    async fn create_topic(&self) -> Result<TopicId, GroupError> {
        let _one_at_a_time = self.shared.creating.lock().await;
        let controller = &self.shared.controller;
        if let Some(topic) = controller.image().topic_by_name(topic::NAME) {
            return Ok(topic.id);
        }
        controller.create_topic(self.shared.to_create(), CREATION).await.map_err(|error| {
            if !matches!(error, TopicError::Exists(_) | TopicError::Unavailable) {
                warn!(%error, "Cannot create {}", topic::NAME);
            }
            GroupError::CoordinatorNotAvailable
        })
    }
}

/// The answer to a request that is on its way, if it is.
async fn answered(begun: Result<(Waiting, oneshot::Receiver<Answer>), GroupError>) -> Answer {
    let (mut waiting, answer) = begun?;
    // A shard that ends drops the way back.
    let answer = answer.await.unwrap_or(Err(GroupError::NotCoordinator));
    waiting.answered = true;
    answer
}

impl Shared {
    fn to_create(&self) -> CreateTopic {
        self.topic.to_create(self.controller.image().metadata_version)
    }
}

fn partition_of(topic: &Topic, group: &str) -> PartitionId {
    PartitionId(partition_for(group, topic.partitions.len()))
}

fn leader_of(image: &Image, topic: &Topic, partition: PartitionId) -> Option<BrokerId> {
    let leader = topic.partitions.get(usize::try_from(partition.0).ok()?)?.leader?;
    image.alive(leader).map(|broker| broker.id)
}
