//! Compacted topics, in some of the worlds: brokers clean their logs each for itself, and readers still get the last record
//! of every key.

use crate::activity::Activity;
use crate::checker::{Checker, Committed, Invariant};
use crate::network::NodeId;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::storage::{Cleaned, PartitionLog};
use crate::world::{Happening, World, note};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::record::samples::{Sample, encoded};
use chronik_core::record::testing::BatchBuilder;
use chronik_log::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Between two cleanings at most.
const GAP_US: u64 = 500_000;
/// Keys that are written: a few more than the least memory of a cleaning has room for.
const KEYS: usize = 12;
/// Those of them that most records have, so that much is replaced.
const HOT_KEYS: usize = 5;
/// Of a thousand records, those that delete their keys.
const TOMBSTONES: u64 = 200;
/// The clocks' begin, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// Bytes that a batch may decompress to.
const MAX_DECOMPRESSED: u64 = 1 << 20;

/// Whether and when. The chances are drawn apart from those of the world.
#[derive(Debug)]
pub(crate) struct Compaction {
    rng: Rng,
    pub(crate) some: bool,
    written: u64,
}

impl Compaction {
    /// None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed.rotate_left(32) ^ 0x0063_6c65_616e);
        let some = rng.per_mille(350) && plant.is_none();
        Self { rng, some, written: 0 }
    }

    /// Records with few keys, and values that are all different, or none.
    pub(crate) fn records(&mut self, count: i32, payload: usize) -> BatchBuilder {
        let samples: Vec<Sample> = (0..count)
            .map(|n| {
                self.written += 1;
                let keys = if self.rng.per_mille(700) { HOT_KEYS } else { KEYS };
                let mut value = self.written.to_string().into_bytes();
                value.resize(value.len().max(payload / count as usize), b'x');
                Sample {
                    offset_delta: n,
                    key: Some(vec![b'a' + self.rng.index(keys) as u8]),
                    value: (!self.rng.per_mille(TOMBSTONES)).then_some(value),
                    ..Sample::default()
                }
            })
            .collect();
        BatchBuilder::new(count).records(&encoded(&samples))
    }
}

/// What has been committed to compacted topics.
#[derive(Debug, Default)]
pub(crate) struct Originals {
    /// Of each batch, the keys and values of its records, by their offsets.
    records: BTreeMap<TopicPartition, BTreeMap<Offset, Record>>,
    /// Where the last record of each key is.
    last: BTreeMap<(TopicPartition, Vec<u8>), Offset>,
}

/// A key, and its value, unless it is deleted.
type Record = (Vec<u8>, Option<Vec<u8>>);

/// By key, where its last value is, and that value.
type Table = BTreeMap<Vec<u8>, (Offset, Vec<u8>)>;

/// `None` if the records cannot be read.
fn records(batch: &RecordBatch) -> Option<Vec<(Offset, Record)>> {
    let contents = batch.contents(MAX_DECOMPRESSED).ok()?;
    contents.into_iter().map(|r| Some((r.offset, (r.key?.to_vec(), r.value.map(|v| v.to_vec()))))).collect()
}

/// What there is for a reader of the log who goes from its start to that offset: the last value of each key that is not
/// deleted after it, and where it is. And the keys of which it has read that they are deleted.
fn table(log: &PartitionLog, to: Offset) -> (Table, BTreeSet<Vec<u8>>) {
    let (mut table, mut deleted) = (BTreeMap::new(), BTreeSet::new());
    let all = log.batches.iter().flat_map(|batch| records(batch).unwrap_or_default());
    for (offset, (key, value)) in all.filter(|(offset, _)| (log.start..to).contains(offset)) {
        if let Some(value) = value {
            deleted.remove(&key);
            table.insert(key, (offset, value));
        } else {
            table.remove(&key);
            deleted.insert(key);
        }
    }
    (table, deleted)
}

impl Originals {
    /// A batch has been committed.
    pub(crate) fn note(&mut self, tp: TopicPartition, batch: &RecordBatch) {
        for (offset, record) in records(batch).unwrap_or_default() {
            self.last.insert((tp, record.0.clone()), offset);
            self.records.entry(tp).or_default().insert(offset, record);
        }
    }

    /// The first offset of these that has the last record of its key, and is no tombstone: these may go.
    fn missed(&self, tp: TopicPartition, from: Offset, to: Offset, found: &BTreeSet<Offset>) -> Option<Offset> {
        let records = self.records.get(&tp)?;
        let lacking = records.range(from..to.max(from)).filter(|(offset, _)| !found.contains(*offset));
        let is_last = |offset: Offset, key: &[u8]| self.last.get(&(tp, key.to_vec())) == Some(&offset);
        let stays = |offset: &Offset, (key, value): &Record| value.is_some() && is_last(*offset, key);
        lacking.filter(|(offset, record)| stays(offset, record)).map(|(offset, _)| *offset).next()
    }
}

impl Checker {
    /// Whether a batch is the committed one, or what compaction may leave of it.
    pub(crate) fn is_left_of(&self, tp: TopicPartition, known: Committed, found: &RecordBatch) -> bool {
        let now = Committed::from(found);
        if now == known || !self.compacts {
            return now == known;
        }
        let Some(left) = records(found) else { return false };
        let of_it = |(offset, record): &(Offset, Record)| {
            (known.base..known.end).contains(offset)
                && self.originals.records.get(&tp).and_then(|all| all.get(offset)) == Some(record)
        };
        let offsets = left.iter().map(|(offset, _)| *offset).collect();
        (now.base, now.end, now.epoch) == (known.base, known.end, known.epoch)
            && left.iter().all(of_it)
            && self.originals.missed(tp, known.base, known.end, &offsets).is_none()
    }

    /// Whether a log may have nothing of what is committed in that range.
    pub(crate) fn may_lack(&self, tp: TopicPartition, from: Offset, to: Offset) -> bool {
        from >= to || self.compacts && self.originals.missed(tp, from, to, &BTreeSet::new()).is_none()
    }
}

impl World {
    pub(crate) fn first_cleaning(&mut self) {
        if self.compaction.some {
            self.next_cleaning();
        }
    }

    /// The batches of a log tell of each producer how far it has come, whatever was compacted. But one that is behind may have
    /// more in memory of a producer than is remembered, and nothing of it on the disk: it hears of that again before anybody
    /// counts on it.
    pub(crate) fn check_producers_of(&mut self, node: NodeId) {
        let Some(process) = &self.nodes[node].process else { return };
        let forgets = process.logs.iter().filter_map(|(tp, log)| Some((*tp, log.forgets.clone()?)));
        let forgets: Vec<_> = forgets.collect();
        for (tp, how) in forgets {
            // What a damaged log was cut back to, nobody counts on once its broker has registered.
            if self.is_counted(node, tp) && !self.nodes[node].wiped {
                self.checker.fail(Invariant::LogRecovers, format!("broker {node}'s log: {how}"));
            }
            if let Some(log) = self.nodes[node].process.as_mut().and_then(|process| process.logs.get_mut(&tp)) {
                log.forgets = None;
            }
        }
    }

    fn next_cleaning(&mut self) {
        let at = self.now_us + self.compaction.rng.within(1_000, GAP_US);
        self.at(at, Happening::Clean);
    }

    /// Some broker cleans one of its logs, as far as that is committed.
    pub(crate) fn clean(&mut self) {
        self.next_cleaning();
        let rng = &mut self.compaction.rng;
        let (node, tp) = (rng.index(self.nodes.len()), self.partitions[rng.index(self.partitions.len())]);
        let n = &mut self.nodes[node];
        let Some(process) = n.process.as_mut().filter(|_| n.stopped_until_us <= self.now_us) else { return };
        let Some(replica) = process.replicas.get(&tp) else { return };
        let waits = |op: &Op| op.partition() == tp && !matches!(op, Op::Append { .. });
        let busy = process.queue.iter().chain(&process.syncing).any(waits);
        if busy || process.deleting.contains(&tp) || process.unreadable.contains_key(&tp) {
            return;
        }
        let status = replica.status();
        let committed = status.committed.min(status.durable_end);
        let producers: BTreeSet<Offset> = replica.producers().last_batches(committed).collect();
        let now_ms = BEGIN_MS + (self.now_us / 1000) as i64;
        match n.disk.clean(tp, committed, &producers, now_ms, rng) {
            Ok(Cleaned::Nothing) => {}
            Ok(Cleaned::Log(mut log)) => {
                note!(self, "b{node} p{} is cleaned", tp.partition);
                self.counts.note(Activity::Cleaned);
                // What waits for the disk is not there yet.
                let waiting: Vec<RecordBatch> =
                    process.logs.get(&tp).map_or_else(Vec::new, |l| l.from(log.end).to_vec());
                for batch in waiting {
                    log.push(batch);
                }
                let table = |log: &PartitionLog| table(log, committed);
                let ((before, deleted), (after, left)) =
                    (process.logs.get(&tp).map(table).unwrap_or_default(), table(&log));
                if before != after {
                    let how =
                        format!("broker {node} has cleaned {tp}: a reader of all had {before:?}, and has {after:?}");
                    self.checker.fail(Invariant::ReadersSeeCommitted, how);
                }
                if left.len() < deleted.len() {
                    self.counts.note(Activity::TombstonesGone);
                }
                process.logs.insert(tp, *log);
                self.checker.agreed.remove(&(node, tp));
                self.check_committed_order(node, tp);
                self.check_producers_of(node);
            }
            Ok(Cleaned::Interrupted) => self.crash(node),
            Ok(Cleaned::Failed) => self.disk_failed(node),
            Err(how) => self.checker.fail(Invariant::LogRecovers, format!("broker {node}'s log: {how}")),
        }
    }
}
