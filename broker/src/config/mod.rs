//! The broker's configuration: one YAML file, typed. Nothing else in the broker reads a file of settings or
//! the environment (but for the host name, when the file says so).

mod file;
mod for_requests;
mod groups;
mod hints;
mod listen;
mod members;
mod properties;
mod reference;
mod shown;
mod units;

pub use file::{JoinsAs, KafkaProperties, ListenFile, LogFormat, MemberFile, NodeId, ServeFile};
pub use for_requests::{Property, ReplicaSelector, TimestampDefaults};
pub(crate) use hints::not_dynamic;
pub use properties::{BROKER_PROPERTIES, BrokerProperty, Update, broker_property};
pub use reference::markdown as reference;
pub use units::{Millis, Size};

use self::members::ClusterSize;
use crate::coordinators::{GroupMetricsConfig, OffsetsTopic};
use chronik_core::cluster::{ConnectionsPerIp, Endpoint, LeaderBalanceConfig, listener_name};
use chronik_core::ids::BrokerId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A batch has to fit into one frame to a follower, with something to spare.
const LARGEST_REQUEST: usize = 200 << 20;

/// What a broker goes by: checked, with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// This broker.
    pub id: BrokerId,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// The rack that it is in (`broker.rack`).
    pub rack: Option<Arc<str>>,
    /// Where consumers read that name their rack (`replica.selector.class`, KIP-392).
    pub replica_selector: ReplicaSelector,
    /// The addresses that it binds.
    pub listen: Listen,
    /// The hosts that are advertised in place of those that brokers register with, once they have run for a while; with
    /// `{id}` for a broker's number.
    pub lasting_hosts: Option<String>,
    /// Further listeners for clients: the address that each binds, by its name in upper case.
    pub listeners: BTreeMap<Arc<str>, SocketAddr>,
    /// Every initial broker of the cluster, this one among them; of a broker that joins a cluster, itself and those at
    /// which it knocks.
    pub members: Vec<Member>,
    /// Which of them vote in the controller quorum at first. A broker that is not among them founds no cluster.
    pub voters: Vec<BrokerId>,
    /// Further hosts at which brokers may be found that are not among the members, with `{id}` for their numbers.
    pub others_alternative_hosts: Vec<String>,
    /// How it logs.
    pub log_format: LogFormat,
    /// What new topics get when their creator does not say.
    pub topics: TopicDefaults,
    /// Whether asking for a topic creates it.
    pub auto_create_topics: bool,
    /// Whether clients may delete topics.
    pub delete_topics: bool,
    /// Whether groups may use the consumer protocol (KIP-848).
    pub consumer_groups: bool,
    /// Bytes of records in one answer to Fetch at most.
    pub fetch_max_bytes: usize,
    /// Fetch sessions at most.
    pub fetch_session_slots: usize,
    /// Partitions in one answer to DescribeTopicPartitions at most.
    pub described_partitions: usize,
    /// What is asked of records' timestamps.
    pub timestamps: TimestampDefaults,
    /// Bytes of one record batch at most.
    pub max_message_bytes: usize,
    /// Bytes of one request at most.
    pub max_request_bytes: usize,
    /// Bytes of all requests that are being served at most; beyond it sockets are not read.
    pub request_budget_bytes: usize,
    /// Client connections at most.
    pub max_connections: usize,
    /// Client connections of one address at most, where nobody has said otherwise since.
    pub connections_per_ip: ConnectionsPerIp,
    /// The same as the file says it: of all addresses, and of some.
    per_ip: (u32, String),
    /// A connection that is silent for this long is closed.
    pub connections_max_idle: Duration,
    /// A follower that has not been caught up for this long leaves the ISR.
    pub replica_lag_time_max: Duration,
    /// Whether and when leaderships go back to their preferred replicas by themselves.
    pub leader_balance: LeaderBalancing,
    /// A broker that the controller has not heard of for this long is fenced.
    pub session_timeout: Duration,
    /// How long the disk may be at one write or sync before this broker gives up what it leads.
    pub disk_stall_timeout: Duration,
    /// Bytes of the disk that are kept free; a share of it if `None`.
    pub disk_reserve_bytes: Option<u64>,
    /// How often retention looks what is to be removed (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// Who has not written to a partition for so many milliseconds of its log's clock is forgotten
    /// (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
    /// What is remembered of all producers takes so many bytes at most (`producer.state.max.bytes`).
    pub producer_state_bytes: usize,
    /// Bytes that are read of what is on the disk in a second, to see that it is as it was written
    /// (`log.scrub.bytes.per.second`); 0 to read none.
    pub scrub_rate: u64,
    /// Bytes of a partition's segment file.
    pub segment_bytes: usize,
    /// What the cleaner of compacted topics goes by.
    pub cleaner: CleanerLimits,
    /// What groups go by.
    pub groups: chronik_core::groups::Config,
    /// What metrics show of groups.
    pub group_metrics: GroupMetricsConfig,
    /// How `__consumer_offsets` is created.
    pub offsets_topic: OffsetsTopic,
    /// The properties that the file says something about, by name.
    given: Vec<String>,
}

/// What the cleaner of compacted topics may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanerLimits {
    /// From one look for what is to be cleaned to the next, when there is nothing (`log.cleaner.backoff.ms`).
    pub backoff: Duration,
    /// Bytes of memory for the keys of one cleaning (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer_bytes: usize,
    /// Bytes that are read and written in a second (`log.cleaner.io.max.bytes.per.second`).
    pub io_bytes_per_second: usize,
}

/// Whether and when leaderships go back to their preferred replicas by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderBalancing {
    /// Whether they do (`auto.leader.rebalance.enable`).
    pub enabled: bool,
    /// When.
    pub when: LeaderBalanceConfig,
}

/// The addresses that a broker binds.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// For clients.
    pub kafka: SocketAddr,
    /// For followers: the WAL port.
    pub replication: SocketAddr,
    /// For the controller quorum and for registration.
    pub controller: SocketAddr,
    /// For the admin API.
    pub admin: SocketAddr,
    /// For probes and metrics.
    pub http: SocketAddr,
}

/// A member of the cluster, and where the others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: BrokerId,
    /// Further hosts at which the other brokers try to reach it.
    pub alternative_hosts: Vec<Arc<str>>,
    /// Where clients reach it.
    pub kafka: Endpoint,
    /// Where its followers reach it.
    pub replication: Endpoint,
    /// Where the controller quorum reaches it.
    pub controller: Endpoint,
}

/// What new topics get when their creator does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
}

/// Why a configuration cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a broker's configuration.
    #[error("{path}: {reason}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why, with the line.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

fn wrong(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, reason: reason.into() }
}

impl Config {
    /// Reads and checks a broker's file. `host_name` is asked only when the file says `broker_id: hostname`.
    pub fn load(path: &Path, host_name: impl FnOnce() -> Option<String>) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file = ServeFile::parse(&text).map_err(|reason| ConfigError::Parse { path: path.to_owned(), reason })?;
        Self::check(file, host_name)
    }

    /// Fills in what the file leaves out, and refuses what cannot work.
    pub fn check(file: ServeFile, host_name: impl FnOnce() -> Option<String>) -> Result<Self, ConfigError> {
        let id = match file.broker_id {
            NodeId::Number(id) => id,
            NodeId::HostName => ordinal(host_name().as_deref()).ok_or_else(|| {
                wrong("broker_id", "'hostname' needs a host name that ends in -N, as a StatefulSet's pods have")
            })?,
        };
        let (members, voters) = members::members(BrokerId(id), &file.members, file.voters, file.joins_as.as_ref())?;
        let kafka = file.kafka;
        let size = ClusterSize::by_file(file.members.len(), voters.is_empty(), file.joins_as.is_some());
        let offsets_topic = groups::offsets_topic(&kafka, size)?;
        let topics = topic_defaults(&kafka, size)?;
        let max_message_bytes = kafka.message_max_bytes.bytes("message.max.bytes")?;
        let max_request_bytes = kafka.socket_request_max_bytes.bytes("socket.request.max.bytes")?;
        if max_message_bytes + 4096 > max_request_bytes {
            return Err(wrong("socket.request.max.bytes", "must be greater than message.max.bytes"));
        }
        if max_request_bytes > LARGEST_REQUEST {
            return Err(wrong("socket.request.max.bytes", "at most 200MiB: followers take no more at once"));
        }
        let request_budget_bytes = kafka.queued_max_request_bytes.bytes("queued.max.request.bytes")?;
        if request_budget_bytes < max_request_bytes {
            return Err(wrong(
                "queued.max.request.bytes",
                "must not be less than socket.request.max.bytes, or the largest request never fits",
            ));
        }
        let session_timeout = kafka.broker_session_timeout_ms.0;
        if session_timeout < Duration::from_millis(300) {
            return Err(wrong("broker.session.timeout.ms", "less than 300 ms would fence brokers that are alive"));
        }
        let disk_stall_timeout = kafka.disk_stall_timeout.map_or(session_timeout, |timeout| timeout.0);
        if disk_stall_timeout < Duration::from_millis(300) {
            return Err(wrong("disk.stall.timeout", "less than 300 ms would give up disks that are slow"));
        }
        let retention_check_interval = kafka.log_retention_check_interval_ms.0;
        if retention_check_interval.is_zero() {
            return Err(wrong("log.retention.check.interval.ms", "at least 1 ms"));
        }
        let producer_expiration = kafka.producer_id_expiration_ms.0;
        if producer_expiration.is_zero() {
            return Err(wrong("producer.id.expiration.ms", "at least 1 ms"));
        }
        let listen = file.listen.listen().map_err(|why| wrong("listen.admin", why))?;
        let listeners = further_listeners(&file.listeners)?;
        listen::check(&listen, &listeners).map_err(|why| wrong("listen", why))?;
        Ok(Self {
            id: BrokerId(id),
            rack: checked_rack(kafka.broker_rack.as_deref().unwrap_or_default())?,
            replica_selector: replica_selector(&kafka)?,
            data_dir: file.data_dir,
            listen,
            listeners,
            lasting_hosts: None,
            members,
            voters,
            others_alternative_hosts: file.joins_as.map(|joins_as| joins_as.alternative_hosts).unwrap_or_default(),
            log_format: file.log_format,
            topics,
            auto_create_topics: kafka.auto_create_topics_enable,
            delete_topics: kafka.delete_topic_enable,
            consumer_groups: groups::consumer_protocol(&kafka)?,
            fetch_max_bytes: fetch_max_bytes(&kafka)?,
            fetch_session_slots: kafka.max_incremental_fetch_session_cache_slots,
            described_partitions: described_partitions(&kafka)?,
            timestamps: timestamps(&kafka)?,
            max_message_bytes,
            max_request_bytes,
            request_budget_bytes,
            max_connections: kafka.max_connections,
            connections_per_ip: connections_per_ip(&kafka)?,
            per_ip: (kafka.max_connections_per_ip, kafka.max_connections_per_ip_overrides.clone()),
            connections_max_idle: kafka.connections_max_idle_ms.0,
            replica_lag_time_max: kafka.replica_lag_time_max_ms.0,
            leader_balance: leader_balance(&kafka)?,
            session_timeout,
            disk_stall_timeout,
            disk_reserve_bytes: kafka.log_disk_reserve.map(|size| size.0),
            retention_check_interval,
            producer_expiration_ms: i64::try_from(producer_expiration.as_millis()).unwrap_or(i64::MAX),
            producer_state_bytes: kafka.producer_state_max_bytes.bytes("producer.state.max.bytes")?,
            scrub_rate: kafka.log_scrub_bytes_per_second.0,
            segment_bytes: kafka.log_segment_bytes.bytes("log.segment.bytes")?,
            cleaner: cleaner(&kafka)?,
            groups: groups::groups(&kafka)?,
            group_metrics: GroupMetricsConfig {
                max_partitions: kafka.group_lag_metrics_max_partitions,
                ..GroupMetricsConfig::default()
            },
            offsets_topic,
            given: file.given,
        })
    }

    /// Has this broker register with another host than the file's: one that the file, which is the same for all
    /// brokers, cannot know. It is advertised to clients, and followers dial it. Where the controller quorum meets
    /// stays as the file says: that must be known before anybody has registered.
    pub fn advertise(&mut self, host: &str) {
        for member in self.members.iter_mut().filter(|m| m.id == self.id) {
            member.kafka.host = host.into();
            member.replication.host = host.into();
        }
    }

    /// Puts this broker into another rack than the file's; "" for none.
    pub fn set_rack(&mut self, rack: &str) -> Result<(), ConfigError> {
        self.rack = checked_rack(rack)?;
        Ok(())
    }

    /// Names the hosts that are advertised once brokers have run for a while; "" for none.
    pub fn set_lasting_hosts(&mut self, hosts: &str) -> Result<(), ConfigError> {
        if !hosts.is_empty() && !hosts.contains("{id}") {
            let why = "it needs {id} for a broker's number, as in broker-{id}.shop.svc: no two brokers have one host";
            return Err(wrong("CHRONIK_CLIENT_HOSTS", why));
        }
        self.lasting_hosts = (!hosts.is_empty()).then(|| hosts.to_owned());
        Ok(())
    }

    /// This broker, as a member.
    pub fn me(&self) -> &Member {
        self.members.iter().find(|m| m.id == self.id).expect("check() has this broker among the members")
    }
}

fn fetch_max_bytes(kafka: &KafkaProperties) -> Result<usize, ConfigError> {
    const KEY: &str = "fetch.max.bytes";
    let bytes = kafka.fetch_max_bytes.bytes(KEY)?;
    if bytes >= 1024 { Ok(bytes) } else { Err(wrong(KEY, "at least 1024")) }
}

fn described_partitions(kafka: &KafkaProperties) -> Result<usize, ConfigError> {
    groups::at_least_one("max.request.partition.size.limit", kafka.max_request_partition_size_limit)
}

fn further_listeners(given: &BTreeMap<String, SocketAddr>) -> Result<BTreeMap<Arc<str>, SocketAddr>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, address) in given {
        let upper = listener_name(name).ok_or_else(|| {
            wrong(
                "listeners",
                format!("'{name}' is not a name of letters, digits, '-' and '_' that begins with a letter"),
            )
        })?;
        if all.insert(Arc::from(upper), *address).is_some() {
            return Err(wrong("listeners", format!("'{name}' is there twice: letters are taken as upper case")));
        }
    }
    Ok(all)
}

fn connections_per_ip(kafka: &KafkaProperties) -> Result<ConnectionsPerIp, ConfigError> {
    let most = kafka.max_connections_per_ip;
    if !(1..=i32::MAX as u32).contains(&most) {
        return Err(wrong("max.connections.per.ip", format!("{most} is not between 1 and {}", i32::MAX)));
    }
    let name = "max.connections.per.ip.overrides";
    ConnectionsPerIp::new(most as usize, &kafka.max_connections_per_ip_overrides).map_err(|why| wrong(name, why))
}

fn leader_balance(kafka: &KafkaProperties) -> Result<LeaderBalancing, ConfigError> {
    let interval = Duration::from_secs(kafka.leader_imbalance_check_interval_seconds.into());
    if interval.is_zero() {
        return Err(wrong("leader.imbalance.check.interval.seconds", "at least 1 s"));
    }
    let when = LeaderBalanceConfig { interval, percentage: kafka.leader_imbalance_per_broker_percentage };
    Ok(LeaderBalancing { enabled: kafka.auto_leader_rebalance_enable, when })
}

/// The longest rack that is taken: it stands in every answer to Metadata.
const LONGEST_RACK: usize = 255;

fn checked_rack(rack: &str) -> Result<Option<Arc<str>>, ConfigError> {
    if rack.len() > LONGEST_RACK {
        return Err(wrong("broker.rack", format!("at most {LONGEST_RACK} bytes, not {}", rack.len())));
    }
    Ok(Some(rack).filter(|rack| !rack.is_empty()).map(Into::into))
}

/// Kafka's selector that sends all consumers to the leader, which is what is meant by none.
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";
/// Kafka's selector that sends consumers to a replica in their own rack.
const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

fn replica_selector(kafka: &KafkaProperties) -> Result<ReplicaSelector, ConfigError> {
    match kafka.replica_selector_class.as_deref() {
        None | Some("" | LEADER_SELECTOR) => Ok(ReplicaSelector::Leader),
        Some(RACK_AWARE_SELECTOR) => Ok(ReplicaSelector::RackAware),
        Some(other) => Err(wrong(
            "replica.selector.class",
            format!("'{other}' is not known; there are {LEADER_SELECTOR} (the default) and {RACK_AWARE_SELECTOR}"),
        )),
    }
}

fn timestamps(kafka: &KafkaProperties) -> Result<TimestampDefaults, ConfigError> {
    let ms = |key, given: Millis| {
        i64::try_from(given.0.as_millis()).map_err(|_| wrong(key, format!("at most {} ms", i64::MAX)))
    };
    let append_time = match kafka.log_message_timestamp_type.as_str() {
        "CreateTime" => false,
        "LogAppendTime" => true,
        other => {
            let text = format!("'{other}' is neither CreateTime nor LogAppendTime");
            return Err(wrong("log.message.timestamp.type", text));
        }
    };
    Ok(TimestampDefaults {
        append_time,
        before_max_ms: ms("log.message.timestamp.before.max.ms", kafka.log_message_timestamp_before_max_ms)?,
        after_max_ms: ms("log.message.timestamp.after.max.ms", kafka.log_message_timestamp_after_max_ms)?,
    })
}

fn cleaner(kafka: &KafkaProperties) -> Result<CleanerLimits, ConfigError> {
    let backoff = kafka.log_cleaner_backoff_ms.0;
    if backoff.is_zero() {
        return Err(wrong("log.cleaner.backoff.ms", "at least 1 ms"));
    }
    Ok(CleanerLimits {
        backoff,
        dedupe_buffer_bytes: kafka.log_cleaner_dedupe_buffer_size.bytes("log.cleaner.dedupe.buffer.size")?,
        io_bytes_per_second: kafka.log_cleaner_io_max_bytes_per_second.bytes("log.cleaner.io.max.bytes.per.second")?,
    })
}

fn topic_defaults(kafka: &KafkaProperties, size: ClusterSize) -> Result<TopicDefaults, ConfigError> {
    let replication_factor = kafka.default_replication_factor.unwrap_or(size.replication_factor);
    if replication_factor < 1 || usize::try_from(replication_factor).is_ok_and(|n| n > size.most) {
        return Err(wrong(
            "default.replication.factor",
            format!("{replication_factor} does not fit {} members", size.most),
        ));
    }
    let min_insync_replicas = kafka.min_insync_replicas.unwrap_or(if replication_factor >= 3 { 2 } else { 1 });
    if min_insync_replicas < 1 || min_insync_replicas > size.most {
        return Err(wrong("min.insync.replicas", format!("{min_insync_replicas} does not fit {} members", size.most)));
    }
    if kafka.num_partitions < 1 {
        return Err(wrong("num.partitions", "at least 1"));
    }
    Ok(TopicDefaults { partitions: kafka.num_partitions, replication_factor, min_insync_replicas })
}

/// The number that a StatefulSet pod's name ends in.
fn ordinal(host_name: Option<&str>) -> Option<i32> {
    host_name?.split('.').next()?.rsplit_once('-')?.1.parse().ok().filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests;
