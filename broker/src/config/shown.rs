//! The broker's properties as clients are shown them (DescribeConfigs).

use super::Config;
use crate::server::Property;
use std::fmt::Display;

impl Config {
    /// Every property in force, by Kafka's names: sizes in bytes, times in milliseconds.
    pub fn properties(&self) -> Vec<Property> {
        let given = |name: &str| self.given.iter().any(|g| g == name);
        let property = |name: &str, value: &dyn Display| Property {
            name: name.to_owned(),
            value: value.to_string(),
            given: given(name),
        };
        let groups = &self.groups;
        vec![
            property("node.id", &self.id),
            property("log.dirs", &self.data_dir.display()),
            property("num.partitions", &self.topics.partitions),
            property("default.replication.factor", &self.topics.replication_factor),
            property("min.insync.replicas", &self.topics.min_insync_replicas),
            property("auto.create.topics.enable", &self.auto_create_topics),
            property("message.max.bytes", &self.max_message_bytes),
            property("socket.request.max.bytes", &self.max_request_bytes),
            property("queued.max.request.bytes", &self.request_budget_bytes),
            property("max.connections", &self.max_connections),
            property("connections.max.idle.ms", &self.connections_max_idle.as_millis()),
            property("replica.lag.time.max.ms", &self.replica_lag_time_max.as_millis()),
            property("broker.session.timeout.ms", &self.session_timeout.as_millis()),
            property("log.segment.bytes", &self.segment_bytes),
            property("group.initial.rebalance.delay.ms", &groups.initial_rebalance_delay.as_millis()),
            property("group.min.session.timeout.ms", &groups.min_session_timeout.as_millis()),
            property("group.max.session.timeout.ms", &groups.max_session_timeout.as_millis()),
            property("group.max.size", &groups.max_size),
            property("group.consumer.session.timeout.ms", &groups.consumer_session_timeout.as_millis()),
            property("group.consumer.heartbeat.interval.ms", &groups.consumer_heartbeat_interval.as_millis()),
            property("group.consumer.max.size", &groups.consumer_max_size),
            property("offset.metadata.max.bytes", &groups.max_offset_metadata_bytes),
            property("offsets.retention.minutes", &(groups.offsets_retention.as_secs() / 60)),
            property("offsets.retention.check.interval.ms", &groups.offsets_check_interval.as_millis()),
            property("offsets.topic.num.partitions", &self.offsets_topic.partitions),
            property("offsets.topic.replication.factor", &self.offsets_topic.replication_factor),
            property("offsets.topic.segment.bytes", &self.offsets_topic.segment_bytes),
        ]
    }
}
