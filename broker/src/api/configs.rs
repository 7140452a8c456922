//! Configs as clients see them: a topic's own values over the broker's over the defaults.

use crate::server::ServerConfig;
use chronik_core::cluster::Topic;

/// A topic config that is known.
struct Known {
    name: &'static str,
    default: &'static str,
    /// The broker property that sets the default of all topics, if there is one.
    property: Option<&'static str>,
    kind: Kind,
    doc: &'static str,
}

/// Kafka's config types, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// Where a value is from, by Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Topic = 1,
    Broker = 4,
    Default = 5,
}

/// One config with its value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) source: Source,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
    /// All values that there are, the one that counts first.
    pub(super) synonyms: Vec<(String, String, Source)>,
}

const TOPIC: &[Known] = &[
    known("cleanup.policy", "delete", None, Kind::List, "Records go by retention, not by key."),
    known("compression.type", "producer", None, Kind::String, "Batches stay compressed as the producer sent them."),
    known("flush.messages", "1", None, Kind::Long, "Every record is on the disk before it is acknowledged."),
    known(
        "max.message.bytes",
        "1048588",
        Some("message.max.bytes"),
        Kind::Int,
        "The largest record batch that is taken, in bytes, compressed as it comes.",
    ),
    known(
        "message.timestamp.type",
        "CreateTime",
        None,
        Kind::String,
        "Records keep the timestamps that their producers gave them.",
    ),
    known(
        "min.insync.replicas",
        "1",
        Some("min.insync.replicas"),
        Kind::Int,
        "In-sync replicas without which nothing is committed.",
    ),
    known("retention.bytes", "-1", None, Kind::Long, "Records are kept whatever space they take."),
    known("retention.ms", "-1", None, Kind::Long, "Records are kept for ever."),
    known(
        "unclean.leader.election.enable",
        "false",
        None,
        Kind::Boolean,
        "A replica that may lack committed records is never elected.",
    ),
];

const fn known(
    name: &'static str,
    default: &'static str,
    property: Option<&'static str>,
    kind: Kind,
    doc: &'static str,
) -> Known {
    Known { name, default, property, kind, doc }
}

/// The configs of a topic.
pub(super) fn of_topic(topic: &Topic, config: &ServerConfig) -> Vec<Value> {
    TOPIC
        .iter()
        .map(|known| {
            let own = topic.configs.get(known.name).map(|v| (known.name.to_owned(), v.to_string(), Source::Topic));
            let property = known.property.and_then(|name| config.properties.iter().find(|p| p.name == name));
            let of_broker = property
                .map(|p| (p.name.clone(), p.value.clone(), if p.given { Source::Broker } else { Source::Default }));
            let default = of_broker.unwrap_or_else(|| {
                (known.property.unwrap_or(known.name).to_owned(), known.default.to_owned(), Source::Default)
            });
            let synonyms: Vec<_> = own.into_iter().chain([default]).collect();
            let (_, value, source) = synonyms[0].clone();
            Value { name: known.name.to_owned(), text: value, source, kind: known.kind, doc: known.doc, synonyms }
        })
        .collect()
}

/// The configs of this broker.
pub(super) fn of_broker(config: &ServerConfig) -> Vec<Value> {
    config
        .properties
        .iter()
        .map(|p| {
            let source = if p.given { Source::Broker } else { Source::Default };
            let kind = match p.value.as_str() {
                "true" | "false" => Kind::Boolean,
                v if v.parse::<i64>().is_ok() => Kind::Long,
                _ => Kind::String,
            };
            let synonyms = vec![(p.name.clone(), p.value.clone(), source)];
            Value { name: p.name.clone(), text: p.value.clone(), source, kind, doc: "", synonyms }
        })
        .collect()
}
