//! A broker comes back that is far behind: how fast it catches up, beside what the disk can write, and how long live writes
//! wait meanwhile. Then the same for a consumer that reads all of it, out of the page cache. A hundred megabytes; a gigabyte
//! with `--full`. A round has its own time before to be compared with: the machine may be another one a minute later.

use super::Settings;
use crate::harness::appender::{self, Appender};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::fetcher;
use crate::harness::files::drop_from_page_cache;
use crate::harness::live::{self, Live, Waited};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, median, percentile};
use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What the broker lacks, and what is written all the time.
const TOPICS: [&str; 2] = ["far-behind", "far-behind-live"];
const PARTITIONS: usize = 12;
const RECORD_BYTES: usize = 100_000;
/// Records of a partition that are on their way at once.
const AT_ONCE: usize = 4;
const AWAY: usize = 2;
/// How long live writes are watched where nothing ends by itself.
const WATCHED: Duration = Duration::from_secs(3);
/// All that is far behind has this long.
const CATCHES_UP: Duration = Duration::from_mins(10);
const ROUNDS: usize = 3;
/// When live writes are watched, in their order.
const WHEN: [&str; 6] = [
    "all in sync",
    "one away",
    "it catches up, in no ISR yet",
    "it joins, from the first ISR to the last",
    "after that",
    "all is read, out of the page cache",
];

/// What is asked of a round, in the median.
struct Bounds {
    /// The p99 of live writes is at most so many times what it was before …
    slower: f64,
    /// … or as long as this, in milliseconds.
    always_ms: f64,
    /// So much of the disk's speed is used.
    speed: f64,
}

/// On a machine that does nothing else. What is caught up with is read from one disk and written to the same by another
/// broker, beside the live writes' syncs.
const TARGETS: Bounds = Bounds { slower: 2.0, always_ms: 0.0, speed: 0.5 };
/// On one that others use too: what is slower than this has waited for all that is caught up with.
const ALWAYS: Bounds = Bounds { slower: 8.0, always_ms: 500.0, speed: 0.05 };

/// What one round has found.
#[derive(Default)]
struct Round {
    /// Milliseconds of live writes.
    waits: [Vec<f64>; WHEN.len()],
    /// MB/s that the broker catches up with, that the disk takes, that is consumed, and that the disk gives.
    speeds: [f64; 4],
    took_s: f64,
}

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

    let live = Live::start(TOPICS[1], &leaders(cluster, &metadata, TOPICS[1])?)?;
    let number = settings.rounds.unwrap_or(ROUNDS);
    let mut rounds = Vec::new();
    for n in 1..=number {
        live.wait_until_on_time()?;
        rounds.push(round(cluster, &metadata, &live, bytes).with_context(|| format!("round {n}"))?);
    }
    let failures = live.end()?;
    cluster.check_alive()?;
    report.check_result("the broker that comes back has the same bytes as another", same_on_disks(cluster, bytes));
    report.check("no live write fails", failures.is_empty(), format!("failed: {failures:?}"));
    report_rounds(&rounds, bytes, report);
    judge(&rounds, if settings.strict || settings.full { &TARGETS } else { &ALWAYS }, report);
    Ok(())
}

fn round(cluster: &mut Cluster, metadata: &Metadata, live: &Live, bytes: usize) -> Result<Round> {
    let mut round = Round::default();
    let ms = |waits: Vec<Waited>| waits.into_iter().map(|waited| waited.ms).collect();
    round.waits[0] = ms(live.watch_for(WATCHED)?);
    cluster.stop(AWAY)?;
    write(cluster, metadata, bytes)?;
    live.wait_until_on_time()?;
    round.waits[1] = ms(live.watch_for(WATCHED)?);
    let (takes, gives) = disk_speed(&cluster.data_dir(AWAY), bytes)?;

    let (mut first, mut last) = (Instant::now(), Instant::now());
    let waits = live.watch_while(|| {
        let started = cluster.start(AWAY)?;
        first = wait_for_isr(metadata)?;
        last = Instant::now();
        round.took_s = started.elapsed().as_secs_f64();
        thread::sleep(WATCHED / 3);
        Ok(())
    })?;
    for Waited { at, ms } in waits {
        let when = if at < first {
            2
        } else if at < last {
            3
        } else {
            4
        };
        round.waits[when].push(ms);
    }

    live.wait_until_on_time()?;
    for id in 0..cluster.size() {
        drop_from_page_cache(&cluster.data_dir(id))?;
    }
    let mut read = Duration::ZERO;
    let waits = live.watch_while(|| {
        let since = Instant::now();
        let all = consume(cluster, metadata)?;
        read = since.elapsed();
        ensure!(all >= bytes, "{all} bytes were consumed, and {bytes} were written");
        round.speeds[2] = all as f64 / 1e6 / read.as_secs_f64();
        Ok(())
    })?;
    round.waits[5] = ms(waits);
    (round.speeds[0], round.speeds[1], round.speeds[3]) = (bytes as f64 / 1e6 / round.took_s, takes, gives);
    Ok(round)
}

/// Reads all that was written once, from each leader with a connection of its own. Returns how many bytes it were.
fn consume(cluster: &Cluster, metadata: &Metadata) -> Result<usize> {
    let mut led: BTreeMap<u16, Vec<i32>> = BTreeMap::new();
    for (partition, port) in (0..).zip(leaders(cluster, metadata, TOPICS[0])?) {
        led.entry(port).or_default().push(partition);
    }
    thread::scope(|scope| {
        let read = |(port, partitions)| scope.spawn(move || fetcher::read_all(port, TOPICS[0], partitions, PATIENCE));
        let readers: Vec<_> = led.iter().map(|(port, partitions)| (*port, &partitions[..])).map(read).collect();
        let ends = readers.into_iter().map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?);
        ends.sum()
    })
}

fn report_rounds(rounds: &[Round], bytes: usize, report: &mut Report) {
    let columns = ["lacks MB", "in every ISR after", "MB/s", "the disk takes", "consumed MB/s", "the disk gives"];
    let mut table = Table::new("A broker that comes back, and what it lacked consumed", &columns);
    for round in rounds {
        let mut row = vec![(bytes / 1_000_000).to_string(), format!("{:.2} s", round.took_s)];
        row.extend(round.speeds.iter().map(|speed| format!("{speed:.0}")));
        table.row(row);
    }
    report.table(table);
    let columns = ["when", "writes", "p50 ms", "p99 ms", "worst ms", "p99 beside all in sync, by round"];
    let title = format!("Waits of acks=all writes at {} a second, medians of {} rounds", live::RATE, rounds.len());
    let mut table = Table::new(&title, &columns);
    for (when, name) in WHEN.into_iter().enumerate() {
        let of =
            |what: &dyn Fn(&[f64]) -> f64| median(&rounds.iter().map(|r| what(&r.waits[when])).collect::<Vec<_>>());
        let at = |percent| format!("{:.1}", of(&|waits| percentile(waits, percent)));
        let ratios: Vec<_> = rounds.iter().map(|r| format!("{:.1}", r.slower(&r.waits[when]))).collect();
        let writes = format!("{:.0}", of(&|waits| waits.len() as f64));
        table.row(vec![name.to_owned(), writes, at(50.0), at(99.0), at(100.0), ratios.join(" ")]);
    }
    report.table(table);
}

impl Round {
    /// How many times as long as before the 99th percentile of these waits is.
    fn slower(&self, waits: &[f64]) -> f64 {
        percentile(waits, 99.0) / percentile(&self.waits[0], 99.0)
    }
}

fn judge(rounds: &[Round], bounds: &Bounds, report: &mut Report) {
    let Bounds { slower, always_ms, speed } = bounds;
    let middle = |what: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    for (name, speeds) in [("it catches up", [0, 1]), ("it is consumed", [2, 3])] {
        let share = middle(&|round| round.speeds[speeds[0]] / round.speeds[speeds[1]]);
        let detail = format!("{share:.2}, and {} are meant", TARGETS.speed);
        report.check(format!("{name} at {speed} of the disk's speed or more"), share >= *speed, detail);
    }
    for (name, from, to) in [("it comes back", 2, 3), ("it is consumed", 5, 5)] {
        let waits = |round: &Round| round.waits[from..=to].concat();
        let (times, ms) = (middle(&|r| r.slower(&waits(r))), middle(&|r| percentile(&waits(r), 99.0)));
        let name = format!("while {name}, the p99 of live writes is at most {slower} times as long, or {always_ms} ms");
        let detail = format!("{times:.1} times, {ms:.1} ms, and {} times are meant", TARGETS.slower);
        report.check(name, times <= *slower || ms <= *always_ms, detail);
    }
}

fn wait_for_leaders(metadata: &Metadata, topic: &str) -> Result<()> {
    wait::until("leaders that are there", PATIENCE, || {
        let there = |leader: Option<i32>| leader.is_some_and(|id| id != AWAY as i32);
        Ok(metadata.partitions(topic)?.iter().all(|p| there(p.leader)).then_some(()))
    })
}

/// Waits until every replica is in sync. Returns when the first one was that came back.
fn wait_for_isr(metadata: &Metadata) -> Result<Instant> {
    let mut first = None;
    wait::until("every replica to be in sync", CATCHES_UP, || {
        let (mut missing, mut joined) = (0, 0);
        for topic in TOPICS {
            let partitions = metadata.partitions(topic)?;
            missing += partitions.iter().filter(|p| p.isr.len() < p.replicas.len()).count();
            joined += partitions.iter().filter(|p| p.isr.contains(&(AWAY as i32))).count();
        }
        if joined > 0 {
            first.get_or_insert_with(Instant::now);
        }
        ensure!(missing == 0, "{missing} partitions are not in full sync");
        Ok(Some(()))
    })?;
    first.context("a partition")
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
                appender.next_answer()?.map_err(|error| anyhow!("a write is refused: {error:?}"))?;
            }
            if round < each {
                appender.send([partition], &record)?;
            }
        }
    }
    Ok(())
}

/// What this disk takes, written in order and synced at the end, and what it gives when that is read again, in MB/s.
fn disk_speed(folder: &Path, bytes: usize) -> Result<(f64, f64)> {
    let (path, mut chunk) = (folder.join("speed"), vec![b'x'; 1 << 20]);
    let speed = |since: Instant| bytes as f64 / 1e6 / since.elapsed().as_secs_f64();
    let since = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..bytes.div_ceil(chunk.len()) {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let takes = speed(since);
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let (since, mut file) = (Instant::now(), File::open(&path)?);
    while file.read(&mut chunk)? > 0 {}
    let gives = speed(since);
    fs::remove_file(path)?;
    Ok((takes, gives))
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
