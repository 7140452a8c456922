//! What is counted of the partitions that this broker holds, and of their log.

use chronik_core::cluster::{Image, Partition};
use chronik_core::ids::{BrokerId, TopicPartition};
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
    isr_shrinks: Counter,
    isr_expands: Counter,
    elections: Counter,
    unclean_elections: Counter,
}

/// A share of the counts. Small, as there is one for each partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) replicas: u8,
    pub(super) leaders: u8,
    pub(super) under_replicated: u8,
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
        for (name, help, counter) in [
            (
                "partition_isr_shrinks",
                "Times that replicas left the in-sync set of a partition that this broker led then",
                &metrics.isr_shrinks,
            ),
            (
                "partition_isr_expands",
                "Times that replicas joined the in-sync set of a partition that this broker led then",
                &metrics.isr_expands,
            ),
            (
                "partition_leader_elections",
                "Times that this broker became the leader of a partition after another one, or after nobody led it",
                &metrics.elections,
            ),
            (
                "partition_unclean_leader_elections",
                "Those of them in which it may have lacked acknowledged records",
                &metrics.unclean_elections,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// What replicas remember of producers, in bytes.
    pub(super) fn producer_bytes(&self) -> Gauge {
        self.producer_bytes.clone()
    }

    /// A share of it changed.
    pub(super) fn change(&self, before: Counts, now: Counts) {
        let more = |now: u8, before: u8| i64::from(now) - i64::from(before);
        self.replicas.inc_by(more(now.replicas, before.replicas));
        self.leaders.inc_by(more(now.leaders, before.leaders));
        self.under_replicated.inc_by(more(now.under_replicated, before.under_replicated));
    }

    /// Counts what became of these partitions from one image to the next where this broker leads: of all brokers one does.
    pub(super) fn observe<'a>(
        &self,
        me: BrokerId,
        (before, now): (&Image, &Image),
        changed: impl Iterator<Item = &'a TopicPartition>,
    ) {
        let unclean = now.unclean_elections > before.unclean_elections;
        for partition in changed {
            let (Some(before), Some(now)) = (before.partition(*partition), now.partition(*partition)) else { continue };
            if now.leader != Some(me) {
                continue;
            }
            let lacks = |of: &Partition, other: &Partition| other.isr.iter().any(|id| !of.isr.contains(id));
            self.isr_shrinks.inc_by(lacks(now, before).into());
            self.isr_expands.inc_by(lacks(before, now).into());
            let elected = before.leader != Some(me);
            let eligible = before.isr.contains(&me) || before.elr.contains(&me);
            self.elections.inc_by(elected.into());
            self.unclean_elections.inc_by((elected && unclean && !eligible).into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::Topic;
    use chronik_core::ids::{LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

    const ME: BrokerId = BrokerId(1);
    const TP: TopicPartition = TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: PartitionId(0) };

    /// One partition on three brokers.
    fn image(leader: i32, isr: &[i32], elr: &[i32], unclean_elections: u64) -> Image {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let partition = Partition {
            replicas: ids(&[0, 1, 2]),
            isr: ids(isr),
            elr: ids(elr).into(),
            leader: Some(BrokerId(leader)).filter(|id| id.0 >= 0),
            adding: Box::default(),
            removing: Box::default(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        };
        let mut image = Image { unclean_elections, ..Image::default() };
        let topic = Topic {
            id: TP.topic,
            name: "t".into(),
            partitions: [partition].into_iter().collect(),
            configs: image.cluster_configs.clone(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: image.next_producer_id,
        };
        image.topics.insert(topic.id, topic);
        image
    }

    #[test]
    fn what_is_counted_of_a_partition_takes_little_beside_its_name() {
        assert_eq!(size_of::<(TopicPartition, Counts)>(), 24);
    }

    #[test]
    fn what_becomes_of_a_partition_is_counted_by_who_leads_it_then() {
        let (whole, alone) = (image(1, &[0, 1, 2], &[], 0), image(1, &[1], &[], 0));
        for (what, before, now, expected) in [
            ("nothing", whole.clone(), whole.clone(), [0, 0, 0, 0]),
            ("others are too slow", whole.clone(), alone.clone(), [1, 0, 0, 0]),
            ("they are back", alone, whole.clone(), [0, 1, 0, 0]),
            ("another one leads", whole.clone(), image(2, &[2], &[], 0), [0, 0, 0, 0]),
            ("the leader is fenced", image(0, &[0, 1, 2], &[], 0), image(1, &[1, 2], &[], 0), [1, 0, 1, 0]),
            ("the leader goes on", image(0, &[0, 1], &[], 0), image(1, &[0, 1], &[], 0), [0, 0, 1, 0]),
            ("an eligible one", image(-1, &[], &[1], 0), image(1, &[1], &[], 1), [0, 1, 1, 0]),
            ("one that joined just before", image(0, &[0], &[], 4), image(1, &[1], &[], 4), [1, 1, 1, 0]),
            ("one that lacks records", image(-1, &[0], &[], 4), image(1, &[1], &[], 5), [1, 1, 1, 1]),
            ("a topic that is new", Image::default(), whole, [0, 0, 0, 0]),
        ] {
            let mut registry = Registry::with_prefix("chronik");
            let metrics = PartitionMetrics::register(&mut registry);
            metrics.observe(ME, (&before, &now), [TP].iter());
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
            let names = ["isr_shrinks", "isr_expands", "leader_elections", "unclean_leader_elections"];
            for (name, count) in names.iter().zip(expected) {
                let line = format!("\nchronik_partition_{name}_total {count}\n");
                assert!(text.contains(&line), "{what}: {line} is not in {text}");
            }
        }
    }
}
