//! What the log costs one broker: thousands of partitions that nobody uses, a start with much on the disk, and writes
//! while thousands of partitions are deleted, and while a thousand followers cut their logs back. A part of it by default;
//! all of it with `--full`.

use super::{Settings, TimeLimit};
use crate::harness::appender::{self, Appender, first_append};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::{target, wait};
use crate::report::{Report, Table, ms, percentile};
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use rustix::fs::{Advice, fadvise, statvfs};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// From the start of a broker's process to the first acknowledged write.
const START: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(10) };
/// Partitions of a topic of which there are many.
const EACH: usize = 1_000;
/// The most that an idle broker may have in memory, in bytes: as much as in the scenario `memory`, and so much for each
/// partition, which is 40 MB for ten thousand.
const BASE_BYTES: u64 = 30_000_000;
const BYTES_EACH: u64 = 1_000;
/// CPU a minute that idle partitions may cost, all together: a tick that visits each costs more.
const IDLE_CPU: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(10) };
/// The topic that is written to, and its partitions.
const TOPIC: &str = "log-figures";
const WRITTEN: i32 = 16;
/// Bytes of a record of which many are written, and requests that are on their way at once. Each brings one to each
/// partition.
const RECORD_BYTES: usize = 64_000;
const AT_ONCE: u64 = 4;
/// Bytes of a record that is written for the wait alone.
const SMALL_BYTES: usize = 100;
/// How much longer than any before a write may take while partitions are deleted.
const SLOWER: TimeLimit = TimeLimit { target: Duration::from_millis(50), always: Duration::from_secs(2) };
/// How long writes are watched before.
const ORDINARY: Duration = Duration::from_secs(2);

/// One broker for each figure.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    many_partitions(settings, report)?;
    much_on_the_disk(settings, report)?;
    deletion(settings, report)?;
    truncation(settings, report)
}

fn alone(settings: &Settings) -> Result<(Cluster, Metadata)> {
    let mut cluster = Cluster::new(&settings.software, 1, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    Ok((cluster, metadata))
}

/// How a broker ends.
#[derive(Clone, Copy)]
enum End {
    Stop,
    Kill,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "a clean stop",
            Self::Kill => "kill -9",
        }
    }

    fn come(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Stop => cluster.stop(0),
            Self::Kill => cluster.kill(0),
        }
    }
}

/// Starts the broker, and says how long it took to the first acknowledged write, and the write's offset.
fn start(cluster: &mut Cluster, topic: &str, partition: i32) -> Result<(Duration, i64)> {
    let batch = appender::batch(SMALL_BYTES)?;
    let started = cluster.start(0)?;
    let written = first_append(cluster.ports(0).kafka, topic, partition, &batch, PATIENCE);
    let (at, offset) = written.with_context(|| cluster.tails())?;
    Ok((at - started, offset))
}

fn check_start(settings: &Settings, report: &mut Report, what: &str, end: End, took: Duration) {
    let name = format!("{what}, from the start to the first write after {}", end.name());
    START.check(settings, report, &name, took.as_secs_f64() * 1e3, "");
}

/// Topics of [`EACH`] partitions each, or one of fewer: as many as make so many partitions.
fn create_topics(metadata: &Metadata, partitions: usize) -> Result<Vec<(String, i32)>> {
    let each = partitions.min(EACH);
    let topics: Vec<_> = (0..partitions / each).map(|n| (format!("{TOPIC}-many-{n}"), each as i32)).collect();
    for (name, partitions) in &topics {
        metadata.create_topic(name, *partitions, 1, &[])?;
    }
    Ok(topics)
}

/// Writes a record to each of their partitions, the first one there, and says at which offset it is in the last. That
/// none is refused is checked; what is refused is tried again, so that the figures that need it can be had.
fn write_to_each(topics: &[(String, i32)], cluster: &Cluster, report: &mut Report) -> Result<i64> {
    let record = appender::batch(SMALL_BYTES)?;
    let (since, mut refused, mut last) = (Instant::now(), Vec::new(), -1);
    for (name, partitions) in topics {
        let mut appender = Appender::connect(cluster.ports(0).kafka, name, PATIENCE)?;
        let offsets = wait::until("a write to each partition", PATIENCE, || {
            let sent = Instant::now();
            appender.send(0..*partitions, &record)?;
            Ok(appender.told()?.map_err(|error| refused.push(format!("{error:?} after {}", ms(sent.elapsed())))).ok())
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
    let (mut cluster, metadata) = alone(settings)?;
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
        end.come(&mut cluster)?;
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
    let most = BASE_BYTES + BYTES_EACH * count as u64;
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

/// What is written to [`TOPIC`].
struct Writes {
    appender: Appender,
    record: Bytes,
    /// Requests that were acknowledged, each with a record for each partition.
    told: u64,
    on_their_way: u64,
}

impl Writes {
    fn connect(port: u16) -> Result<Self> {
        let appender = Appender::connect(port, TOPIC, PATIENCE)?;
        Ok(Self { appender, record: appender::batch(RECORD_BYTES)?, told: 0, on_their_way: 0 })
    }

    /// Writes as fast as it goes until so many bytes are acknowledged. As much as goes at once is on its way then.
    fn write(&mut self, bytes: u64) -> Result<()> {
        let requests = bytes.div_ceil(RECORD_BYTES as u64 * WRITTEN as u64);
        while self.told < requests {
            while self.on_their_way < AT_ONCE {
                self.appender.send(0..WRITTEN, &self.record)?;
                self.on_their_way += 1;
            }
            self.hear()?;
        }
        Ok(())
    }

    /// Waits for what is on its way.
    fn finish(&mut self) -> Result<()> {
        while self.on_their_way > 0 {
            self.hear()?;
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        self.appender.told()?.map_err(|error| anyhow!("a write is refused: {error:?}"))?;
        self.on_their_way -= 1;
        self.told += 1;
        Ok(())
    }
}

fn much_on_the_disk(settings: &Settings, report: &mut Report) -> Result<()> {
    let bytes = amount(settings, report)?;
    let (mut cluster, metadata) = alone(settings)?;
    metadata.create_topic(TOPIC, WRITTEN, 1, &[])?;
    drop(metadata);
    let port = cluster.ports(0).kafka;
    let columns = ["GB on the disk", "after", "out of the page cache", "first write"];
    let mut table = Table::new("Starts of a broker with much on its disk", &columns);
    let mut took = Vec::new();
    let mut records = 0;
    // All of it, and then some more that a kill comes in the midst of.
    for (end, bytes) in [(End::Stop, bytes), (End::Kill, bytes / 4)] {
        let mut writes = Writes::connect(port)?;
        writes.write(bytes).with_context(|| cluster.tails())?;
        if matches!(end, End::Stop) {
            writes.finish()?;
        }
        end.come(&mut cluster)?;
        let on_disk = drop_from_page_cache(&cluster.data_dir(0))?;
        let (first, offset) = start(&mut cluster, TOPIC, 0)?;
        let (least, most) = (records + writes.told, records + writes.told + writes.on_their_way);
        ensure!(
            (least..=most).contains(&(offset as u64)),
            "the write after {} is at offset {offset}, and {least} to {most} records were before it",
            end.name()
        );
        records = offset as u64 + 1;
        let gb = format!("{:.1}", on_disk as f64 / 1e9);
        table.row(vec![gb, end.name().to_owned(), "its files, by posix_fadvise".to_owned(), ms(first)]);
        took.push((end, first));
    }
    cluster.check_alive()?;
    report.table(table);
    for (end, took) in took {
        check_start(settings, report, &format!("{:.1} GB", bytes as f64 / 1e9), end, took);
    }
    Ok(())
}

/// How many bytes there are to be on the broker's disk: as many as it has room for twice.
fn amount(settings: &Settings, report: &mut Report) -> Result<u64> {
    const MUCH: u64 = 20_000_000_000;
    const LITTLE: u64 = 512_000_000;
    if !settings.full {
        return Ok(LITTLE);
    }
    fs::create_dir_all(target())?;
    let disk = statvfs(target())?;
    if disk.f_bavail * disk.f_frsize > 2 * MUCH {
        return Ok(MUCH);
    }
    report.could_not_run(format!(
        "starts with {} GB: the disk has no {} GB free",
        MUCH / 1_000_000_000,
        MUCH / 500_000_000
    ));
    Ok(LITTLE)
}

/// Files below a folder, with their lengths. What vanishes meanwhile is not among them.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for (path, metadata) in entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
            if metadata.is_dir() {
                folders.push(path);
            } else {
                found.push((path, metadata.len()));
            }
        }
    }
    found
}

/// Has the next reader of these files read the disk, and says how many bytes they are. Only what is synced can go.
/// Folders stay in memory: it would take root, and all that the machine has in its cache, to be rid of them.
pub(super) fn drop_from_page_cache(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (path, length) in files(folder) {
        let file = File::open(&path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        bytes += length;
    }
    Ok(bytes)
}

/// How long each of some writes took, which came one after the other, in milliseconds.
struct Waits(Vec<f64>);

impl Waits {
    /// Writes for so long at least, and until it is over.
    fn watch(appender: &mut Appender, least: Duration, over: impl Fn() -> bool) -> Result<Self> {
        let (record, since, mut waits) = (appender::batch(SMALL_BYTES)?, Instant::now(), Vec::new());
        while since.elapsed() < least || !over() {
            let sent = Instant::now();
            appender.append(0..1, &record)?;
            waits.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Self(waits))
    }

    fn worst(&self) -> f64 {
        percentile(&self.0, 100.0)
    }

    fn row(&self, when: String) -> Vec<String> {
        let at = |percent| format!("{:.1}", percentile(&self.0, percent));
        vec![when, self.0.len().to_string(), at(50.0), at(99.0), at(100.0)]
    }
}

fn deletion(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = if settings.full { 5_000 } else { 500 };
    let (mut cluster, metadata) = alone(settings)?;
    metadata.create_topic(TOPIC, 1, 1, &[])?;
    let port = cluster.ports(0).kafka;
    let mut appender = Appender::connect(port, TOPIC, PATIENCE)?;
    appender.append(0..1, &appender::batch(SMALL_BYTES)?)?;
    let data = cluster.data_dir(0);
    let before = files(&data).len();
    let topics = create_topics(&metadata, count)?;
    write_to_each(&topics, &cluster, report)?;
    wait::until("a file of each partition", PATIENCE, || Ok((files(&data).len() >= before + count).then_some(())))?;
    let ordinary = Waits::watch(&mut appender, ORDINARY, || true)?;
    let over = AtomicBool::new(false);
    let (during, took) = thread::scope(|scope| {
        let deletion = scope.spawn(|| {
            let took = delete(&metadata, &topics, &data, before + count / 10);
            over.store(true, Ordering::Relaxed);
            took
        });
        let during = Waits::watch(&mut appender, Duration::ZERO, || over.load(Ordering::Relaxed))?;
        let took = deletion.join().map_err(|_| anyhow!("the deletion panicked"))??;
        anyhow::Ok((during, took))
    })?;
    cluster.check_alive()?;
    compare(settings, report, (&ordinary, &during), &format!("while {count} partitions are deleted"), took);
    Ok(())
}

fn compare(settings: &Settings, report: &mut Report, waits: (&Waits, &Waits), when: &str, took: Duration) {
    let (ordinary, during) = waits;
    let columns = ["when", "writes", "p50 ms", "p99 ms", "worst ms"];
    let mut table = Table::new("Waits of single acks=all writes, one at a time", &columns);
    table.row(ordinary.row("before".to_owned()));
    table.row(during.row(format!("{when}, {}", ms(took))));
    report.table(table);
    let slower = SLOWER.insisted_on(settings).as_secs_f64() * 1e3;
    let name = format!("no write waits {slower:.0} ms longer {when}");
    let detail = format!("{:.1} ms at worst, and {:.1} ms before", during.worst(), ordinary.worst());
    report.check(name, during.worst() <= ordinary.worst() + slower, detail);
}

/// A third of the partitions is led by a broker that takes writes which its followers do not hear of, dies, and comes back as
/// their follower: it cuts its logs back. Meanwhile it is written to what it alone holds.
fn truncation(settings: &Settings, report: &mut Report) -> Result<()> {
    const MANY: &str = "log-figures-cut";
    let count = if settings.full { 3_000 } else { 300 };
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 1, &[])?;
    metadata.create_topic(MANY, count, 3, &[])?;
    let cut = metadata.leader(TOPIC, 0)?;
    let led = metadata.partitions(MANY)?.iter().filter(|p| p.leader == Some(cut as i32)).count();
    let (record, others) = (appender::batch(SMALL_BYTES)?, [(cut + 1) % 3, (cut + 2) % 3]);
    let mut alone = Appender::connect(cluster.ports(cut).kafka, TOPIC, PATIENCE)?;
    alone.append(0..1, &record)?;
    let ordinary = Waits::watch(&mut alone, ORDINARY, || true)?;

    let mut many = Appender::connect(cluster.ports(cut).kafka, MANY, PATIENCE)?;
    others.iter().try_for_each(|other| cluster.pause(*other))?;
    many.send(0..count, &record)?;
    // Written after those, and before this broker's lease ends.
    alone.append(0..1, &record)?;
    cluster.kill(cut)?;
    others.iter().try_for_each(|other| cluster.resume(*other))?;
    wait::until("other leaders", PATIENCE, || {
        let partitions = metadata.partitions(MANY)?;
        Ok(partitions.iter().all(|p| others.iter().any(|other| p.leader == Some(*other as i32))).then_some(()))
    })?;
    for other in others {
        // What it leads is acknowledged, and the rest is refused.
        let mut appender = Appender::connect(cluster.ports(other).kafka, MANY, PATIENCE)?;
        appender.send(0..count, &record)?;
        let _ = appender.told()?;
    }
    let started = cluster.start(cut)?;
    first_append(cluster.ports(cut).kafka, TOPIC, 0, &record, PATIENCE).with_context(|| cluster.tails())?;
    let mut alone = Appender::connect(cluster.ports(cut).kafka, TOPIC, PATIENCE)?;
    let over = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        let in_sync = scope.spawn(|| {
            let in_sync = metadata.wait_for_isr(MANY, count as usize, 3);
            over.store(true, Ordering::Relaxed);
            in_sync
        });
        let during = Waits::watch(&mut alone, Duration::ZERO, || over.load(Ordering::Relaxed))?;
        in_sync.join().map_err(|_| anyhow!("the wait panicked"))??;
        anyhow::Ok(during)
    })?;
    cluster.check_alive()?;
    let when = format!("while {led} followers cut their logs back, after a start");
    compare(settings, report, (&ordinary, &during), &when, started.elapsed());
    Ok(())
}

/// Deletes topics with one request, and waits until so many files are left at most. Says how long it took.
fn delete(metadata: &Metadata, topics: &[(String, i32)], data: &Path, left: usize) -> Result<Duration> {
    let since = Instant::now();
    metadata.delete_topics(&topics.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
    loop {
        let files = files(data).len();
        if files <= left {
            return Ok(since.elapsed());
        }
        ensure!(since.elapsed() < PATIENCE, "{files} files are left");
        // Looking often would be what the writes wait for.
        thread::sleep(Duration::from_millis(200));
    }
}
