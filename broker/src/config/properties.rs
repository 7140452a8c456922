//! The broker properties that exist here, by Kafka's names: what DescribeConfigs and the configuration reference say
//! of each.

use chronik_core::cluster::ADVERTISED_LISTENERS;
use chronik_core::cluster::config::{BROKER_RACK, ConfigKind, of_broker_property, of_one_broker};

/// A broker property that is known.
#[derive(Clone, Copy, Debug)]
pub struct BrokerProperty {
    /// Kafka's name.
    pub name: &'static str,
    /// Its Kafka config type, as DescribeConfigs answers it.
    pub kind: ConfigKind,
    /// What it is when nobody says anything: sizes in bytes, times in milliseconds. `None` if it depends on the rest
    /// of the configuration.
    pub default: Option<&'static str>,
    /// Who can change it, and when.
    pub update: Update,
    /// What it means here, in a sentence or two.
    pub doc: &'static str,
}

/// Who can change a broker property, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The file alone, read at the start.
    Restart,
    /// IncrementalAlterConfigs for one broker or for all of them, and the file.
    PerBroker,
    /// IncrementalAlterConfigs for all brokers, and the file.
    ClusterWide,
    /// IncrementalAlterConfigs for one broker or for all of them. The file does not know it.
    DynamicOnly,
    /// IncrementalAlterConfigs for all brokers. The file does not know it.
    AllBrokers,
    /// IncrementalAlterConfigs for one broker. The file does not know it.
    OneBroker,
    /// IncrementalAlterConfigs for one broker, and the file.
    OneBrokerAndFile,
    /// Nobody: it follows from the rest of the configuration.
    Never,
}

impl Update {
    /// Whether it can be changed while the broker runs.
    pub fn is_dynamic(self) -> bool {
        !matches!(self, Self::Restart | Self::Never)
    }

    /// Whether the file's section `kafka` may say something about it.
    pub fn in_file(self) -> bool {
        matches!(self, Self::Restart | Self::PerBroker | Self::ClusterWide | Self::OneBrokerAndFile)
    }
}

/// Every broker property, by name.
pub const BROKER_PROPERTIES: &[BrokerProperty] = &[
    dynamic(ADVERTISED_LISTENERS, ConfigKind::List, Update::OneBroker, Some("")),
    restart(
        "auto.create.topics.enable",
        ConfigKind::Boolean,
        Some("true"),
        "Whether a topic is created when a client asks for its metadata.",
    ),
    restart(
        "auto.leader.rebalance.enable",
        ConfigKind::Boolean,
        Some("true"),
        "Whether leaderships go back by themselves to the first of a partition's replicas: a few at a time, and only to \
         brokers that are in sync in all that they hold.",
    ),
    BrokerProperty {
        name: BROKER_RACK,
        kind: ConfigKind::String,
        default: None,
        update: Update::OneBrokerAndFile,
        doc: "The rack, zone or other place that the broker would fail together with. New partitions get replicas in as many \
         racks as there are; brokers that name none count as one rack. Clients are told it.",
    },
    restart(
        "broker.session.timeout.ms",
        ConfigKind::Int,
        Some("1000"),
        "A broker that the controller has not heard of for this long is fenced: it leads nothing and leaves every ISR. \
         Above a second the controller's elections slow down in proportion, for networks with long round trips.",
    ),
    dynamic("compression.type", ConfigKind::String, Update::DynamicOnly, Some("producer")),
    restart(
        "connections.max.idle.ms",
        ConfigKind::Long,
        Some("600000"),
        "A client connection on which nothing is sent for this long is closed.",
    ),
    restart(
        "default.replication.factor",
        ConfigKind::Int,
        None,
        "Replicas of a topic whose creator does not say: 3, or as many as there are members if they are fewer.",
    ),
    restart("delete.topic.enable", ConfigKind::Boolean, Some("true"), "Whether clients may delete topics."),
    restart(
        "disk.stall.timeout",
        ConfigKind::Long,
        None,
        "A broker whose disk has been at one write or sync for this long takes no more lease: it gives up its leaderships, \
         and leaves the ISRs. `broker.session.timeout.ms` if nobody says. Not a property of Kafka's.",
    ),
    restart(
        "fetch.max.bytes",
        ConfigKind::Int,
        Some("57671680"),
        "Bytes of records in one answer to Fetch at most, whatever the client asks for; at least 1024. One batch is \
         answered however large it is.",
    ),
    dynamic("follower.replication.throttled.rate", ConfigKind::Long, Update::DynamicOnly, Some("9223372036854775807")),
    restart(
        "group.consumer.assignors",
        ConfigKind::List,
        Some("uniform,range"),
        "The assignors that members of consumer groups (KIP-848) may ask for. The first one is for groups that ask for \
         none.",
    ),
    restart(
        "group.consumer.heartbeat.interval.ms",
        ConfigKind::Int,
        Some("5000"),
        "How often a member of a consumer group (KIP-848) is told to send a heartbeat.",
    ),
    restart(
        "group.consumer.max.heartbeat.interval.ms",
        ConfigKind::Int,
        Some("15000"),
        "The longest heartbeat interval that a consumer group may be configured to.",
    ),
    restart(
        "group.consumer.max.session.timeout.ms",
        ConfigKind::Int,
        Some("60000"),
        "The longest session that a consumer group may be configured to.",
    ),
    restart("group.consumer.max.size", ConfigKind::Int, None, "Members of one consumer group (KIP-848) at most."),
    restart(
        "group.consumer.migration.policy",
        ConfigKind::String,
        Some("bidirectional"),
        "Which way a group with members may go when it has members of both protocols: `upgrade` to the consumer protocol, \
         `downgrade` to the classic one, `bidirectional`, or `disabled`.",
    ),
    restart(
        "group.consumer.min.heartbeat.interval.ms",
        ConfigKind::Int,
        Some("5000"),
        "The shortest heartbeat interval that a consumer group may be configured to.",
    ),
    restart(
        "group.consumer.min.session.timeout.ms",
        ConfigKind::Int,
        Some("45000"),
        "The shortest session that a consumer group may be configured to.",
    ),
    restart(
        "group.consumer.session.timeout.ms",
        ConfigKind::Int,
        Some("45000"),
        "A member of a consumer group (KIP-848) that is silent for this long is removed.",
    ),
    restart(
        "group.coordinator.rebalance.protocols",
        ConfigKind::List,
        Some("classic,consumer"),
        "The protocols that groups may use: `classic`, and `consumer` (KIP-848).",
    ),
    restart(
        "group.initial.rebalance.delay.ms",
        ConfigKind::Int,
        Some("3000"),
        "How long the first rebalance of an empty group waits for more members.",
    ),
    restart(
        "group.lag.metrics.max.partitions",
        ConfigKind::Int,
        Some("5000"),
        "Partitions of groups whose committed offset and lag this broker shows among its metrics at most: those of all groups \
         that it coordinates, the first ones in the order of their names. `chronik_groups_lag_left_out` says how many groups are \
         left out. 0 for none. Not a property of Kafka's.",
    ),
    restart(
        "group.max.session.timeout.ms",
        ConfigKind::Int,
        Some("1800000"),
        "The longest session that a member of a classic group may ask for.",
    ),
    restart("group.max.size", ConfigKind::Int, None, "Members of one classic group at most."),
    restart(
        "group.min.session.timeout.ms",
        ConfigKind::Int,
        Some("6000"),
        "The shortest session that a member of a classic group may ask for.",
    ),
    restart(
        "leader.imbalance.check.interval.seconds",
        ConfigKind::Long,
        Some("300"),
        "How often the controller looks whether leaderships are to go back.",
    ),
    restart(
        "leader.imbalance.per.broker.percentage",
        ConfigKind::Int,
        Some("10"),
        "Of the partitions that a broker is preferred for, others may lead so many, in percent, without anything being \
         done about it.",
    ),
    dynamic("leader.replication.throttled.rate", ConfigKind::Long, Update::DynamicOnly, Some("9223372036854775807")),
    restart(
        "log.cleaner.backoff.ms",
        ConfigKind::Long,
        Some("15000"),
        "How long the cleaner waits when there is nothing to clean.",
    ),
    restart(
        "log.cleaner.dedupe.buffer.size",
        ConfigKind::Long,
        Some("134217728"),
        "Memory for the keys of one cleaning, 24 bytes each and a tenth more, which is taken while one runs and no more \
         of it than its keys need. What has more keys is cleaned in several passes.",
    ),
    dynamic("log.cleaner.delete.retention.ms", ConfigKind::Long, Update::DynamicOnly, Some("86400000")),
    restart(
        "log.cleaner.io.max.bytes.per.second",
        ConfigKind::Long,
        Some("67108864"),
        "Bytes that the cleaner reads and writes in a second at most.",
    ),
    dynamic("log.cleaner.max.compaction.lag.ms", ConfigKind::Long, Update::DynamicOnly, Some("9223372036854775807")),
    dynamic("log.cleaner.min.cleanable.ratio", ConfigKind::Double, Update::DynamicOnly, Some("0.5")),
    dynamic("log.cleaner.min.compaction.lag.ms", ConfigKind::Long, Update::DynamicOnly, Some("0")),
    dynamic("log.cleanup.policy", ConfigKind::List, Update::DynamicOnly, Some("delete")),
    BrokerProperty {
        name: "log.dirs",
        kind: ConfigKind::String,
        default: None,
        update: Update::Never,
        doc: "The directory that the broker keeps everything in: `data_dir` of its file.",
    },
    restart(
        "log.disk.reserve",
        ConfigKind::Long,
        None,
        "Bytes of the disk that are kept free: with less, producers are refused (KAFKA_STORAGE_ERROR) and followers take \
         nothing, while reading, deleting, retention and the metadata go on. A twentieth of the disk, and 1 GiB at most, if \
         nobody says; 0 for none. Not a property of Kafka's.",
    ),
    dynamic("log.flush.interval.messages", ConfigKind::Long, Update::DynamicOnly, Some("1")),
    dynamic("log.flush.interval.ms", ConfigKind::Long, Update::DynamicOnly, Some("0")),
    dynamic("log.index.interval.bytes", ConfigKind::Int, Update::DynamicOnly, Some("4096")),
    dynamic("log.index.size.max.bytes", ConfigKind::Int, Update::DynamicOnly, Some("10485760")),
    dynamic("log.message.timestamp.after.max.ms", ConfigKind::Long, Update::PerBroker, Some("3600000")),
    dynamic("log.message.timestamp.before.max.ms", ConfigKind::Long, Update::PerBroker, Some("9223372036854775807")),
    dynamic("log.message.timestamp.type", ConfigKind::String, Update::PerBroker, Some("CreateTime")),
    dynamic("log.preallocate", ConfigKind::Boolean, Update::DynamicOnly, Some("false")),
    dynamic("log.retention.bytes", ConfigKind::Long, Update::DynamicOnly, Some("-1")),
    restart(
        "log.retention.check.interval.ms",
        ConfigKind::Long,
        Some("300000"),
        "How often it is looked whether records are older, or take more space, than their topics keep.",
    ),
    dynamic("log.retention.ms", ConfigKind::Long, Update::DynamicOnly, Some("604800000")),
    dynamic("log.roll.jitter.ms", ConfigKind::Long, Update::DynamicOnly, Some("0")),
    dynamic("log.roll.ms", ConfigKind::Long, Update::DynamicOnly, Some("604800000")),
    restart(
        "log.scrub.bytes.per.second",
        ConfigKind::Long,
        Some("8388608"),
        "How much of what is on the disk is read in a second beside everything else, to find out early what the disk has \
         lost. All of it once a week; 0 for none.",
    ),
    dynamic("log.segment.bytes", ConfigKind::Int, Update::PerBroker, Some("1073741824")),
    dynamic("log.segment.delete.delay.ms", ConfigKind::Long, Update::DynamicOnly, Some("60000")),
    restart(
        "max.connections",
        ConfigKind::Int,
        Some("10000"),
        "Client connections at most. As many as the limit of open files leaves room for are taken.",
    ),
    dynamic("max.connections.per.ip", ConfigKind::Int, Update::PerBroker, Some("2147483647")),
    dynamic("max.connections.per.ip.overrides", ConfigKind::String, Update::PerBroker, Some("")),
    restart(
        "max.incremental.fetch.session.cache.slots",
        ConfigKind::Int,
        Some("1000"),
        "Fetch sessions (KIP-227) at most. They also take an eighth of `queued.max.request.bytes` at most.",
    ),
    restart(
        "max.request.partition.size.limit",
        ConfigKind::Int,
        Some("2000"),
        "Partitions in one answer to DescribeTopicPartitions at most, whatever the client asks for.",
    ),
    dynamic("message.max.bytes", ConfigKind::Int, Update::PerBroker, Some("1048588")),
    BrokerProperty {
        name: "min.insync.replicas",
        kind: ConfigKind::Int,
        default: None,
        update: Update::ClusterWide,
        doc: "In-sync replicas without which nothing is committed, for topics that do not say: 2 if \
              `default.replication.factor` is 3 or more, and 1 otherwise; never more than a partition has replicas.",
    },
    BrokerProperty {
        name: "node.id",
        kind: ConfigKind::Int,
        default: None,
        update: Update::Never,
        doc: "The broker's number: `broker_id` of its file.",
    },
    restart("num.partitions", ConfigKind::Int, Some("1"), "Partitions of a topic whose creator does not say."),
    restart(
        "offset.metadata.max.bytes",
        ConfigKind::Int,
        Some("4096"),
        "Bytes that a client may add to a committed offset.",
    ),
    restart(
        "offsets.retention.check.interval.ms",
        ConfigKind::Long,
        Some("600000"),
        "How often offsets are looked at that have expired.",
    ),
    restart(
        "offsets.retention.minutes",
        ConfigKind::Int,
        Some("10080"),
        "How long the offsets of a group are kept that has no members any more: since it has none, and for a group of \
         KIP-848 since they were committed, as in Kafka.",
    ),
    restart(
        "offsets.topic.num.partitions",
        ConfigKind::Int,
        Some("50"),
        "Partitions of `__consumer_offsets` when it is created.",
    ),
    restart(
        "offsets.topic.replication.factor",
        ConfigKind::Int,
        None,
        "Replicas of `__consumer_offsets` when it is created: 3, or as many as there are members if they are fewer.",
    ),
    restart(
        "offsets.topic.segment.bytes",
        ConfigKind::Int,
        Some("104857600"),
        "`segment.bytes` of `__consumer_offsets` when it is created.",
    ),
    restart(
        "producer.id.expiration.ms",
        ConfigKind::Long,
        Some("86400000"),
        "How long an idempotent producer that does not write is remembered by a partition. The greatest timestamp of the \
         partition's records so far is what counts as the time, so that all replicas forget the same producers.",
    ),
    restart(
        "producer.state.max.bytes",
        ConfigKind::Long,
        Some("67108864"),
        "Bytes of memory for what is remembered of idempotent producers, in all partitions of the broker: about 150 for each \
         partition that each of them wrote to. Beyond it those are forgotten that have not written for the longest. Not a \
         property of Kafka's.",
    ),
    restart(
        "queued.max.request.bytes",
        ConfigKind::Long,
        Some("134217728"),
        "Bytes of all requests that are being served at most. Beyond it, nothing more is read from clients.",
    ),
    restart(
        "replica.lag.time.max.ms",
        ConfigKind::Long,
        Some("30000"),
        "A follower that has not been caught up for this long leaves the ISR.",
    ),
    restart(
        "replica.selector.class",
        ConfigKind::String,
        None,
        "Where consumers read that name their rack (KIP-392): at the leader if nobody says, or, with \
         `org.apache.kafka.common.replica.RackAwareReplicaSelector`, at an in-sync replica in their own rack.",
    ),
    restart(
        "socket.request.max.bytes",
        ConfigKind::Int,
        Some("104857600"),
        "The longest request. A client that announces a longer one is disconnected. At most 200 MiB.",
    ),
    dynamic("unclean.leader.election.enable", ConfigKind::Boolean, Update::AllBrokers, Some("false")),
];

const fn restart(
    name: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> BrokerProperty {
    BrokerProperty { name, kind, default, update: Update::Restart, doc }
}

/// A property whose meaning stands with that of the topic configs, as most of these set the default of one.
const fn dynamic(
    name: &'static str,
    kind: ConfigKind,
    update: Update,
    default: Option<&'static str>,
) -> BrokerProperty {
    BrokerProperty { name, kind, default, update, doc: "" }
}

impl BrokerProperty {
    /// What it means here.
    pub fn meaning(&self) -> &'static str {
        let elsewhere = || of_one_broker(self.name).or_else(|| of_broker_property(self.name));
        if self.doc.is_empty() { elsewhere().map_or("", |config| config.doc) } else { self.doc }
    }
}

/// The property of that name, if it is known.
pub fn broker_property(name: &str) -> Option<&'static BrokerProperty> {
    BROKER_PROPERTIES.iter().find(|p| p.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaProperties;
    use chronik_core::cluster::config::TOPIC_CONFIGS;
    use std::collections::BTreeMap;

    #[test]
    fn names_are_unique_and_in_order_and_each_has_a_meaning() {
        assert!(BROKER_PROPERTIES.is_sorted_by(|a, b| a.name < b.name));
        for property in BROKER_PROPERTIES {
            assert!(!property.meaning().is_empty(), "{}", property.name);
        }
    }

    #[test]
    fn the_table_and_the_file_know_the_same_names_and_defaults() {
        let full = KafkaProperties {
            default_replication_factor: Some(3),
            min_insync_replicas: Some(2),
            offsets_topic_replication_factor: Some(3),
            disk_stall_timeout: Some(crate::config::Millis(std::time::Duration::from_secs(1))),
            log_disk_reserve: Some(crate::config::Size(1 << 30)),
            broker_rack: Some("a".to_owned()),
            replica_selector_class: Some("org.apache.kafka.common.replica.LeaderSelector".to_owned()),
            ..KafkaProperties::default()
        };
        let written = serde_saphyr::to_string(&full).unwrap();
        let in_file: BTreeMap<String, serde_json::Value> = serde_saphyr::from_str(&written).unwrap();
        let in_table: Vec<_> = BROKER_PROPERTIES.iter().filter(|p| p.update.in_file()).collect();
        assert_eq!(in_file.keys().collect::<Vec<_>>(), in_table.iter().map(|p| p.name).collect::<Vec<_>>());
        for property in in_table {
            let Some(default) = property.default else { continue };
            let value = in_file[property.name].to_string();
            assert_eq!(value.trim_matches('"').trim_end_matches("ms"), default, "{}", property.name);
        }
    }

    #[test]
    fn what_sets_a_topic_config_is_of_its_type_and_can_be_changed() {
        for topic in TOPIC_CONFIGS {
            let Some(property) = topic.broker_property else { continue };
            let property = broker_property(property).expect(property);
            assert_eq!(property.kind, topic.kind, "{}", topic.name);
            assert!(property.update.is_dynamic(), "{}", topic.name);
            assert!(property.default.is_none_or(|default| default == topic.default), "{}", topic.name);
        }
        let dynamic = BROKER_PROPERTIES.iter().filter(|p| p.update.is_dynamic());
        for property in dynamic {
            let config = of_one_broker(property.name).or_else(|| of_broker_property(property.name));
            assert!(config.is_some(), "{} can be changed, and means nothing", property.name);
        }
    }
}
