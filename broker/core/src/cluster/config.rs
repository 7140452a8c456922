//! Topic configs by Kafka's names: those whose behaviour there is. A value that would not be honoured is
//! refused with the reason, and never taken and ignored; so is a name that is not in the table.

use super::image::Topic;
use std::collections::BTreeMap;

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
    /// Words with commas between.
    List,
}

#[derive(Clone, Copy, Debug)]
enum Accepts {
    /// The default and nothing else: there is no other behaviour yet.
    DefaultOnly,
    /// A number of that range.
    Between(i64, i64),
}

/// `min.insync.replicas`.
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// `max.message.bytes`.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

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
    fixed(
        "message.timestamp.type",
        ConfigKind::String,
        "CreateTime",
        "Records keep the timestamps that their producers gave them.",
    ),
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

/// Whether a topic may have this value, and if not, why.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some(config) = topic_config(name) else {
        return Err(format!("topic config '{name}' is not known or not supported yet"));
    };
    match config.accepts {
        Accepts::DefaultOnly if value == config.default => Ok(()),
        Accepts::DefaultOnly => {
            Err(format!("{name}={value} is not supported yet: the only value is '{}'", config.default))
        }
        Accepts::Between(least, most) => match value.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => Err(format!("{name}={value} is not between {least} and {most}")),
            Err(_) => Err(format!("{name}={value} is not a number")),
        },
    }
}

/// `min.insync.replicas` as given among `configs`, validated before.
pub(super) fn min_insync_replicas(configs: &BTreeMap<String, String>) -> Option<i32> {
    configs.get(MIN_INSYNC_REPLICAS)?.parse().ok()
}

impl Topic {
    /// The largest batch that this topic takes, in bytes, if it says its own.
    pub fn max_message_bytes(&self) -> Option<usize> {
        self.configs.get(MAX_MESSAGE_BYTES)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_is_accepted() {
        for config in TOPIC_CONFIGS {
            assert_eq!(validate(config.name, config.default), Ok(()), "{}", config.name);
        }
    }

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn values_that_would_not_be_honoured_are_refused() {
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("retention.ms", "1000"),
            ("min.insync.replicas", "0"),
            ("min.insync.replicas", "two"),
            ("min.insync.replicas", "2147483648"),
            ("max.message.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("unclean.leader.election.enable", "true"),
            ("no.such.config", "1"),
        ] {
            assert!(validate(name, value).is_err(), "{name}={value}");
        }
    }
}
