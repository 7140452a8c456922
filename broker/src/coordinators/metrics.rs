//! What is counted of the coordinators.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// The coordinators' metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoordinatorMetrics {
    /// Partitions of `__consumer_offsets` that are loaded and serve.
    pub(super) serving: Gauge,
    /// Offsets committed.
    pub(super) commits: Counter,
    /// Records written about groups and members: each rebalance writes some.
    pub(super) group_records: Counter,
    /// Shards dropped as an append failed.
    pub(super) failures: Counter,
    load_seconds: Histogram,
}

impl CoordinatorMetrics {
    /// Makes them, and makes the registry know them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            serving: Gauge::default(),
            commits: Counter::default(),
            group_records: Counter::default(),
            failures: Counter::default(),
            // 1 ms to 16 s.
            load_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 15)),
        };
        let groups = registry.sub_registry_with_prefix("groups");
        groups.register("coordinators", "Partitions whose groups are served here", metrics.serving.clone());
        groups.register("offset_commits", "Offsets committed", metrics.commits.clone());
        groups.register("metadata_records", "Records written about groups and members", metrics.group_records.clone());
        groups.register("append_failures", "Coordinators loaded anew as an append failed", metrics.failures.clone());
        groups.register_with_unit(
            "load",
            "From the beginning of a leadership to the first request that can be answered",
            Unit::Seconds,
            metrics.load_seconds.clone(),
        );
        metrics
    }

    /// A partition is loaded.
    pub(super) fn loaded(&self, took: Duration) {
        self.load_seconds.observe(took.as_secs_f64());
    }
}
