//! What is counted of the partitions that this broker holds, and of their log.

use chronik_log::CommitStats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Shared by all owners. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PartitionMetrics {
    replicas: Gauge,
    leaders: Gauge,
    under_replicated: Gauge,
}

/// One owner's share of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) replicas: i64,
    pub(super) leaders: i64,
    pub(super) under_replicated: i64,
}

impl PartitionMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("partition_replicas", "Replicas on this broker", metrics.replicas.clone());
        registry.register("partition_leaders", "Partitions led by this broker", metrics.leaders.clone());
        registry.register(
            "partition_under_replicated",
            "Partitions led by this broker whose in-sync set is smaller than their replica set",
            metrics.under_replicated.clone(),
        );
        metrics
    }

    /// An owner's share changed.
    pub(super) fn change(&self, before: Counts, now: Counts) {
        self.replicas.inc_by(now.replicas - before.replicas);
        self.leaders.inc_by(now.leaders - before.leaders);
        self.under_replicated.inc_by(now.under_replicated - before.under_replicated);
    }
}

/// What the log's writer does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogMetrics {
    operations: Counter,
    bytes: Counter,
    commit_seconds: Histogram,
}

impl LogMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            operations: Counter::default(),
            bytes: Counter::default(),
            // 50 µs to 1.6 s.
            commit_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
        };
        registry.register("wal_operations", "Operations written to the log", metrics.operations.clone());
        registry.register("wal_bytes", "Bytes of those operations", metrics.bytes.clone());
        let help = "Write and sync of one commit round, in seconds";
        registry.register("wal_commit_seconds", help, metrics.commit_seconds.clone());
        metrics
    }

    /// One commit round is done.
    pub fn observe(&self, round: CommitStats) {
        self.operations.inc_by(round.ops as u64);
        self.bytes.inc_by(round.bytes as u64);
        self.commit_seconds.observe(round.took.as_secs_f64());
    }
}
