//! What the log costs: thousands of partitions that nobody uses, starts with much on the disk, and writes while thousands of
//! partitions are deleted and a thousand followers cut their logs back. A part of it by default; all of it with `--full`.

use super::{Settings, TimeLimit, elsewhere, much_on_disk};
use crate::harness::appender::{self, Appender, first_append_to_any};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, ms};
use anyhow::{Context, Result, ensure};
use std::thread;
use std::time::{Duration, Instant};

/// From the start of a broker's process to the first acknowledged write.
const START: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(10) };
/// Partitions of a topic of which there are many.
const EACH: usize = 1_000;
/// The most that an idle broker may have in memory, in bytes: as much as in the scenario `memory`, and so much for each
/// partition. With `--strict` that is the target, 40 MB for ten thousand.
const BASE_BYTES: u64 = 30_000_000;
const BYTES_EACH: u64 = 4_000;
const STRICT_BYTES_EACH: u64 = 1_000;
/// CPU a minute that idle partitions may cost, all together: a tick that visits each costs more.
const IDLE_CPU: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(10) };
/// What topics are called after.
const TOPIC: &str = "log-figures";
/// Bytes of a record that is written for the wait alone.
pub(super) const SMALL_BYTES: usize = 100;

/// A cluster for each figure.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    many_partitions(settings, report)?;
    for brokers in [1, 3] {
        much_on_disk::start(settings, brokers, report)?;
    }
    elsewhere::run(settings, report)
}

/// How brokers end.
#[derive(Clone, Copy)]
pub(super) enum End {
    Stop,
    Kill,
}

impl End {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "a clean stop",
            Self::Kill => "kill -9",
        }
    }

    pub(super) fn carry_out(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Stop => (0..cluster.size()).try_for_each(|id| cluster.stop(id)),
            Self::Kill => cluster.kill_all(),
        }
    }
}

/// Starts all brokers, and says how long it took to the first acknowledged write, and the write's offset.
pub(super) fn start(cluster: &mut Cluster, topic: &str, partition: i32) -> Result<(Duration, i64)> {
    let batch = appender::batch(SMALL_BYTES)?;
    let ports: Vec<_> = (0..cluster.size()).map(|id| cluster.ports(id).kafka).collect();
    let started = cluster.start_all()?;
    let written = first_append_to_any(&ports, topic, partition, &batch, PATIENCE);
    let (at, offset) = written.with_context(|| cluster.tails())?;
    Ok((at - started, offset))
}

pub(super) fn check_start(settings: &Settings, report: &mut Report, what: &str, end: End, took: Duration) {
    let name = format!("{what}, from the start to the first write after {}", end.name());
    START.check(settings, report, &name, took.as_secs_f64() * 1e3, "");
}

/// Topics of [`EACH`] partitions each on broker 0, or one of fewer: as many as make so many partitions.
pub(super) fn create_topics(metadata: &Metadata, partitions: usize) -> Result<Vec<(String, i32)>> {
    let each = partitions.min(EACH);
    let topics: Vec<_> = (0..partitions / each).map(|n| (format!("{TOPIC}-many-{n}"), each as i32)).collect();
    for (name, partitions) in &topics {
        metadata.create_topic_on(name, *partitions as usize, &[0])?;
    }
    Ok(topics)
}

/// Writes a record to each of their partitions, the first one there, and says at which offset it is in the last. That
/// none is refused is checked; what is refused is tried again, so that the figures that need it can be had.
pub(super) fn write_to_each(topics: &[(String, i32)], cluster: &Cluster, report: &mut Report) -> Result<i64> {
    let record = appender::batch(SMALL_BYTES)?;
    let (since, mut refused, mut last) = (Instant::now(), Vec::new(), -1);
    for (name, partitions) in topics {
        let mut appender = Appender::connect(cluster.ports(0).kafka, name, PATIENCE)?;
        let offsets = wait::until("a write to each partition", PATIENCE, || {
            let sent = Instant::now();
            appender.send(0..*partitions, &record)?;
            Ok(appender
                .next_answer()?
                .map_err(|error| refused.push(format!("{error:?} after {}", ms(sent.elapsed()))))
                .ok())
        });
        last = *offsets.with_context(|| cluster.tails())?.last().context("an offset")?;
    }
    let count: i32 = topics.iter().map(|(_, partitions)| partitions).sum();
    let name = format!("the first writes to {count} partitions are acknowledged");
    let seen = if refused.is_empty() {
        format!("all in {}", ms(since.elapsed()))
    } else {
        format!("{} requests were not, the first: {}\n{}", refused.len(), refused[0], cluster.tails())
    };
    report.check(name, refused.is_empty(), seen);
    Ok(last)
}

/// A broker that nobody uses, watched for a while.
#[derive(Clone, Copy)]
struct Idle {
    rss_bytes: u64,
    cpu_seconds_a_minute: f64,
}

impl Idle {
    fn watch(cluster: &Cluster, window: Duration) -> Result<Self> {
        // What was done before has its aftermath: files are synced, checkpoints written.
        thread::sleep(Duration::from_secs(1));
        let (before, since) = (cluster.usage(0)?.cpu, Instant::now());
        thread::sleep(window);
        let usage = cluster.usage(0)?;
        let used = usage.cpu.saturating_sub(before);
        let cpu_seconds_a_minute = used.as_secs_f64() / since.elapsed().as_secs_f64() * 60.0;
        Ok(Self { rss_bytes: usage.rss_bytes, cpu_seconds_a_minute })
    }

    fn row(self, partitions: usize, when: &str) -> Vec<String> {
        let cpu = format!("{:.2}", self.cpu_seconds_a_minute);
        vec![partitions.to_string(), when.to_owned(), format!("{:.1}", self.rss_bytes as f64 / 1e6), cpu]
    }
}

fn many_partitions(settings: &Settings, report: &mut Report) -> Result<()> {
    let (count, window) = if settings.full { (10_000, 20) } else { (1_000, 3) };
    let window = Duration::from_secs(window);
    let mut cluster = Cluster::new(&settings.software, 1, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let none = Idle::watch(&cluster, window)?;
    let topics = create_topics(&metadata, count)?;
    // Its clients are not nobody.
    drop(metadata);
    let created = Idle::watch(&cluster, window)?;
    let at = write_to_each(&topics, &cluster, report)?;
    let written = Idle::watch(&cluster, window)?;
    let (last, partitions) = topics.last().context("a topic")?;
    let mut starts = Table::new("Starts of a broker with many partitions", &["partitions", "after", "first write"]);
    let mut took = Vec::new();
    for (end, offset) in [(End::Stop, at + 1), (End::Kill, at + 2)] {
        end.carry_out(&mut cluster)?;
        let (first, at) = start(&mut cluster, last, partitions - 1)?;
        ensure!(at == offset, "the write after {} is at offset {at}, not at {offset}", end.name());
        starts.row(vec![count.to_string(), end.name().to_owned(), ms(first)]);
        took.push((end, first));
    }
    let again = Idle::watch(&cluster, window)?;
    cluster.check_alive()?;
    let mut table = Table::new("An idle broker alone", &["partitions", "when", "RSS MB", "CPU seconds a minute"]);
    table.row(none.row(0, "just started"));
    let seen = [(created, "never written to"), (written, "each written to"), (again, "after two starts")];
    for (idle, when) in seen {
        table.row(idle.row(count, when));
    }
    report.table(table);
    report.table(starts);
    for (end, took) in took {
        check_start(settings, report, &format!("{count} partitions"), end, took);
    }
    if !matches!(settings.software, Software::Chronik(_)) {
        return Ok(());
    }
    let each = if settings.strict { STRICT_BYTES_EACH } else { BYTES_EACH };
    let most = BASE_BYTES + each * count as u64;
    let more = IDLE_CPU.insisted_on(settings).as_secs_f64();
    for (idle, when) in seen {
        let name = format!("an idle broker with {count} partitions, {when}, takes at most {} MB", most / 1_000_000);
        report.check(name, idle.rss_bytes <= most, format!("{:.1} MB", idle.rss_bytes as f64 / 1e6));
        let costs = idle.cpu_seconds_a_minute - none.cpu_seconds_a_minute;
        let name = format!("{count} idle partitions, {when}, cost at most {more} s of CPU a minute");
        report.check(name, costs <= more, format!("{costs:.2} s"));
    }
    Ok(())
}
