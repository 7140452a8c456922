//! Topic configs by Kafka's names: those whose behaviour there is. A value that would not be honoured is refused with
//! the reason, and never taken and ignored; so is a name that is not in the table.

use super::image::{Image, Topic};
use crate::ids::BrokerId;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic config that is known.
#[derive(Clone, Copy, Debug)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// What it is as long as neither topic nor broker say otherwise.
    pub default: &'static str,
    /// The broker property that sets the default of all topics, if there is one.
    pub broker_property: Option<&'static str>,
    /// Kafka's type of it, as clients are told.
    pub kind: ConfigKind,
    /// What it means here, in a sentence.
    pub doc: &'static str,
    accepts: Accepts,
}

/// Kafka's config types, as far as there are configs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// A word.
    String,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A number with a fraction.
    Double,
    /// Words with commas between.
    List,
}

#[derive(Clone, Copy, Debug)]
enum Accepts {
    /// The default and nothing else: there is no other behaviour yet.
    DefaultOnly,
    /// A number of that range.
    Between(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// `min.insync.replicas`.
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// `message.timestamp.after.max.ms`.
pub const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
/// `message.timestamp.before.max.ms`.
pub const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
/// `message.timestamp.type`.
pub const TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// `max.message.bytes`.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// The longest value that is looked at, in bytes.
const MAX_VALUE: usize = 4096;

/// Every topic config that is known, by name.
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    fixed("cleanup.policy", ConfigKind::List, "delete", "Records go by retention, not by key."),
    fixed("compression.type", ConfigKind::String, "producer", "Batches stay compressed as the producer sent them."),
    fixed("flush.messages", ConfigKind::Long, "1", "Every record is on the disk before it is acknowledged."),
    TopicConfig {
        name: MAX_MESSAGE_BYTES,
        default: "1048588",
        broker_property: Some("message.max.bytes"),
        kind: ConfigKind::Int,
        doc: "The largest record batch that is taken, in bytes, compressed as it comes.",
        accepts: Accepts::Between(0, i32::MAX as i64),
    },
    TopicConfig {
        name: TIMESTAMP_AFTER_MAX_MS,
        default: "3600000",
        broker_property: Some("log.message.timestamp.after.max.ms"),
        kind: ConfigKind::Long,
        doc: "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds.",
        accepts: Accepts::Between(0, i64::MAX),
    },
    TopicConfig {
        name: TIMESTAMP_BEFORE_MAX_MS,
        default: "9223372036854775807",
        broker_property: Some("log.message.timestamp.before.max.ms"),
        kind: ConfigKind::Long,
        doc: "How far a record's timestamp may lie behind the broker's clock, in milliseconds.",
        accepts: Accepts::Between(0, i64::MAX),
    },
    TopicConfig {
        name: TIMESTAMP_TYPE,
        default: "CreateTime",
        broker_property: Some("log.message.timestamp.type"),
        kind: ConfigKind::String,
        doc: "Whether records keep the timestamps that their producers gave them, or get the broker's.",
        accepts: Accepts::OneOf(&["CreateTime", "LogAppendTime"]),
    },
    TopicConfig {
        name: MIN_INSYNC_REPLICAS,
        default: "1",
        broker_property: Some(MIN_INSYNC_REPLICAS),
        kind: ConfigKind::Int,
        doc: "In-sync replicas without which nothing is committed; a topic with fewer replicas needs all of them.",
        accepts: Accepts::Between(1, i32::MAX as i64),
    },
    fixed("retention.bytes", ConfigKind::Long, "-1", "Records are kept whatever space they take."),
    fixed("retention.ms", ConfigKind::Long, "-1", "Records are kept for ever."),
    fixed(
        "unclean.leader.election.enable",
        ConfigKind::Boolean,
        "false",
        "A replica that may lack committed records is never elected.",
    ),
];

const fn fixed(name: &'static str, kind: ConfigKind, default: &'static str, doc: &'static str) -> TopicConfig {
    TopicConfig { name, default, broker_property: None, kind, doc, accepts: Accepts::DefaultOnly }
}

/// The config of that name, if it is known.
pub fn topic_config(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|c| c.name == name)
}

/// The topic config whose default a broker property sets, if it is one of those.
pub fn of_broker_property(property: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|c| c.broker_property == Some(property))
}

/// The value as it is kept: in its shortest form. An error says why a topic may not have it.
pub fn canonical(name: &str, value: &str) -> Result<String, String> {
    let Some(config) = topic_config(name) else {
        return Err(format!("topic config '{}' is not known or not supported yet", shortened(name)));
    };
    config.canonical(value).map_err(|why| format!("{name}={} {why}", shortened(value)))
}

impl TopicConfig {
    /// Whether there is but one value that it can have.
    pub fn is_fixed(&self) -> bool {
        matches!(self.accepts, Accepts::DefaultOnly)
    }

    /// The values that it can have, for a person.
    pub fn values(&self) -> String {
        match self.accepts {
            Accepts::DefaultOnly => self.default.to_owned(),
            Accepts::Between(least, i64::MAX) => format!("{least} and more"),
            Accepts::Between(least, most) => format!("{least} to {most}"),
            Accepts::OneOf(words) => words.join(", "),
        }
    }

    fn canonical(&self, value: &str) -> Result<String, String> {
        if value.len() > MAX_VALUE {
            return Err(format!("has more than {MAX_VALUE} bytes"));
        }
        let value = value.trim();
        match self.accepts {
            Accepts::DefaultOnly if value == self.default => Ok(value.to_owned()),
            Accepts::DefaultOnly => Err(format!("is not supported yet: the only value is '{}'", self.default)),
            Accepts::Between(least, most) => match value.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(number.to_string()),
                Ok(_) => Err(format!("is not between {least} and {most}")),
                Err(_) => Err("is not a number".into()),
            },
            Accepts::OneOf(words) if words.contains(&value) => Ok(value.to_owned()),
            Accepts::OneOf(words) => Err(format!("is not one of {}", words.join(", "))),
        }
    }
}

/// Enough of a text to be recognised.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    if text.len() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("…".chars()).collect() }
}

/// Whose configs are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic's.
    Topic(crate::ids::TopicId),
    /// One broker's.
    Broker(BrokerId),
    /// Those of all brokers that do not have their own.
    Cluster,
}

/// A change of one config (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Kafka's name.
    pub name: String,
    /// How.
    pub op: ConfigOp,
}

/// How a config is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOp {
    /// To this value.
    Set(String),
    /// To what it is when nobody says anything.
    Delete,
    /// A list gets these words, as far as it lacks them.
    Append(String),
    /// A list loses these words.
    Subtract(String),
}

/// Configs by name.
pub type Configs = OrdMap<Arc<str>, Arc<str>>;

/// `before` with these changes, or nothing but them. `config` finds what a name stands for, `current` says what a list
/// without a value of its own is appended to.
pub(super) fn changed(
    before: &Configs,
    replace: bool,
    changes: &[ConfigChange],
    config: impl Fn(&str) -> Option<&'static TopicConfig>,
    current: impl Fn(&TopicConfig) -> String,
) -> Result<Configs, String> {
    let mut after = if replace { Configs::new() } else { before.clone() };
    for (i, change) in changes.iter().enumerate() {
        if changes[..i].iter().any(|other| other.name == change.name) {
            return Err(format!("config '{}' is changed twice", shortened(&change.name)));
        }
        let Some(known) = config(&change.name) else {
            return Err(format!("config '{}' is not known, or cannot be changed", shortened(&change.name)));
        };
        let own = || after.get(&*change.name).map_or_else(|| current(known), ToString::to_string);
        let list = |text: &str| text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
        let (ConfigOp::Append(text) | ConfigOp::Subtract(text) | ConfigOp::Set(text)) = &change.op else {
            after.remove(&*change.name);
            continue;
        };
        let text = if matches!(change.op, ConfigOp::Set(_)) {
            text.clone()
        } else {
            if known.kind != ConfigKind::List {
                return Err(format!("config '{}' is not a list: it can be set, not appended to", change.name));
            }
            let (mut words, given): (Vec<String>, Vec<String>) = (list(&own()), list(text));
            if matches!(change.op, ConfigOp::Append(_)) {
                for word in given {
                    if !words.contains(&word) {
                        words.push(word);
                    }
                }
            } else {
                words.retain(|word| !given.contains(word));
            }
            words.join(",")
        };
        let value = known.canonical(&text).map_err(|why| format!("{}={} {why}", change.name, shortened(&text)))?;
        after.insert(change.name.as_str().into(), value.into());
    }
    Ok(after)
}

/// The configs of a new topic, in their shortest form.
pub(super) fn of_new_topic(given: &BTreeMap<String, String>) -> Result<Configs, String> {
    given.iter().map(|(name, value)| Ok((Arc::from(name.as_str()), Arc::from(canonical(name, value)?)))).collect()
}

impl Image {
    /// What a broker's configs are when its file is left aside: its own dynamic value of a property, or the cluster's.
    pub fn dynamic_property(&self, broker: BrokerId, property: &str) -> Option<&Arc<str>> {
        let own = self.broker_configs.get(&broker).and_then(|own| own.get(property));
        own.or_else(|| self.cluster_configs.get(property))
    }
}

impl Topic {
    /// A config's value: this topic's own, or the one that `broker` was given while it ran. `None` leaves it to the
    /// broker's file, or the default.
    pub fn config<'a>(&'a self, name: &str, image: &'a Image, broker: BrokerId) -> Option<&'a str> {
        if let Some(own) = self.configs.get(name) {
            return Some(own);
        }
        if image.cluster_configs.is_empty() && image.broker_configs.is_empty() {
            return None;
        }
        let property = topic_config(name)?.broker_property?;
        image.dynamic_property(broker, property).map(|value| &**value)
    }

    /// `min.insync.replicas` of its own, if it says so.
    pub(super) fn own_min_insync_replicas(&self) -> Option<usize> {
        self.configs.get(MIN_INSYNC_REPLICAS)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_is_accepted() {
        for config in TOPIC_CONFIGS {
            assert_eq!(canonical(config.name, config.default).as_deref(), Ok(config.default), "{}", config.name);
        }
    }

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn values_that_would_not_be_honoured_are_refused() {
        for (name, value) in [
            ("min.insync.replicas", "0"),
            ("min.insync.replicas", "two"),
            ("min.insync.replicas", "2147483648"),
            ("max.message.bytes", "-1"),
            ("unclean.leader.election.enable", "maybe"),
            ("no.such.config", "1"),
        ] {
            assert!(canonical(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_long_way_to_write_a_number_is_not_kept() {
        assert_eq!(canonical("max.message.bytes", " 0001000 ").as_deref(), Ok("1000"));
        let zeroes = format!("{}1", "0".repeat(1 << 20));
        let error = canonical("max.message.bytes", &zeroes).unwrap_err();
        assert!(error.len() < 500 && error.contains("more than 4096 bytes"), "{error}");
    }
}
