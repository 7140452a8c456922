//! What is counted of the partitions that this broker holds.

use prometheus_client::metrics::gauge::Gauge;
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
