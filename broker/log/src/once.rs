//! Writing large appends once: to their segment, with a reference in the write-ahead log in place of the bytes.
//!
//! A round writes such a batch behind its partition's end, and syncs the segment and the write-ahead log. A crash before
//! both are durable leaves bytes that nothing refers to, or a reference to bytes that are not there: the recovery ends the
//! chain before such a block, as before one that is torn.
//!
//! * The segment, its name, and the batches before it there are in the checkpoint or in the write-ahead log. So a recovery
//!   that appends all again in order, and begins segments where they began, comes to the same places, and finds
//!   the bytes there. For that, nothing may take the partition's end back between a reference and the checkpoint after it:
//!   such an operation [waits for that checkpoint](Once::waits_for_checkpoint), and after it there is no reference until
//!   the next checkpoint is finished. A deletion need not wait: nobody asks for the bytes any more.
//! * What a recovery finds behind a partition's end used to prove that the write-ahead log has lost its own end. Behind
//!   such writes it may be what no round has finished. So they are announced, with an append that is written to the
//!   write-ahead log as a whole, once for each segment and checkpoint.

use crate::Op;
use crate::at_once::Threads;
use crate::disk::Disk;
use crate::error::LogError;
use crate::partition::{Ahead, Written};
use crate::store::Store;
use crate::wal::entry::Entry;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Segments of one round that are synced at the same time.
const AHEAD_AT_ONCE: usize = 8;

/// What there is to know of partitions whose batches are written once.
pub(crate) struct Once<D: Disk> {
    /// Whether the cluster may write references.
    pub(crate) allowed: Arc<AtomicBool>,
    /// The segments, by number, for which it was announced since the last checkpoint was begun.
    announced: HashMap<TopicPartition, u64>,
    /// Partitions that were changed by more than appends and moves of the start since then.
    changed: HashSet<TopicPartition>,
    /// The same, of the time before, while that checkpoint is not finished: a recovery may begin with the one before.
    changed_before: HashSet<TopicPartition>,
    /// Partitions with references since then.
    referenced: HashSet<TopicPartition>,
    /// The same, of the time before, while that checkpoint is not finished.
    referenced_before: HashSet<TopicPartition>,
    /// What the round under way has written. In order, as a simulated disk is asked for the same in the same order.
    ahead: BTreeMap<TopicPartition, Ahead<D>>,
    /// Those that sync segments beside the write-ahead log.
    threads: Threads,
}

impl<D: Disk> Once<D> {
    pub(crate) fn new() -> Self {
        Self {
            allowed: Arc::default(),
            announced: HashMap::new(),
            changed: HashSet::new(),
            changed_before: HashSet::new(),
            referenced: HashSet::new(),
            referenced_before: HashSet::new(),
            ahead: BTreeMap::new(),
            threads: Threads::default(),
        }
    }

    /// Whether an operation would take back what a reference counts on. `end` is where the partition ends.
    pub(crate) fn waits_for_checkpoint(&self, op: &Op, end: impl FnOnce() -> Option<Offset>) -> bool {
        let tp = op.partition();
        match op {
            Op::Append { .. } | Op::Delete { .. } => false,
            _ if !self.referenced.contains(&tp) && !self.referenced_before.contains(&tp) => false,
            Op::Truncate { .. } | Op::Repair { .. } | Op::BeginAt { .. } => true,
            Op::AdvanceStart { to, .. } => end().is_some_and(|end| *to >= end),
        }
    }

    /// Whether it has to wait for one that has not begun.
    pub(crate) fn waits_for_another_checkpoint(&self, op: &Op) -> bool {
        self.referenced.contains(&op.partition())
    }

    /// Writes the batches of partitions that have many in this round to their segments, where that may be. Returns what is
    /// to be written to the write-ahead log.
    pub(crate) fn write_ahead<'a>(
        &mut self,
        store: &Store<D>,
        ops: &'a [Op],
        may: impl Fn(TopicPartition) -> bool,
    ) -> Result<Vec<Entry<'a>>, LogError> {
        self.ahead.clear();
        self.changed.extend(ops.iter().filter(|op| changes(store, op)).map(Op::partition));
        let mut announcing = BTreeSet::new();
        let total: usize = ops.iter().map(Op::bytes).sum();
        if self.allowed.load(Ordering::Relaxed) && total >= store.options.write_once_bytes {
            for (tp, batches) in large(ops, store.options.write_once_bytes) {
                if self.changed.contains(&tp) || self.changed_before.contains(&tp) || !may(tp) {
                    continue;
                }
                let Some(uid) = store.appendable(tp) else { continue };
                if self.announced.get(&tp) == Some(&uid) {
                    match store.write_ahead(tp, uid, &batches) {
                        // The write-ahead log may have room.
                        Err(e) if e.is_full() => {}
                        other => self.ahead.extend(other?.map(|ahead| (tp, ahead))),
                    }
                } else {
                    announcing.insert(tp);
                    self.announced.insert(tp, uid);
                }
            }
        }
        store.sync_names(&announcing)?;
        let mut places: HashMap<_, _> = self.ahead.iter().map(|(tp, ahead)| (*tp, ahead.places.iter())).collect();
        let entry = |op: &'a Op| match op {
            Op::Append { partition, batch } => match places.get_mut(partition).and_then(Iterator::next) {
                Some(place) => Entry::Reference { partition: *partition, batch, place: *place },
                None => Entry::Whole { op, announces: announcing.contains(partition) },
            },
            _ => Entry::Whole { op, announces: false },
        };
        Ok(ops.iter().map(entry).collect())
    }

    /// Waits for all syncs of the files that were written ahead, and fails if one has failed: a file's error is
    /// reported to one of its syncs only, and that may have been another one than this round's.
    pub(crate) fn wait_for_syncs(&self, store: &Store<D>) -> Result<(), LogError> {
        if self.ahead.is_empty() {
            return Ok(());
        }
        store.syncs.wait_for(&self.ahead.values().map(Ahead::uid).collect())
    }

    /// Makes durable what was written ahead, and the write-ahead log, by `sync_wal`. All at once, as neither has to be
    /// durable before the other: a journal takes syncs together that come at the same time, and small appends of the round
    /// wait for one sync and not for one of each segment.
    pub(crate) fn sync(
        &mut self,
        store: &Arc<Store<D>>,
        sync_wal: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if self.ahead.is_empty() || D::SYNCS_AT_ONCE == 1 {
            self.ahead.values().try_for_each(|ahead| store.sync_ahead(ahead.uid(), &ahead.file))?;
            return sync_wal();
        }
        let files: Vec<_> = self.ahead.values().map(|ahead| (ahead.uid(), Arc::clone(&ahead.file))).collect();
        let store = Arc::clone(store);
        let sync_ahead = move |(uid, file): &(u64, Arc<D::File>)| store.sync_ahead(*uid, file);
        self.threads.do_beside(D::SYNCS_AT_ONCE.min(AHEAD_AT_ONCE), files, sync_ahead, sync_wal)
    }

    /// The round is durable.
    pub(crate) fn committed(&mut self) {
        self.referenced.extend(self.ahead.keys());
    }

    /// What the round has written of a partition, to be part of the log now.
    pub(crate) fn take(&mut self, tp: TopicPartition) -> Option<Written> {
        Some(self.ahead.remove(&tp)?.written)
    }

    /// A checkpoint begins at what is applied, which is all.
    pub(crate) fn checkpoint_begins(&mut self) {
        self.announced.clear();
        self.changed_before.extend(self.changed.drain());
        self.referenced_before.extend(self.referenced.drain());
    }

    /// It is finished.
    pub(crate) fn checkpoint_ended(&mut self) {
        self.changed_before.clear();
        self.referenced_before.clear();
    }
}

/// Whether an operation does more to its partition than add to its end, or take some of it from its start.
fn changes<D: Disk>(store: &Store<D>, op: &Op) -> bool {
    match op {
        Op::Append { .. } => false,
        Op::AdvanceStart { partition, to } => store.partition(*partition).is_none_or(|p| *to >= p.read().end),
        Op::Truncate { .. } | Op::Repair { .. } | Op::BeginAt { .. } | Op::Delete { .. } => true,
    }
}

/// The batches of partitions that have as many bytes in a round.
fn large(ops: &[Op], bytes: usize) -> BTreeMap<TopicPartition, Vec<&RecordBatch>> {
    let mut batches: BTreeMap<_, Vec<&RecordBatch>> = BTreeMap::new();
    for op in ops {
        if let Op::Append { partition, batch } = op {
            batches.entry(*partition).or_default().push(batch);
        }
    }
    batches.retain(|_, batches| batches.iter().map(|batch| batch.bytes().len()).sum::<usize>() >= bytes);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SYNC;
    use crate::{Log, Options, RealDisk, SimulatedDisk};
    use chronik_core::ids::{LeaderEpoch, PartitionId, TopicId};
    use chronik_core::record::testing::BatchBuilder;
    use std::path::Path;

    fn open<D: Disk>(disk: D, dir: &Path) -> Log<D> {
        let options = Options { write_once_bytes: 100, ..Options::default() };
        let (log, _) = Log::open(disk, dir, options).unwrap();
        log.write_once(true);
        log
    }

    fn partition(n: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::default(), partition: PartitionId(n) }
    }

    /// A batch for each of so many partitions.
    fn round(base: i64, partitions: i32) -> Vec<Op> {
        let batch = || BatchBuilder::new(1).payload(1000).build().assign(Offset(base), LeaderEpoch(1));
        (0..partitions).map(|n| Op::Append { partition: partition(n), batch: batch() }).collect()
    }

    #[test]
    fn segments_are_synced_in_the_same_order_each_time() {
        let mut log = open(SimulatedDisk::new(1), Path::new("/d"));
        for base in 0..2 {
            let ops = round(base, 8);
            log.commit(&ops).and_then(|()| log.apply(&ops)).unwrap();
        }
        log.commit(&round(2, 8)).unwrap();
        assert_eq!(log.once.ahead.len(), 8);
        assert!(log.once.ahead.keys().is_sorted());
    }

    #[test]
    fn segments_are_synced_by_threads_that_stay_and_each_failure_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(RealDisk, dir.path());
        for base in 0..5 {
            let ops = round(base, 3);
            log.commit(&ops).and_then(|()| log.apply(&ops)).unwrap();
            // The segments come with the first round, and are announced by the second.
            assert_eq!(log.once.threads.0.len(), if base < 2 { 0 } else { 3 });
        }
        let (store, ops) = (Arc::clone(&log.store), round(5, 3));
        log.once.write_ahead(&store, &ops, |_| true).unwrap();
        assert!(log.once.sync(&store, || Ok(())).is_ok());
        assert!(matches!(log.once.sync(&store, || Err(LogError::Poisoned)), Err(LogError::Poisoned)));
        for failing in 0..3 {
            log.once.write_ahead(&store, &ops, |_| true).unwrap();
            // A sync of this one fails.
            let file = RealDisk.open(Path::new("/dev/null")).unwrap();
            log.once.ahead.get_mut(&partition(failing)).unwrap().file = Arc::new(file);
            let synced = log.once.sync(&store, || Ok(()));
            assert!(matches!(synced, Err(LogError::Io { action: SYNC, .. })), "{failing}: {synced:?}");
        }
        assert_eq!(log.once.threads.0.len(), 3);
    }
}
