//! Flipped bits and lost ends in each kind of file of one broker, one after the other, under load; then that broker leads
//! what it has. It repairs that from the others or refuses to start and says so: nothing that was acknowledged is lost,
//! nothing damaged is served, and none of it gets to another disk.
//!
//! In between all brokers are killed at once, and one of them loses a bit of the last that it has acknowledged: it is in
//! every in-sync set and may lead.

use super::Settings;
use super::returning::segments;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::load::{Load, verify};
use crate::report::{Report, Table};
use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

const TOPIC: &str = "damaged";
/// Each broker is the preferred leader of one.
const PARTITIONS: usize = 3;
/// Of one writer.
const RATE: u32 = 100;
/// So many that what is known of them does not fit a checkpoint.
const WRITERS: usize = 4;
/// Of the one that writes so much at a time that it is written to its segment only.
const BURST: u32 = 30_000;
/// What was written is read back after so many damages, and after the last.
const BETWEEN_READS: usize = 4;

/// What to repeat.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The seed, to repeat the same damage [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// A kind of file in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Segment,
    Index,
    Wal,
    /// The last block of the write-ahead log, of which all was acknowledged, when all brokers are killed.
    LastBlock,
    Snapshot,
    Checkpoint,
    Journal,
    Identity,
}

const KINDS: [Kind; 9] = [
    Kind::Segment,
    Kind::LastBlock,
    Kind::Wal,
    Kind::Snapshot,
    Kind::Index,
    Kind::LastBlock,
    Kind::Checkpoint,
    Kind::Segment,
    Kind::Journal,
];
/// Often enough: it has one content.
const IDENTITY_EACH: usize = 10;

/// What became of a damaged broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It started, and was in sync again.
    InSync,
    /// It did not start, and came back with an empty data directory.
    Refused,
}

/// Ten damages, a hundred with `--full`, or as many as `--rounds` says.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.full { 100 } else { 10 });
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("--seed {seed}");
    let properties = [("leader.imbalance.check.interval.seconds", "1"), ("log.scrub.bytes.per.second", "104857600")];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    let outcome = all_rounds(&mut cluster, rounds, &mut StdRng::seed_from_u64(seed), report);
    let outcome = outcome.with_context(|| cluster.tails());
    let failed = outcome.is_err();
    report.check_result("nothing acknowledged is lost, and no damage is served or copied", outcome);
    if failed {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

fn all_rounds(cluster: &mut Cluster, rounds: usize, random: &mut StdRng, report: &mut Report) -> Result<String> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[("segment.bytes", "262144")])?;
    let preferred = (0..PARTITIONS).map(|p| metadata.leader(TOPIC, p)).collect::<Result<Vec<_>>>()?;
    let mut loads = (0..WRITERS)
        .map(|n| Load::start(&format!("w{n}"), &cluster.bootstrap(), TOPIC, PARTITIONS, RATE))
        .collect::<Result<Vec<_>>>()?;
    let rate = (PARTITIONS, BURST);
    loads.push(Load::start_with("burst", &cluster.bootstrap(), TOPIC, rate, &[("linger.ms", "300")], None)?);
    for load in &loads {
        load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    }
    loads[WRITERS].pause(PATIENCE)?;
    let mut outcomes: BTreeMap<(Kind, Outcome), usize> = BTreeMap::new();
    let mut read = String::new();
    for round in 0..rounds {
        let victim = random.random_range(0..cluster.size());
        let kind = if round % IDENTITY_EACH == IDENTITY_EACH - 1 { Kind::Identity } else { KINDS[round % KINDS.len()] };
        let led = preferred.iter().position(|leader| *leader == victim);
        let done = if kind == Kind::LastBlock {
            all_at_once(cluster, &metadata, &loads, victim, random).map(|what| (what, Outcome::InSync))
        } else {
            one_round(cluster, &metadata, &loads[0], (victim, led), kind, random)
        };
        let (what, outcome) = done.with_context(|| format!("damage {round}, of {kind:?} of broker {victim}"))?;
        println!("{round}: broker {victim}, {what}: {outcome:?}");
        *outcomes.entry((kind, outcome)).or_default() += 1;
        if round % BETWEEN_READS == BETWEEN_READS - 1 || round + 1 == rounds {
            read = check(cluster, &loads)?;
        }
    }
    pause(&loads)?;
    same_everywhere(cluster, &metadata)?;
    let mut table = Table::new("What damage led to", &["file", "outcome", "times"]);
    for ((kind, outcome), times) in outcomes {
        table.row(vec![format!("{kind:?}"), format!("{outcome:?}"), times.to_string()]);
    }
    report.table(table);
    Ok(format!("{rounds} damages; {read}"))
}

/// Reads back what was written.
fn check(cluster: &Cluster, loads: &[Load]) -> Result<String> {
    pause(loads)?;
    let read = verify(&cluster.bootstrap(), &loads.iter().collect::<Vec<_>>())?;
    loads[..WRITERS].iter().for_each(Load::resume);
    Ok(read)
}

fn pause(loads: &[Load]) -> Result<()> {
    loads.iter().try_for_each(|load| load.pause(PATIENCE))
}

/// Kills all brokers when everything is acknowledged, and starts one of them first, without a bit of its last block. Says
/// what was damaged.
fn all_at_once(
    cluster: &mut Cluster,
    metadata: &Metadata,
    loads: &[Load],
    victim: usize,
    random: &mut StdRng,
) -> Result<String> {
    metadata.wait_for_isr(TOPIC, PARTITIONS, cluster.size())?;
    // What is behind the ends of such partitions in their segments is no proof of a loss.
    loads[WRITERS].resume();
    loads[WRITERS].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    loads[WRITERS].pause(PATIENCE)?;
    loads[0].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    pause(loads)?;
    cluster.kill_all()?;
    let (file, block) = last_block(&cluster.data_dir(victim).join("log/wal"))?;
    let mut bytes = fs::read(&file)?;
    let at = random.random_range(block);
    bytes[at] ^= 1 << random.random_range(0..8);
    fs::write(&file, &bytes)?;
    cluster.start(victim)?;
    wait::until("the damaged broker to answer", PATIENCE, || Ok(cluster.http(victim, "/livez").is_ok().then_some(())))?;
    cluster.start_all()?;
    metadata.wait_for_isr(TOPIC, PARTITIONS, cluster.size())?;
    check(cluster, loads)?;
    cluster.check_alive()?;
    let name = file.strip_prefix(cluster.data_dir(victim)).unwrap_or(&file).display().to_string();
    Ok(format!("damage at {at} of {name}, when all were killed"))
}

/// The last block of a write-ahead log, and its bytes. What they mean is said in the log's module `wal`.
fn last_block(folder: &Path) -> Result<(PathBuf, Range<usize>)> {
    const PAGE: usize = 4096;
    let mut last = None;
    for path in listed(folder)? {
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        let number = u64::from_str_radix(&name, 16)?.to_le_bytes();
        let bytes = fs::read(&path)?;
        for (n, page) in bytes.chunks_exact(PAGE).enumerate() {
            let field = |at: usize| page[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
            let (len, lsn, run) = (field(8) as u32 as usize, field(16), field(40));
            let is_block = page[..3] == *b"CWB" && page[32..40] == number && lsn != u64::MAX;
            if is_block && last.as_ref().is_none_or(|(known, _, _)| (run, lsn) > *known) {
                last = Some(((run, lsn), path.clone(), n * PAGE..n * PAGE + 64 + len));
            }
        }
    }
    let (_, path, bytes) = last.context("the write-ahead log has a block")?;
    Ok((path, bytes))
}

/// Says what was damaged, and what became of it.
fn one_round(
    cluster: &mut Cluster,
    metadata: &Metadata,
    load: &Load,
    (victim, led): (usize, Option<usize>),
    kind: Kind,
    random: &mut StdRng,
) -> Result<(String, Outcome)> {
    // A checkpoint writes snapshots.
    if random.random_bool(0.5) && kind != Kind::Snapshot {
        cluster.kill(victim)?;
    } else {
        cluster.stop(victim)?;
    }
    wait::until("the in-sync sets without the broker that is away", PATIENCE, || {
        let sets = metadata.partitions(TOPIC)?;
        Ok(sets.iter().all(|p| !p.isr.contains(&(victim as i32))).then_some(()))
    })?;
    // More than what it has in memory is to follow.
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let file = choose(&files(&cluster.data_dir(victim), kind, led)?, random)?;
    let what = damage(&file, random)?;
    let said_before = fs::read(cluster.log(victim))?.len();
    cluster.start(victim)?;
    let outcome = wait::until("the broker to be in sync, or to refuse to start", PATIENCE, || {
        if cluster.check_alive().is_err() {
            return Ok(Some(Outcome::Refused));
        }
        let sets = metadata.partitions(TOPIC)?;
        Ok(sets.iter().all(|p| p.isr.len() == cluster.size()).then_some(Outcome::InSync))
    })?;
    if outcome == Outcome::Refused {
        let said = fs::read(cluster.log(victim))?;
        let said = String::from_utf8_lossy(said.get(said_before..).context("a log that only grows")?).into_owned();
        ensure!(says_what_to_do(&said), "it ended without a word on what to do:\n{said}");
        // It has ended by itself.
        cluster.kill(victim)?;
        fs::remove_dir_all(cluster.data_dir(victim))?;
        cluster.start(victim)?;
        metadata.wait_for_isr(TOPIC, PARTITIONS, cluster.size())?;
    }
    if let Some(partition) = led {
        wait::until("the damaged broker to lead", PATIENCE, || {
            Ok((metadata.leader(TOPIC, partition)? == victim).then_some(()))
        })?;
    }
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    cluster.check_alive()?;
    let name = file.strip_prefix(cluster.data_dir(victim)).unwrap_or(&file).display().to_string();
    Ok((format!("{what} of {name}"), outcome))
}

fn says_what_to_do(said: &str) -> bool {
    said.contains("data directory") || said.contains("data_dir")
}

/// The files of a kind that have something in them. Of segments and indexes: those of the partition, if one is given.
fn files(data: &Path, kind: Kind, partition: Option<usize>) -> Result<Vec<PathBuf>> {
    let of_partition = |folder: &Path| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        partition.is_none_or(|n| name.ends_with(&format!("-{n}")))
    };
    let in_partitions = |extension: &str| -> Result<Vec<PathBuf>> {
        let folders = listed(&data.join("log/partitions"))?;
        let folders = folders.into_iter().filter(|folder| of_partition(folder));
        let all = folders.map(|folder| listed(&folder)).collect::<Result<Vec<_>>>()?.concat();
        Ok(all.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect())
    };
    let mut found = match kind {
        Kind::Segment => in_partitions("log")?,
        Kind::Index => in_partitions("index")?,
        Kind::Snapshot => in_partitions("snapshot")?,
        Kind::Wal | Kind::LastBlock => listed(&data.join("log/wal"))?,
        Kind::Checkpoint => vec![data.join("log/checkpoint")],
        Kind::Journal => vec![data.join("metadata/journal")],
        Kind::Identity => vec![data.join("identity.json")],
    };
    found.retain(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0));
    Ok(found)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn choose(files: &[PathBuf], random: &mut StdRng) -> Result<PathBuf> {
    ensure!(!files.is_empty(), "there is no such file");
    Ok(files[random.random_range(0..files.len())].clone())
}

/// Flips a bit, a few in a row of bytes, or cuts the file. Says which.
fn damage(file: &Path, random: &mut StdRng) -> Result<String> {
    let mut bytes = fs::read(file)?;
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..4) {
        0 => {
            fs::OpenOptions::new().write(true).open(file)?.set_len(at as u64)?;
            return Ok(format!("cut to {at} of {} bytes", bytes.len()));
        }
        1 => {
            let until = bytes.len().min(at + 512);
            bytes[at..until].iter_mut().for_each(|byte| *byte = !*byte);
        }
        _ => bytes[at] ^= 1 << random.random_range(0..8),
    }
    fs::write(file, &bytes)?;
    Ok(format!("damage at {at} of {} bytes", bytes.len()))
}

/// Every disk has the same bytes in its segments. What is cut off from a damaged one goes with the checkpoint of a stop.
fn same_everywhere(cluster: &mut Cluster, metadata: &Metadata) -> Result<()> {
    for id in 0..cluster.size() {
        cluster.stop(id)?;
        cluster.start(id)?;
        metadata.wait_for_isr(TOPIC, PARTITIONS, cluster.size())?;
    }
    wait::until("the same logs on every disk", PATIENCE, || {
        let disks = (0..cluster.size()).map(|id| segments(cluster, id)).collect::<Result<Vec<_>>>()?;
        ensure!(disks[0].len() == PARTITIONS && disks[0].values().all(|bytes| !bytes.is_empty()), "logs are missing");
        Ok(disks.iter().all(|disk| *disk == disks[0]).then_some(()))
    })
}
