//! Reads all that is on the disk, slowly, to find what the disk has lost before the copies are needed that others have.
//! What is found is marked in the log, as damage that any other reader finds.
//!
//! A pass begins at each start, and a week after the last one began. It goes on where it was after a restart: how far it
//! is stands in `scrub.json` in the data directory. If that is lost, a pass begins anew.

use crate::metrics::ScrubMetrics;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_log::{LogReader, ReadError, RealDisk};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const FILE: &str = "scrub.json";
const VERSION: u32 = 1;
/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;
/// After so much reading it is noted how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(30);
const PASS_EVERY: Duration = Duration::from_hours(7 * 24);

/// What the scrub needs.
pub(crate) struct ScrubConfig {
    pub(crate) reader: LogReader<RealDisk>,
    pub(crate) data_dir: PathBuf,
    /// Bytes in a second; 0 for none.
    pub(crate) rate: u64,
    pub(crate) metrics: ScrubMetrics,
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    version: u32,
    /// Milliseconds since 1970.
    begun: u64,
    /// What comes next.
    next: Option<(TopicPartition, Offset)>,
}

impl Progress {
    fn begin() -> Self {
        Self { version: VERSION, begun: now(), next: None }
    }

    fn load(dir: &Path) -> Option<Self> {
        let progress: Self = serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()?;
        (progress.version == VERSION).then_some(progress)
    }

    /// What cannot be noted is read again.
    fn note(self, dir: &Path) {
        let new = dir.join("scrub.new");
        let noted = serde_json::to_vec(&self).map_err(std::io::Error::from);
        if let Err(error) =
            noted.and_then(|json| std::fs::write(&new, json)).and_then(|()| std::fs::rename(&new, dir.join(FILE)))
        {
            warn!(%error, "Cannot note how far the log has been checked");
        }
    }
}

/// Runs until `stop`.
pub(crate) async fn run(config: ScrubConfig, stop: CancellationToken) {
    if config.rate == 0 {
        return;
    }
    let passes = async {
        let left = Progress::load(&config.data_dir).filter(|progress| progress.next.is_some());
        let mut progress = left.unwrap_or_else(Progress::begin);
        loop {
            pass(&config, &mut progress).await;
            let age = Duration::from_millis(now().saturating_sub(progress.begun));
            sleep(PASS_EVERY.saturating_sub(age)).await;
            progress = Progress::begin();
        }
    };
    tokio::select! {
        () = passes => {}
        () = stop.cancelled() => {}
    }
}

async fn pass(config: &ScrubConfig, progress: &mut Progress) {
    let (mut bytes, mut noted) = (0, Instant::now());
    let mut partitions = config.reader.partitions();
    partitions.retain(|partition| progress.next.is_none_or(|(next, _)| *partition >= next));
    let total = partitions.len();
    for (done, partition) in partitions.into_iter().enumerate() {
        config.metrics.partitions_left(total - done);
        let mut next = Some(progress.next.filter(|(p, _)| *p == partition).map_or(Offset::ZERO, |(_, offset)| offset));
        while let Some(from) = next {
            progress.next = Some((partition, from));
            if noted.elapsed() >= NOTE_EVERY {
                progress.note(&config.data_dir);
                noted = Instant::now();
            }
            let (read, then) = piece(&config.reader, partition, from).await;
            bytes += read;
            config.metrics.read(read);
            sleep(Duration::from_secs_f64(read as f64 / config.rate as f64)).await;
            next = then;
        }
    }
    progress.next = None;
    progress.note(&config.data_dir);
    config.metrics.partitions_left(0);
    info!(bytes, "All that is on the disk has been checked");
}

/// Checks some batches, and says how many bytes it were and where to go on.
async fn piece(reader: &LogReader<RealDisk>, partition: TopicPartition, from: Offset) -> (u64, Option<Offset>) {
    let (reader, again) = (reader.clone(), reader);
    match tokio::task::spawn_blocking(move || reader.check_some(partition, from, PIECE)).await {
        Ok(Ok(checked)) => checked,
        // Damage is marked by the reader. Behind it the next thing that is surely a batch is the next segment's first.
        Ok(Err(ReadError::Damaged { offset, .. })) => {
            let segments = again.segments(partition).unwrap_or_default();
            (0, segments.iter().map(|segment| segment.base).find(|base| *base > offset.max(from)))
        }
        // What was deleted or cut meanwhile needs no check. A stop ends the task.
        Ok(Err(ReadError::UnknownPartition(_) | ReadError::OutOfRange { .. })) | Err(_) => (0, None),
        Ok(Err(error)) => {
            warn!(%partition, %from, %error, "Cannot check the log");
            (0, None)
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{LeaderEpoch, PartitionId, TopicId};
    use chronik_core::record::testing::BatchBuilder;
    use chronik_log::{Log, Op, Options};
    use prometheus_client::registry::Registry;

    fn tp(n: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::default(), partition: PartitionId(n) }
    }

    fn written(dir: &Path) -> Log<RealDisk> {
        written_with(dir, Options::default())
    }

    fn written_with(dir: &Path, options: Options) -> Log<RealDisk> {
        let (mut log, _) = Log::open(RealDisk, &dir.join("log"), options).expect("it opens");
        for (partition, base) in (0..2).flat_map(|p| (0..20).map(move |base| (tp(p), base))) {
            let batch = BatchBuilder::new(1).payload(50_000).build().assign(Offset(base), LeaderEpoch(1));
            let op = [Op::Append { partition, batch }];
            log.commit(&op).and_then(|()| log.apply(&op)).expect("the disk is whole");
        }
        log
    }

    fn config(log: &Log<RealDisk>, dir: &Path, rate: u64) -> ScrubConfig {
        let metrics = ScrubMetrics::register(&mut Registry::default());
        ScrubConfig { reader: log.reader(), data_dir: dir.to_path_buf(), rate, metrics }
    }

    #[tokio::test]
    async fn a_pass_reads_all_and_finds_a_flipped_bit() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = written(dir.path());
        let path = dir.path().join("log/partitions").join(tp(1).to_string()).join(format!("{:020}.log", 0));
        let mut bytes = std::fs::read(&path).expect("a segment");
        bytes[500_000] ^= 1;
        std::fs::write(&path, bytes).expect("it is written");
        let (found, mut reports) = tokio::sync::mpsc::unbounded_channel();
        log.reader().watch_damage(move |partition, offset| {
            let _ = found.send((partition, offset));
        });
        let config = config(&log, dir.path(), u64::MAX);
        pass(&config, &mut Progress::begin()).await;
        assert_eq!(reports.try_recv().ok(), Some((tp(1), Offset(9))));
        assert!(reports.try_recv().is_err(), "nothing else is damaged, and it is said once");
        assert_eq!(Progress::load(dir.path()).expect("it is noted").next, None);
    }

    #[tokio::test]
    async fn a_pass_goes_on_behind_what_is_damaged() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { segment_bytes: 300_000, ..Options::default() };
        let log = written_with(dir.path(), options);
        let bytes = |damaged: &[i64]| {
            for base in damaged {
                let path = dir.path().join("log/partitions").join(tp(0).to_string()).join(format!("{base:020}.log"));
                let mut bytes = std::fs::read(&path).expect("a segment");
                bytes[100_200] ^= 1;
                std::fs::write(&path, bytes).expect("it is written");
            }
            config(&log, dir.path(), u64::MAX)
        };
        let whole = bytes(&[]);
        pass(&whole, &mut Progress::begin()).await;
        let rest = bytes(&[5, 10]);
        pass(&rest, &mut Progress::begin()).await;
        // Four segments of five batches, two of which are damaged, and another partition.
        assert_eq!(rest.metrics.bytes() * 8, whole.metrics.bytes() * 6);
        assert_eq!(log.reader().state(tp(0)).expect("it is there").damaged, Some(Offset(7)));
    }

    #[tokio::test]
    async fn a_pass_goes_on_where_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = written(dir.path());
        let whole = config(&log, dir.path(), u64::MAX);
        pass(&whole, &mut Progress::begin()).await;
        let rest = config(&log, dir.path(), u64::MAX);
        let left = Progress { next: Some((tp(1), Offset(10))), ..Progress::begin() };
        left.note(dir.path());
        let mut left = Progress::load(dir.path()).expect("it is noted");
        pass(&rest, &mut left).await;
        assert_eq!(rest.metrics.bytes() * 4, whole.metrics.bytes());
    }
}
