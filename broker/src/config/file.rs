//! The file as it is written: every key, its type and its default.

use super::units::{Millis, Size};
use super::{Listen, Member};
use crate::coordinators::GroupMetricsConfig;
use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `chronik serve --config FILE`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeFile {
    /// This broker's number, or `hostname` for the number that the host name ends in.
    pub broker_id: NodeId,
    /// Where the broker keeps everything. Made if it is not there.
    pub data_dir: PathBuf,
    /// The addresses to bind.
    pub listen: ListenFile,
    /// Further listeners for clients: the address that each binds, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<String, SocketAddr>,
    /// Every initial broker of the cluster: the same list in every broker's file. In that of a broker which joins a
    /// cluster: itself, and those at which it knocks.
    pub members: Vec<MemberFile>,
    /// The members that vote in a new cluster's controller quorum: 1, 3 or 5. The first three members by default, or the
    /// first alone if there are fewer. None if this broker joins a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<Vec<i32>>,
    /// How a broker presents itself that is not among the members, and joins the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins_as: Option<JoinsAs>,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Broker properties by Kafka's names.
    #[serde(default)]
    pub kafka: KafkaProperties,
    /// The names of the Kafka properties that stand in the file.
    #[serde(skip)]
    pub(super) given: Vec<String>,
}

/// The file once more, for the names alone.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    #[expect(clippy::zero_sized_map_values, reason = "serde reads a mapping into nothing but a map")]
    kafka: BTreeMap<String, IgnoredAny>,
}

/// A broker's number, or where to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeId {
    /// The number itself.
    Number(i32),
    /// The ordinal at the end of the host name.
    HostName,
}

/// The addresses to bind, as `IP:PORT`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in Listen")]
pub struct ListenFile {
    pub kafka: SocketAddr,
    pub replication: SocketAddr,
    pub controller: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    pub http: SocketAddr,
}

/// One member of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// Its number.
    pub id: i32,
    /// Its host name or address, for the other brokers and for clients.
    pub host: String,
    /// Further host names or addresses at which the other brokers try to reach it, all at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternative_hosts: Vec<String>,
    /// The port for clients.
    pub kafka_port: u16,
    /// The WAL port.
    pub replication_port: u16,
    /// The controller port.
    pub controller_port: u16,
}

/// A member whose number is not known beforehand: in its hosts, `{id}` stands for it. One file then does for brokers
/// that come later, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in MemberFile")]
pub struct JoinsAs {
    pub host: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternative_hosts: Vec<String>,
    pub kafka_port: u16,
    pub replication_port: u16,
    pub controller_port: u16,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Broker properties by Kafka's names. Durations and sizes are numbers in Kafka's unit (ms, bytes) or carry
/// a unit of their own (`10s`, `1MiB`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "named and meant as in Kafka's broker configuration reference")]
pub struct KafkaProperties {
    #[serde(rename = "broker.rack", skip_serializing_if = "Option::is_none")]
    pub broker_rack: Option<String>,
    #[serde(rename = "replica.selector.class", skip_serializing_if = "Option::is_none")]
    pub replica_selector_class: Option<String>,
    #[serde(rename = "num.partitions")]
    pub num_partitions: i32,
    #[serde(rename = "default.replication.factor", skip_serializing_if = "Option::is_none")]
    pub default_replication_factor: Option<i16>,
    #[serde(rename = "min.insync.replicas", skip_serializing_if = "Option::is_none")]
    pub min_insync_replicas: Option<usize>,
    #[serde(rename = "auto.create.topics.enable")]
    pub auto_create_topics_enable: bool,
    #[serde(rename = "delete.topic.enable")]
    pub delete_topic_enable: bool,
    #[serde(rename = "message.max.bytes")]
    pub message_max_bytes: Size,
    #[serde(rename = "socket.request.max.bytes")]
    pub socket_request_max_bytes: Size,
    #[serde(rename = "queued.max.request.bytes")]
    pub queued_max_request_bytes: Size,
    #[serde(rename = "max.connections")]
    pub max_connections: usize,
    #[serde(rename = "max.connections.per.ip")]
    pub max_connections_per_ip: u32,
    #[serde(rename = "max.connections.per.ip.overrides")]
    pub max_connections_per_ip_overrides: String,
    #[serde(rename = "connections.max.idle.ms")]
    pub connections_max_idle_ms: Millis,
    #[serde(rename = "producer.id.expiration.ms")]
    pub producer_id_expiration_ms: Millis,
    #[serde(rename = "auto.leader.rebalance.enable")]
    pub auto_leader_rebalance_enable: bool,
    #[serde(rename = "leader.imbalance.check.interval.seconds")]
    pub leader_imbalance_check_interval_seconds: u32,
    #[serde(rename = "leader.imbalance.per.broker.percentage")]
    pub leader_imbalance_per_broker_percentage: u32,
    #[serde(rename = "producer.state.max.bytes")]
    pub producer_state_max_bytes: Size,
    #[serde(rename = "replica.lag.time.max.ms")]
    pub replica_lag_time_max_ms: Millis,
    #[serde(rename = "broker.session.timeout.ms")]
    pub broker_session_timeout_ms: Millis,
    #[serde(rename = "log.disk.reserve", skip_serializing_if = "Option::is_none")]
    pub log_disk_reserve: Option<Size>,
    #[serde(rename = "log.retention.check.interval.ms")]
    pub log_retention_check_interval_ms: Millis,
    #[serde(rename = "log.scrub.bytes.per.second")]
    pub log_scrub_bytes_per_second: Size,
    #[serde(rename = "log.cleaner.backoff.ms")]
    pub log_cleaner_backoff_ms: Millis,
    #[serde(rename = "log.cleaner.dedupe.buffer.size")]
    pub log_cleaner_dedupe_buffer_size: Size,
    #[serde(rename = "log.cleaner.io.max.bytes.per.second")]
    pub log_cleaner_io_max_bytes_per_second: Size,
    #[serde(rename = "log.segment.bytes")]
    pub log_segment_bytes: Size,
    #[serde(rename = "disk.stall.timeout", skip_serializing_if = "Option::is_none")]
    pub disk_stall_timeout: Option<Millis>,
    #[serde(rename = "group.initial.rebalance.delay.ms")]
    pub group_initial_rebalance_delay_ms: Millis,
    #[serde(rename = "group.min.session.timeout.ms")]
    pub group_min_session_timeout_ms: Millis,
    #[serde(rename = "group.max.session.timeout.ms")]
    pub group_max_session_timeout_ms: Millis,
    #[serde(rename = "group.max.size")]
    pub group_max_size: i32,
    #[serde(rename = "group.consumer.session.timeout.ms")]
    pub group_consumer_session_timeout_ms: Millis,
    #[serde(rename = "group.consumer.heartbeat.interval.ms")]
    pub group_consumer_heartbeat_interval_ms: Millis,
    #[serde(rename = "group.consumer.min.session.timeout.ms")]
    pub group_consumer_min_session_timeout_ms: Millis,
    #[serde(rename = "group.consumer.max.session.timeout.ms")]
    pub group_consumer_max_session_timeout_ms: Millis,
    #[serde(rename = "group.consumer.min.heartbeat.interval.ms")]
    pub group_consumer_min_heartbeat_interval_ms: Millis,
    #[serde(rename = "group.consumer.max.heartbeat.interval.ms")]
    pub group_consumer_max_heartbeat_interval_ms: Millis,
    #[serde(rename = "group.consumer.migration.policy")]
    pub group_consumer_migration_policy: String,
    #[serde(rename = "group.coordinator.rebalance.protocols")]
    pub group_coordinator_rebalance_protocols: String,
    #[serde(rename = "fetch.max.bytes")]
    pub fetch_max_bytes: Size,
    #[serde(rename = "max.incremental.fetch.session.cache.slots")]
    pub max_incremental_fetch_session_cache_slots: usize,
    #[serde(rename = "max.request.partition.size.limit")]
    pub max_request_partition_size_limit: i32,
    #[serde(rename = "log.message.timestamp.type")]
    pub log_message_timestamp_type: String,
    #[serde(rename = "log.message.timestamp.before.max.ms")]
    pub log_message_timestamp_before_max_ms: Millis,
    #[serde(rename = "log.message.timestamp.after.max.ms")]
    pub log_message_timestamp_after_max_ms: Millis,
    #[serde(rename = "group.lag.metrics.max.partitions")]
    pub group_lag_metrics_max_partitions: usize,
    #[serde(rename = "group.consumer.assignors")]
    pub group_consumer_assignors: String,
    #[serde(rename = "group.consumer.max.size")]
    pub group_consumer_max_size: i32,
    #[serde(rename = "offset.metadata.max.bytes")]
    pub offset_metadata_max_bytes: Size,
    #[serde(rename = "offsets.retention.minutes")]
    pub offsets_retention_minutes: i32,
    #[serde(rename = "offsets.retention.check.interval.ms")]
    pub offsets_retention_check_interval_ms: Millis,
    #[serde(rename = "offsets.topic.num.partitions")]
    pub offsets_topic_num_partitions: i32,
    #[serde(rename = "offsets.topic.replication.factor", skip_serializing_if = "Option::is_none")]
    pub offsets_topic_replication_factor: Option<i16>,
    #[serde(rename = "offsets.topic.segment.bytes")]
    pub offsets_topic_segment_bytes: Size,
}

impl Default for KafkaProperties {
    fn default() -> Self {
        Self {
            broker_rack: None,
            replica_selector_class: None,
            num_partitions: 1,
            default_replication_factor: None,
            min_insync_replicas: None,
            auto_create_topics_enable: true,
            delete_topic_enable: true,
            message_max_bytes: Size(1_048_588),
            socket_request_max_bytes: Size(100 << 20),
            queued_max_request_bytes: Size(128 << 20),
            max_connections: 10_000,
            max_connections_per_ip: i32::MAX as u32,
            max_connections_per_ip_overrides: String::new(),
            connections_max_idle_ms: Millis(Duration::from_mins(10)),
            producer_id_expiration_ms: Millis(Duration::from_hours(24)),
            auto_leader_rebalance_enable: true,
            leader_imbalance_check_interval_seconds: 300,
            leader_imbalance_per_broker_percentage: 10,
            producer_state_max_bytes: Size(64 << 20),
            replica_lag_time_max_ms: Millis(Duration::from_secs(30)),
            broker_session_timeout_ms: Millis(Duration::from_secs(1)),
            disk_stall_timeout: None,
            log_disk_reserve: None,
            log_retention_check_interval_ms: Millis(Duration::from_mins(5)),
            log_scrub_bytes_per_second: Size(8 << 20),
            log_cleaner_backoff_ms: Millis(Duration::from_secs(15)),
            log_cleaner_dedupe_buffer_size: Size(128 << 20),
            log_cleaner_io_max_bytes_per_second: Size(64 << 20),
            log_segment_bytes: Size(1 << 30),
            group_initial_rebalance_delay_ms: Millis(Duration::from_secs(3)),
            group_min_session_timeout_ms: Millis(Duration::from_secs(6)),
            group_max_session_timeout_ms: Millis(Duration::from_mins(30)),
            group_max_size: i32::MAX,
            group_consumer_session_timeout_ms: Millis(Duration::from_secs(45)),
            group_consumer_heartbeat_interval_ms: Millis(Duration::from_secs(5)),
            group_consumer_min_session_timeout_ms: Millis(Duration::from_secs(45)),
            group_consumer_max_session_timeout_ms: Millis(Duration::from_mins(1)),
            group_consumer_min_heartbeat_interval_ms: Millis(Duration::from_secs(5)),
            group_consumer_max_heartbeat_interval_ms: Millis(Duration::from_secs(15)),
            group_consumer_migration_policy: "bidirectional".to_owned(),
            group_coordinator_rebalance_protocols: "classic,consumer".to_owned(),
            fetch_max_bytes: Size(55 << 20),
            max_incremental_fetch_session_cache_slots: 1000,
            max_request_partition_size_limit: 2000,
            log_message_timestamp_type: "CreateTime".to_owned(),
            log_message_timestamp_before_max_ms: Millis(Duration::from_millis(i64::MAX as u64)),
            log_message_timestamp_after_max_ms: Millis(Duration::from_hours(1)),
            group_lag_metrics_max_partitions: GroupMetricsConfig::default().max_partitions,
            group_consumer_assignors: "uniform,range".to_owned(),
            group_consumer_max_size: i32::MAX,
            offset_metadata_max_bytes: Size(4096),
            offsets_retention_minutes: 7 * 24 * 60,
            offsets_retention_check_interval_ms: Millis(Duration::from_mins(10)),
            offsets_topic_num_partitions: 50,
            offsets_topic_replication_factor: None,
            offsets_topic_segment_bytes: Size(100 << 20),
        }
    }
}

impl ServeFile {
    /// Reads the YAML. The error is one line for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = serde_saphyr::from_str(text).map_err(|e| explain(e.without_snippet()))?;
        let names: Names = serde_saphyr::from_str(text).map_err(|e| explain(e.without_snippet()))?;
        file.given = names.kafka.into_keys().collect();
        Ok(file)
    }

    /// A file that says as little as it can.
    pub fn new(broker_id: i32, data_dir: PathBuf, listen: ListenFile, members: Vec<MemberFile>) -> Self {
        Self {
            broker_id: NodeId::Number(broker_id),
            data_dir,
            listen,
            listeners: BTreeMap::new(),
            members,
            voters: None,
            joins_as: None,
            log_format: LogFormat::Text,
            kafka: KafkaProperties::default(),
            given: Vec::new(),
        }
    }

    /// Writes the YAML.
    pub fn to_yaml(&self) -> Result<String, String> {
        serde_saphyr::to_string(self).map_err(|e| e.to_string())
    }
}

fn explain(error: &serde_saphyr::Error) -> String {
    let line = error.location().map(|l| format!("line {}: ", l.line())).unwrap_or_default();
    if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error {
        let hint = super::hints::hint(field, expected);
        return format!("{line}unknown key '{field}'{hint}");
    }
    let text = error.to_string();
    if text.contains("line ") { text } else { format!("{line}{text}") }
}

impl MemberFile {
    /// The member, with its endpoints.
    pub fn member(&self) -> Member {
        let endpoint = |port| Endpoint { host: self.host.as_str().into(), port };
        Member {
            id: BrokerId(self.id),
            alternative_hosts: self.alternative_hosts.iter().map(|host| host.as_str().into()).collect(),
            kafka: endpoint(self.kafka_port),
            replication: endpoint(self.replication_port),
            controller: endpoint(self.controller_port),
        }
    }
}

/// The admin port is so much above the controller's unless the file says another one.
const ADMIN_ABOVE_CONTROLLER: u16 = 200;

impl ListenFile {
    /// The addresses, or what is missing.
    pub(super) fn listen(self) -> Result<Listen, &'static str> {
        let beside = || {
            let port = self.controller.port().checked_add(ADMIN_ABOVE_CONTROLLER)?;
            Some(SocketAddr::new(self.controller.ip(), port))
        };
        let admin = self.admin.or_else(beside).ok_or("must be given: there is no port 200 above the controller's")?;
        let Self { kafka, replication, controller, http, .. } = self;
        Ok(Listen { kafka, replication, controller, admin, http })
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(id) => to.serialize_i32(*id),
            Self::HostName => to.serialize_str("hostname"),
        }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = NodeId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a broker's number, or 'hostname'")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<NodeId, E> {
                i32::try_from(n).map(NodeId::Number).map_err(|_| E::custom("too great for a broker's number"))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<NodeId, E> {
                i32::try_from(n).map(NodeId::Number).map_err(|_| E::custom("too great for a broker's number"))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<NodeId, E> {
                match s {
                    "hostname" => Ok(NodeId::HostName),
                    _ => s.parse().map(NodeId::Number).map_err(|_| E::invalid_value(de::Unexpected::Str(s), &self)),
                }
            }
        }
        from.deserialize_any(Either)
    }
}
