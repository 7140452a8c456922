//! The other ends of the handles: partitions in memory, and a controller that edits the image.

use crate::coordinators::{self, CoordinatorMetrics, CoordinatorsConfig, GroupMetricsConfig, OffsetsTopic};
use crate::metrics::Metrics;
use crate::partitions::handle::Request as PartitionRequest;
use crate::partitions::{
    AppendReply, DeleteError, EpochEnd, FetchError, FetchSpec, Fetched, FoundOffset, LogSizes, OffsetSpec, Partitions,
    ReadError, Reservation, Waiter,
};
use crate::server::{ClientListener, ServerConfig, serve};
use chronik_admin::{ChangeVotersResponse, FactsResponse, Quorum, QuorumMember};
use chronik_core::cluster::{Broker, Endpoint, Image, MetadataVersion, Partition, Refusal, SupportedVersions, Topic};
use chronik_core::ids::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, MetadataOffset, Offset, PartitionEpoch, PartitionId, ProducerId,
    TopicId, TopicPartition,
};
use chronik_core::producers::Producers;
use chronik_core::record::RecordBatch;
use chronik_core::replication::{ProduceError, Produced};
use chronik_quorum::handle::Request as ControllerRequest;
use chronik_quorum::{ControllerHandle, CreateTopic, Registration, TopicError};
use prometheus_client::registry::Registry;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub(super) const ME: BrokerId = BrokerId(0);
pub(super) const EPOCH: LeaderEpoch = LeaderEpoch(7);

type ProduceReply = (AppendReply, Result<Produced, ProduceError>);

type OffsetReply = (oneshot::Sender<Result<FoundOffset, ReadError>>, Result<FoundOffset, ReadError>);

/// What the partitions hold, and how they are to behave.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) batches: HashMap<TopicPartition, Vec<RecordBatch>>,
    /// Acknowledgements are kept back until they are released.
    pub(super) acknowledges_late: bool,
    unanswered: Vec<ProduceReply>,
    /// What batches that are not on the disk yet keep, if they are to be slow to get there.
    pub(super) on_their_way: Option<Vec<Reservation>>,
    pub(super) refuse_produce: Option<ProduceError>,
    /// The last batch of each partition is not committed.
    pub(super) last_is_uncommitted: bool,
    pub(super) refuse_read: Option<ReadError>,
    waiters: HashMap<TopicPartition, Vec<Waiter>>,
    /// How often partitions were read.
    pub(super) reads: HashMap<TopicPartition, usize>,
    /// Searches by timestamp are kept back until they are answered one by one.
    pub(super) searches_wait: bool,
    pub(super) searches: VecDeque<OffsetReply>,
    /// How many of them there were at once at most.
    pub(super) most_searches: usize,
    /// How many batches were copied when they got their offsets.
    pub(super) copied: usize,
}

impl Logs {
    pub(super) fn release(&mut self) {
        self.acknowledges_late = false;
        for (reply, result) in self.unanswered.drain(..) {
            reply.send(result);
        }
    }

    /// Answers the search that has waited longest.
    pub(super) fn answer_search(&mut self) {
        let (reply, result) = self.searches.pop_front().expect("a search that waits");
        let _ = reply.send(result);
    }

    fn append(&mut self, partition: TopicPartition, batch: RecordBatch) -> Produced {
        let log = self.batches.entry(partition).or_default();
        let base = log.last().map_or(Offset::ZERO, |b| b.header().end_offset());
        let before = batch.bytes().as_ptr();
        let batch = batch.assign(base, EPOCH);
        self.copied += usize::from(before != batch.bytes().as_ptr());
        log.push(batch);
        self.waiters.remove(&partition).into_iter().flatten().for_each(|waiter| waiter.wake());
        Produced { base_offset: base, log_start: Offset::ZERO }
    }

    fn fetch(&mut self, partition: TopicPartition, spec: FetchSpec) -> Result<Fetched, FetchError> {
        if let Some(error) = self.refuse_read {
            return Err(error.into());
        }
        *self.reads.entry(partition).or_default() += 1;
        self.waiters.entry(partition).or_default().extend(spec.waiter);
        let log = self.batches.entry(partition).or_default();
        let end = log.last().map_or(Offset::ZERO, |b| b.header().end_offset());
        let last = log.last().filter(|_| self.last_is_uncommitted && !spec.uncommitted);
        let high_watermark = last.map_or(end, |b| b.header().base_offset);
        if spec.offset.0 < 0 || spec.offset > high_watermark {
            return Err(FetchError::OutOfRange { log_start: Offset::ZERO });
        }
        let mut batches = Vec::new();
        let mut len = 0;
        let readable =
            |b: &&RecordBatch| (spec.offset..high_watermark).contains(&Offset(b.header().end_offset().0 - 1));
        for batch in log.iter().filter(readable) {
            len += batch.bytes().len();
            if len > spec.max_bytes && !(spec.at_least_one && batches.is_empty()) {
                break;
            }
            batches.push(batch.bytes().clone());
        }
        Ok(Fetched {
            high_watermark: Some(high_watermark),
            log_start: Offset::ZERO,
            batches,
            diverging: None,
            preferred: None,
        })
    }

    fn handle(&mut self, request: PartitionRequest) {
        match request {
            PartitionRequest::Produce { partition, batch, reservation, reply, .. } => {
                if let Some(on_their_way) = &mut self.on_their_way {
                    on_their_way.push(reservation);
                }
                let result = match self.refuse_produce {
                    Some(error) => Err(error),
                    None => Ok(self.append(partition, batch)),
                };
                if self.acknowledges_late {
                    self.unanswered.push((reply, result));
                } else {
                    reply.send(result);
                }
            }
            PartitionRequest::DeleteRecords { partition, before, reply, .. } => {
                let end = self
                    .batches
                    .get(&partition)
                    .and_then(|log| log.last())
                    .map_or(Offset::ZERO, |b| b.header().end_offset());
                let to = before.unwrap_or(end);
                let _ = reply.send(if to <= end { Ok(to) } else { Err(DeleteError::OutOfRange) });
            }
            PartitionRequest::Fetch { partition, spec, reply } => {
                let _ = reply.send(self.fetch(partition, spec));
            }
            PartitionRequest::Offset { partition, spec, reply, .. } => {
                let end = self
                    .batches
                    .get(&partition)
                    .and_then(|log| log.last())
                    .map_or(Offset::ZERO, |b| b.header().end_offset());
                let found = match spec {
                    OffsetSpec::Earliest => (Some(Offset::ZERO), None),
                    OffsetSpec::Latest => (Some(end), None),
                    OffsetSpec::Timestamp(ts) => (Some(Offset::ZERO), Some(ts)),
                    OffsetSpec::MaxTimestamp => (Some(Offset(end.0 - 1)), Some(1234)),
                };
                let found = FoundOffset { offset: found.0, timestamp: found.1, leader_epoch: Some(EPOCH) };
                let result = self.refuse_read.map_or(Ok(found), Err);
                let is_search = matches!(spec, OffsetSpec::Timestamp(_) | OffsetSpec::MaxTimestamp);
                if is_search && self.searches_wait {
                    self.searches.push_back((reply, result));
                    self.most_searches = self.most_searches.max(self.searches.len());
                } else {
                    let _ = reply.send(result);
                }
            }
            PartitionRequest::EpochEnd { partition, epoch, reply, .. } => {
                let log = self.batches.get(&partition);
                let end = log.and_then(|log| log.last()).map_or(Offset::ZERO, |b| b.header().end_offset());
                let end = EpochEnd { epoch: Some(epoch), end: Some(end) };
                let _ = reply.send(self.refuse_read.map_or(Ok(end), Err));
            }
            // Nothing is cleaned here, and nobody is behind.
            PartitionRequest::Cleanable { .. } | PartitionRequest::Lags { .. } => {}
            PartitionRequest::Producers { partition, reply } => {
                let mut producers = Producers::default();
                self.batches.get(&partition).into_iter().flatten().for_each(|b| producers.observe(b.header()));
                let _ = reply.send(self.refuse_read.map_or(Ok(producers.iter().collect()), Err));
            }
        }
    }
}

/// The sizes of what is in memory.
#[derive(Debug)]
struct Sizes(Arc<Mutex<Logs>>);

impl LogSizes for Sizes {
    fn bytes(&self, partition: TopicPartition) -> Option<u64> {
        let logs = self.0.lock().expect("no test panics with the lock");
        Some(logs.batches.get(&partition)?.iter().map(|b| b.bytes().len() as u64).sum())
    }
}

/// A listener with something behind it. Stopped when it is dropped.
pub(super) struct Cluster {
    pub(super) address: SocketAddr,
    /// The listener EXTERNAL.
    pub(super) external: SocketAddr,
    pub(super) image: Arc<watch::Sender<Image>>,
    /// This broker's standing, with a lease that lasts longer than a test.
    pub(super) registration: watch::Sender<Registration>,
    pub(super) registry: Arc<Registry>,
    pub(super) stop: CancellationToken,
    pub(super) served: tokio::task::JoinHandle<()>,
    /// The controller answers nothing, as without a majority.
    pub(super) silent: Arc<AtomicBool>,
    logs: Arc<Mutex<Logs>>,
    _guard: DropGuard,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new(ME);
        change(&mut config);
        let logs: Arc<Mutex<Logs>> = Arc::default();
        let (owner, mut requests) = mpsc::unbounded_channel();
        let shared = Arc::clone(&logs);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                shared.lock().expect("no test panics with the lock").handle(request);
            }
        });
        let (to_controller, requests) = mpsc::unbounded_channel();
        let image = Arc::new(watch::Sender::new(first_image()));
        let lease = Instant::now() + Duration::from_hours(1);
        let standing = Registration { epoch: Some(BrokerEpoch(1)), unfenced: true, lease_until: Some(lease) };
        let (registration, watched) = watch::channel(standing);
        let (_, leader) = watch::channel(Some(ME));
        let controller = ControllerHandle::new(to_controller, image.subscribe(), watched, leader);
        let silent = Arc::new(AtomicBool::new(false));
        tokio::spawn(control(requests, Arc::clone(&image), Arc::clone(&silent)));
        let mut registry = Registry::with_prefix("chronik");
        let metrics = Metrics::register(&mut registry);
        let mut listeners = Vec::new();
        for name in [None, Some("EXTERNAL".into())] {
            let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
            listeners.push(ClientListener { name, socket });
        }
        let [address, external] = [0, 1].map(|i: usize| listeners[i].socket.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        let partitions = Partitions::new(vec![owner]).with_sizes(Arc::new(Sizes(Arc::clone(&logs))));
        let coordinators = CoordinatorsConfig {
            me: ME,
            partitions: partitions.clone(),
            controller: controller.clone(),
            groups: chronik_core::groups::Config {
                initial_rebalance_delay: Duration::ZERO,
                ..chronik_core::groups::Config::default()
            },
            member_bytes: 64 << 20,
            offset_bytes: 64 << 20,
            topic: OffsetsTopic { partitions: 3, ..OffsetsTopic::default() },
            shown: GroupMetricsConfig { every: Duration::from_millis(20), ..GroupMetricsConfig::default() },
            metrics: CoordinatorMetrics::register(&mut registry),
            stop: stop.clone(),
        };
        let coordinators = coordinators::start(coordinators, &TaskTracker::new());
        let served =
            tokio::spawn(serve(listeners, config, partitions, controller, coordinators, metrics, stop.clone()));
        let guard = stop.clone().drop_guard();
        Self {
            address,
            external,
            image,
            registration,
            registry: Arc::new(registry),
            stop,
            served,
            silent,
            logs,
            _guard: guard,
        }
    }

    pub(super) fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().expect("no test panics with the lock")
    }

    /// Puts a topic there that this broker leads.
    pub(super) fn topic(&self, name: &str, partitions: i32) -> TopicId {
        let id = TopicId(uuid::Uuid::new_v4());
        self.image.send_modify(|image| add_topic(image, id, name, partitions));
        id
    }

    /// Makes another broker the leader of a topic's first partition; this one refuses to serve it.
    pub(super) fn is_led_elsewhere(&self, id: TopicId, leader: BrokerId) {
        self.image.send_modify(|image| {
            let mut topic = image.topics[&id].clone();
            topic.partitions[0].leader = Some(leader);
            image.topics.insert(id, topic);
        });
        let mut logs = self.logs();
        logs.refuse_produce = Some(ProduceError::NotLeader);
        logs.refuse_read = Some(ReadError::NotLeader);
    }
}

fn first_image() -> Image {
    let mut image = Image {
        cluster_id: Some(ClusterId(uuid::Uuid::from_u128(1))),
        metadata_version: MetadataVersion::LATEST,
        ..Image::default()
    };
    for id in 0..3 {
        let endpoint = Endpoint { host: format!("broker-{id}").into(), port: 9092 };
        let broker = Broker {
            id: BrokerId(id),
            epoch: Some(BrokerEpoch(1)),
            directory: None,
            incarnation: None,
            fenced_at: MetadataOffset(0),
            // Broker 2 is not alive.
            fenced: id == 2,
            cordoned: false,
            stopping: false,
            kafka: endpoint.clone(),
            replication: endpoint,
            rack: Some("rack".into()),
            versions: SupportedVersions::HERE,
        };
        image.brokers.insert(broker.id, broker);
    }
    image
}

fn add_topic(image: &mut Image, id: TopicId, name: &str, partitions: i32) {
    let partition = Partition {
        replicas: vec![ME, BrokerId(1), BrokerId(2)],
        isr: vec![ME, BrokerId(1)],
        elr: Box::default(),
        adding: Box::default(),
        removing: Box::default(),
        leader: Some(ME),
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(1),
    };
    let topic = Topic {
        id,
        name: name.into(),
        partitions: (0..partitions).map(|_| partition.clone()).collect(),
        configs: imbl::OrdMap::new(),
        min_insync_replicas: 1,
        default_min_insync_replicas: 1,
        older_producers: ProducerId(0),
    };
    image.topic_ids.insert(name.into(), id);
    image.topics.insert(id, topic);
}

async fn control(
    mut requests: mpsc::UnboundedReceiver<ControllerRequest>,
    image: Arc<watch::Sender<Image>>,
    silent: Arc<AtomicBool>,
) {
    let mut unanswered = Vec::new();
    let mut next_id = 1000;
    let mut voters = vec![1];
    while let Some(request) = requests.recv().await {
        if silent.load(Ordering::Relaxed) {
            unanswered.push(request);
            continue;
        }
        match request {
            ControllerRequest::CreateTopic { topic, reply } => {
                let _ = reply.send(create(&image, &topic));
            }
            ControllerRequest::Alter { command, validate_only, reply } => {
                let mut changed = image.borrow().clone();
                let refused = changed.apply(changed.offset, &command).0.err();
                if refused.is_none() && !validate_only {
                    image.send_replace(changed);
                }
                let _ = reply.send(refused.map_or(Ok(()), |why| Err(topic_error(why))));
            }
            ControllerRequest::DeleteTopic { topic, reply } => {
                image.send_modify(|image| {
                    if let Some(topic) = image.topics.remove(&topic) {
                        image.topic_ids.remove(&topic.name);
                    }
                });
                let _ = reply.send(Ok(()));
            }
            ControllerRequest::ProducerIds { reply } => {
                let _ = reply.send(Ok(ProducerId(next_id)..ProducerId(next_id + 2)));
                next_id += 2;
            }
            ControllerRequest::Facts { reply } => {
                let _ = reply.send(Ok(facts(&image.borrow(), &voters)));
            }
            ControllerRequest::ChangeVoters { request, reply } => {
                voters = request.voters;
                let _ = reply.send(Ok(ChangeVotersResponse::default()));
            }
            // Not asked for here: who waits hears nothing.
            ControllerRequest::AlterPartition { .. }
            | ControllerRequest::Resign { .. }
            | ControllerRequest::Leave { .. } => {}
            ControllerRequest::Decide { command, reply } => {
                let mut changed = image.borrow().clone();
                let outcome = changed.apply(changed.offset, &command).0;
                if outcome.is_ok() {
                    image.send_replace(changed);
                }
                let _ = reply.send(outcome.map_err(Into::into));
            }
        }
    }
}

/// Of a quorum that broker 1 leads, and of which all brokers that are no voters are observers.
fn facts(image: &Image, voters: &[i32]) -> FactsResponse {
    let member = |id: i32| QuorumMember {
        broker: id,
        matched: Some(41),
        caught_up: true,
        heard_ms_ago: Some(0),
        controller: Some(chronik_admin::Endpoint { host: "controller".into(), port: 9292 }),
    };
    let brokers = image.brokers.values().map(|b| chronik_admin::Broker {
        id: b.id.0,
        directory_id: Some(directory(b.id.0).to_string()),
        ..chronik_admin::Broker::default()
    });
    let observers = image.brokers.keys().map(|id| id.0).filter(|id| !voters.contains(id));
    let quorum = Quorum {
        leader: 1,
        term: 5,
        last_index: 41,
        committed: 40,
        voters: voters.iter().copied().map(member).collect(),
        observers: observers.map(member).collect(),
    };
    FactsResponse { brokers: brokers.collect(), quorum: Some(quorum), ..FactsResponse::default() }
}

/// The directory that a broker has registered.
pub(super) fn directory(broker: i32) -> uuid::Uuid {
    uuid::Uuid::from_u128(broker.unsigned_abs().into())
}

fn topic_error(refusal: Refusal) -> TopicError {
    match refusal {
        Refusal::UnknownTopic => TopicError::Unknown,
        Refusal::InvalidPartitions(why) => TopicError::InvalidPartitions(why),
        Refusal::InvalidAssignment(why) => TopicError::InvalidAssignment(why),
        Refusal::PolicyViolation(why) => TopicError::PolicyViolation(why),
        other => TopicError::InvalidConfig(other.to_string()),
    }
}

fn create(image: &watch::Sender<Image>, topic: &CreateTopic) -> Result<TopicId, TopicError> {
    if image.borrow().topic_by_name(&topic.name).is_some() {
        return Err(TopicError::Exists(topic.name.clone()));
    }
    if topic.name.contains(' ') {
        return Err(TopicError::InvalidName(topic.name.clone()));
    }
    let id = TopicId(uuid::Uuid::new_v4());
    if !topic.validate_only {
        image.send_modify(|image| {
            add_topic(image, id, &topic.name, topic.partitions.unwrap_or(1));
            let configs = topic.configs.iter().map(|(name, value)| (Arc::from(&**name), Arc::from(&**value)));
            image.topics[&id].configs = configs.collect();
        });
    }
    Ok(id)
}

/// The partition of that index of a topic.
pub(super) fn partition(topic: TopicId, index: i32) -> TopicPartition {
    TopicPartition { topic, partition: PartitionId(index) }
}
