//! AlterConfigs and IncrementalAlterConfigs: configs of topics, of this broker, of all brokers, and of groups (KIP-133,
//! KIP-226, KIP-339, KIP-848). Each resource is changed as a whole or not at all, and answered on its own.

use super::errors::Code as _;
use super::resources::{BROKER, COMPACT, GROUP, NOT_COMPACT, Refused, TOPIC, this_broker, topic_named};
use super::{Deadline, Handlers};
use crate::config::{broker_property, not_dynamic};
use chronik_core::cluster::config::{
    CLEANUP_POLICY, ConfigChange, ConfigOp, ConfigResource, of_broker_property, topic_config,
};
use chronik_core::cluster::group_configs::GROUP_CONFIGS;
use chronik_core::cluster::{Image, MetadataCommand, is_internal};
use chronik_quorum::TopicError;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, IncrementalAlterConfigsResult, IncrementalConfig, StrBytes, message,
};
use futures::stream::{self, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How long the controller may take for all of a request, in milliseconds: the requests do not say. Less than clients wait.
const TIMEOUT_MS: i32 = 20_000;
/// Resources of one request that are changed at the same time.
const TOGETHER: usize = 16;

/// `AlterConfigOp`, by Kafka's numbers.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What is asked for one resource.
struct Asked {
    kind: i8,
    name: StrBytes,
    changes: Result<Vec<ConfigChange>, Refused>,
}

/// How all of a request's resources are changed.
#[derive(Clone, Copy)]
struct How {
    /// Configs that are not named lose their values.
    replace: bool,
    validate_only: bool,
    deadline: Deadline,
}

pub(super) async fn incremental(
    handlers: &Handlers,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.into_iter().map(|resource| {
        let kind = resource.resource_type;
        let changes = resource.configs.into_iter().filter(|config| !removes_nothing(kind, config));
        let changes = changes.map(|config| change(kind, config)).collect();
        Asked { kind, name: resource.resource_name, changes }
    });
    let how = How { replace: false, validate_only: request.validate_only, deadline: Deadline::after(TIMEOUT_MS) };
    let answers = alter(handlers, asked.collect(), how).await;
    let responses = answers
        .into_iter()
        .map(|(kind, name, error, text)| {
            message!(IncrementalAlterConfigsResult {
                error_code: error.0,
                error_message: text,
                resource_type: kind,
                resource_name: name,
            })
        })
        .collect();
    message!(IncrementalAlterConfigsResponse { responses: responses })
}

pub(super) async fn replacing(handlers: &Handlers, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let asked = request.resources.into_iter().map(|resource| {
        let kind = resource.resource_type;
        let changes = resource.configs.into_iter().map(|config| set(kind, &config.name, config.value)).collect();
        Asked { kind, name: resource.resource_name, changes }
    });
    let how = How { replace: true, validate_only: request.validate_only, deadline: Deadline::after(TIMEOUT_MS) };
    let answers = alter(handlers, asked.collect(), how).await;
    let responses = answers
        .into_iter()
        .map(|(kind, name, error, text)| {
            message!(AlterConfigsResourceResponse {
                error_code: error.0,
                error_message: text,
                resource_type: kind,
                resource_name: name,
            })
        })
        .collect();
    message!(AlterConfigsResponse { responses: responses })
}

/// Whether it takes away what cannot have been set, as nothing here has that name: that is done already, as in Kafka.
/// kafka-reassign-partitions does so with the throttle of a broker's directories when a move is over.
fn removes_nothing(kind: i8, config: &IncrementalConfig) -> bool {
    let is_known = match kind {
        TOPIC => topic_config(&config.name).is_some(),
        BROKER => broker_property(&config.name).is_some(),
        GROUP => GROUP_CONFIGS.iter().any(|known| *known.name == *config.name),
        _ => true,
    };
    config.config_operation == DELETE && !is_known
}

fn change(kind: i8, config: IncrementalConfig) -> Result<ConfigChange, Refused> {
    let text = |value: StrBytes| logged(kind, &config.name, &value);
    let value = |value: Option<StrBytes>| value.map(text).ok_or_else(|| no_value(&config.name));
    let op = match config.config_operation {
        SET => ConfigOp::Set(value(config.value)?),
        DELETE => ConfigOp::Delete,
        APPEND => ConfigOp::Append(value(config.value)?),
        SUBTRACT => ConfigOp::Subtract(value(config.value)?),
        other => return Err((ErrorCode::INVALID_REQUEST, format!("there is no config operation {other}"))),
    };
    Ok(ConfigChange { name: config.name.to_string(), op })
}

fn set(kind: i8, name: &StrBytes, value: Option<StrBytes>) -> Result<ConfigChange, Refused> {
    let value = value.ok_or_else(|| no_value(name))?;
    Ok(ConfigChange { name: name.to_string(), op: ConfigOp::Set(logged(kind, name, &value)) })
}

/// A value as it goes into the metadata log. What groups have are numbers.
fn logged(kind: i8, name: &str, value: &str) -> String {
    let known = match kind {
        TOPIC => topic_config(name),
        BROKER => of_broker_property(name),
        _ => None,
    };
    known.map_or(value, |known| known.as_logged(value)).to_owned()
}

fn no_value(name: &str) -> Refused {
    (ErrorCode::INVALID_REQUEST, format!("config '{name}' needs a value"))
}

/// Changes each resource; the answers are in the order of the request.
async fn alter(handlers: &Handlers, asked: Vec<Asked>, how: How) -> Vec<(i8, StrBytes, ErrorCode, Option<StrBytes>)> {
    let mut times = HashMap::new();
    for resource in &asked {
        *times.entry((resource.kind, resource.name.clone())).or_insert(0) += 1;
    }
    let times = &times;
    stream::iter(asked)
        .map(|Asked { kind, name, changes }| async move {
            let done = if times.get(&(kind, name.clone())).is_some_and(|n| *n > 1) {
                Err((ErrorCode::INVALID_REQUEST, "the resource is in the request more than once".into()))
            } else {
                one(handlers, kind, &name, changes, how).await
            };
            match done {
                Ok(()) => (kind, name, ErrorCode::NONE, None),
                Err((error, text)) => (kind, name, error, Some(StrBytes::from(text))),
            }
        })
        .buffered(TOGETHER)
        .collect()
        .await
}

async fn one(
    handlers: &Handlers,
    kind: i8,
    name: &str,
    changes: Result<Vec<ConfigChange>, Refused>,
    how: How,
) -> Result<(), Refused> {
    let changes = changes?;
    let mut names = HashSet::new();
    if !changes.iter().all(|change| names.insert(change.name.as_str())) {
        return Err((ErrorCode::INVALID_REQUEST, "a config is in the request more than once".into()));
    }
    let resource = resource(handlers, &handlers.controller.image(), kind, name)?;
    if kind == TOPIC && is_internal(name) {
        check_internal(&changes)?;
    }
    if let ConfigResource::Group(group) = &resource {
        check_group(handlers, group, how.replace, &changes)?;
    }
    let of_brokers = matches!(resource, ConfigResource::Broker(_) | ConfigResource::Cluster);
    if of_brokers {
        check_dynamic(&changes)?;
    }
    let altered =
        handlers.controller.alter_configs(resource, how.replace, changes, how.validate_only, how.deadline.left());
    altered.await.map_err(|error| {
        let code = match &error {
            // Kafka's brokers check their own properties, and have another word for it than the controller.
            TopicError::InvalidConfig(_) if of_brokers => ErrorCode::INVALID_REQUEST,
            _ => error.code(),
        };
        (code, error.to_string())
    })
}

/// Refuses what would have no effect: internal topics are compacted, or the groups' offsets would go with time.
fn check_internal(changes: &[ConfigChange]) -> Result<(), Refused> {
    let compacts = |change: &ConfigChange| match &change.op {
        ConfigOp::Set(policy) => policy.trim() == COMPACT,
        ConfigOp::Append(_) | ConfigOp::Subtract(_) => false,
        ConfigOp::Delete => true,
    };
    if changes.iter().all(|change| change.name != CLEANUP_POLICY || compacts(change)) {
        return Ok(());
    }
    Err((ErrorCode::INVALID_CONFIG, NOT_COMPACT.into()))
}

/// Refuses what brokers read at their start alone, in Kafka's words, and says why and what to do.
fn check_dynamic(changes: &[ConfigChange]) -> Result<(), Refused> {
    const NAMED: usize = 10;
    const LONGEST: usize = 80;
    let mut others: Vec<String> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for change in changes {
        let name: String = change.name.chars().take(LONGEST).collect();
        if let Some(why) = not_dynamic(&name)
            && others.len() < NAMED
        {
            if !reasons.contains(&why) {
                reasons.push(why);
            }
            others.push(name);
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    let (names, why) = (others.join(", "), reasons.join("; "));
    Err((ErrorCode::INVALID_REQUEST, format!("Cannot update these configs dynamically: [{names}]; {why}")))
}

/// Refuses what this broker would not let a group go by: the bounds are in its own file, which the controller does not
/// know.
fn check_group(handlers: &Handlers, group: &Arc<str>, replace: bool, changes: &[ConfigChange]) -> Result<(), Refused> {
    let mut image = handlers.controller.image();
    let resource = ConfigResource::Group(group.clone());
    let command = MetadataCommand::AlterConfigs { resource, replace, changes: changes.to_vec() };
    // What the metadata refuses, the controller says why.
    let (outcome, _) = image.apply(image.offset, &command);
    match image.group_configs.get(group) {
        Some(own) if outcome.is_ok() => {
            handlers.config.groups.check_group_configs(own).map_err(|why| (ErrorCode::INVALID_CONFIG, why))
        }
        _ => Ok(()),
    }
}

fn resource(handlers: &Handlers, image: &Image, kind: i8, name: &str) -> Result<ConfigResource, Refused> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(topic_named(image, name)?.id)),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => {
            this_broker(handlers.config.me, name)?;
            Ok(ConfigResource::Broker(handlers.config.me))
        }
        GROUP if name.is_empty() => {
            Err((ErrorCode::INVALID_REQUEST, "there are no configs of all groups: name one".into()))
        }
        GROUP => Ok(ConfigResource::Group(name.into())),
        other => Err((ErrorCode::INVALID_REQUEST, format!("resources of type {other} have no configs here"))),
    }
}
