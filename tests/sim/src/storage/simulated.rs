//! The real log on the simulated disk: what a crash leaves is found by its recovery.

use super::{Logs, PartitionLog, Storage};
use crate::node::log_state;
use crate::plant::Plant;
use crate::rng::Rng;
use chronik_core::ids::TopicPartition;
use chronik_log::{Log, LogReader, Op, Options, SimulatedDisk};
use std::path::Path;

/// Disk operations within which a crash strikes, at most: a round takes fewer.
const CRASH_WITHIN: u64 = 12;

/// A log on a disk in memory.
pub(crate) struct SimulatedLog {
    disk: SimulatedDisk,
    log: Option<Log<SimulatedDisk>>,
    /// What a disk that lies has said to be durable.
    promised: Vec<Op>,
    plant: Option<Plant>,
}

impl SimulatedLog {
    /// An empty disk; the seed decides what its crashes leave.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        Self { disk: SimulatedDisk::new(seed), log: None, promised: Vec::new(), plant }
    }

    /// Flips a bit somewhere.
    fn rot(&mut self, rng: &mut Rng) {
        let files = self.disk.files();
        if let Some((path, len)) = files.get(rng.index(files.len().max(1))) {
            self.disk.flip_bit(path, rng.within(0, *len), 0);
        }
    }
}

/// Sizes so small that segments roll and checkpoints are made within a run.
fn options() -> Options {
    Options {
        wal_segment_bytes: 8 * 1024,
        segment_bytes: 8 * 1024,
        index_interval_bytes: 256,
        checkpoint_bytes: 12 * 1024,
        max_open_files: 8,
        ..Options::default()
    }
}

impl Storage for SimulatedLog {
    fn open(&mut self) -> Result<Logs, String> {
        self.log = None;
        self.disk.restart();
        let (log, recovered) = Log::open(self.disk.clone(), Path::new("/data"), options())
            .and_then(|(mut log, recovered)| log.prepare().map(|()| (log, recovered)))
            .map_err(|e| format!("cannot be opened: {e}"))?;
        let reader = log.reader();
        self.log = Some(log);
        let mut logs = Logs::new();
        for partition in recovered {
            let tp = partition.partition;
            if let Some(from) = partition.damaged {
                return Err(format!("{tp} is damaged from {from} on"));
            }
            let log = read_all(&reader, tp)?;
            let found = log_state(&log);
            // The epoch of records that are gone is known to the log alone.
            let same_epochs = log.batches.is_empty() || found.epochs == partition.epochs;
            if found.end != partition.end || !same_epochs {
                return Err(format!("{tp} is said to be {partition:?} and holds {found:?}"));
            }
            logs.insert(tp, log);
        }
        Ok(logs)
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), String> {
        let lies = self.plant == Some(Plant::DiskLies);
        let ops = if lies { &std::mem::replace(&mut self.promised, ops.to_vec())[..] } else { ops };
        let log = self.log.as_mut().ok_or("not open")?;
        log.commit(ops).and_then(|()| log.apply(ops)).map_err(|e| e.to_string())
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
            self.rot(rng);
        }
    }

    fn wipe(&mut self, rng: &mut Rng) {
        *self = Self::new(rng.any(), self.plant);
    }
}

fn read_all(reader: &LogReader<SimulatedDisk>, tp: TopicPartition) -> Result<PartitionLog, String> {
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
        return Err(format!("{tp} knows the producers {expected:?}, and its batches say {found:?}"));
    }
    Ok(log)
}
