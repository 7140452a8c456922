//! Metadata: the brokers that are alive, and the partitions of topics with their leaders.

use super::errors::Code as _;
use super::leaders::controller_id;
use super::listener::ListenerName;
use super::resources::is_topic_name;
use super::{Handlers, each_once};
use chronik_core::cluster::{Endpoint, Image, Partition, Topic, is_internal};
use chronik_core::ids::BrokerId;
use chronik_quorum::{CreateTopic, TopicError};
use chronik_wire::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic, StrBytes, Uuid, cluster_id_text, message, topic_id, wire_id,
};
use chronik_wire::{ErrorCode, Header};
use futures::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long Metadata waits for a topic that it creates. After a retriable error a client would wait as long as its
/// `retry.backoff.ms` says, and ask again.
const CREATION: Duration = Duration::from_millis(800);
/// How long it waits for all that it creates: what it was decoded to is held all along.
const CREATIONS: Duration = Duration::from_secs(3);
/// How long a cluster that is coming up may take until it is said that a topic is not there. Less than any
/// client's request timeout.
const FORMATION: Duration = Duration::from_secs(15);
/// Topics that a request names at most which waits for that.
const ASKED_IN_FORMATION: usize = 16;
/// Topics that one request creates at the same time.
const CREATED_TOGETHER: usize = 16;
/// Topics that one request creates at most: the others come with the client's next request.
const CREATED_AT_MOST: usize = 256;

/// What a client may do with a topic when nothing is forbidden: a bit for each of Kafka's `AclOperation`s that
/// topics have (read, write, create, delete, alter, describe, describe and alter configs).
pub(super) const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same for the cluster (create, alter, describe, cluster action, describe and alter configs, idempotent write).
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    listener: &ListenerName,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = header.version;
    let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let asked = asked.map(|topics| each_once(topics, |topic| (topic.name.clone(), topic.topic_id)));
    let refused = match &asked {
        // Versions before 4 cannot say no.
        Some(topics) if handlers.config.auto_create_topics && (version < 4 || request.allow_auto_topic_creation) => {
            create_missing(handlers, topics).await
        }
        _ => HashMap::new(),
    };
    if asked.as_ref().is_none_or(|topics| !topics.is_empty()) {
        // Connections that go on ending may not keep it waiting for longer.
        let concerns = |image: &Image, broker| leads(image, broker, asked.as_deref());
        let _ =
            tokio::time::timeout(handlers.config.missing_broker_timeout, wait_for_missing_brokers(handlers, concerns))
                .await;
    }
    let image = handlers.controller.image();
    let describe =
        Describe { image: &image, listener, version, operations: request.include_topic_authorized_operations };
    let topics = match &asked {
        Some(asked) => asked.iter().map(|topic| describe.asked(topic, &refused)).collect(),
        None => image.topics.values().map(|topic| describe.topic(topic)).collect(),
    };
    let brokers = brokers(handlers, &image, listener);
    let mut response = message!(MetadataResponse {
        brokers: brokers,
        cluster_id: image.cluster_id.map(|id| StrBytes::from(cluster_id_text(id))),
        controller_id: controller_id(&image, handlers.controller.leader(), handlers.config.me),
        topics: topics,
    });
    if request.include_cluster_authorized_operations && (8..=10).contains(&version) {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// The brokers that a client may go to: those that the cluster counts on. While there are none this broker names
/// itself, which answered after all: a client that gets no broker would go back to its first addresses, and wait
/// for longer each time that one of them is not there yet.
fn brokers(handlers: &Handlers, image: &Image, listener: &ListenerName) -> Vec<MetadataResponseBroker> {
    let described = |id: BrokerId, kafka: &Endpoint, rack: Option<&str>| {
        message!(MetadataResponseBroker {
            node_id: id.0,
            host: StrBytes::from(&*kafka.host),
            port: i32::from(kafka.port),
            rack: rack.map(StrBytes::from),
        })
    };
    let alive = image.brokers.values().filter(|broker| !broker.fenced);
    let brokers: Vec<_> =
        alive.filter_map(|b| Some(described(b.id, &listener.endpoint(image, b)?, b.rack.as_deref()))).collect();
    match &handlers.config.advertised {
        Some(kafka) if brokers.is_empty() && listener.is_first() => vec![described(handlers.config.me, kafka, None)],
        _ => brokers,
    }
}

/// Waits until a new topic could be written to, for as long as a client likes to wait: it would ask again later
/// each time, and miss the moment.
async fn enough_brokers(handlers: &Handlers) {
    let enough = |image: &Image| {
        image.brokers.values().filter(|b| !b.fenced).count() >= handlers.config.default_min_insync_replicas
    };
    // A topic can be created in a smaller cluster too, if it comes to that.
    let _ = tokio::time::timeout(FORMATION, handlers.controller.images().wait_for(enough)).await;
}

/// Waits while the connection to a broker that leads some of what is asked for is lost, until that broker is back, or
/// is fenced and others lead. A client that asks at such a moment has likely lost the same broker, and if the answer
/// still named it as a leader, librdkafka would ask again only a second later.
pub(super) async fn wait_for_missing_brokers(handlers: &Handlers, concerns: impl Fn(&Image, BrokerId) -> bool) {
    let config = &handlers.config;
    let (mut images, mut missing) = (handlers.controller.images(), config.peers.missing());
    if images.borrow().brokers.values().any(|broker| !broker.fenced && broker.id != config.me) {
        tokio::time::sleep(config.notice).await;
    }
    loop {
        let left = {
            let image = images.borrow_and_update();
            let missing = missing.borrow_and_update();
            let recently = |at: &Instant| config.missing_broker_timeout.checked_sub(at.elapsed());
            let doubtful = missing.iter().filter(|(id, _)| image.alive(**id).is_some());
            let doubtful = doubtful.filter_map(|(id, at)| Some((*id, recently(at)?)));
            doubtful.filter(|(id, _)| concerns(&image, *id)).map(|(_, left)| left).max()
        };
        let Some(left) = left else { return };
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            changed = missing.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// Whether a broker leads a partition of one of these topics, or of any.
fn leads(image: &Image, broker: BrokerId, asked: Option<&[MetadataRequestTopic]>) -> bool {
    let leads = |topic: &Topic| topic.partitions.iter().any(|partition| partition.leader == Some(broker));
    let found = |asked: &MetadataRequestTopic| match (topic_id(asked.topic_id), &asked.name) {
        (Some(id), _) => image.topics.get(&id),
        (None, Some(name)) => image.topic_by_name(name),
        (None, None) => None,
    };
    match asked {
        Some(asked) => asked.iter().filter_map(found).any(leads),
        None => image.topics.values().any(leads),
    }
}

/// Creates the topics that are asked for by name and not there. Returns those that cannot be.
async fn create_missing(handlers: &Handlers, asked: &[MetadataRequestTopic]) -> HashMap<StrBytes, ErrorCode> {
    let image = handlers.controller.image();
    let missing: HashSet<StrBytes> = asked
        .iter()
        .filter(|topic| topic_id(topic.topic_id).is_none())
        .filter_map(|topic| topic.name.clone())
        .filter(|name| image.topic_by_name(name).is_none())
        .filter(|name| !is_internal(name) || handlers.coordinators.internal_topic(name).is_some())
        .take(CREATED_AT_MOST)
        .collect();
    if !missing.is_empty() && asked.len() <= ASKED_IN_FORMATION {
        enough_brokers(handlers).await;
    }
    let until = Instant::now() + CREATIONS;
    stream::iter(missing)
        .map(|name| async move {
            let topic = handlers.coordinators.internal_topic(&name).unwrap_or_else(|| CreateTopic {
                name: name.to_string(),
                partitions: None,
                replication_factor: None,
                assignments: BTreeMap::new(),
                configs: BTreeMap::new(),
                validate_only: false,
            });
            let error = match handlers
                .controller
                .create_topic(topic, CREATION.min(until.saturating_duration_since(Instant::now())))
                .await
            {
                Ok(_) => return None,
                // It is on its way, or may be, or there may be enough brokers soon: ask again. Some clients take
                // INVALID_REPLICATION_FACTOR for final.
                Err(TopicError::Exists(_) | TopicError::Unavailable | TopicError::InvalidReplicationFactor(_)) => {
                    ErrorCode::LEADER_NOT_AVAILABLE
                }
                Err(error) => error.code(),
            };
            Some((name, error))
        })
        .buffer_unordered(CREATED_TOGETHER)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// How topics are described to one client.
struct Describe<'a> {
    image: &'a Image,
    listener: &'a ListenerName,
    version: i16,
    operations: bool,
}

impl Describe<'_> {
    fn asked(&self, asked: &MetadataRequestTopic, refused: &HashMap<StrBytes, ErrorCode>) -> MetadataResponseTopic {
        let failed = |error: ErrorCode| {
            let name = asked.name.clone().or_else(|| (self.version < 12).then(StrBytes::default));
            message!(MetadataResponseTopic { error_code: error.0, name: name, topic_id: asked.topic_id })
        };
        match (topic_id(asked.topic_id), &asked.name) {
            // Versions 10 and 11 have the field and Kafka does not answer to it.
            (Some(_), _) | (None, None) if self.version < 12 => failed(ErrorCode::INVALID_REQUEST),
            (Some(id), _) => self.image.topics.get(&id).map_or_else(
                || {
                    let mut topic = failed(ErrorCode::UNKNOWN_TOPIC_ID);
                    topic.name = None;
                    topic
                },
                |topic| self.topic(topic),
            ),
            (None, Some(name)) => match self.image.topic_by_name(name) {
                Some(topic) => self.topic(topic),
                None => failed(refused.get(name).copied().unwrap_or_else(|| unknown(name))),
            },
            (None, None) => failed(ErrorCode::INVALID_REQUEST),
        }
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let mut described = message!(MetadataResponseTopic {
            name: Some(StrBytes::from(&*topic.name)),
            topic_id: if self.version >= 10 { wire_id(topic.id) } else { Uuid::ZERO },
            is_internal: topic.is_internal(),
            partitions: (0..).zip(&topic.partitions).map(|(index, p)| self.partition(index, p)).collect(),
        });
        if self.operations && self.version >= 8 {
            described.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        described
    }

    fn partition(&self, index: i32, state: &Partition) -> MetadataResponsePartition {
        // Who cannot be reached through the client's listener is as good as away for it.
        let alive = |id: &BrokerId| {
            self.image
                .alive(*id)
                .is_some_and(|b| self.listener.is_first() || self.listener.endpoint(self.image, b).is_some())
        };
        let leader = state.leader.filter(alive);
        // The oldest clients know nothing of replicas that are not there.
        let shown = |ids: &[BrokerId]| -> Vec<i32> {
            ids.iter().filter(|id| self.version > 0 || alive(id)).map(|id| id.0).collect()
        };
        let offline: Vec<i32> = state.replicas.iter().filter(|id| !alive(id)).map(|id| id.0).collect();
        let error = match leader {
            None if self.version >= 6 && state.leader.is_some_and(|id| self.image.alive(id).is_some()) => {
                ErrorCode::LISTENER_NOT_FOUND
            }
            None => ErrorCode::LEADER_NOT_AVAILABLE,
            Some(_) if self.version == 0 && !offline.is_empty() => ErrorCode::REPLICA_NOT_AVAILABLE,
            Some(_) => ErrorCode::NONE,
        };
        message!(MetadataResponsePartition {
            error_code: error.0,
            partition_index: index,
            leader_id: leader.map_or(-1, |id| id.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: shown(&state.replicas),
            isr_nodes: shown(&state.isr),
            offline_replicas: offline,
        })
    }
}

/// Kafka tells a name that no topic can have from one that no topic has.
fn unknown(name: &str) -> ErrorCode {
    if is_topic_name(name) { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::INVALID_TOPIC_EXCEPTION }
}
