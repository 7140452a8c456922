//! What a broker's file says that requests go by, or are answered with.

use chronik_core::record::TIMESTAMP_AFTER_MAX_MS;

/// Where consumers read that name their rack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// At the leader.
    Leader,
    /// At an in-sync replica in the consumer's rack, if there is one.
    RackAware,
}

/// What a broker's file says of records' timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampDefaults {
    /// Whether records get the broker's time when they are appended (`log.message.timestamp.type`).
    pub append_time: bool,
    /// How far behind the broker's clock they may lie (`log.message.timestamp.before.max.ms`).
    pub before_max_ms: i64,
    /// How far ahead of it (`log.message.timestamp.after.max.ms`).
    pub after_max_ms: i64,
}

impl Default for TimestampDefaults {
    fn default() -> Self {
        Self { append_time: false, before_max_ms: i64::MAX, after_max_ms: TIMESTAMP_AFTER_MAX_MS }
    }
}

/// A broker property as clients are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Kafka's name.
    pub name: String,
    /// Its value, sizes in bytes and times in milliseconds.
    pub value: String,
    /// Whether the configuration file says so; otherwise it is the default.
    pub given: bool,
}
