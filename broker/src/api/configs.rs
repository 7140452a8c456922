//! Configs as clients see them: a topic's own values over the broker's over the defaults.

use crate::server::ServerConfig;
use chronik_core::cluster::Topic;
use chronik_core::cluster::config::{ConfigKind, TOPIC_CONFIGS};

/// Kafka's config types, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
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

impl From<ConfigKind> for Kind {
    fn from(kind: ConfigKind) -> Self {
        match kind {
            ConfigKind::Boolean => Self::Boolean,
            ConfigKind::String => Self::String,
            ConfigKind::Int => Self::Int,
            ConfigKind::Long => Self::Long,
            ConfigKind::Double => Self::Double,
            ConfigKind::List => Self::List,
        }
    }
}

/// The configs of a topic.
pub(super) fn of_topic(topic: &Topic, config: &ServerConfig) -> Vec<Value> {
    TOPIC_CONFIGS
        .iter()
        .map(|known| {
            let own = topic.configs.get(known.name).map(|v| (known.name.to_owned(), v.to_string(), Source::Topic));
            let property = known.broker_property.and_then(|name| config.properties.iter().find(|p| p.name == name));
            let of_broker = property
                .map(|p| (p.name.clone(), p.value.clone(), if p.given { Source::Broker } else { Source::Default }));
            let default = of_broker.unwrap_or_else(|| {
                (known.broker_property.unwrap_or(known.name).to_owned(), known.default.to_owned(), Source::Default)
            });
            let synonyms: Vec<_> = own.into_iter().chain([default]).collect();
            let (_, value, source) = synonyms[0].clone();
            Value {
                name: known.name.to_owned(),
                text: value,
                source,
                kind: known.kind.into(),
                doc: known.doc,
                synonyms,
            }
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
