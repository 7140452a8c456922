//! Topic configs by Kafka's names: those whose behaviour there is. A value that would not be honoured is refused with
//! the reason, and so is a name that is not in the table. What is accepted although nothing goes by it is marked, and says
//! why that makes no difference ([`TopicConfig::has_effect`]).

mod table;
#[cfg(test)]
mod tests;

pub use table::*;

use super::connections;
use super::features::MetadataVersion;
use super::image::{Image, Topic};
use super::listeners;
use super::throttles;
use super::topics::is_internal;
use crate::ids::BrokerId;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic config that is known, or one of groups.
#[derive(Clone, Copy, Debug)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// What it is as long as neither topic nor broker say otherwise.
    pub default: &'static str,
    /// The broker property that sets the default of all topics, if there is one.
    pub broker_property: Option<&'static str>,
    /// Its Kafka config type, as DescribeConfigs answers it.
    pub kind: ConfigKind,
    /// What it means here, in a sentence.
    pub doc: &'static str,
    /// Whether anything goes by it. What does not is accepted because tools of Kafka's set it, and because its value makes
    /// no difference to who does: `doc` says why.
    pub has_effect: bool,
    accepts: Accepts,
    since: Since,
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
pub(super) enum Accepts {
    /// The default and nothing else: there is no other behaviour yet.
    DefaultOnly,
    /// A number of that range.
    Between(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, one at least.
    SomeOf(&'static [&'static str]),
    /// A number from 0 to 1.
    Ratio,
    /// Listeners with their addresses.
    Listeners,
    /// A name, in that many bytes at most.
    Name(usize),
    /// Replicas as `partition:broker` with commas between, or `*`, or nothing.
    Replicas,
    /// Addresses with how many connections each may have, or nothing.
    Connections,
}

/// From which metadata version on a topic may have the config: brokers that know less would refuse what others take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Always.
    First,
    /// Its default always, other values from version 2 on.
    DefaultBefore2,
    /// Version 2.
    Second,
    /// Version 4.
    Fourth,
    /// Its default always, other values from version 5 on.
    DefaultBefore5,
}

/// The metadata version that most configs of segments and cleaning came with.
const SECOND: MetadataVersion = MetadataVersion(2);

/// The metadata version that `remote.storage.enable` came with.
const FOURTH: MetadataVersion = MetadataVersion(4);

/// The longest value that is looked at, in bytes.
const MAX_VALUE: usize = 4096;

/// The value as it is kept: in its shortest form. An error says why a topic of a cluster of that version may not have
/// it.
pub fn canonical(name: &str, value: &str, version: MetadataVersion) -> Result<String, String> {
    let Some(config) = topic_config(name) else {
        return Err(match not_here(name) {
            Some(why) => format!("topic config '{name}' cannot be set: {why}"),
            None => format!("topic config '{}' is not known or not supported yet", shortened(name)),
        });
    };
    config.canonical(value, version).map_err(|why| format!("{name}={} {why}", shortened(value)))
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
            Accepts::SomeOf(words) => format!("{}, or some of them with commas between", words.join(", ")),
            Accepts::Ratio => "0 to 1".to_owned(),
            Accepts::Name(most) => format!("a name of {most} bytes at most"),
            Accepts::Listeners => "NAME://HOST:PORT, or several with commas between".to_owned(),
            Accepts::Replicas => "`partition:broker` with commas between, or `*`".to_owned(),
            Accepts::Connections => "ADDRESS:COUNT, or several with commas between".to_owned(),
        }
    }

    /// A value as it goes into the metadata log. Kafka reads a boolean in letters of any case. Brokers of older releases
    /// apply what is in the log too, and take small letters alone.
    pub fn as_logged<'a>(&self, value: &'a str) -> &'a str {
        if self.kind != ConfigKind::Boolean {
            return value;
        }
        ["true", "false"].into_iter().find(|word| value.trim().eq_ignore_ascii_case(word)).unwrap_or(value)
    }

    fn canonical(&self, value: &str, version: MetadataVersion) -> Result<String, String> {
        let most = if matches!(self.accepts, Accepts::Replicas) { throttles::MAX_REPLICAS_VALUE } else { MAX_VALUE };
        if value.len() > most {
            return Err(format!("has more than {most} bytes"));
        }
        let value = value.trim();
        let needs = match self.since {
            Since::First => MetadataVersion::FIRST,
            Since::DefaultBefore2 | Since::DefaultBefore5 if value == self.default => MetadataVersion::FIRST,
            Since::DefaultBefore2 | Since::Second => SECOND,
            Since::Fourth => FOURTH,
            Since::DefaultBefore5 => MetadataVersion::UNCLEAN_ELECTIONS,
        };
        if version < needs {
            return Err(format!("needs metadata version {needs}, and the cluster is at {version}"));
        }
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
            Accepts::SomeOf(words) => some_of(words, value),
            Accepts::Replicas => throttles::canonical_replicas(value),
            Accepts::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio.to_string()),
                Ok(_) => Err("is not between 0 and 1".into()),
                Err(_) => Err("is not a number".into()),
            },
            Accepts::Listeners => listeners::canonical(value),
            Accepts::Connections => connections::canonical(value),
            Accepts::Name(most) if (1..=most).contains(&value.len()) => Ok(value.to_owned()),
            Accepts::Name(most) => Err(format!("is not a name of {most} bytes at most")),
        }
    }
}

/// The words of a list, each once, in the order in which they are given.
fn some_of(words: &[&str], value: &str) -> Result<String, String> {
    let given: Vec<&str> = value.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if given.is_empty() {
        return Err("is empty: to keep all records, set retention.ms and retention.bytes to -1".into());
    }
    if given.iter().any(|word| !words.contains(word)) {
        return Err(format!("is not made of {}", words.join(", ")));
    }
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    for word in given {
        if !kept.contains(&word) {
            kept.push(word);
        }
    }
    Ok(kept.join(","))
}

/// Enough of a text to be recognised.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    if text.len() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("…".chars()).collect() }
}

/// Why one of Kafka's topic configs means nothing here.
fn not_here(name: &str) -> Option<&'static str> {
    match name {
        "compression.gzip.level" | "compression.lz4.level" | "compression.zstd.level" => {
            Some("a leader that compresses does so with each codec's default level")
        }
        "local.retention.bytes"
        | "local.retention.ms"
        | "remote.copy.disable"
        | "remote.log.copy.disable"
        | "remote.log.delete.on.disable" => {
            Some("there is no tiered storage here: everything is on the brokers' disks")
        }
        _ => None,
    }
}

/// Whose configs are changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic's.
    Topic(crate::ids::TopicId),
    /// One broker's.
    Broker(BrokerId),
    /// Those of all brokers that do not have their own.
    Cluster,
    /// A consumer group's.
    Group(Arc<str>),
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
    version: MetadataVersion,
    config: impl Fn(&str) -> Option<&'static TopicConfig>,
    current: impl Fn(&TopicConfig) -> String,
) -> Result<Configs, String> {
    let mut after = if replace { Configs::new() } else { before.clone() };
    for (i, change) in changes.iter().enumerate() {
        if changes[..i].iter().any(|other| other.name == change.name) {
            return Err(format!("config '{}' is changed twice", shortened(&change.name)));
        }
        let Some(known) = config(&change.name) else {
            return Err(match not_here(&change.name) {
                Some(why) => format!("config '{}' cannot be set: {why}", change.name),
                None => format!("config '{}' is not known, or cannot be changed", shortened(&change.name)),
            });
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
        let value =
            known.canonical(&text, version).map_err(|why| format!("{}={} {why}", change.name, shortened(&text)))?;
        after.insert(change.name.as_str().into(), value.into());
    }
    Ok(after)
}

/// The configs of a new topic, in their shortest form.
pub(super) fn of_new_topic(given: &BTreeMap<String, String>, version: MetadataVersion) -> Result<Configs, String> {
    let kept = |name: &str, value: &str| Ok((Arc::from(name), Arc::from(canonical(name, value, version)?)));
    given.iter().map(|(name, value)| kept(name, value)).collect()
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

    /// A config's value as a number, or the default's: the broker's file is left aside.
    pub fn setting<T: std::str::FromStr>(&self, name: &str, image: &Image, broker: BrokerId) -> Option<T> {
        let given = self.config(name, image, broker).or_else(|| topic_config(name).map(|config| config.default));
        given.and_then(|text| text.parse().ok())
    }

    /// Whether it is the brokers' own.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// Whether old records go by a newer one with the same key (`cleanup.policy`).
    pub fn is_compacted(&self, image: &Image, broker: BrokerId) -> bool {
        self.has_policy("compact", image, broker)
    }

    /// Whether old records go by retention (`cleanup.policy`).
    pub fn is_deleted_from(&self, image: &Image, broker: BrokerId) -> bool {
        self.has_policy("delete", image, broker)
    }

    /// An internal topic is compacted, whatever its configs say: it may have been created by hand, or by a version that
    /// knew no coordinators, and the groups' offsets must not go with time.
    fn has_policy(&self, word: &str, image: &Image, broker: BrokerId) -> bool {
        if self.is_internal() {
            return word == "compact";
        }
        self.config(CLEANUP_POLICY, image, broker).unwrap_or("delete").split(',').any(|policy| policy == word)
    }

    /// `min.insync.replicas` of its own, if it says so.
    pub(super) fn own_min_insync_replicas(&self) -> Option<usize> {
        self.configs.get(MIN_INSYNC_REPLICAS)?.parse().ok()
    }
}
