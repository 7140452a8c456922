//! What the operator asks of a cluster through the Kafka protocol: its topics, and the configs that all brokers share.

mod client;
mod connection;

pub use client::Client;

use crate::brokers::{Answer, Contact};
use chronik_wire::messages::{Uuid, topic_id_text};
use std::collections::{BTreeMap, BTreeSet};

/// Configs by Kafka's names.
pub type Configs = BTreeMap<String, String>;

/// Configs to set; `None` takes a value back, so that the default counts again.
pub type ConfigChanges = BTreeMap<String, Option<String>>;

/// A topic that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaTopic {
    /// Its identity: another one of the same name has another.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas its partitions have; two numbers while they are moved.
    pub factors: BTreeSet<usize>,
    /// The partitions that have no leader.
    pub leaderless: usize,
    /// The configs that it has values of its own for.
    pub configs: Configs,
}

impl KafkaTopic {
    /// Its id as Kafka's tools print it.
    pub fn id_text(&self) -> String {
        topic_id_text(self.id)
    }
}

/// A topic that there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` for the cluster's default.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` for the cluster's default.
    pub factor: Option<i16>,
    /// Its configs.
    pub configs: Configs,
}

/// A broker as it is advertised to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdvertisedBroker {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

/// A cluster through the Kafka protocol, as far as the operator uses it. The contact's brokers must be ready: one that
/// has just started knows less than there is.
pub trait Kafka: Send + Sync {
    /// What all brokers were given while they ran.
    fn cluster_configs(&self, contact: Contact) -> Answer<Configs>;
    /// Changes that.
    fn alter_cluster_configs(&self, contact: Contact, changes: ConfigChanges) -> Answer<()>;
    /// The brokers that serve, by id, as they are advertised to clients of the listener at this port.
    fn advertised_brokers(&self, contact: Contact, port: i32) -> Answer<BTreeMap<i32, AdvertisedBroker>>;
    /// Changes what one broker was given for itself while it ran. The contact is that broker alone.
    fn alter_broker_configs(&self, contact: Contact, broker: i32, changes: ConfigChanges) -> Answer<()>;
    /// A topic; `None` if there is none of that name.
    fn topic(&self, contact: Contact, name: String) -> Answer<Option<KafkaTopic>>;
    /// Creates a topic.
    fn create_topic(&self, contact: Contact, topic: NewTopic) -> Answer<()>;
    /// Gives a topic more partitions, so that it has this many.
    fn grow_topic(&self, contact: Contact, name: String, partitions: i32) -> Answer<()>;
    /// Changes a topic's configs.
    fn alter_topic_configs(&self, contact: Contact, name: String, changes: ConfigChanges) -> Answer<()>;
    /// Deletes the topic with that id, and no other one of its name.
    fn delete_topic(&self, contact: Contact, id: Uuid) -> Answer<()>;
}

/// Whether two texts are the same value of a config. Brokers keep a value in its shortest form: a number without what it
/// could do without, a list without spaces and in an order of its own, a boolean in small letters.
pub fn same_value(one: &str, other: &str) -> bool {
    let number = |text: &str| text.trim().parse::<f64>().ok().map(f64::to_bits);
    let list = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<BTreeSet<_>>();
    let integers = || Some(one.trim().parse::<i64>().ok()? == other.trim().parse::<i64>().ok()?);
    // Not every long is a double.
    if let Some(same) = integers() {
        return same;
    }
    let is_boolean = |text: &str| ["true", "false"].iter().any(|word| text.trim().eq_ignore_ascii_case(word));
    if is_boolean(one) && is_boolean(other) {
        return one.trim().eq_ignore_ascii_case(other.trim());
    }
    (number(one).is_some() && number(one) == number(other)) || list(one) == list(other)
}

/// What has to be changed for `current` to say what `wanted` does. Of what `wanted` does not name, `managed` is taken
/// back, and the rest is left to whoever has set it.
pub fn config_changes<'a>(
    wanted: &Configs,
    managed: impl IntoIterator<Item = &'a String>,
    current: &Configs,
) -> ConfigChanges {
    let set = wanted.iter().filter(|(name, value)| current.get(*name).is_none_or(|now| !same_value(now, value)));
    let set = set.map(|(name, value)| (name.clone(), Some(value.clone())));
    let reset = managed.into_iter().filter(|name| !wanted.contains_key(*name) && current.contains_key(*name));
    let reset = reset.map(|name| (name.clone(), None));
    set.chain(reset).collect()
}

/// Changes in words, as in `set retention.ms to 1, reset cleanup.policy`.
pub fn in_words(changes: &ConfigChanges) -> String {
    let one = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("set {name} to {value}"),
        None => format!("reset {name}"),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_value_that_a_broker_writes_in_its_own_way_is_the_same() {
        for (one, other, same) in [
            ("5", "5", true),
            ("0.50", "0.5", true),
            ("+5", "5", true),
            ("1", "1.0", true),
            ("TRUE", "true", true),
            ("true", "false", false),
            ("compact, delete", "delete,compact", true),
            ("compact", "delete", false),
            ("5", "6", false),
            ("9223372036854775807", "9223372036854775806", false),
            ("NaN", "nan", true),
            ("producer", "", false),
        ] {
            assert_eq!(same_value(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_said_any_more_is_reset_and_what_others_have_set_stays() {
        let wanted = configs(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let current = configs(&[("a", "1"), ("b", "7"), ("gone", "1"), ("of others", "1")]);
        let managed = ["a", "gone", "reset already"].map(str::to_owned);
        let changes = config_changes(&wanted, &managed, &current);
        assert_eq!(in_words(&changes), "set b to 2, set c to 3, reset gone");
        assert!(config_changes(&wanted, &managed, &wanted).is_empty());
    }
}
