//! What is asked of the log when somebody looks: how the last start went, how large segments are, what is damaged.

use chronik_log::{LogReader, RealDisk};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// The log's state, at the time of asking.
pub(crate) struct LogStateMetrics(LogReader<RealDisk>);

impl LogStateMetrics {
    /// Registers the metrics of a log that took so long to open.
    pub(crate) fn register(registry: &mut Registry, reader: LogReader<RealDisk>, took: Duration) {
        let opened = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        opened.set(took.as_secs_f64());
        let help = "How long opening and recovering the log took at the last start, in seconds";
        registry.register("log_start_seconds", help, opened);
        registry.register_collector(Box::new(Self(reader)));
    }
}

impl std::fmt::Debug for LogStateMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStateMetrics")
    }
}

impl Collector for LogStateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (mut segments, mut bytes, mut damaged, mut memory) = (0, 0, 0, 0);
        for partition in self.0.partitions() {
            segments += self.0.segments(partition).map_or(0, |segments| segments.len());
            bytes += self.0.bytes(partition).unwrap_or(0);
            memory += self.0.segments_memory(partition) as u64;
            damaged += usize::from(self.0.state(partition).is_some_and(|state| state.damaged.is_some()));
        }
        let producers = self.0.producers_memory() as u64;
        let (open, unsynced) = self.0.open_files();
        for (name, help, value) in [
            ("log_segments", "Segments of all partitions", segments as u64),
            ("log_segment_bytes", "Bytes of batches in them", bytes),
            ("log_damaged_partitions", "Partitions with a range that cannot be read", damaged as u64),
            ("log_segments_memory_bytes", "Bytes of memory for what is known of segments", memory),
            ("log_open_segment_files", "Files of segments (batches and indexes) that are open", open as u64),
            ("log_unsynced_segment_files", "Those of them that were written to and are not synced", unsynced as u64),
            ("log_producers_bytes", "Bytes of memory for producers that wrote since the last snapshots", producers),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cleaner::CleanerMetrics;
    use crate::metrics::ScrubMetrics;
    use crate::partitions::{DiskMetrics, LogMetrics};
    use chronik_core::ids::{LeaderEpoch, Offset, PartitionId, TopicId, TopicPartition};
    use chronik_core::record::testing::BatchBuilder;
    use chronik_log::{Log, Op, Options, Writer};
    use chronik_quorum::DiskSpace;

    #[test]
    fn whoever_runs_a_broker_finds_what_its_log_does_among_the_metrics() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(RealDisk, dir.path(), Options::default()).unwrap();
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let batch = BatchBuilder::new(1).payload(10).build().assign(Offset(5), LeaderEpoch(1));
        let bytes = batch.bytes().len();
        let op = [Op::Append { partition, batch }];
        log.commit(&op).unwrap();
        log.apply(&op).unwrap();
        let mut registry = Registry::with_prefix("chronik");
        LogStateMetrics::register(&mut registry, log.reader(), Duration::from_millis(1500));
        let _kept = (LogMetrics::register(&mut registry), ScrubMetrics::register(&mut registry));
        let _kept = CleanerMetrics::register(&mut registry);
        let (writer, thread) = Writer::spawn(log, |_| {});
        let (_, volume) = tokio::sync::watch::channel(Some(DiskSpace { total: 1000, free: 100 }));
        DiskMetrics::register(&mut registry, writer.clone(), volume);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "log_start_seconds 1.5",
            "log_segments 1",
            &format!("log_segment_bytes {bytes}"),
            "log_open_segment_files 1",
            "log_unsynced_segment_files 1",
            "log_damaged_partitions 0",
            "disk_refuses_producers 0",
            "disk_total_bytes 1000",
        ] {
            assert!(text.contains(&format!("chronik_{line}\n")), "{line} is not in {text}");
        }
        for name in [
            "log_producers_bytes",
            "log_segments_memory_bytes",
            "cleaner_max_dirty_ratio",
            "cleaner_bytes_before_total",
            "cleaner_bytes_after_total",
            "cleaner_seconds_count",
            "log_scrub_bytes_total",
            "log_scrub_partitions_left",
            "disk_free_bytes",
            "disk_floor_bytes",
            "disk_refused_batches_total",
            "wal_commit_seconds_count",
            "wal_unfinished_round_seconds",
        ] {
            assert!(text.contains(&format!("\nchronik_{name} ")), "{name} is not in {text}");
        }
        drop((registry, writer));
        thread.join().unwrap();
    }
}
