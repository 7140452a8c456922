//! A broker comes back that is far behind: how fast it catches up, beside what the disk can write, and how long live writes
//! wait meanwhile. A hundred megabytes, of which only the outcome counts; a gigabyte with `--full`.

use super::Settings;
use crate::harness::appender::{self, Appender};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, percentile};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the broker lacks, and what is written all the time.
const TOPICS: [&str; 2] = ["far-behind", "far-behind-live"];
const PARTITIONS: usize = 12;
const RECORD_BYTES: usize = 100_000;
/// Records of a partition that are on their way at once.
const AT_ONCE: usize = 4;
const AWAY: usize = 2;
/// Live writes: so many connections that write in turn, at so many records a second in all.
const WRITERS: usize = 20;
const RATE: u32 = 2_000;
/// From one record of a connection to the next.
const EACH: Duration = Duration::from_millis(1_000 * WRITERS as u64 / RATE as u64);
const LIVE_BYTES: usize = 100;
/// How long they are watched where nothing ends by itself.
const WATCHED: Duration = Duration::from_secs(5);
/// All that is far behind has this long.
const CATCHES_UP: Duration = Duration::from_mins(10);
/// With `--strict`: the p99 of live writes is at most so many times what it was.
const SLOWER: f64 = 2.0;
/// With `--strict`: so much of the disk's speed is used. Every byte is read from one disk and written to the same by another
/// broker, beside the live writes' syncs.
const SPEED: f64 = 0.5;

/// One broker is stopped, the others are written to, and it comes back.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let bytes = if settings.full { 1_000_000_000 } else { 100_000_000 };
    let mut cluster = Cluster::of_three(
        &settings.software,
        &[("auto.leader.rebalance.enable", "false"), ("min.insync.replicas", "2")],
    )?;
    let outcome = come_back(settings, &mut cluster, bytes, report).with_context(|| cluster.tails());
    if outcome.is_err() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome
}

fn come_back(settings: &Settings, cluster: &mut Cluster, bytes: usize, report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    for topic in TOPICS {
        metadata.create_topic(topic, PARTITIONS as i32, 3, &[])?;
    }
    // The leaders are to be the same all the time.
    cluster.stop(AWAY)?;
    for topic in TOPICS {
        wait_for_leaders(&metadata, topic)?;
    }
    cluster.start(AWAY)?;
    metadata.wait_for_all_in_sync()?;

    let live = Live::start(cluster, &metadata)?;
    live.wait_until_on_time()?;
    let whole = live.watch_for(WATCHED)?;
    cluster.stop(AWAY)?;
    let away = live.watch_while(|| write(cluster, &metadata, bytes))?;
    live.wait_until_on_time()?;
    let alone = live.watch_for(WATCHED)?;
    let disk = disk_speed(&cluster.data_dir(AWAY), bytes)?;
    let mut took = Duration::ZERO;
    let during = live.watch_while(|| {
        let started = cluster.start(AWAY)?;
        wait_for_isr(&metadata)?;
        took = started.elapsed();
        Ok(())
    })?;
    let failures = live.end()?;
    cluster.check_alive()?;

    let same = same_on_disks(cluster, bytes);
    report.check_result("the broker that comes back has the same bytes as another", same);
    report.check("no live write fails", failures.is_empty(), format!("failed: {failures:?}"));
    let speed = bytes as f64 / 1e6 / took.as_secs_f64();
    let mut table =
        Table::new("A broker that comes back", &["lacks MB", "in every ISR after", "MB/s", "the disk writes MB/s"]);
    let cells = [format!("{:.1} s", took.as_secs_f64()), format!("{speed:.0}"), format!("{disk:.0}")];
    table.row([vec![(bytes / 1_000_000).to_string()], cells.to_vec()].concat());
    report.table(table);
    let columns = ["when", "writes", "p50 ms", "p99 ms", "worst ms"];
    let mut table = Table::new(&format!("Waits of acks=all writes at {RATE} a second"), &columns);
    for (when, waits) in [
        ("all in sync", &whole),
        ("one away, and what it lacks is written", &away),
        ("one away", &alone),
        ("it catches up", &during),
    ] {
        let at = |percent| format!("{:.1}", percentile(waits, percent));
        table.row(vec![when.to_owned(), waits.len().to_string(), at(50.0), at(99.0), at(100.0)]);
    }
    report.table(table);
    if settings.strict {
        let name = format!("it catches up at {SPEED} of the disk's speed");
        report.check(name, speed >= disk * SPEED, format!("{speed:.0} MB/s of {disk:.0}"));
        let (before, during) = (percentile(&whole, 99.0), percentile(&during, 99.0));
        let name = format!("the p99 of live writes is at most {SLOWER} times as long meanwhile");
        report.check(name, during <= before * SLOWER, format!("{during:.1} ms, and {before:.1} ms before"));
    }
    Ok(())
}

fn wait_for_leaders(metadata: &Metadata, topic: &str) -> Result<()> {
    wait::until("leaders that are there", PATIENCE, || {
        let there = |leader: Option<i32>| leader.is_some_and(|id| id != AWAY as i32);
        Ok(metadata.partitions(topic)?.iter().all(|p| there(p.leader)).then_some(()))
    })
}

fn wait_for_isr(metadata: &Metadata) -> Result<()> {
    wait::until("every replica to be in sync", CATCHES_UP, || {
        for topic in TOPICS {
            let missing = metadata.partitions(topic)?.iter().filter(|p| p.isr.len() < p.replicas.len()).count();
            ensure!(missing == 0, "{missing} partitions of {topic} are not in full sync");
        }
        Ok(Some(()))
    })
}

fn leaders(cluster: &Cluster, metadata: &Metadata, topic: &str) -> Result<Vec<u16>> {
    (0..PARTITIONS).map(|partition| Ok(cluster.ports(metadata.leader(topic, partition)?).kafka)).collect()
}

/// Writes so many bytes in all, the same number to each partition.
fn write(cluster: &Cluster, metadata: &Metadata, bytes: usize) -> Result<()> {
    let leaders = leaders(cluster, metadata, TOPICS[0])?;
    let connect = |port: &u16| Appender::connect(*port, TOPICS[0], PATIENCE);
    let mut appenders = leaders.iter().map(connect).collect::<Result<Vec<_>>>()?;
    let (record, each) = (appender::batch(RECORD_BYTES)?, bytes.div_ceil(RECORD_BYTES * PARTITIONS));
    for round in 0..each + AT_ONCE {
        for (partition, appender) in (0..).zip(&mut appenders) {
            if round >= AT_ONCE {
                appender.told()?.map_err(|error| anyhow!("a write is refused: {error:?}"))?;
            }
            if round < each {
                appender.send([partition], &record)?;
            }
        }
    }
    Ok(())
}

/// What this disk takes, written in order and synced at the end, in MB/s.
fn disk_speed(folder: &Path, bytes: usize) -> Result<f64> {
    let (path, chunk) = (folder.join("speed"), vec![b'x'; 1 << 20]);
    let since = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..bytes.div_ceil(chunk.len()) {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let took = since.elapsed();
    fs::remove_file(path)?;
    Ok(bytes as f64 / 1e6 / took.as_secs_f64())
}

/// What is in the partitions' segments, of those of which there is much, is the same as on another disk.
fn same_on_disks(cluster: &Cluster, bytes: usize) -> Result<String> {
    wait::until("the same logs on two disks", PATIENCE, || {
        let (away, other) = (logs(&cluster.data_dir(AWAY))?, logs(&cluster.data_dir(0))?);
        let all: u64 = away.iter().map(|(_, bytes, _)| bytes).sum();
        ensure!(all >= bytes as u64, "{all} bytes, and {bytes} were written");
        ensure!(away == other, "other bytes than on another disk");
        Ok(Some(format!("{all} bytes of {} partitions", away.len())))
    })
}

/// The folder, the length and a checksum of each partition's segments.
fn logs(data: &Path) -> Result<Vec<(OsString, u64, u64)>> {
    let folder = data.join("log/partitions");
    let mut logs = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let mut segments: Vec<_> = fs::read_dir(entry.path())?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
        segments.retain(|path| path.extension().is_some_and(|e| e == "log"));
        segments.sort();
        let (mut hasher, mut bytes, mut buffer) = (DefaultHasher::new(), 0, vec![0; 1 << 20]);
        for segment in segments {
            let mut file = File::open(segment)?;
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                hasher.write(&buffer[..read]);
                bytes += read as u64;
            }
        }
        logs.push((entry.file_name(), bytes, hasher.finish()));
    }
    logs.sort();
    Ok(logs)
}

/// Writes that go on all the time, at a rate that does not follow how fast they are acknowledged.
struct Live {
    waits: Arc<Mutex<Vec<f64>>>,
    ended: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Option<String>>>,
}

impl Live {
    fn start(cluster: &Cluster, metadata: &Metadata) -> Result<Self> {
        let (waits, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let leaders = leaders(cluster, metadata, TOPICS[1])?;
        let record = appender::batch(LIVE_BYTES)?;
        let mut live = Self { waits, ended, writers: Vec::new() };
        for n in 0..WRITERS {
            let partition = n % PARTITIONS;
            let mut appender = Appender::connect(leaders[partition], TOPICS[1], PATIENCE)?;
            let (waits, ended, record) = (Arc::clone(&live.waits), Arc::clone(&live.ended), record.clone());
            let mut due = Instant::now() + EACH * n as u32 / WRITERS as u32;
            live.writers.push(thread::spawn(move || {
                let partition = partition as i32;
                while !ended.load(Ordering::Relaxed) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if let Err(error) = appender.append([partition], &record) {
                        return Some(format!("{error:#}"));
                    }
                    // One that comes late because the one before took long has waited since it was due.
                    waits.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed().as_secs_f64() * 1e3);
                    due += EACH;
                }
                None
            }));
        }
        Ok(live)
    }

    /// Milliseconds of each write that was acknowledged meanwhile.
    fn watch_while(&self, what: impl FnOnce() -> Result<()>) -> Result<Vec<f64>> {
        let take = || std::mem::take(&mut *self.waits.lock().unwrap_or_else(PoisonError::into_inner));
        take();
        what()?;
        let waits = take();
        ensure!(!waits.is_empty(), "nothing is acknowledged");
        Ok(waits)
    }

    fn watch_for(&self, time: Duration) -> Result<Vec<f64>> {
        self.watch_while(|| {
            thread::sleep(time);
            Ok(())
        })
    }

    /// Who has fallen behind writes without a pause until it is on time again.
    fn wait_until_on_time(&self) -> Result<()> {
        wait::until("live writes to be on time", PATIENCE, || {
            let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            let last = waits.len().saturating_sub(10 * WRITERS);
            Ok((percentile(&waits[last..], 90.0) < 2.0 * EACH.as_secs_f64() * 1e3).then_some(()))
        })
    }

    /// Why any of them ended before.
    fn end(mut self) -> Result<Vec<String>> {
        self.ended.store(true, Ordering::Relaxed);
        let ended = |writer: JoinHandle<_>| writer.join().map_err(|_| anyhow!("a writer panicked"));
        let failures = self.writers.drain(..).map(ended).collect::<Result<Vec<_>>>()?;
        Ok(failures.into_iter().flatten().collect())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
