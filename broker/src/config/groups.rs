//! What groups go by, out of the broker's properties.

use super::file::KafkaProperties;
use super::members::ClusterSize;
use super::{ConfigError, wrong};
use crate::coordinators::OffsetsTopic;
use chronik_core::groups::{self, Assignor, MigrationPolicy};
use std::time::Duration;

/// The longest metadata of a committed offset that fits its record.
const MAX_METADATA: usize = i16::MAX as usize;

/// Checks the properties of groups.
pub(super) fn groups(kafka: &KafkaProperties) -> Result<groups::Config, ConfigError> {
    if kafka.group_min_session_timeout_ms.0 > kafka.group_max_session_timeout_ms.0 {
        return Err(wrong("group.min.session.timeout.ms", "greater than group.max.session.timeout.ms"));
    }
    let session = kafka.group_consumer_session_timeout_ms.0;
    let heartbeat = kafka.group_consumer_heartbeat_interval_ms.0;
    if heartbeat.is_zero() || heartbeat >= session {
        return Err(wrong(
            "group.consumer.heartbeat.interval.ms",
            "must be at least 1 ms and less than group.consumer.session.timeout.ms",
        ));
    }
    let (least, most) = (kafka.group_consumer_min_session_timeout_ms.0, kafka.group_consumer_max_session_timeout_ms.0);
    between("group.consumer.session.timeout.ms", session, least, most)?;
    let (least_heartbeat, most_heartbeat) =
        (kafka.group_consumer_min_heartbeat_interval_ms.0, kafka.group_consumer_max_heartbeat_interval_ms.0);
    between("group.consumer.heartbeat.interval.ms", heartbeat, least_heartbeat, most_heartbeat)?;
    if kafka.offsets_retention_check_interval_ms.0.is_zero() {
        return Err(wrong("offsets.retention.check.interval.ms", "at least 1"));
    }
    let metadata = kafka.offset_metadata_max_bytes.bytes("offset.metadata.max.bytes")?;
    if metadata > MAX_METADATA {
        return Err(wrong("offset.metadata.max.bytes", format!("at most {MAX_METADATA}")));
    }
    let minutes = at_least_one("offsets.retention.minutes", kafka.offsets_retention_minutes)?;
    Ok(groups::Config {
        min_session_timeout: kafka.group_min_session_timeout_ms.0,
        max_session_timeout: kafka.group_max_session_timeout_ms.0,
        initial_rebalance_delay: kafka.group_initial_rebalance_delay_ms.0,
        max_size: at_least_one("group.max.size", kafka.group_max_size)?,
        max_offset_metadata_bytes: metadata,
        offsets_retention: Duration::from_mins(minutes as u64),
        offsets_check_interval: kafka.offsets_retention_check_interval_ms.0,
        consumer_session_timeout: session,
        consumer_heartbeat_interval: heartbeat,
        consumer_session_timeouts: (least, most),
        consumer_heartbeat_intervals: (least_heartbeat, most_heartbeat),
        migration_policy: migration_policy(&kafka.group_consumer_migration_policy)?,
        consumer_max_size: at_least_one("group.consumer.max.size", kafka.group_consumer_max_size)?,
        consumer_assignors: assignors(&kafka.group_consumer_assignors)?,
        ..groups::Config::default()
    })
}

/// Assignors by their names, or by those of Kafka's classes.
fn assignors(given: &str) -> Result<Vec<Assignor>, ConfigError> {
    const KEY: &str = "group.consumer.assignors";
    const CLASSES: &str = "org.apache.kafka.coordinator.group.assignor.";
    let mut found = Vec::new();
    for name in given.split(',').map(str::trim) {
        let short = name.strip_prefix(CLASSES).and_then(|class| class.strip_suffix("Assignor")).unwrap_or(name);
        let assignor = Assignor::by_name(&short.to_ascii_lowercase());
        let assignor = assignor.ok_or_else(|| {
            wrong(
                KEY,
                format!(
                    "there is no assignor '{name}' here; there are {}",
                    Assignor::ALL.map(Assignor::name).join(", ")
                ),
            )
        })?;
        if found.contains(&assignor) {
            return Err(wrong(KEY, format!("'{name}' is there twice")));
        }
        found.push(assignor);
    }
    Ok(found)
}

fn migration_policy(name: &str) -> Result<MigrationPolicy, ConfigError> {
    let found = MigrationPolicy::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names = MigrationPolicy::ALL.map(MigrationPolicy::name).join(", ");
        wrong("group.consumer.migration.policy", format!("'{name}' is none of {names}"))
    })
}

fn between(key: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let (least, most) = (least.as_millis(), most.as_millis());
    Err(wrong(key, format!("must be within its least and most value, which are {least} and {most} ms")))
}

/// Whether the consumer protocol is among the protocols of groups. The classic one always is.
pub(super) fn consumer_protocol(kafka: &KafkaProperties) -> Result<bool, ConfigError> {
    const KEY: &str = "group.coordinator.rebalance.protocols";
    let named: Vec<&str> = kafka.group_coordinator_rebalance_protocols.split(',').map(str::trim).collect();
    match named.iter().find(|name| !matches!(**name, "classic" | "consumer")) {
        Some(other) => Err(wrong(KEY, format!("there is no protocol '{other}' here"))),
        None if !named.contains(&"classic") => Err(wrong(KEY, "classic cannot be left out")),
        None => Ok(named.contains(&"consumer")),
    }
}

/// Checks how `__consumer_offsets` is to be created.
pub(super) fn offsets_topic(kafka: &KafkaProperties, size: ClusterSize) -> Result<OffsetsTopic, ConfigError> {
    let partitions = kafka.offsets_topic_num_partitions;
    if !(1..=chronik_core::cluster::MAX_PARTITIONS).contains(&partitions) {
        return Err(wrong("offsets.topic.num.partitions", format!("{partitions} partitions")));
    }
    let replication_factor = kafka.offsets_topic_replication_factor.unwrap_or(size.replication_factor);
    if replication_factor < 1 || usize::try_from(replication_factor).is_ok_and(|n| n > size.most) {
        return Err(wrong(
            "offsets.topic.replication.factor",
            format!("{replication_factor} does not fit {} members", size.most),
        ));
    }
    let segment_bytes = kafka.offsets_topic_segment_bytes.bytes("offsets.topic.segment.bytes")?;
    Ok(OffsetsTopic { partitions, replication_factor, segment_bytes })
}

pub(super) fn at_least_one(key: &'static str, number: i32) -> Result<usize, ConfigError> {
    usize::try_from(number).ok().filter(|n| *n >= 1).ok_or_else(|| wrong(key, "at least 1"))
}
