//! `chronik config`: configs of topics, brokers, the cluster's default for brokers, and groups.

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on, pair};
use super::output::{Table, say_done};
use crate::config::BROKER_PROPERTIES;
use anyhow::Context as _;
use chronik_core::cluster::config::{TOPIC_CONFIGS, of_broker_property, topic_config};
use chronik_core::cluster::group_configs::GROUP_CONFIGS;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, IncrementalAlterConfigsRequest, IncrementalConfig, StrBytes,
    incremental_alter_configs_request::AlterConfigsResource, message,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

/// Kafka's number of a topic as a resource.
pub(super) const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// What is said of changed configs.
const DONE: [&str; 3] = ["config", "value", "result"];

/// Show and change configs.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A topic's.
    Topic,
    /// One broker's, by its id.
    Broker,
    /// The default of all brokers; NAME is `default`.
    Cluster,
    /// A consumer group's.
    Group,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show configs, their values and where these come from.
    Get {
        /// Of what.
        kind: Kind,
        /// Its name; `default` for the cluster.
        name: String,
        /// Only these.
        keys: Vec<String>,
    },
    /// Set configs.
    Set {
        /// Of what.
        kind: Kind,
        /// Its name; `default` for the cluster.
        name: String,
        /// What to set.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
    },
    /// Take configs back, so that the default counts again.
    Unset {
        /// Of what.
        kind: Kind,
        /// Its name; `default` for the cluster.
        name: String,
        /// Which.
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

/// Kafka's number and name of a resource.
fn resource(kind: Kind, name: &str) -> anyhow::Result<(i8, String)> {
    match kind {
        Kind::Topic => Ok((TOPIC, name.to_owned())),
        Kind::Group => Ok((GROUP, name.to_owned())),
        Kind::Broker => {
            name.parse::<i32>().with_context(|| format!("{name:?} is not a broker's id"))?;
            Ok((BROKER, name.to_owned()))
        }
        Kind::Cluster => {
            anyhow::ensure!(name == "default", "the cluster's configs are named `default`, not {name:?}");
            Ok((BROKER, String::new()))
        }
    }
}

impl Config {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut client = self.common.client();
        block_on(async move {
            match self.action {
                Action::Get { kind, name, keys } => {
                    let (kind, name) = resource(kind, &name)?;
                    get(&mut client, kind, &name, &keys).await?.print(self.common.output)
                }
                Action::Set { kind, name, configs } => {
                    let (kind, name) = resource(kind, &name)?;
                    set(&mut client, kind, &name, &configs, false).await?;
                    for note in without_effect(kind, &configs) {
                        eprintln!("{note}");
                    }
                    let rows = configs.iter().map(|(key, value)| vec![json!(key), json!(value), json!("set")]);
                    say_done(self.common.output, &DONE, rows)
                }
                Action::Unset { kind, name, keys } => {
                    let (kind, name) = resource(kind, &name)?;
                    // Brokers take away what does not exist without an error, as Kafka's do.
                    get(&mut client, kind, &name, &keys).await?;
                    let changes = keys.iter().map(|key| change(key, DELETE, None)).collect();
                    alter(&mut client, kind, &name, changes, false).await?;
                    let rows = keys.iter().map(|key| vec![json!(key), Value::Null, json!("unset")]);
                    say_done(self.common.output, &DONE, rows)
                }
            }
        })
    }
}

fn what(kind: i8, name: &str) -> String {
    match (kind, name) {
        (TOPIC, name) => format!("configs of topic {name}"),
        (GROUP, name) => format!("configs of group {name}"),
        (_, "") => "the cluster's configs".to_owned(),
        (_, name) => format!("configs of broker {name}"),
    }
}

/// A broker's own configs are known to that broker alone.
async fn whom(client: &mut Client, kind: i8, name: &str) -> Result<To, ClientError> {
    if kind != BROKER || name.is_empty() {
        return Ok(To::Any);
    }
    client.topics(Some(&[])).await?;
    Ok(name.parse().map_or(To::Any, To::Broker))
}

async fn get(client: &mut Client, kind: i8, name: &str, keys: &[String]) -> Result<Table, ClientError> {
    let asked_keys = (!keys.is_empty()).then(|| keys.iter().map(|key| StrBytes::from(&**key)).collect());
    let asked = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: StrBytes::from(name),
        configuration_keys: asked_keys,
    });
    let request = message!(DescribeConfigsRequest { resources: vec![asked] });
    let to = whom(client, kind, name).await?;
    let answer = client.again(async |client| client.ask(to, 1..=4, &request).await).await?;
    let shown: Vec<&str> = answer.results.iter().flat_map(|r| &r.configs).map(|config| &*config.name).collect();
    let mut table = Table::new(&["config", "value", "source", "read only"]);
    for result in &answer.results {
        refused(what(kind, name), result.error_code, result.error_message.as_ref())?;
        for config in &result.configs {
            let source = source(config.config_source);
            table.row(vec![
                json!(&*config.name),
                json!(config.value.as_deref()),
                json!(source),
                json!(config.read_only),
            ]);
        }
    }
    if let Some(unknown) = keys.iter().find(|key| !shown.contains(&key.as_str()) && !known(kind).any(|k| k == *key)) {
        return Err(ClientError::Refused {
            what: what(kind, name),
            code: ErrorCode::INVALID_CONFIG,
            text: Some(unknown_key(unknown, known(kind))),
        });
    }
    Ok(table)
}

/// The configs of a kind of resource; those of the cluster are the brokers'.
fn known(kind: i8) -> Box<dyn Iterator<Item = &'static str>> {
    match kind {
        TOPIC => Box::new(TOPIC_CONFIGS.iter().map(|config| config.name)),
        GROUP => Box::new(GROUP_CONFIGS.iter().map(|config| config.name)),
        _ => Box::new(BROKER_PROPERTIES.iter().map(|property| property.name)),
    }
}

fn unknown_key(unknown: &str, known: impl Iterator<Item = &'static str>) -> String {
    let nearest = known.min_by_key(|name| strsim::damerau_levenshtein(unknown, name));
    let hint = nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
    format!("there is no config '{unknown}'{hint}")
}

/// The value of one config of a topic, as it is in force.
pub(super) async fn of_topic(client: &mut Client, topic: &str, key: &str) -> Result<Option<String>, ClientError> {
    let asked = message!(DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: StrBytes::from(topic),
        configuration_keys: Some(vec![StrBytes::from(key)]),
    });
    let request = message!(DescribeConfigsRequest { resources: vec![asked] });
    let answer = client.again(async |client| client.ask(To::Any, 1..=4, &request).await).await?;
    let Some(result) = answer.results.into_iter().next() else { return Ok(None) };
    refused(what(TOPIC, topic), result.error_code, result.error_message.as_ref())?;
    Ok(result
        .configs
        .into_iter()
        .find(|config| &*config.name == key)
        .and_then(|config| Some(config.value?.to_string())))
}

/// What is to be said of those that are taken and that nothing goes by.
fn without_effect(kind: i8, configs: &[(String, String)]) -> Vec<String> {
    let find = match kind {
        TOPIC => topic_config,
        BROKER => of_broker_property,
        _ => return Vec::new(),
    };
    let note = |(key, _): &(String, String)| {
        let config = find(key).filter(|config| !config.has_effect)?;
        Some(format!("{key} is set. {}", config.doc))
    };
    configs.iter().filter_map(note).collect()
}

/// Where a value comes from, by Kafka's number.
fn source(number: i8) -> &'static str {
    match number {
        1 => "topic",
        2 => "broker",
        3 => "cluster",
        4 => "configuration file",
        5 => "default",
        8 => "group",
        _ => "unknown",
    }
}

/// Sets configs of a resource, all or none; or says whether it could.
pub(super) async fn set(
    client: &mut Client,
    kind: i8,
    name: &str,
    configs: &[(String, String)],
    validate_only: bool,
) -> Result<(), ClientError> {
    let changes = configs.iter().map(|(key, value)| change(key, SET, Some(value))).collect();
    alter(client, kind, name, changes, validate_only).await
}

fn change(key: &str, operation: i8, value: Option<&str>) -> IncrementalConfig {
    message!(IncrementalConfig {
        name: StrBytes::from(key),
        config_operation: operation,
        value: value.map(StrBytes::from),
    })
}

async fn alter(
    client: &mut Client,
    kind: i8,
    name: &str,
    changes: Vec<IncrementalConfig>,
    validate_only: bool,
) -> Result<(), ClientError> {
    let resource =
        message!(AlterConfigsResource { resource_type: kind, resource_name: StrBytes::from(name), configs: changes });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: validate_only });
    let to = whom(client, kind, name).await?;
    let answer = client.again(async |client| client.ask(to, 0..=1, &request).await).await?;
    for result in &answer.responses {
        refused(what(kind, name), result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_kafka_names_them() {
        for (kind, name, expected) in [
            (Kind::Topic, "orders", Some((TOPIC, "orders"))),
            (Kind::Broker, "1", Some((BROKER, "1"))),
            (Kind::Group, "1", Some((GROUP, "1"))),
            (Kind::Cluster, "default", Some((BROKER, ""))),
            (Kind::Broker, "one", None),
            (Kind::Cluster, "1", None),
        ] {
            let found = resource(kind, name).ok();
            assert_eq!(found.as_ref().map(|(kind, name)| (*kind, name.as_str())), expected, "{kind:?} {name}");
        }
    }

    #[test]
    fn a_change_without_effect_is_reported_as_such() {
        let set = |key: &str| vec![(key.to_owned(), "true".to_owned()), ("retention.ms".to_owned(), "1".to_owned())];
        for (kind, key, said) in [
            (TOPIC, "preallocate", Some("preallocate is set. Without effect: segments grow")),
            (BROKER, "log.preallocate", Some("log.preallocate is set. Without effect: segments grow")),
            (TOPIC, "segment.ms", None),
            (GROUP, "preallocate", None),
        ] {
            let notes = without_effect(kind, &set(key));
            assert_eq!(notes.len(), usize::from(said.is_some()), "{key}");
            assert!(said.is_none_or(|said| notes[0].starts_with(said)), "{notes:?}");
        }
    }

    #[test]
    fn a_config_that_does_not_exist_is_named_with_the_nearest_one() {
        for (kind, unknown, nearest) in [
            (TOPIC, "retenton.ms", "retention.ms"),
            (BROKER, "log.retention.msec", "log.retention.ms"),
            (GROUP, "consumer.session.timeout", "consumer.session.timeout.ms"),
        ] {
            assert!(known(kind).all(|name| name != unknown) && known(kind).any(|name| name == nearest));
            let says = format!("there is no config '{unknown}'; did you mean '{nearest}'?");
            assert_eq!(unknown_key(unknown, known(kind)), says);
        }
    }
}
