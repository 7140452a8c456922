//! What is counted of the partitions that this broker holds, and of their log.

use chronik_core::cluster::Partition;
use chronik_core::ids::BrokerId;
use chronik_log::{CommitStats, Writer};
use chronik_quorum::DiskSpace;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// Shared by all owners. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PartitionMetrics {
    replicas: Gauge,
    leaders: Gauge,
    under_replicated: Gauge,
    producer_bytes: Gauge,
}

/// A share of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) replicas: i64,
    pub(super) leaders: i64,
    pub(super) under_replicated: i64,
}

impl Counts {
    /// What one partition counts for on this broker, which holds it.
    pub(super) fn of(partition: &Partition, me: BrokerId) -> Self {
        let leads = partition.leader == Some(me);
        let lacks = leads && partition.isr.len() < partition.original_replicas().count();
        Self { replicas: 1, leaders: leads.into(), under_replicated: lacks.into() }
    }
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
        registry.register(
            "producers_bytes",
            "Bytes of memory for what replicas remember of idempotent producers",
            metrics.producer_bytes.clone(),
        );
        metrics
    }

    /// What replicas remember of producers, in bytes.
    pub(super) fn producer_bytes(&self) -> Gauge {
        self.producer_bytes.clone()
    }

    /// A share of it changed.
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

/// What is asked of the log's disk when somebody looks.
pub struct DiskMetrics {
    writer: Writer,
    /// As it was last looked at: whoever asks for metrics is not to hang with the disk.
    volume: watch::Receiver<Option<DiskSpace>>,
}

impl DiskMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry, writer: Writer, volume: watch::Receiver<Option<DiskSpace>>) {
        registry.register_collector(Box::new(Self { writer, volume }));
    }
}

impl std::fmt::Debug for DiskMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskMetrics")
    }
}

impl Collector for DiskMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let space = self.writer.space();
        let bytes = |bytes: u64| ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        for (name, help, gauge) in [
            ("disk_free_bytes", "Bytes that the disk has left", bytes(space.available())),
            (
                "disk_floor_bytes",
                "Bytes of the disk that are kept free: with less, producers are refused",
                bytes(space.floor()),
            ),
            (
                "disk_refuses_producers",
                "1 while producers are refused for want of room on the disk",
                ConstGauge::new(i64::from(!space.room().takes(false))),
            ),
            (
                "disk_total_bytes",
                "Bytes that the disk's file system has in all; 0 as long as it does not say",
                bytes(self.volume.borrow().map_or(0, |volume| volume.total)),
            ),
        ] {
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let refused = ConstCounter::new(space.refused());
        let help = "Batches that were refused for want of room on the disk";
        refused.encode(encoder.encode_descriptor("disk_refused_batches", help, None, refused.metric_type())?)?;
        let age = ConstGauge::new(self.writer.pulse().age().as_secs_f64());
        let help = "How long the disk has been at the round that is under way, in seconds; 0 between rounds";
        age.encode(encoder.encode_descriptor("wal_unfinished_round_seconds", help, None, age.metric_type())?)
    }
}
