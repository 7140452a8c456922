//! The broker's properties as clients are shown them (DescribeConfigs).

use super::properties::{BROKER_PROPERTIES, BrokerProperty};
use super::{Config, Property, ReplicaSelector};
use std::time::Duration;

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
        let groups = &self.groups;
        match known.name {
            "node.id" => self.id.to_string(),
            "broker.rack" => self.rack.as_deref().unwrap_or_default().to_owned(),
            "replica.selector.class" => match self.replica_selector {
                ReplicaSelector::Leader => String::new(),
                ReplicaSelector::RackAware => super::RACK_AWARE_SELECTOR.to_owned(),
            },
            "log.dirs" => self.data_dir.display().to_string(),
            "num.partitions" => self.topics.partitions.to_string(),
            "default.replication.factor" => self.topics.replication_factor.to_string(),
            "min.insync.replicas" => self.topics.min_insync_replicas.to_string(),
            "auto.create.topics.enable" => self.auto_create_topics.to_string(),
            "delete.topic.enable" => self.delete_topics.to_string(),
            "group.consumer.max.heartbeat.interval.ms" => millis(groups.consumer_heartbeat_intervals.1),
            "group.consumer.max.session.timeout.ms" => millis(groups.consumer_session_timeouts.1),
            "group.consumer.migration.policy" => groups.migration_policy.name().to_owned(),
            "group.consumer.min.heartbeat.interval.ms" => millis(groups.consumer_heartbeat_intervals.0),
            "group.consumer.min.session.timeout.ms" => millis(groups.consumer_session_timeouts.0),
            "group.coordinator.rebalance.protocols" if self.consumer_groups => "classic,consumer".to_owned(),
            "group.coordinator.rebalance.protocols" => "classic".to_owned(),
            "log.message.timestamp.after.max.ms" => self.timestamps.after_max_ms.to_string(),
            "log.message.timestamp.before.max.ms" => self.timestamps.before_max_ms.to_string(),
            "log.message.timestamp.type" if self.timestamps.append_time => "LogAppendTime".to_owned(),
            "log.message.timestamp.type" => "CreateTime".to_owned(),
            "fetch.max.bytes" => self.fetch_max_bytes.to_string(),
            "max.request.partition.size.limit" => self.described_partitions.to_string(),
            "max.incremental.fetch.session.cache.slots" => self.fetch_session_slots.to_string(),
            "message.max.bytes" => self.max_message_bytes.to_string(),
            "socket.request.max.bytes" => self.max_request_bytes.to_string(),
            "queued.max.request.bytes" => self.request_budget_bytes.to_string(),
            "max.connections" => self.max_connections.to_string(),
            "max.connections.per.ip" => self.per_ip.0.to_string(),
            "max.connections.per.ip.overrides" => self.per_ip.1.clone(),
            "connections.max.idle.ms" => self.connections_max_idle.as_millis().to_string(),
            "auto.leader.rebalance.enable" => self.leader_balance.enabled.to_string(),
            "leader.imbalance.check.interval.seconds" => self.leader_balance.when.interval.as_secs().to_string(),
            "leader.imbalance.per.broker.percentage" => self.leader_balance.when.percentage.to_string(),
            "replica.lag.time.max.ms" => self.replica_lag_time_max.as_millis().to_string(),
            "broker.session.timeout.ms" => self.session_timeout.as_millis().to_string(),
            "disk.stall.timeout" => self.disk_stall_timeout.as_millis().to_string(),
            "log.disk.reserve" => self.disk_reserve_bytes.map_or_else(String::new, |bytes| bytes.to_string()),
            "log.retention.check.interval.ms" => self.retention_check_interval.as_millis().to_string(),
            "log.scrub.bytes.per.second" => self.scrub_rate.to_string(),
            "producer.id.expiration.ms" => self.producer_expiration_ms.to_string(),
            "producer.state.max.bytes" => self.producer_state_bytes.to_string(),
            "log.cleaner.backoff.ms" => self.cleaner.backoff.as_millis().to_string(),
            "log.cleaner.dedupe.buffer.size" => self.cleaner.dedupe_buffer_bytes.to_string(),
            "log.cleaner.io.max.bytes.per.second" => self.cleaner.io_bytes_per_second.to_string(),
            "log.segment.bytes" => self.segment_bytes.to_string(),
            "group.initial.rebalance.delay.ms" => groups.initial_rebalance_delay.as_millis().to_string(),
            "group.min.session.timeout.ms" => groups.min_session_timeout.as_millis().to_string(),
            "group.max.session.timeout.ms" => groups.max_session_timeout.as_millis().to_string(),
            "group.max.size" => groups.max_size.to_string(),
            "group.consumer.session.timeout.ms" => groups.consumer_session_timeout.as_millis().to_string(),
            "group.consumer.heartbeat.interval.ms" => groups.consumer_heartbeat_interval.as_millis().to_string(),
            "group.consumer.assignors" => {
                groups.consumer_assignors.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(",")
            }
            "group.consumer.max.size" => groups.consumer_max_size.to_string(),
            "group.lag.metrics.max.partitions" => self.group_metrics.max_partitions.to_string(),
            "offset.metadata.max.bytes" => groups.max_offset_metadata_bytes.to_string(),
            "offsets.retention.minutes" => (groups.offsets_retention.as_secs() / 60).to_string(),
            "offsets.retention.check.interval.ms" => groups.offsets_check_interval.as_millis().to_string(),
            "offsets.topic.num.partitions" => self.offsets_topic.partitions.to_string(),
            "offsets.topic.replication.factor" => self.offsets_topic.replication_factor.to_string(),
            "offsets.topic.segment.bytes" => self.offsets_topic.segment_bytes.to_string(),
            // The file knows nothing of the others.
            _ => known.default.unwrap_or_default().to_owned(),
        }
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
