//! What is counted of the coordinators, and what is shown of their groups.

use super::lag::{Lag, Lags};
use chronik_core::groups::Census;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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
    /// Generations of classic groups and epochs of consumer groups that were written.
    pub(super) rebalances: Counter,
    /// Records read when coordinators were loaded.
    pub(super) loaded_records: Counter,
    /// How far groups are behind, as it was last found.
    pub(super) lags: watch::Sender<Arc<Lags>>,
    load_seconds: Histogram,
    groups: Family<Labels, Gauge>,
    members: Gauge,
    committed_offsets: Gauge,
}

type Labels = [(&'static str, &'static str); 2];

/// Kafka's names of the types of groups, and of the states that those here may be in.
const STATES: [(&str, &[&str]); 2] = [
    ("classic", &["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"]),
    ("consumer", &["Empty", "Assigning", "Reconciling", "Stable"]),
];

/// What one shard adds to the gauges of this broker, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Counted {
    metrics: CoordinatorMetrics,
    census: Census,
}

impl Counted {
    /// Takes what a shard has now in place of what it had.
    pub(super) fn update(&mut self, census: Census) {
        let gauge = |of: &(&'static str, &'static str)| {
            self.metrics.groups.get_or_create_owned(&[("type", of.0), ("state", of.1)])
        };
        for (of, count) in &self.census.groups {
            gauge(of).dec_by(signed(*count));
        }
        for (of, count) in &census.groups {
            gauge(of).inc_by(signed(*count));
        }
        self.metrics.members.inc_by(signed(census.members) - signed(self.census.members));
        self.metrics.committed_offsets.inc_by(signed(census.offsets) - signed(self.census.offsets));
        self.census = census;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.update(Census::default());
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl CoordinatorMetrics {
    /// Makes them, and makes the registry know them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            serving: Gauge::default(),
            commits: Counter::default(),
            group_records: Counter::default(),
            failures: Counter::default(),
            rebalances: Counter::default(),
            loaded_records: Counter::default(),
            lags: watch::Sender::default(),
            groups: Family::default(),
            members: Gauge::default(),
            committed_offsets: Gauge::default(),
            // 1 ms to 16 s.
            load_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 15)),
        };
        // That no group is in a state is something else than that nobody counts.
        for (kind, states) in STATES {
            for state in states {
                metrics.groups.get_or_create_owned(&[("type", kind), ("state", state)]);
            }
        }
        let groups = registry.sub_registry_with_prefix("groups");
        groups.register("coordinators", "Partitions whose groups are served here", metrics.serving.clone());
        groups.register("offset_commits", "Offsets committed", metrics.commits.clone());
        groups.register("metadata_records", "Records written about groups and members", metrics.group_records.clone());
        groups.register("groups", "Groups by type and state", metrics.groups.clone());
        groups.register("members", "Members of all groups", metrics.members.clone());
        let offsets = "Partitions that groups have committed offsets of";
        groups.register("committed_offsets", offsets, metrics.committed_offsets.clone());
        let rebalances = "Generations of classic groups and epochs of consumer groups that were written";
        groups.register("rebalances", rebalances, metrics.rebalances.clone());
        groups.register("load_records", "Records read when coordinators were loaded", metrics.loaded_records.clone());
        groups.register("append_failures", "Coordinators loaded anew as an append failed", metrics.failures.clone());
        groups.register_with_unit(
            "load",
            "From the beginning of a leadership to the first request that can be answered",
            Unit::Seconds,
            metrics.load_seconds.clone(),
        );
        groups.register_collector(Box::new(LagMetrics(metrics.lags.subscribe())));
        metrics
    }

    /// Counts what a shard has.
    pub(super) fn counted(&self) -> Counted {
        Counted { metrics: self.clone(), census: Census::default() }
    }

    /// A partition is loaded.
    pub(super) fn loaded(&self, took: Duration) {
        self.load_seconds.observe(took.as_secs_f64());
    }
}

/// The places of groups in partitions, each with labels of its own.
#[derive(Debug)]
struct LagMetrics(watch::Receiver<Arc<Lags>>);

impl Collector for LagMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Let go of at once: whoever writes the next ones must not wait for an answer to be written.
        let lags = Arc::clone(&self.0.borrow());
        let help = "The committed offset of a group in a partition";
        family(&mut encoder, "offset", help, &lags.shown, |lag| Some(lag.offset))?;
        let help =
            "Records between the committed offset of a group and the high watermark; none where no leader says it";
        family(&mut encoder, "lag", help, &lags.shown, |lag| lag.behind)?;
        let left_out = ConstGauge::new(i64::try_from(lags.left_out).unwrap_or(i64::MAX));
        let help = "Groups whose lag is not shown, or not of all partitions, for group.lag.metrics.max.partitions";
        left_out.encode(encoder.encode_descriptor("lag_left_out", help, None, left_out.metric_type())?)
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    lags: &[Lag],
    value: impl Fn(&Lag) -> Option<i64>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for lag in lags {
        let Some(value) = value(lag) else { continue };
        let partition = lag.partition.to_string();
        let labels = [("group", &*lag.group), ("topic", &*lag.topic), ("partition", &*partition)];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
