//! What the listener and the requests go by.

use super::LastingHosts;
use crate::config::{Property, ReplicaSelector, TimestampDefaults};
use chronik_core::cluster::{ConnectionsPerIp, Endpoint};
use chronik_core::ids::BrokerId;
use chronik_quorum::peers::Peers;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the listener and the requests go by.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This broker.
    pub me: BrokerId,
    /// Bytes of one request at most (`socket.request.max.bytes`).
    pub max_request_bytes: usize,
    /// Bytes of all requests in flight; when those for its kind are used up, a request is not read. As many again may
    /// be held by the records of answers to Fetch that are being written, and half as many by what requests without
    /// records are decoded to.
    pub request_budget_bytes: usize,
    /// Bytes of one record batch at most, unless its topic says otherwise (`message.max.bytes`).
    pub max_message_bytes: usize,
    /// Whether Metadata creates topics that are asked for (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Whether DeleteTopics deletes anything (`delete.topic.enable`).
    pub delete_topics: bool,
    /// Whether groups may use the consumer protocol (`group.coordinator.rebalance.protocols`).
    pub consumer_groups: bool,
    /// What groups go by; what they are given of their own is checked against it.
    pub groups: chronik_core::groups::Config,
    /// Where consumers read that name their rack (`replica.selector.class`, KIP-392).
    pub replica_selector: ReplicaSelector,
    /// What is asked of records' timestamps, where neither topic nor cluster say otherwise.
    pub timestamps: TimestampDefaults,
    /// Partitions of a topic whose creator did not say (`num.partitions`). Shown, not decided here.
    pub default_partitions: i32,
    /// Replicas of a topic whose creator did not say (`default.replication.factor`). Shown, not decided here.
    pub default_replication_factor: i16,
    /// In-sync replicas without which a new topic takes no `acks=all` write (`min.insync.replicas`): a topic that
    /// is only asked for is created when as many brokers are there.
    pub default_min_insync_replicas: usize,
    /// Where clients reach this broker: advertised while the cluster has not said who is in it.
    pub advertised: Option<Endpoint>,
    /// The hosts that are advertised to clients of the first listener once brokers have run for a while.
    pub lasting_hosts: Option<Arc<LastingHosts>>,
    /// Connections at most (`max.connections`).
    pub max_connections: usize,
    /// Connections of one address at most, where nobody has said otherwise since (`max.connections.per.ip`).
    pub connections_per_ip: ConnectionsPerIp,
    /// Bytes of records in one answer to Fetch at most, whatever is asked for (`fetch.max.bytes`).
    pub fetch_max_bytes: usize,
    /// Partitions in one answer to DescribeTopicPartitions at most, whatever is asked for
    /// (`max.request.partition.size.limit`).
    pub described_partitions: usize,
    /// Fetch sessions at most (`max.incremental.fetch.session.cache.slots`). They take an eighth of
    /// `request_budget_bytes` at most, beside it.
    pub fetch_session_slots: usize,
    /// How long a connection may be idle (`connections.max.idle.ms`).
    pub idle_timeout: Duration,
    /// How long a request that has begun, or an answer, may make no progress.
    pub stall_timeout: Duration,
    /// Where the broker keeps everything. Shown, and asked how much room there is.
    pub data_dir: PathBuf,
    /// The broker's properties by Kafka's names, for those who ask what they are.
    pub properties: Vec<Property>,
    /// Metadata waits so long before it looks who is missing. The kernel closes the sockets of a killed process one by
    /// one, those of clients often first: they ask here before this broker has noticed.
    pub notice: Duration,
    /// How long Metadata waits at most to hear what has become of a broker that a connection has just ended with. What
    /// else a client has sent on its connection is answered after that.
    pub missing_broker_timeout: Duration,
    /// What is known of the other brokers' connections.
    pub peers: Peers,
}

impl ServerConfig {
    /// Kafka's defaults.
    pub fn new(me: BrokerId) -> Self {
        Self {
            me,
            max_request_bytes: 100 << 20,
            request_budget_bytes: 64 << 20,
            max_message_bytes: 1_048_588,
            auto_create_topics: true,
            delete_topics: true,
            consumer_groups: true,
            groups: chronik_core::groups::Config::default(),
            replica_selector: ReplicaSelector::Leader,
            timestamps: TimestampDefaults::default(),
            default_partitions: 1,
            default_replication_factor: 1,
            default_min_insync_replicas: 1,
            advertised: None,
            lasting_hosts: None,
            max_connections: 20_000,
            connections_per_ip: ConnectionsPerIp::default(),
            fetch_max_bytes: 55 << 20,
            described_partitions: 2000,
            fetch_session_slots: 1000,
            idle_timeout: Duration::from_mins(10),
            stall_timeout: Duration::from_secs(30),
            data_dir: PathBuf::new(),
            properties: Vec::new(),
            notice: Duration::from_millis(3),
            // Enough to elect another controller.
            missing_broker_timeout: Duration::from_secs(1),
            peers: Peers::default(),
        }
    }
}
