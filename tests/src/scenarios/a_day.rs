//! A day of two topics of which little is kept, one by size and one by age, in seconds: with a quiet night and two rushes. All
//! the time the disk is asked what each replica takes. Six seconds by default; four minutes with `--full`.

use super::{Settings, TimeLimit};
use crate::harness::appender::{self, Appender};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::files::on_disk_by_use;
use crate::harness::metadata::Metadata;
use crate::report::{Report, Table, ms};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes a second in each hour of the day, in tenths of the rate of the rushes.
const DAY: [u32; 24] = [2, 1, 1, 1, 1, 2, 4, 8, 10, 10, 7, 5, 5, 4, 4, 5, 6, 8, 10, 9, 7, 5, 4, 3];
const AN_HOUR: Duration = Duration::from_hours(1);
/// Bytes a second in a rush.
const RUSH: u64 = 5_000_000;
/// Hours that are kept, and after which a segment ends.
const RETENTION_HOURS: u32 = 3;
const SEGMENT_HOURS: u32 = 1;
/// From one batch to the next, and from one look at the disks to the next.
const STEP: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(20);
/// What is written at once, at most.
const BATCH_BYTES: u64 = 500_000;
/// So often a broker that no longer leads is written to at most: on a busy machine leases end now and then.
const REFUSED_MAX: usize = 50;
/// What is on the disk beside the records, of itself and with each of them: indexes, and the last block of each file.
const BESIDE: u64 = 100_000;
const BESIDE_PERCENT: u64 = 1;

/// How long a day takes, how often it is looked for what leaves, and what is kept by size.
struct Pace {
    hour: Duration,
    interval: Duration,
    segment_bytes: u64,
    retention_bytes: u64,
}

/// Three brokers.
pub(super) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let (hour, interval, segment_bytes) =
        if settings.full { (10_000, 1_000, 4_000_000) } else { (250, 250, 1_000_000) };
    let pace = Pace {
        hour: Duration::from_millis(hour),
        interval: Duration::from_millis(interval),
        segment_bytes,
        retention_bytes: 2 * segment_bytes,
    };
    let properties = [
        ("log.retention.check.interval.ms", &*interval.to_string()),
        ("log.segment.bytes", &segment_bytes.to_string()),
    ];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    let outcome = live_through(settings, &pace, &cluster, report).with_context(|| cluster.tails());
    cluster.check_alive()?;
    if outcome.is_err() || report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome
}

/// What was written to a topic until when: bytes in all, ascending.
#[derive(Default)]
struct History(Mutex<Vec<(Instant, u64)>>);

impl History {
    fn note(&self, bytes: u64) {
        let mut moments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = moments.last().map_or(0, |(_, bytes)| *bytes);
        moments.push((Instant::now(), before + bytes));
    }

    fn so_far(&self) -> Vec<(Instant, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Within how long before that moment so many bytes were written last.
fn written_within(history: &[(Instant, u64)], at: Instant, bytes: u64) -> Duration {
    let before = &history[..history.partition_point(|(moment, _)| *moment <= at)];
    let Some(((first, _), (_, all))) = before.first().zip(before.last()) else { return Duration::ZERO };
    if bytes == 0 {
        return Duration::ZERO;
    }
    // The newest moment at which all but these were there, or the first.
    let since = before.partition_point(|(_, total)| total + bytes <= *all).checked_sub(1);
    at - since.map_or(*first, |n| before[n].0)
}

struct Topic {
    name: &'static str,
    /// Its folder on each broker.
    folders: Vec<PathBuf>,
    history: History,
    most: Mutex<Most>,
    by_size: bool,
}

/// The most that was seen of a replica.
#[derive(Clone, Copy, Default)]
struct Most {
    /// On the disk.
    bytes: u64,
    /// The longest time before a look in which was written what was there beyond the limit, or all of it where the limit
    /// is an age.
    longest: Duration,
    /// The same of what is in use: without what is about to be unlinked.
    longest_in_use: Duration,
}

impl Topic {
    /// Creates it, and finds its folders, which are those that come with it.
    fn create(cluster: &Cluster, metadata: &Metadata, name: &'static str, configs: &[(&str, &str)]) -> Result<Self> {
        let before: Vec<_> = (0..cluster.size()).map(|id| cluster.partition_folders(id)).collect();
        metadata.create_topic(name, 1, cluster.size() as i32, configs)?;
        let leader = metadata.leader(name, 0)?;
        Appender::connect(cluster.ports(leader).kafka, name, PATIENCE)?
            .append([0], &appender::batch_at(1, now_ms()?)?)?;
        let come = |id: usize| {
            let come: Vec<_> = cluster.partition_folders(id).difference(&before[id]).cloned().collect();
            ensure!(come.len() == 1, "{} folders came with {name} on broker {id}", come.len());
            Ok(come.into_iter().next())
        };
        let folders = (0..cluster.size()).filter_map(|id| come(id).transpose()).collect::<Result<_>>()?;
        let by_size = configs.iter().any(|(name, _)| *name == "retention.bytes");
        let (history, most) = Default::default();
        Ok(Self { name, folders, history, most, by_size })
    }

    /// Measures what is on the disks.
    fn measure(&self, pace: &Pace) {
        for folder in &self.folders {
            let [in_use, out_of_use] = on_disk_by_use(folder);
            let (at, history) = (Instant::now(), self.history.so_far());
            let kept = if self.by_size { pace.retention_bytes + pace.segment_bytes } else { 0 };
            let beyond = |bytes: u64| bytes.saturating_sub(kept + BESIDE + bytes / 100 * BESIDE_PERCENT);
            let within = |bytes: u64| written_within(&history, at, beyond(bytes));
            let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
            *most = Most {
                bytes: most.bytes.max(in_use + out_of_use),
                longest: most.longest.max(within(in_use + out_of_use)),
                longest_in_use: most.longest_in_use.max(within(in_use)),
            };
        }
    }

    /// Writes a day, each record with the time that `timestamp_ms` says. What is refused, as another broker leads by then, is
    /// left out.
    fn write(&self, cluster: &Cluster, hour: Duration, timestamp_ms: impl Fn(Duration) -> i64) -> Result<()> {
        let metadata = Metadata::new(&cluster.bootstrap())?;
        let connect = || Appender::connect(cluster.ports(metadata.leader(self.name, 0)?).kafka, self.name, PATIENCE);
        let mut appender = connect()?;
        let (begin, mut last, mut refused) = (Instant::now(), Duration::ZERO, 0);
        while begin.elapsed() < hour * DAY.len() as u32 {
            thread::sleep(STEP);
            let now = begin.elapsed();
            let share = DAY[(now.as_nanos() / hour.as_nanos()) as usize % DAY.len()];
            let due = now.saturating_sub(last).as_secs_f64() * RUSH as f64 * f64::from(share) / 10.0;
            last = now;
            let bytes = (due as u64).min(BATCH_BYTES);
            if bytes > 0 {
                let batch = appender::batch_at(bytes as usize, timestamp_ms(now))?;
                self.history.note(batch.len() as u64);
                if let Err(error) = appender.append([0], &batch) {
                    refused += 1;
                    ensure!(refused <= REFUSED_MAX, "refused {refused} times: {error:#}");
                    appender = connect()?;
                }
            }
        }
        Ok(())
    }
}

fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

fn live_through(settings: &Settings, pace: &Pace, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let kept = pace.retention_bytes.to_string();
    let by_size = [("retention.bytes", kept.as_str()), ("retention.ms", "-1")];
    let by_size = Topic::create(cluster, &metadata, "a-day-by-size", &by_size)?;
    let age = (pace.hour * RETENTION_HOURS).as_millis().to_string();
    let segment = (pace.hour * SEGMENT_HOURS).as_millis().to_string();
    let by_age = [("retention.ms", age.as_str()), ("segment.ms", segment.as_str())];
    let by_age = Topic::create(cluster, &metadata, "a-day-by-age", &by_age)?;
    let topics = [&by_size, &by_age];

    let (yesterday, speed) =
        (now_ms()? - AN_HOUR.as_millis() as i64 * DAY.len() as i64, AN_HOUR.div_duration_f64(pace.hour));
    // The records of the one are of the day that has passed; those of the other are of the present.
    let past = |now: Duration| yesterday + now.mul_f64(speed).as_millis() as i64;
    let present = |_| now_ms().unwrap_or_default();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [
            scope.spawn(|| by_size.write(cluster, pace.hour, past)),
            scope.spawn(|| by_age.write(cluster, pace.hour, present)),
        ];
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for topic in topics {
                    topic.measure(pace);
                }
                thread::sleep(LOOK);
            }
        });
        let ended = writers.map(|writer| writer.join().map_err(|_| anyhow!("a writer panicked")));
        over.store(true, Ordering::Relaxed);
        ended.into_iter().try_for_each(|ended| ended?)
    })?;
    judge(settings, pace, &topics, report)
}

fn judge(settings: &Settings, pace: &Pace, topics: &[&Topic], report: &mut Report) -> Result<()> {
    let name = format!("A day in {:.0} s", (pace.hour * DAY.len() as u32).as_secs_f64());
    let columns =
        ["topic", "MB written", "most MB on a disk", "beyond its limit: writes of", "without what is being unlinked"];
    let mut table = Table::new(&name, &columns);
    let mut seen = Vec::new();
    for topic in topics {
        let written = topic.history.so_far().last().context("something written")?.1;
        let most = *topic.most.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = if topic.by_size { Duration::ZERO } else { pace.hour * (RETENTION_HOURS + SEGMENT_HOURS) };
        let beyond = most.longest.saturating_sub(allowed);
        let in_use = most.longest_in_use.saturating_sub(allowed);
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        table.row(vec![topic.name.to_owned(), mb(written), mb(most.bytes), ms(beyond), ms(in_use)]);
        seen.push((topic, written, most.bytes, beyond));
    }
    report.table(table);
    // What is removed is gone from the other disks, and unlinked, a moment later.
    let target = pace.interval + Duration::from_millis(500);
    let limit = TimeLimit { target, always: (pace.interval * 40).min(pace.hour * 12) };
    for (topic, written, most, beyond) in seen {
        let name = format!("{} never takes more than it keeps, a segment, and what is written meanwhile", topic.name);
        limit.check(settings, report, &name, beyond.as_secs_f64() * 1e3, " of writes beyond it");
        let name = format!("a third of what was written to {} is gone at any time", topic.name);
        report.check(name, most < written / 3 * 2, format!("{most} bytes at most, of {written} in all"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_were_written_within_the_time_since_all_but_those_were_there() {
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        let history = [(at(0), 10), (at(1), 20), (at(2), 30), (at(3), 40)];
        for (moment, bytes, within) in
            [(3, 0, 0), (3, 10, 1), (3, 11, 2), (4, 10, 2), (2, 20, 2), (3, 30, 3), (3, 99, 3), (1, 10, 1)]
        {
            let found = written_within(&history, at(moment), bytes);
            assert_eq!(found, Duration::from_secs(within), "{bytes} bytes at {moment} s");
        }
        assert_eq!(written_within(&[], begin, 5), Duration::ZERO);
    }
}
