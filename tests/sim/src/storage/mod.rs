//! What a broker's disk keeps.

mod model;
mod simulated;

pub(crate) use model::ModelDisk;
pub(crate) use simulated::SimulatedLog;

use crate::rng::Rng;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::{DEFAULT_EXPIRATION_MS, Producers};
use chronik_core::record::RecordBatch;
use chronik_log::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds that tombstones stay: less than a world lasts.
const DELETE_RETENTION_MS: i64 = 300;

/// What each partition holds.
pub(crate) type Logs = BTreeMap<TopicPartition, PartitionLog>;

/// One partition's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionLog {
    /// The first offset that is still there; it may lie within the first batch.
    pub(crate) start: Offset,
    /// The offset after the last record.
    pub(crate) end: Offset,
    /// One after the other.
    pub(crate) batches: Vec<RecordBatch>,
    /// Who wrote what came before the first of them: producers outlive their batches.
    pub(crate) before: Producers,
    /// Where each leader epoch begins: it may outlive its batches, where they are compacted.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    /// What was known of the producers at an offset, where that is more than the batches before it say.
    pub(crate) snapshot: Option<(Offset, Producers)>,
    /// What the batches do not say of producers any more, though the disk knows it and they should.
    pub(crate) forgets: Option<String>,
}

impl PartitionLog {
    /// Adds a batch that continues it.
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        let header = batch.header();
        let mut begins = header.base_offset;
        if self.start == self.end {
            self.epochs.clear();
            begins = self.start;
        }
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
            self.epochs.push((header.leader_epoch, begins));
        }
        self.end = header.end_offset();
        self.batches.push(batch);
    }

    /// The batches from the one on that holds `offset`.
    pub(crate) fn from(&self, offset: Offset) -> &[RecordBatch] {
        &self.batches[self.batches.partition_point(|batch| batch.header().end_offset() <= offset)..]
    }

    fn truncate(&mut self, to: Offset) {
        if to >= self.end {
            return;
        }
        if to < self.start {
            *self = Self { start: to, end: to, ..Self::default() };
            return;
        }
        let kept = self.batches.partition_point(|batch| batch.header().end_offset() <= to);
        self.end = self.batches.get(kept).map_or(to, |cut| cut.header().base_offset.min(to));
        self.batches.truncate(kept);
        self.epochs.retain(|(_, first)| *first < self.end);
        self.snapshot.take_if(|(at, _)| *at > self.end);
        if self.end < self.start {
            *self = Self { start: self.end, end: self.end, ..Self::default() };
        }
    }

    fn advance_start(&mut self, to: Offset) {
        if to > self.end {
            // Nobody knows who wrote what lies between.
            *self = Self { start: to, end: to, ..Self::default() };
        } else if to > self.start {
            self.start = to;
            let after = self.epochs.partition_point(|(_, first)| *first <= to);
            self.epochs.drain(..after.saturating_sub(1));
            if let Some((_, first)) = self.epochs.first_mut() {
                *first = to.max(*first);
            }
            let removed = self.batches.partition_point(|batch| batch.header().end_offset() <= to);
            for batch in self.batches.drain(..removed) {
                self.before.observe(batch.header());
                // What is known at an offset goes on with the batches behind it, be they still there or not.
                if let Some((_, known)) = self.snapshot.as_mut().filter(|(at, _)| *at <= batch.header().base_offset) {
                    known.observe(batch.header());
                }
            }
        }
    }
}

/// What a log says of itself beside its batches.
pub(crate) struct Bounds {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
}

/// What is found on a disk.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) logs: Logs,
    /// Those of them that were cut back, as the disk has lost something.
    pub(crate) damaged: Vec<TopicPartition>,
    /// Nobody knows what it has lost beside that.
    pub(crate) unknown: bool,
}

/// What came of a cleaning.
pub(crate) enum Cleaned {
    /// There was nothing to do.
    Nothing,
    /// What is on the disk now.
    Log(Box<PartitionLog>),
    /// The process died meanwhile.
    Interrupted,
    /// The disk failed.
    Failed,
}

/// A broker's durable log on a disk that can be crashed.
pub(crate) trait Storage {
    /// Recovers what is there.
    fn open(&mut self) -> Result<Opened, String>;
    /// Makes `ops` durable, in order.
    fn commit(&mut self, ops: &[Op]) -> Result<(), String>;
    /// The process dies, perhaps with the machine, perhaps while it was making `unfinished` durable.
    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng);
    /// Compacts what is closed of a partition's log, and committed; `producers` is where the last batches of those end that
    /// are known, and `now_ms` what the broker's clock says.
    fn clean(
        &mut self,
        tp: TopicPartition,
        committed: Offset,
        producers: &BTreeSet<Offset>,
        now_ms: i64,
        rng: &mut Rng,
    ) -> Result<Cleaned, String>;
    /// The `n`-th sync from now fails.
    fn fail_sync_after(&mut self, n: u64);
    /// Whether that has happened.
    fn has_failed(&self) -> bool;
    /// Loses a bit or a sector. What the next start finds of it is repaired.
    fn rot(&mut self, rng: &mut Rng);
    /// Loses a bit of the batch that begins there, and says what a check of the partition finds; `None` if it is not where it
    /// could be lost.
    fn lose_a_bit(&mut self, tp: TopicPartition, base: Offset, rng: &mut Rng) -> Result<Option<Offset>, String>;
    /// From where on a check of a partition finds that it cannot be read.
    fn lost_from(&self, tp: TopicPartition) -> Option<Offset>;
    /// Where a partition's log begins and ends, and its epochs, if that is more than the batches say.
    fn bounds(&self, tp: TopicPartition) -> Option<Bounds>;
    /// What is known of the producers of a partition, if that is more than the batches say.
    fn producers(&self, tp: TopicPartition) -> Option<Producers>;
    /// The disk is replaced by an empty one.
    fn wipe(&mut self, rng: &mut Rng);
}

/// Does to `logs` what `op` says.
pub(crate) fn apply(logs: &mut Logs, op: &Op) {
    match op {
        Op::Append { partition, batch } => logs.entry(*partition).or_default().push(batch.clone()),
        Op::Truncate { partition, to } | Op::Repair { partition, to } => {
            logs.entry(*partition).or_default().truncate(*to);
        }
        Op::AdvanceStart { partition, to } => logs.entry(*partition).or_default().advance_start(*to),
        Op::BeginAt { partition, at, producers } => {
            let log = logs.entry(*partition).or_default();
            log.advance_start(*at);
            log.before = Producers::decode(producers, DEFAULT_EXPIRATION_MS).unwrap_or_default();
            log.snapshot = None;
        }
        Op::Delete { partition } => {
            logs.remove(partition);
        }
    }
}
