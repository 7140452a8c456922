//! The real log on the simulated disk: what a crash leaves is found by its recovery.

use super::{Bounds, Cleaned, DELETE_RETENTION_MS, Opened, PartitionLog, Storage};
use crate::node::log_state;
use crate::plant::Plant;
use crate::rng::Rng;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_log::{
    CleanError, CleanSpec, Disk as _, DiskFile as _, Log, LogError, LogReader, Op, Options, ReadError,
    RecoveredPartition, SimulatedDisk,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes of a batch's base offset and length, which come first.
const HEAD: u64 = 12;

/// Disk operations within which a crash strikes, at most: a round takes fewer.
const CRASH_WITHIN: u64 = 12;

/// A log on a disk in memory.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct SimulatedLog {
    disk: SimulatedDisk,
    log: Option<Log<SimulatedDisk>>,
    /// What a disk that lies has said to be durable.
    promised: Vec<Op>,
    plant: Option<Plant>,
    /// Whether the log is compacted now and then.
    compacts: bool,
    /// Whether large batches are written once.
    once: bool,
    /// A sync is going to fail, or has failed.
    fails: bool,
    erred: bool,
    /// It has lost a bit, which the next start may find.
    rotten: bool,
    /// Made durable so far.
    rounds: u64,
}

impl SimulatedLog {
    /// An empty disk; the seed decides what its crashes leave.
    pub(crate) fn new(seed: u64, plant: Option<Plant>, compacts: bool) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            log: None,
            promised: Vec::new(),
            plant,
            compacts,
            once: seed.is_multiple_of(2),
            fails: false,
            erred: false,
            rotten: false,
            rounds: 0,
        }
    }

    /// A sector somewhere cannot be read any more.
    fn spoil(&mut self, rng: &mut Rng) {
        let files = self.disk.files();
        if let Some((path, len)) = files.get(rng.index(files.len().max(1))) {
            self.disk.spoil(path, rng.within(0, *len));
        }
    }

    /// The files that have the batch which begins there, at which byte, and how long it is: also those from which it was cut
    /// off, or that were replaced, and are there still.
    fn find(&self, tp: TopicPartition, base: Offset) -> std::io::Result<Vec<(PathBuf, u64, u64)>> {
        let is_segment = |path: &Path| {
            path.extension().is_some_and(|e| e == "log")
                && path.parent().is_some_and(|dir| dir.ends_with(tp.to_string()))
        };
        let mut all = Vec::new();
        for (path, len) in self.disk.files().into_iter().filter(|(path, _)| is_segment(path)) {
            let (file, mut at) = (self.disk.open(&path)?, 0);
            while at + HEAD <= len {
                let mut head = [0; HEAD as usize];
                file.read_at(&mut head, at)?;
                let [found, rest] =
                    [&head[..8], &head[8..]].map(|field| field.iter().fold(0, |n, b| (n << 8) | u64::from(*b)));
                let size = HEAD + rest;
                if rest == 0 || at + size > len {
                    break;
                }
                if found == base.0 as u64 {
                    all.push((path.clone(), at, size));
                }
                at += size;
            }
        }
        Ok(all)
    }

    /// Flips a bit somewhere.
    fn flip(&mut self, rng: &mut Rng) {
        let files = self.disk.files();
        if let Some((path, len)) = files.get(rng.index(files.len().max(1))) {
            self.disk.flip_bit(path, rng.within(0, *len), 0);
        }
    }
}

/// Sizes so small that segments roll and checkpoints are made within a run.
fn options(compacts: bool) -> Options {
    Options {
        wal_segment_bytes: 8 * 1024,
        // Only closed segments are compacted.
        segment_bytes: if compacts { 1024 } else { 8 * 1024 },
        index_interval_bytes: 256,
        index_from_bytes: 512,
        checkpoint_bytes: 12 * 1024,
        max_open_files: 8,
        write_once_bytes: 150,
        ..Options::default()
    }
}

impl Storage for SimulatedLog {
    fn open(&mut self) -> Result<Opened, String> {
        self.log = None;
        self.disk.restart();
        (self.fails, self.erred) = (false, false);
        let rotten = std::mem::take(&mut self.rotten);
        let found = Log::open(self.disk.clone(), Path::new("/data"), options(self.compacts))
            .and_then(|(mut log, recovered)| log.prepare().map(|()| (log, recovered)));
        let (mut log, mut recovered) = match found {
            // It says so, and its operator begins with an empty disk.
            Err(LogError::Corrupt { .. } | LogError::Io { .. }) if rotten => {
                let seed = self.disk.random().map_err(|e| e.to_string())?;
                *self = Self::new(seed, self.plant, self.compacts);
                return Ok(Opened { unknown: true, ..self.open()? });
            }
            found => found.map_err(|e| format!("cannot be opened: {e}"))?,
        };
        let mut opened = Opened::default();
        if rotten {
            opened.unknown = log.wal_lost();
            (recovered, opened.damaged) =
                repair(&mut log, recovered).map_err(|e| format!("cannot be repaired: {e}"))?;
        }
        log.write_once(self.once);
        let reader = log.reader();
        self.log = Some(log);
        for partition in recovered {
            let tp = partition.partition;
            if let Some(from) = partition.damaged {
                return Err(format!("{tp} is damaged from {from} on"));
            }
            let mut log = read_all(&reader, tp, self.compacts)?;
            let found = log_state(&log);
            // The epoch of records that are gone is known to the log alone.
            let same_epochs = log.batches.is_empty() || self.compacts || found.epochs == partition.epochs;
            if found.end != partition.end || !same_epochs {
                return Err(format!("{tp} is said to be {partition:?} and holds {found:?}"));
            }
            if self.compacts {
                log.epochs = partition.epochs;
            }
            opened.logs.insert(tp, log);
        }
        Ok(opened)
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), String> {
        let lies = self.plant == Some(Plant::DiskLies);
        let ops = if lies { &std::mem::replace(&mut self.promised, ops.to_vec())[..] } else { ops };
        let log = self.log.as_mut().ok_or("not open")?;
        let counted = &mut self.rounds;
        let done = rounds(ops).try_for_each(|ops| {
            *counted += 1;
            log.commit(ops)?;
            log.apply(ops)?;
            // Now and then it is ahead of its need, as beside a writer.
            if counted.is_multiple_of(3) { log.prepare_segment() } else { Ok(()) }
        });
        let done = done.map_err(|e| e.to_string());
        self.erred = done.is_err();
        done
    }

    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng) {
        if rng.per_mille(700) {
            self.disk.crash_after(rng.within(0, CRASH_WITHIN));
        } else {
            self.disk.kill_after(rng.within(0, CRASH_WITHIN));
        }
        if !unfinished.is_empty() {
            // It is meant to be interrupted; what it reports dies with the process.
            let _ = self.commit(unfinished);
        }
        if !self.disk.is_down() && rng.per_mille(700) {
            self.disk.crash();
        }
        self.log = None;
        self.promised.clear();
        if self.plant == Some(Plant::DiskRots) {
            self.flip(rng);
        }
    }

    fn clean(
        &mut self,
        tp: TopicPartition,
        committed: Offset,
        producers: &BTreeSet<Offset>,
        now_ms: i64,
        rng: &mut Rng,
    ) -> Result<Cleaned, String> {
        let Some(log) = &mut self.log else { return Ok(Cleaned::Nothing) };
        let reader = log.reader();
        let Some(before) = reader.cleaning(tp) else { return Ok(Cleaned::Nothing) };
        let spec = CleanSpec {
            until: committed,
            producers: producers.clone(),
            // Fewer keys than there are, or all.
            buffer_bytes: if rng.per_mille(500) { 100 } else { 1 << 16 },
            secret: (rng.any(), rng.any()),
            now_ms,
            delete_retention_ms: DELETE_RETENTION_MS,
            max_decompressed: 1 << 20,
        };
        let interrupted = rng.per_mille(100);
        if interrupted {
            self.disk.crash_after(rng.within(0, CRASH_WITHIN));
        }
        let written = match reader.clean(tp, &spec, |_| true) {
            Ok(_) if rng.per_mille(700) || interrupted => log.checkpoint().map_err(|e| e.to_string()),
            Ok(_) | Err(CleanError::Changed | CleanError::Stopped) => Ok(()),
            // A broker goes on: nobody counts on what was written anew. Only what is in use must not fail to be synced.
            Err(CleanError::Write(_)) if self.fails => Ok(()),
            Err(other) => Err(other.to_string()),
        };
        self.erred = written.is_err();
        if self.has_failed() {
            return Ok(Cleaned::Failed);
        }
        if interrupted {
            if !self.disk.is_down() {
                self.disk.crash();
            }
            return Ok(Cleaned::Interrupted);
        }
        written?;
        if reader.cleaning(tp).as_ref() == Some(&before) {
            return Ok(Cleaned::Nothing);
        }
        let mut cleaned = read_all(&reader, tp, true)?;
        cleaned.epochs = reader.state(tp).ok_or("it is gone")?.epochs;
        Ok(Cleaned::Log(Box::new(cleaned)))
    }

    fn fail_sync_after(&mut self, n: u64) {
        self.disk.fail_sync_after(n);
        self.fails = true;
    }

    fn has_failed(&self) -> bool {
        self.fails && self.erred
    }

    fn rot(&mut self, rng: &mut Rng) {
        if rng.per_mille(300) {
            self.spoil(rng);
        } else {
            self.flip(rng);
        }
        self.rotten = true;
    }

    fn lose_a_bit(&mut self, tp: TopicPartition, base: Offset, rng: &mut Rng) -> Result<Option<Offset>, String> {
        let found = self.find(tp, base).map_err(|e| e.to_string())?;
        let Some(shortest) = found.iter().map(|(_, _, len)| *len).min() else { return Ok(None) };
        let (byte, bit) = (rng.within(0, shortest - 1), rng.within(0, 7) as u8);
        // No CRC covers a batch's offset. Where there are gaps, a wrong one within them is taken for right.
        let byte = if self.compacts && (5..8).contains(&byte) { byte + 8 } else { byte };
        for (path, at, _) in found {
            self.disk.flip_bit(&path, at + byte, bit);
        }
        self.rotten = true;
        let Some(log) = &self.log else { return Ok(None) };
        match log.reader().check(tp, |_| {}) {
            Err(ReadError::Damaged { offset, .. }) => Ok(Some(offset)),
            other => Err(format!("{other:?} of byte {byte} of the batch")),
        }
    }

    fn lost_from(&self, tp: TopicPartition) -> Option<Offset> {
        match self.log.as_ref()?.reader().check(tp, |_| {}) {
            Err(ReadError::Damaged { offset, .. }) => Some(offset),
            _ => None,
        }
    }

    fn bounds(&self, tp: TopicPartition) -> Option<Bounds> {
        let state = self.log.as_ref().filter(|_| self.compacts || self.rotten)?.reader().state(tp)?;
        Some(Bounds { start: state.start, end: state.end, epochs: state.epochs })
    }

    fn producers(&self, tp: TopicPartition) -> Option<Producers> {
        self.log.as_ref().filter(|_| self.compacts)?.reader().producers(tp).ok()
    }

    fn wipe(&mut self, rng: &mut Rng) {
        *self = Self::new(rng.any(), self.plant, self.compacts);
    }
}

/// The rounds of a writer: in each a partition has either appends or one operation of another kind.
fn rounds(mut left: &[Op]) -> impl Iterator<Item = &[Op]> {
    std::iter::from_fn(move || {
        let (mut appended, mut changed) = (BTreeSet::new(), BTreeSet::new());
        let fits = |op: &&Op| match op {
            Op::Append { partition, .. } => {
                appended.insert(*partition);
                !changed.contains(partition)
            }
            _ => !appended.contains(&op.partition()) && changed.insert(op.partition()),
        };
        let n = left.iter().take_while(fits).count();
        let (round, rest) = left.split_at(n);
        left = rest;
        (!round.is_empty()).then_some(round)
    })
}

/// Reads all that there is, as a check in the background does, and cuts off what is lost, as a broker's start does.
fn repair(
    log: &mut Log<SimulatedDisk>,
    recovered: Vec<RecoveredPartition>,
) -> Result<(Vec<RecoveredPartition>, Vec<TopicPartition>), LogError> {
    if log.wal_lost() {
        log.accept_wal_loss()?;
    }
    let (reader, mut damaged) = (log.reader(), Vec::new());
    for RecoveredPartition { partition, damaged: known, .. } in &recovered {
        let found = match reader.check(*partition, |_| {}) {
            Err(ReadError::Damaged { offset, .. }) => Some(offset),
            _ => None,
        };
        let Some(from) = found.into_iter().chain(*known).min() else { continue };
        log.set_aside(&[(*partition, from)])?;
        let cut = [Op::Repair { partition: *partition, to: from }];
        log.commit(&cut)?;
        log.apply(&cut)?;
        damaged.push(*partition);
    }
    Ok((recovered.into_iter().filter_map(|found| reader.state(found.partition)).collect(), damaged))
}

fn read_all(reader: &LogReader<SimulatedDisk>, tp: TopicPartition, compacts: bool) -> Result<PartitionLog, String> {
    let Some(state) = reader.state(tp) else { return Err(format!("{tp} was recovered and is not there")) };
    let mut log = PartitionLog { start: state.start, end: state.start, ..PartitionLog::default() };
    loop {
        let from = log.end;
        let more =
            reader.read(tp, from, state.end, 4_096).map_err(|e| format!("{tp} cannot be read at {from}: {e}"))?;
        if more.is_empty() {
            break;
        }
        for batch in more {
            log.push(batch);
        }
    }
    let known = reader.producers(tp).map_err(|e| format!("{tp}'s producers cannot be read: {e}"))?;
    log.before = known.before(log.batches.first().map_or(log.end, |batch| batch.header().base_offset));
    let (found, expected) = (log_state(&log).producers, known);
    if !found.iter().eq(expected.iter()) {
        let how = format!("{tp} knows the producers {expected:?}, and its batches say {found:?}");
        if !compacts {
            return Err(how);
        }
        log.forgets = Some(how);
    }
    if compacts {
        log.snapshot = Some((log.end, expected));
    }
    Ok(log)
}
