//! The broker's properties as clients are shown them (DescribeConfigs).

use super::Config;
use super::properties::{BROKER_PROPERTIES, BrokerProperty};
use crate::server::Property;

impl Config {
    /// Every property as the file leaves it, by Kafka's names: sizes in bytes, times in milliseconds.
    pub fn properties(&self) -> Vec<Property> {
        BROKER_PROPERTIES
            .iter()
            .map(|known| Property {
                name: known.name.to_owned(),
                value: self.value(known),
                given: self.given.iter().any(|given| given == known.name),
            })
            .collect()
    }

    fn value(&self, known: &BrokerProperty) -> String {
        match known.name {
            "node.id" => self.id.to_string(),
            "log.dirs" => self.data_dir.display().to_string(),
            "num.partitions" => self.topics.partitions.to_string(),
            "default.replication.factor" => self.topics.replication_factor.to_string(),
            "min.insync.replicas" => self.topics.min_insync_replicas.to_string(),
            "auto.create.topics.enable" => self.auto_create_topics.to_string(),
            "message.max.bytes" => self.max_message_bytes.to_string(),
            "socket.request.max.bytes" => self.max_request_bytes.to_string(),
            "queued.max.request.bytes" => self.request_budget_bytes.to_string(),
            "max.connections" => self.max_connections.to_string(),
            "connections.max.idle.ms" => self.connections_max_idle.as_millis().to_string(),
            "replica.lag.time.max.ms" => self.replica_lag_time_max.as_millis().to_string(),
            "broker.session.timeout.ms" => self.session_timeout.as_millis().to_string(),
            "log.segment.bytes" => self.segment_bytes.to_string(),
            // The file knows nothing of the others.
            _ => known.default.unwrap_or_default().to_owned(),
        }
    }
}
