//! Configs as clients see them: each value that there is, where it is from, and which of them counts.
//!
//! A topic's own value goes before the broker's dynamic one, that before the dynamic one of all brokers, that before
//! the broker's file, and that before the default. The first three are [`Topic::config`], which is what is in force.

use super::ServerConfig;
use super::resources::COMPACT;
use crate::config::{BROKER_PROPERTIES, BrokerProperty, Property, broker_property};
use chronik_core::cluster::config::{CLEANUP_POLICY, ConfigKind, MIN_INSYNC_REPLICAS, TOPIC_CONFIGS, TopicConfig};
use chronik_core::cluster::group_configs::GROUP_CONFIGS;
use chronik_core::cluster::{Image, Topic};

/// Kafka's config types, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Given to this broker while it ran.
    DynamicBroker = 2,
    /// Given to all brokers while they ran.
    DynamicDefaultBroker = 3,
    /// In the broker's file.
    StaticBroker = 4,
    Default = 5,
    /// Given to the group while the brokers ran.
    Group = 8,
}

/// One value that a config has somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Synonym {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
}

/// One config with its value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) source: Source,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
    pub(super) read_only: bool,
    /// All values that there are, the one that counts first.
    pub(super) synonyms: Vec<Synonym>,
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
pub(super) fn of_topic(topic: &Topic, image: &Image, config: &ServerConfig) -> Vec<Value> {
    TOPIC_CONFIGS.iter().map(|known| topic_value(topic, known, image, config)).collect()
}

fn topic_value(topic: &Topic, known: &'static TopicConfig, image: &Image, config: &ServerConfig) -> Value {
    let own = topic.configs.get(known.name);
    let own = own.map(|value| Synonym { name: known.name, value: value.to_string(), source: Source::Topic });
    let inherited = match known.broker_property {
        Some(name) => property_synonyms(name, image, config),
        None => Vec::new(),
    };
    let mut synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
    if known.name == CLEANUP_POLICY && topic.is_internal() {
        synonyms.retain(|s| s.source == Source::Topic && s.value == COMPACT);
        synonyms.push(Synonym { name: known.name, value: COMPACT.to_owned(), source: Source::Default });
    }
    if synonyms.iter().all(|s| s.source == Source::Topic) {
        let name = known.broker_property.unwrap_or(known.name);
        synonyms.push(Synonym { name, value: known.default.to_owned(), source: Source::Default });
    }
    if known.name == MIN_INSYNC_REPLICAS {
        // Without a dynamic value, the value is that of the broker that was asked to create the topic.
        for synonym in synonyms.iter_mut().filter(|s| is_static(s.source)) {
            synonym.value = topic.default_min_insync_replicas.to_string();
        }
    }
    value_of(known, synonyms)
}

/// The value is that of the first synonym, of which there is one at least.
fn value_of(known: &'static TopicConfig, synonyms: Vec<Synonym>) -> Value {
    let Synonym { value, source, .. } = synonyms[0].clone();
    Value {
        name: known.name,
        text: value,
        source,
        kind: known.kind.into(),
        doc: known.doc,
        read_only: known.is_fixed(),
        synonyms,
    }
}

/// Doubles as Java prints them, where Kafka shows what it has read. What brokers were given, also among the synonyms, and
/// what a topic is created with, it shows as it was given.
pub(super) fn as_kafka_prints(mut values: Vec<Value>) -> Vec<Value> {
    for value in values.iter_mut().filter(|value| value.kind == Kind::Double) {
        let own = value.synonyms.iter_mut().filter(|synonym| synonym.source == Source::Topic);
        for text in own.map(|synonym| &mut synonym.value).chain([&mut value.text]) {
            if let Ok(number) = text.parse() {
                *text = as_java_prints(number);
            }
        }
    }
    values
}

/// With a digit after the point always, and with an exponent when it is small or large.
fn as_java_prints(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

fn is_static(source: Source) -> bool {
    matches!(source, Source::StaticBroker | Source::Default)
}

/// The configs of a group, be it there or not.
pub(super) fn of_group(group: &str, image: &Image, config: &ServerConfig) -> Vec<Value> {
    let own = image.group_configs.get(group);
    let value = |known: &'static TopicConfig| {
        let own = own.and_then(|own| own.get(known.name));
        let own = own.map(|value| Synonym { name: known.name, value: value.to_string(), source: Source::Group });
        let inherited = known.broker_property.map(|name| property_synonyms(name, image, config)).unwrap_or_default();
        let mut synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
        if synonyms.is_empty() {
            let value = known.default.to_owned();
            synonyms.push(Synonym { name: known.name, value, source: Source::Default });
        }
        value_of(known, synonyms)
    };
    GROUP_CONFIGS.iter().map(value).collect()
}

/// What is shown when it has been given only: tools take a rate that is there for one that somebody set.
const SHOWN_IF_GIVEN: [&str; 2] = ["follower.replication.throttled.rate", "leader.replication.throttled.rate"];

/// The configs of this broker.
pub(super) fn of_broker(image: &Image, config: &ServerConfig) -> Vec<Value> {
    let known = |p: &Property| broker_property(&p.name);
    let all = config.properties.iter().filter_map(known);
    all.filter_map(|known| property_value(known, property_synonyms(known.name, image, config)))
        .filter(|value| value.source != Source::Default || !SHOWN_IF_GIVEN.contains(&value.name))
        .collect()
}

/// What all brokers were given while they ran.
pub(super) fn of_all_brokers(image: &Image) -> Vec<Value> {
    let given = |known: &'static BrokerProperty| {
        let value = image.cluster_configs.get(known.name)?.to_string();
        let synonym = Synonym { name: known.name, value, source: Source::DynamicDefaultBroker };
        property_value(known, vec![synonym])
    };
    BROKER_PROPERTIES.iter().filter_map(given).collect()
}

fn property_value(known: &'static BrokerProperty, synonyms: Vec<Synonym>) -> Option<Value> {
    let Synonym { value, source, .. } = synonyms.first()?.clone();
    Some(Value {
        name: known.name,
        text: value,
        source,
        kind: known.kind.into(),
        doc: known.meaning(),
        read_only: !known.update.is_dynamic(),
        synonyms,
    })
}

/// All values that a broker property has, the one that counts first.
fn property_synonyms(name: &str, image: &Image, config: &ServerConfig) -> Vec<Synonym> {
    let Some(known) = broker_property(name) else { return Vec::new() };
    let synonym = |value: &str, source| Synonym { name: known.name, value: value.to_owned(), source };
    let of_this = image.broker_configs.get(&config.me).and_then(|own| own.get(known.name));
    let of_all = image.cluster_configs.get(known.name);
    let mut all: Vec<_> = of_this.into_iter().map(|value| synonym(value, Source::DynamicBroker)).collect();
    all.extend(of_all.into_iter().map(|value| synonym(value, Source::DynamicDefaultBroker)));
    match config.properties.iter().find(|p| p.name == known.name) {
        Some(file) if file.given => {
            all.push(synonym(&file.value, Source::StaticBroker));
            all.extend(known.default.map(|default| synonym(default, Source::Default)));
        }
        Some(file) => all.push(synonym(&file.value, Source::Default)),
        None => all.extend(known.default.map(|default| synonym(default, Source::Default))),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::config::{Configs, MAX_MESSAGE_BYTES};
    use chronik_core::ids::{BrokerId, TopicId};
    use std::sync::Arc;

    const ME: BrokerId = BrokerId(0);

    fn configs(name: &str, value: Option<&str>) -> Configs {
        value.into_iter().map(|value| (Arc::from(name), Arc::from(value))).collect()
    }

    fn topic(own: Option<&str>) -> Topic {
        Topic {
            id: TopicId(uuid::Uuid::from_u128(1)),
            name: "t".into(),
            partitions: imbl::Vector::new(),
            configs: configs(MAX_MESSAGE_BYTES, own),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: chronik_core::ids::ProducerId(0),
        }
    }

    fn server(file: Option<&str>) -> ServerConfig {
        let mut config = ServerConfig::new(ME);
        let value = file.unwrap_or("1048588").to_owned();
        config.properties = vec![Property { name: "message.max.bytes".into(), value, given: file.is_some() }];
        config
    }

    fn image(broker: Option<&str>, cluster: Option<&str>) -> Image {
        let configs = |value| configs("message.max.bytes", value);
        let mut image = Image { cluster_configs: configs(cluster), ..Image::default() };
        image.broker_configs.insert(BrokerId(7), configs(Some("7777")));
        if broker.is_some() {
            image.broker_configs.insert(ME, configs(broker));
        }
        image
    }

    #[test]
    fn what_is_shown_first_is_what_is_in_force() {
        use Source::{Default, DynamicBroker, DynamicDefaultBroker, StaticBroker, Topic};
        let all = [(Topic, "1"), (DynamicBroker, "2"), (DynamicDefaultBroker, "3"), (StaticBroker, "4")];
        // Every set of places that say something.
        for bits in 0..16usize {
            let given = |i: usize| (bits >> i & 1 == 1).then_some(all[i].1);
            let (topic, config, image) = (topic(given(0)), server(given(3)), image(given(1), given(2)));
            let mut expected: Vec<_> = (0..4).filter(|i| given(*i).is_some()).map(|i| all[i]).collect();
            expected.push((Default, "1048588"));
            let values = of_topic(&topic, &image, &config);
            let shown = values.iter().find(|v| v.name == MAX_MESSAGE_BYTES).expect("known");
            let synonyms: Vec<_> = shown.synonyms.iter().map(|s| (s.source, s.value.as_str())).collect();
            assert_eq!(synonyms, expected);
            assert_eq!((shown.source, shown.text.as_str()), expected[0]);
            let dynamic = topic.config(MAX_MESSAGE_BYTES, &image, ME);
            assert_eq!(dynamic, expected.iter().find(|(s, _)| !is_static(*s)).map(|(_, value)| *value), "{bits:b}");
            let of_broker = of_broker(&image, &config);
            let expected = expected.iter().find(|(s, _)| *s != Topic).copied();
            assert_eq!(Some((of_broker[0].source, of_broker[0].text.as_str())), expected);
        }
    }

    #[test]
    fn a_ratio_is_shown_as_kafka_shows_it() {
        let name = "min.cleanable.dirty.ratio";
        for (kept, shown) in [("1", "1.0"), ("0", "0.0"), ("0.5", "0.5"), ("0.001", "0.001"), ("0.00025", "2.5E-4")] {
            let topic = Topic { configs: configs(name, Some(kept)), ..topic(None) };
            let values = as_kafka_prints(of_topic(&topic, &image(None, None), &server(None)));
            let value = values.into_iter().find(|v| v.name == name).expect("known");
            assert_eq!((value.text.as_str(), value.synonyms[0].value.as_str()), (shown, shown));
            let image =
                Image { cluster_configs: configs("log.cleaner.min.cleanable.ratio", Some(kept)), ..Image::default() };
            assert_eq!(of_all_brokers(&image)[0].text, kept);
            let values = as_kafka_prints(of_topic(&self::topic(None), &image, &server(None)));
            let value = values.into_iter().find(|v| v.name == name).expect("known");
            assert_eq!((value.text.as_str(), value.synonyms[0].value.as_str()), (shown, kept));
        }
        assert_eq!(as_java_prints(1e-4), "1.0E-4");
    }

    #[test]
    fn only_what_can_have_another_value_can_be_changed() {
        let values = of_topic(&topic(None), &image(None, None), &server(None));
        let read_only = |name: &str| values.iter().find(|v| v.name == name).map(|v| v.read_only);
        let (other, fixed) = (read_only("max.message.bytes"), read_only("remote.storage.enable"));
        assert_eq!((other, fixed), (Some(false), Some(true)));
    }

    #[test]
    fn what_all_brokers_were_given_is_shown_without_what_none_was() {
        let values = of_all_brokers(&image(None, Some("3")));
        assert_eq!(values.len(), 1);
        assert_eq!((values[0].name, values[0].source), ("message.max.bytes", Source::DynamicDefaultBroker));
        assert!(of_all_brokers(&image(Some("2"), None)).is_empty());
    }

    #[test]
    fn the_minimum_in_sync_is_that_which_the_topic_goes_by() {
        let mut topic = topic(None);
        topic.default_min_insync_replicas = 2;
        let mut image = image(None, None);
        let shown = |topic: &Topic, image: &Image| {
            let values = of_topic(topic, image, &server(None));
            values.into_iter().find(|v| v.name == MIN_INSYNC_REPLICAS).map(|v| (v.text, v.source))
        };
        assert_eq!(shown(&topic, &image), Some(("2".to_owned(), Source::Default)));
        image.cluster_configs.insert(MIN_INSYNC_REPLICAS.into(), "3".into());
        assert_eq!(shown(&topic, &image), Some(("3".to_owned(), Source::DynamicDefaultBroker)));
    }

    #[test]
    fn rates_are_shown_when_somebody_has_set_them() {
        let name = SHOWN_IF_GIVEN[1];
        let mut config = server(None);
        config.properties.push(Property { name: name.into(), value: i64::MAX.to_string(), given: false });
        let rate = |image: &Image| of_broker(image, &config).into_iter().find(|v| v.name == name).map(|v| v.text);
        let mut image = image(None, None);
        assert_eq!(rate(&image), None);
        image.broker_configs.insert(ME, configs(name, Some("5")));
        assert_eq!(rate(&image).as_deref(), Some("5"));
        assert!(of_broker(&image, &config).iter().any(|v| v.name == "message.max.bytes"));
    }
}
