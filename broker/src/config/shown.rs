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
        ]
    }
}
