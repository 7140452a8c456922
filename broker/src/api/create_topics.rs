//! CreateTopics.

use super::errors::Code as _;
use super::resources::{COMPACT, NO_COORDINATOR, NOT_COMPACT};
use super::{Deadline, Handlers, ServerConfig, configs};
use crate::coordinators::Coordinators;
use chronik_core::cluster::config::{CLEANUP_POLICY, canonical, topic_config};
use chronik_core::cluster::{Image, Topic, is_internal};
use chronik_core::ids::{BrokerId, ProducerId, TopicId};
use chronik_quorum::CreateTopic;
use chronik_wire::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse, StrBytes,
    message, wire_id,
};
use chronik_wire::{ErrorCode, Header};
use futures::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Topics of one request that are created at the same time.
const TOGETHER: usize = 16;

/// Partitions that one request may make at most, in Kafka too: a slip in one number must not fill the cluster.
pub(super) const MAX_PARTITIONS_PER_REQUEST: i64 = 10_000;

/// The metadata log, which Kafka shows as a topic and lets nobody create.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// How a request's topics are to be created.
#[derive(Clone, Copy)]
struct How {
    version: i16,
    deadline: Deadline,
    validate_only: bool,
}

pub(super) async fn handle(handlers: &Handlers, header: Header, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let how = How {
        version: header.version,
        deadline: Deadline::after(request.timeout_ms),
        validate_only: request.validate_only,
    };
    if partitions(&request.topics, handlers.config.default_partitions) > MAX_PARTITIONS_PER_REQUEST {
        let text = format!("more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request");
        let refused = |topic: CreatableTopic| failed(topic.name, ErrorCode::POLICY_VIOLATION, &text);
        return message!(CreateTopicsResponse { topics: request.topics.into_iter().map(refused).collect() });
    }
    let mut times = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let times = &times;
    let topics = stream::iter(request.topics)
        .map(|topic| async move {
            if times.get(&topic.name).is_some_and(|n| *n > 1) {
                return failed(topic.name, ErrorCode::INVALID_REQUEST, "the topic is in the request more than once");
            }
            create(handlers, topic, how).await
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(CreateTopicsResponse { topics: topics })
}

/// How many partitions a request is about.
fn partitions(topics: &[CreatableTopic], default: i32) -> i64 {
    let of_one = |topic: &CreatableTopic| match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => i64::from(default),
        (0, number) => i64::from(number.max(0)),
        (assigned, _) => assigned as i64,
    };
    topics.iter().map(of_one).sum()
}

async fn create(handlers: &Handlers, topic: CreatableTopic, how: How) -> CreatableTopicResult {
    let name = topic.name.clone();
    if *name == *METADATA_TOPIC {
        return failed(name, ErrorCode::TOPIC_AUTHORIZATION_FAILED, "the metadata log cannot be created as a topic");
    }
    let wanted = match wanted(topic, how).and_then(|wanted| fit(wanted, &handlers.coordinators)) {
        Ok(wanted) => wanted,
        Err((error, text)) => return failed(name, error, text),
    };
    let asked = wanted.clone();
    let id = match handlers.controller.create_topic(wanted, how.deadline.left()).await {
        Ok(id) => id,
        Err(error) => return failed(name, error.code(), &error.to_string()),
    };
    let image = handlers.controller.image();
    let mut result = message!(CreatableTopicResult { name: name });
    if how.version < 5 {
        return result;
    }
    if let Some(topic) = image.topics.get(&id) {
        result.num_partitions = topic.partitions.len() as i32;
        result.replication_factor = topic.partitions.front().map_or(0, |p| p.replicas.len()) as i16;
        result.configs = Some(shown(topic, &image, &handlers.config));
        if how.version >= 7 {
            result.topic_id = wire_id(id);
        }
    } else {
        // Only checked: what it would have got.
        let config = &handlers.config;
        let first = asked.assignments.values().next();
        result.num_partitions = match first {
            Some(_) => asked.assignments.len() as i32,
            None => asked.partitions.unwrap_or(config.default_partitions),
        };
        let factor = first.map(|replicas| replicas.len() as i16).or(asked.replication_factor);
        result.replication_factor = factor.unwrap_or(config.default_replication_factor);
        result.configs = Some(shown(&unmade(&asked, &image, config), &image, config));
    }
    result
}

/// The configs of a topic, as the answer has them.
fn shown(topic: &Topic, image: &Image, config: &ServerConfig) -> Vec<CreatableTopicConfigs> {
    let shown = configs::of_topic(topic, image, config).into_iter().map(|value| {
        message!(CreatableTopicConfigs {
            name: StrBytes::from(value.name),
            value: Some(StrBytes::from(value.text)),
            read_only: value.read_only,
            config_source: value.source as i8,
        })
    });
    shown.collect()
}

/// What a topic that was only checked would be, as far as its configs go.
fn unmade(asked: &CreateTopic, image: &Image, config: &ServerConfig) -> Topic {
    let kept = |(name, value): (&String, &String)| {
        let value = canonical(name, value, image.metadata_version).ok()?;
        Some((Arc::<str>::from(name.as_str()), Arc::<str>::from(value)))
    };
    Topic {
        id: TopicId::default(),
        name: asked.name.as_str().into(),
        partitions: imbl::Vector::new(),
        configs: asked.configs.iter().filter_map(kept).collect(),
        min_insync_replicas: config.default_min_insync_replicas,
        default_min_insync_replicas: config.default_min_insync_replicas,
        older_producers: ProducerId(0),
    }
}

/// What the controller is to be asked for.
fn wanted(topic: CreatableTopic, how: How) -> Result<CreateTopic, (ErrorCode, &'static str)> {
    let by_hand = !topic.assignments.is_empty();
    if by_hand && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        let text = "a topic has either replicas assigned or numbers of partitions and replicas, not both";
        return Err((ErrorCode::INVALID_REQUEST, text));
    }
    let mut assignments = BTreeMap::new();
    for assignment in topic.assignments {
        let replicas = assignment.broker_ids.into_iter().map(BrokerId).collect();
        if assignments.insert(assignment.partition_index, replicas).is_some() {
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "a partition has its replicas assigned twice"));
        }
    }
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            return Err((ErrorCode::INVALID_CONFIG, "a topic config needs a value"));
        };
        let value = topic_config(&config.name).map_or(&*value, |known| known.as_logged(&value));
        configs.insert(config.name.to_string(), value.to_owned());
    }
    Ok(CreateTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignments,
        configs,
        validate_only: how.validate_only,
    })
}

/// An internal topic that has a coordinator here may be created by hand, as in Kafka: with as many partitions and
/// replicas as are asked for, but not with another `cleanup.policy`, which would have no effect. What nobody says is as
/// its coordinator would have it.
fn fit(mut wanted: CreateTopic, coordinators: &Coordinators) -> Result<CreateTopic, (ErrorCode, &'static str)> {
    if !is_internal(&wanted.name) {
        return Ok(wanted);
    }
    if wanted.configs.get(CLEANUP_POLICY).is_some_and(|policy| policy.trim() != COMPACT) {
        return Err((ErrorCode::INVALID_CONFIG, NOT_COMPACT));
    }
    let Some(own) = coordinators.internal_topic(&wanted.name) else {
        return Err((ErrorCode::INVALID_REQUEST, NO_COORDINATOR));
    };
    if wanted.assignments.is_empty() {
        wanted.partitions = wanted.partitions.or(own.partitions);
        wanted.replication_factor = wanted.replication_factor.or(own.replication_factor);
    }
    for (name, value) in own.configs {
        wanted.configs.entry(name).or_insert(value);
    }
    Ok(wanted)
}

fn failed(name: StrBytes, error: ErrorCode, text: &str) -> CreatableTopicResult {
    message!(CreatableTopicResult {
        name: name,
        error_code: error.0,
        error_message: Some(StrBytes::from(text)),
        num_partitions: -1,
        replication_factor: -1,
        configs: None,
    })
}
