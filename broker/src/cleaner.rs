//! The cleaner of compacted topics: one thread, which looks now and then at the partitions that this broker holds, leads or
//! follows, and cleans those that are due, the dirtiest first.
//!
//! It keeps out of everybody's way: it reads and writes at a bounded rate, off the thread that writes the log and off the
//! owners' tasks. What it asks of an owner is what is committed, and where the last batches of producers are.
//!
//! A cleaned segment stands beside the one that it replaces until the next checkpoint. So the cleaner asks for
//! checkpoints, and writes nothing that would bring the disk near its floor: the bytes below that are for writes that
//! must go on.

use crate::config::CleanerLimits;
use crate::partitions::Partitions;
use chronik_core::cluster::config::{
    DELETE_RETENTION_MS, MAX_COMPACTION_LAG_MS, MIN_CLEANABLE_DIRTY_RATIO, MIN_COMPACTION_LAG_MS,
};
use chronik_core::cluster::{Image, MetadataVersion, Topic};
use chronik_core::compaction::{Footprint, Limits, Plan, plan};
use chronik_core::ids::{BrokerId, Offset, TopicPartition};
use chronik_core::record::MAX_DECOMPRESSED;
use chronik_core::retention::Segment;
use chronik_core::space::Room;
use chronik_log::{CleanError, CleanReport, CleanSpec, CleanStep, Cleaning, Disk, LogReader, RealDisk, Writer};
use chronik_quorum::ControllerHandle;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// The version from which on every broker gets over gaps in logs.
const COMPACTION: MetadataVersion = MetadataVersion(2);
/// Bytes for keys, whatever the configuration says: a thousand of them.
const LEAST_BUFFER: usize = 24 * 1024;
/// A partition that could not be cleaned is left alone for so long.
const AGAIN: Duration = Duration::from_mins(10);
/// The same, of one for which there is no room.
const AGAIN_WITH_ROOM: Duration = Duration::from_mins(1);
/// How long what was replaced may take to leave, where room is needed, and how often it is asked.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What the cleaner needs of its broker.
pub(crate) struct CleanerConfig {
    /// This broker.
    pub(crate) me: BrokerId,
    /// What it may take.
    pub(crate) limits: CleanerLimits,
    /// Who knows what is committed.
    pub(crate) partitions: Partitions,
    /// Knows the segments, and cleans them.
    pub(crate) reader: LogReader<RealDisk>,
    /// Makes what was cleaned durable.
    pub(crate) writer: Writer,
    /// Knows the topics.
    pub(crate) controller: ControllerHandle,
    /// What it did.
    pub(crate) metrics: CleanerMetrics,
}

/// What the cleaner did. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CleanerMetrics {
    max_dirty_ratio: Gauge<f64, AtomicU64>,
    cleanings: Counter,
    failures: Counter,
    bytes_before: Counter,
    bytes_after: Counter,
    seconds: Histogram,
}

impl CleanerMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            max_dirty_ratio: Gauge::default(),
            cleanings: Counter::default(),
            failures: Counter::default(),
            bytes_before: Counter::default(),
            bytes_after: Counter::default(),
            // 10 ms to three hours.
            seconds: Histogram::new(exponential_buckets(0.01, 4.0, 11)),
        };
        let help = "The greatest share of a compacted partition on this broker that was never cleaned";
        registry.register("cleaner_max_dirty_ratio", help, metrics.max_dirty_ratio.clone());
        registry.register("cleaner_cleanings", "Partitions that were cleaned", metrics.cleanings.clone());
        registry.register("cleaner_failures", "Cleanings that failed", metrics.failures.clone());
        let help = "Bytes of segments before they were cleaned";
        registry.register("cleaner_bytes_before", help, metrics.bytes_before.clone());
        let help = "Bytes of segments after they were cleaned";
        registry.register("cleaner_bytes_after", help, metrics.bytes_after.clone());
        registry.register("cleaner_seconds", "How long a cleaning took, in seconds", metrics.seconds.clone());
        metrics
    }

    fn observe(&self, report: &CleanReport, took: Duration) {
        self.cleanings.inc();
        self.bytes_before.inc_by(report.bytes_before);
        self.bytes_after.inc_by(report.bytes_after);
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Starts the thread, which ends when it is stopped. To be called within the runtime.
pub(crate) fn start(config: CleanerConfig, stop: CancellationToken) -> io::Result<JoinHandle<()>> {
    let runtime = Handle::current();
    let footprint = Footprint::default();
    let mut cleaner = Cleaner { config, stop, runtime, left_alone: HashMap::new(), footprint };
    thread::Builder::new().name("cleaner".into()).spawn(move || {
        while !cleaner.wait(cleaner.config.limits.backoff) {
            cleaner.round();
        }
    })
}

struct Cleaner {
    config: CleanerConfig,
    stop: CancellationToken,
    runtime: Handle,
    /// Partitions that could not be cleaned, and until when that is not tried again.
    left_alone: HashMap<TopicPartition, Instant>,
    footprint: Footprint,
}

/// A partition that can be cleaned.
struct Candidate {
    partition: TopicPartition,
    /// Its topic's name.
    topic: Arc<str>,
    limits: Limits,
    delete_retention_ms: i64,
    plan: Plan,
}

impl Cleaner {
    /// Says whether to stop.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stop.cancelled();
        self.runtime.block_on(async { tokio::time::timeout(time, stopped).await.is_ok() })
    }

    fn round(&mut self) {
        let image = self.config.controller.image();
        let now = Instant::now();
        self.left_alone.retain(|tp, until| *until > now && image.topics.contains_key(&tp.topic));
        if image.metadata_version < COMPACTION {
            return;
        }
        let mut candidates = self.candidates(&image);
        let greatest = candidates.iter().map(|c| c.plan.dirty_ratio).fold(0.0, f64::max);
        self.config.metrics.max_dirty_ratio.set(greatest);
        candidates.retain(|c| c.plan.due && !self.left_alone.contains_key(&c.partition));
        candidates.sort_by(|a, b| b.plan.dirty_ratio.total_cmp(&a.plan.dirty_ratio));
        for candidate in candidates {
            if self.stop.is_cancelled() {
                break;
            }
            self.clean(&candidate);
        }
        if self.footprint.leaves() {
            self.config.writer.checkpoint();
        }
    }

    /// Those of compacted topics, with what could be cleaned if all was committed.
    fn candidates(&self, image: &Image) -> Vec<Candidate> {
        let me = self.config.me;
        let compacted = image.topics.values().filter(|topic| topic.is_compacted(image, me)).flat_map(|topic| {
            let replicas = (0..).zip(&topic.partitions).filter(|(_, state)| state.replicas.contains(&me));
            replicas.map(move |(n, _)| {
                (TopicPartition { topic: topic.id, partition: chronik_core::ids::PartitionId(n) }, topic)
            })
        });
        let candidate = |(partition, topic): (TopicPartition, &Topic)| {
            let limits = limits(topic, image, me);
            let mut cleaning = self.config.reader.cleaning(partition)?;
            let by_age = limits.min_lag_ms > 0 || limits.max_lag_ms < i64::MAX;
            let closed = cleaning.segments.len().saturating_sub(1);
            if by_age && cleaning.segments[..closed].iter().any(|s| s.max_timestamp.is_none()) {
                self.config.reader.measure(partition).ok()?;
                cleaning = self.config.reader.cleaning(partition)?;
            }
            let plan = planned(&cleaning, Offset(i64::MAX), &limits);
            let delete_retention_ms = topic.setting(DELETE_RETENTION_MS, image, me).unwrap_or(i64::MAX);
            Some(Candidate { partition, topic: topic.name.clone(), limits, delete_retention_ms, plan })
        };
        compacted.filter_map(candidate).collect()
    }

    fn clean(&mut self, candidate: &Candidate) {
        let (partition, topic) = (candidate.partition, &*candidate.topic);
        let Ok(state) = self.runtime.block_on(self.config.partitions.cleanable(partition)) else { return };
        let Some(cleaning) = self.config.reader.cleaning(partition) else { return };
        let plan = planned(&cleaning, state.high_watermark, &candidate.limits);
        if !plan.due {
            return;
        }
        let (Ok(a), Ok(b)) = (RealDisk.random(), RealDisk.random()) else { return };
        let spec = CleanSpec {
            until: plan.until,
            producers: state.last_batches,
            buffer_bytes: self.config.limits.dedupe_buffer_bytes.max(LEAST_BUFFER),
            secret: (a, b),
            now_ms: now_ms(),
            delete_retention_ms: candidate.delete_retention_ms,
            max_decompressed: MAX_DECOMPRESSED,
        };
        let begin = Instant::now();
        let mut pace = Pace::new(self.config.limits.io_bytes_per_second);
        let (mut footprint, mut leaving, mut no_room) = (self.footprint, false, false);
        let go_on = |step| match step {
            CleanStep::Moved(bytes) => {
                no_room = self.config.writer.space().room() == Room::None;
                !no_room && !self.wait(pace.after(bytes, begin.elapsed()))
            }
            CleanStep::Begins(bytes) => {
                if !self.fits(bytes, Duration::ZERO) && footprint.leaves() {
                    self.config.writer.checkpoint();
                    leaving = true;
                }
                no_room = !self.fits(bytes, if leaving { LEAVES_WITHIN } else { Duration::ZERO });
                !no_room
            }
            CleanStep::Replaced(bytes) => {
                let space = self.config.writer.space();
                if footprint.replaced(bytes, space.room(), space.available(), space.floor()) {
                    self.config.writer.checkpoint();
                    leaving = true;
                }
                true
            }
        };
        let cleaned = self.config.reader.clean(partition, &spec, go_on);
        self.footprint = footprint;
        match cleaned {
            Ok(report) => {
                self.config.metrics.observe(&report, begin.elapsed());
                let CleanReport { cleaned_to, keys, bytes_before, bytes_after } = report;
                let took = begin.elapsed();
                info!(topic, %partition, %cleaned_to, keys, bytes_before, bytes_after, ?took, "Cleaned");
            }
            Err(CleanError::Stopped) if no_room => {
                debug!(%partition, "Not cleaned: the disk has no room for it");
                self.left_alone.insert(partition, Instant::now() + AGAIN_WITH_ROOM);
            }
            // It is tried again, with the log as it is then.
            Err(error @ (CleanError::Changed | CleanError::Stopped)) => {
                debug!(%partition, %error, "Not cleaned");
            }
            // The process ends.
            Err(error @ CleanError::Sync(_)) => error!(topic, %partition, %error, "Cannot sync what was to be cleaned"),
            Err(error) => {
                warn!(topic, %partition, %error, "Cannot clean; the partition is left as it is for ten minutes");
                self.config.metrics.failures.inc();
                self.left_alone.insert(partition, Instant::now() + AGAIN);
            }
        }
    }

    /// Whether the disk has room for so many bytes, or has it before that time is over.
    fn fits(&self, bytes: u64, within: Duration) -> bool {
        let (space, begin) = (self.config.writer.space(), Instant::now());
        loop {
            if Footprint::fits(space.room(), space.available(), space.floor(), bytes) {
                return true;
            }
            if begin.elapsed() >= within || self.wait(ASK_EVERY) {
                return false;
            }
        }
    }
}

/// Holds back so that a rate is kept to.
struct Pace {
    bytes_per_second: f64,
    done: u64,
}

impl Pace {
    fn new(bytes_per_second: usize) -> Self {
        Self { bytes_per_second: bytes_per_second as f64, done: 0 }
    }

    /// How long to wait after `bytes` more, `elapsed` after the begin.
    fn after(&mut self, bytes: u64, elapsed: Duration) -> Duration {
        self.done += bytes;
        Duration::from_secs_f64(self.done as f64 / self.bytes_per_second).saturating_sub(elapsed)
    }
}

fn limits(topic: &Topic, image: &Image, me: BrokerId) -> Limits {
    Limits {
        min_dirty_ratio: topic.setting(MIN_CLEANABLE_DIRTY_RATIO, image, me).unwrap_or(1.0),
        min_lag_ms: topic.setting(MIN_COMPACTION_LAG_MS, image, me).unwrap_or(0),
        max_lag_ms: topic.setting(MAX_COMPACTION_LAG_MS, image, me).unwrap_or(i64::MAX),
    }
}

fn planned(cleaning: &Cleaning, high_watermark: Offset, limits: &Limits) -> Plan {
    let segments: Vec<Segment> = cleaning
        .segments
        .iter()
        .map(|s| Segment {
            end: s.end,
            bytes: s.bytes,
            first_timestamp: s.first_timestamp,
            max_timestamp: s.max_timestamp,
            modified: None,
        })
        .collect();
    plan(&segments, cleaning.cleaned_to, high_watermark, now_ms(), limits)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_to_in_the_long_run() {
        let mut pace = Pace::new(1000);
        let second = Duration::from_secs;
        assert_eq!(pace.after(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(pace.after(500, second(3)), Duration::ZERO);
        assert_eq!(pace.after(4000, second(3)), second(2));
    }
}
