//! The log of a broker: commit, then apply, then now and then a checkpoint.

use crate::apply::{Stuck, apply_ops};
use crate::at_once::{several_at_once, syncs_at_once};
use crate::checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::once::Once;
use crate::partition::{Dirty, Segment, folder};
use crate::reader::LogReader;
use crate::store::{Kind, Shared, Store};
use crate::wal::Position;
use crate::wal::entry::Entry;
use crate::wal::writer::{MadeSegment, NextSegmentJob, WalWriter};
use crate::{Op, SegmentLimits};
use chronik_core::ids::{Lsn, Offset, TopicPartition};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Everything that a broker's partitions hold. One owner; [`LogReader`]s may be many.
pub struct Log<D: Disk> {
    pub(crate) store: Arc<Store<D>>,
    pub(crate) dir: PathBuf,
    pub(crate) wal: WalWriter<D>,
    pub(crate) dirty: Dirty,
    /// The rounds that are committed and not applied: how many operations, and where the WAL was after them.
    pub(crate) unapplied: VecDeque<(usize, Position)>,
    /// The ends of partitions that those rounds change; `None` when only applying them can tell.
    pub(crate) pending_ends: HashMap<TopicPartition, Option<Offset>>,
    /// Where truncations that are committed and not applied end: as the write-ahead log has it.
    pub(crate) cuts: HashMap<TopicPartition, Offset>,
    /// All before is in the segments, written or synced.
    pub(crate) applied: Position,
    /// Batches of rounds that are applied but for them: their segments had no room for them. They are durable in the
    /// write-ahead log, which therefore is not let go of meanwhile.
    pub(crate) stuck: Stuck,
    /// All before is applied, but for what is stuck.
    pub(crate) reached: Position,
    /// The position of the last checkpoint that was begun.
    pub(crate) checkpointed: Lsn,
    /// The position of the last checkpoint that was finished: where a start replays from.
    pub(crate) replayed_from: Lsn,
    pub(crate) once: Once<D>,
    /// See [`Log::begin_checkpoint_beside`].
    pub(crate) beside: Option<CheckpointJob<D>>,
    /// What compaction has replaced, and the checkpoint that was begun last says so: the files are still there.
    pub(crate) replaced: Vec<(TopicPartition, Segment)>,
    pub(crate) poisoned: bool,
    /// See [`Log::wal_lost`].
    pub(crate) wal_lost: bool,
    pub(crate) _lock: D::Lock,
}

/// A checkpoint that was begun: can be carried out on another thread while the log goes on.
pub(crate) struct CheckpointJob<D: Disk> {
    store: Arc<Store<D>>,
    dir: PathBuf,
    dirty: Dirty,
    bytes: Vec<u8>,
    /// In the order in which they are in `bytes`.
    partitions: Vec<(TopicPartition, Arc<Shared>)>,
    wal: Position,
    /// When it was begun, by the clock of the open files.
    begun: u64,
}

impl<D: Disk> Log<D> {
    /// Makes room for the first operations, so that making them durable takes less, if the disk has it. May be left out; an
    /// error is final, as that of [`Self::commit`] is.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        self.goes_on()?;
        self.poisoned = true;
        match self.wal.prepare() {
            Err(e) if e.is_full() => {}
            other => other?,
        }
        self.poisoned = false;
        Ok(())
    }

    /// Makes the operations durable, with one write and one sync, or fails for good: after an error from the
    /// disk the log is poisoned, and only opening it again tells what is durable.
    ///
    /// A truncation into the middle of a batch should come when all before it is applied: otherwise a crash
    /// before the next checkpoint can make its partition look damaged from there on.
    pub fn commit(&mut self, ops: &[Op]) -> Result<(), LogError> {
        self.commit_when_possible(ops, || false)?;
        self.seal();
        Ok(())
    }

    /// Lets a recovery see that the last round was synced, as the next one would.
    pub(crate) fn seal(&self) {
        self.wal.seal();
    }

    /// Whether applying so many operations may wait for syncs of segments.
    pub(crate) fn may_wait_to_apply(&self, ops: usize) -> bool {
        self.store.files.may_wait_to_write(ops)
    }

    /// As [`Self::commit`], without the seal; asks `again` whether to go on each time that the disk has no room.
    pub(crate) fn commit_when_possible(&mut self, ops: &[Op], mut again: impl FnMut() -> bool) -> Result<(), LogError> {
        self.goes_on()?;
        let ends = self.check_order(ops)?;
        if ops.iter().any(|op| self.waits_for_checkpoint(op)) {
            self.checkpoint()?;
        }
        self.poisoned = true;
        let resolved = self.resolve(ops)?;
        let entries = self.write_ahead(&resolved)?;
        let mut rest = &entries[..];
        while let Err(e) = self.wal.write(&mut rest) {
            if !e.is_full() {
                return Err(e);
            }
            self.seal();
            if !again() {
                return Err(e);
            }
        }
        self.once.sync(&self.store, || self.wal.sync())?;
        self.once.wait_for_syncs(&self.store)?;
        self.once.committed();
        self.poisoned = false;
        self.pending_ends.extend(ends);
        self.unapplied.push_back((ops.len(), self.wal.position()));
        Ok(())
    }

    /// Whether there is a log in the directory that [`Self::open`] would continue.
    pub fn exists(disk: &D, dir: &Path) -> io::Result<bool> {
        disk.exists(&checkpoint::path(dir))
    }

    /// Writes committed operations into the partitions' segments, where readers see them, without sync; all
    /// committed operations have to come by here, in order. Makes a checkpoint when one is due.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), LogError> {
        self.apply_only(ops)?;
        if let Err(e) = self.apply_stuck() {
            self.poisoned = true;
            return Err(e);
        }
        self.store.trash.remove_all(&self.store.disk);
        if self.beside.is_none() && self.checkpoint_due() {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes the next segment of the write-ahead log before it is needed, as a [`crate::Writer`] does beside its rounds, if
    /// the disk has room for it. May be left out; an error is final, as that of [`Self::commit`] is.
    pub fn prepare_segment(&mut self) -> Result<(), LogError> {
        self.goes_on()?;
        let Some(job) = self.next_segment() else { return Ok(()) };
        match self.has_next_segment(job.run()) {
            Err(e) if e.is_full() => Ok(()),
            Err(e) => {
                self.poisoned = true;
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Begins a checkpoint of what is applied, to be finished after rounds that follow, as a [`crate::Writer`] does it. Until
    /// then there is no other one.
    pub fn begin_checkpoint_beside(&mut self) -> Result<(), LogError> {
        self.end_checkpoint_beside()?;
        self.apply_stuck()?;
        self.beside = Some(self.begin_checkpoint());
        Ok(())
    }

    /// Finishes it, if it was begun.
    pub fn end_checkpoint_beside(&mut self) -> Result<(), LogError> {
        let Some(job) = self.beside.take() else { return Ok(()) };
        self.goes_on()?;
        self.poisoned = true;
        let done = job.run()?;
        self.finish_checkpoint(done)?;
        self.poisoned = false;
        Ok(())
    }

    /// Syncs the segments and lets go of the write-ahead log up to what is applied.
    pub fn checkpoint(&mut self) -> Result<(), LogError> {
        self.goes_on()?;
        self.begin_checkpoint_beside()?;
        self.end_checkpoint_beside()
    }

    /// Whether the write-ahead log has lost operations that were synced. What they changed is unknown: any
    /// partition may lack what was durable, and such a log must not be believed to be whole. Remembered over
    /// openings until it is [accepted](Self::accept_wal_loss).
    pub fn wal_lost(&self) -> bool {
        self.wal_lost
    }

    /// Forgets, durably, that the write-ahead log lost something: for when nobody counts on this log any more.
    pub fn accept_wal_loss(&mut self) -> Result<(), LogError> {
        self.wal_lost = false;
        self.checkpoint()
    }

    /// Keeps what truncations of these partitions, to these offsets, would remove, in files under `damaged/` in the log's
    /// directory, for whoever recovers records by hand: as far as the options' `damaged_bytes` and the disk allow. To be
    /// followed by these truncations: the partitions cannot be read from there on.
    pub fn set_aside(&mut self, cuts: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        self.store.set_aside(cuts)
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader<D> {
        LogReader { store: Arc::clone(&self.store) }
    }

    /// A handle for the sizes and ages at which partitions' segments are full.
    pub fn segment_limits(&self) -> SegmentLimits {
        self.store.limits.clone()
    }

    /// See [`crate::Writer::write_once`]. After a round, all of it has to be applied before the next one that truncates.
    pub fn write_once(&self, may: bool) {
        self.once.allowed.store(may, Ordering::Relaxed);
    }

    /// Bytes that the write-ahead log has taken since it was created.
    pub fn wal_bytes(&self) -> u64 {
        self.wal.position().lsn.0
    }

    pub(crate) fn apply_only(&mut self, ops: &[Op]) -> Result<(), LogError> {
        self.goes_on()?;
        self.poisoned = true;
        apply_ops(&self.store, ops, &mut self.dirty, &mut self.stuck, &mut self.once, &mut self.cuts)?;
        self.poisoned = false;
        let mut done = ops.len();
        while let Some((left, position)) = self.unapplied.front_mut() {
            let n = done.min(*left);
            *left -= n;
            done -= n;
            if *left > 0 {
                break;
            }
            self.reached = *position;
            self.unapplied.pop_front();
        }
        if self.stuck.is_empty() {
            self.applied = self.reached;
        }
        if self.unapplied.is_empty() {
            self.pending_ends.clear();
        }
        Ok(())
    }

    /// Tries again to write what had no room.
    pub(crate) fn apply_stuck(&mut self) -> Result<(), LogError> {
        self.stuck.apply(&self.store, &mut self.dirty)?;
        self.applied = self.reached;
        Ok(())
    }

    pub(crate) fn checkpoint_due(&self) -> bool {
        self.stuck.is_empty() && self.applied.lsn.0 - self.checkpointed.0 >= self.store.options.checkpoint_bytes
    }

    /// Bytes that a start would replay.
    pub(crate) fn unreplayed(&self) -> u64 {
        self.reached.lsn.0 - self.replayed_from.0
    }

    /// See [`WalWriter::next_job`].
    pub(crate) fn next_segment(&mut self) -> Option<NextSegmentJob<D>> {
        self.wal.next_job()
    }

    pub(crate) fn has_next_segment(&mut self, made: MadeSegment<D>) -> Result<(), LogError> {
        self.wal.has_next(made)
    }

    /// Whether a round of so many bytes may need the next segment of the write-ahead log, which is not ready.
    pub(crate) fn is_short_of(&self, bytes: usize) -> bool {
        self.wal.is_short_of(bytes)
    }

    pub(crate) fn begin_checkpoint(&mut self) -> CheckpointJob<D> {
        self.checkpointed = self.applied.lsn;
        if self.unapplied.is_empty() {
            self.once.checkpoint_begins();
        }
        // Before the state is read: what is replaced after this may not be in it.
        self.replaced.extend(self.store.take_replaced());
        let partitions = self.store.all();
        let mut bytes = checkpoint::encode(self.wal.mark(), self.applied, partitions.len() as u32);
        for (tp, shared) in &partitions {
            checkpoint::encode_partition(&mut bytes, *tp, &shared.read());
        }
        checkpoint::encode_loss(&mut bytes, self.wal_lost);
        CheckpointJob {
            store: Arc::clone(&self.store),
            dir: self.dir.clone(),
            dirty: std::mem::take(&mut self.dirty),
            bytes,
            partitions,
            wal: self.applied,
            begun: self.store.files.now(),
        }
    }

    pub(crate) fn finish_checkpoint(&mut self, done: Position) -> Result<(), LogError> {
        self.replayed_from = done.lsn;
        self.once.checkpoint_ended();
        let replaced = std::mem::take(&mut self.replaced);
        self.store.discard_replaced(&replaced, &mut self.dirty)?;
        self.wal.recycle(done.segment)
    }

    /// Whether an operation has to wait for a checkpoint: see [`Once`].
    pub(crate) fn waits_for_checkpoint(&self, op: &Op) -> bool {
        self.once.waits_for_checkpoint(op, || self.store.partition(op.partition()).map(|p| p.read().end))
    }

    /// Writes what is large to segments, and says how each operation is written to the write-ahead log.
    fn write_ahead<'a>(&mut self, ops: &'a [Op]) -> Result<Vec<Entry<'a>>, LogError> {
        let (stuck, applied) = (&self.stuck, self.unapplied.is_empty());
        self.once.write_ahead(&self.store, ops, |tp| applied && stuck.end(tp).is_none())
    }

    /// Fails if what is durable is not known any more.
    fn goes_on(&self) -> Result<(), LogError> {
        if self.poisoned { Err(LogError::Poisoned) } else { self.store.syncs.check() }
    }

    /// Refuses a batch that does not continue its partition, before anything is written.
    fn check_order(&self, ops: &[Op]) -> Result<HashMap<TopicPartition, Option<Offset>>, LogError> {
        let mut ends = HashMap::new();
        for op in ops {
            let tp = op.partition();
            let known = ends.get(&tp).or_else(|| self.pending_ends.get(&tp)).copied();
            let known = known.or_else(|| self.stuck.end(tp).map(Some));
            let end = known.unwrap_or_else(|| Some(self.store.partition(tp)?.read().end));
            let next = match op {
                Op::Append { batch, .. } => {
                    let found = batch.header().base_offset;
                    // It may come later, where the leader's log was compacted.
                    if let Some(expected) = end.filter(|end| *end > found) {
                        return Err(LogError::OutOfOrder { partition: tp, expected, found });
                    }
                    Some(batch.header().end_offset())
                }
                Op::AdvanceStart { to, .. } | Op::BeginAt { at: to, .. } => end.map(|end| end.max(*to)),
                // Where a truncation ends is known when it is applied, and a deleted partition may begin anywhere.
                Op::Truncate { .. } | Op::Repair { .. } | Op::Delete { .. } => None,
            };
            ends.insert(tp, next);
        }
        Ok(ends)
    }

    /// Names in each truncation where exactly it ends, so that a recovery need not ask batches that are gone, and an
    /// application finds nothing else.
    fn resolve<'a>(&mut self, ops: &'a [Op]) -> Result<Cow<'a, [Op]>, LogError> {
        let mut ops = Cow::Borrowed(ops);
        if !ops.iter().any(|op| matches!(op, Op::Truncate { .. } | Op::Repair { .. })) {
            return Ok(ops);
        }
        let mut seen = HashSet::new();
        for i in 0..ops.len() {
            let first = seen.insert(ops[i].partition());
            if let Op::Truncate { partition, to } | Op::Repair { partition, to } = ops[i]
                && first
                && !self.pending_ends.contains_key(&partition)
            {
                let repairs = matches!(ops[i], Op::Repair { .. });
                let to = self.store.cut_at(partition, to, repairs)?;
                self.cuts.insert(partition, to);
                ops.to_mut()[i] = Op::Truncate { partition, to };
            }
        }
        Ok(ops)
    }
}

impl<D: Disk> CheckpointJob<D> {
    /// Syncs what is dirty and puts the checkpoint in place. Returns the position it stands for. What failed for want of
    /// room may be tried again.
    pub(crate) fn run(&self) -> Result<Position, LogError> {
        let store = &*self.store;
        for (tp, _, uid) in &self.dirty.cuts {
            store.cut_file(*tp, *uid)?;
        }
        self.sync_segments()?;
        let folders: Vec<_> = self.dirty.folders.iter().copied().collect();
        several_at_once(syncs_at_once::<D>(folders.len()), &folders, |tp| {
            let dir = folder(&store.root, *tp);
            let synced = store.syncs.run(&dir, || store.disk.sync_dir(&dir));
            store.files.pulse.beat();
            match synced {
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })?;
        if self.dirty.root {
            store.syncs.run(&store.root, || store.disk.sync_dir(&store.root))?;
        }
        store.take_snapshots(&self.partitions)?;
        let (mut bytes, mut unneeded) = (self.bytes.clone(), Vec::new());
        for (_, shared) in &self.partitions {
            let soft = shared.soft();
            checkpoint::encode_snapshots(&mut bytes, soft.snapshots());
            unneeded.push(soft.obsolete().to_vec());
        }
        // What failed beside this one is not seen by its own syncs.
        store.syncs.wait_for_all()?;
        checkpoint::write(&store.disk, &self.dir, bytes)?;
        for ((tp, shared), unneeded) in self.partitions.iter().zip(&unneeded) {
            store.drop_snapshots(*tp, shared, unneeded)?;
        }
        tracing::debug!(lsn = %self.wal.lsn, "checkpoint");
        Ok(self.wal)
    }

    fn sync_segments(&self) -> Result<(), LogError> {
        let files = &self.store.files;
        // What was synced meanwhile, as too many were not, was not written to since.
        let written = self.dirty.segments.iter().filter(|(_, _, uid)| files.unsynced(*uid).is_some());
        let logs: BTreeSet<_> = written.chain(&self.dirty.cuts).collect();
        let logs = logs.into_iter().map(|segment| (*segment, Kind::Log));
        let all: Vec<_> = logs.chain(self.dirty.indexes.iter().map(|segment| (*segment, Kind::Index))).collect();
        several_at_once(syncs_at_once::<D>(all.len()), &all, |(segment, kind)| self.sync_segment(*segment, *kind))
    }

    fn sync_segment(&self, (tp, _, uid): (TopicPartition, Offset, u64), kind: Kind) -> Result<(), LogError> {
        let store = &*self.store;
        // What was truncated, compacted or deleted since will be again, should the log be replayed from here.
        let Some(segment) = store.segment(tp, uid) else { return Ok(()) };
        let name = if kind == Kind::Log { segment.log_name() } else { segment.index_name() };
        let path = folder(&store.root, tp).join(name);
        match store.file(tp, &segment, kind) {
            Ok(file) => {
                store.syncs.run_of(uid, &path, || file.sync_data())?;
                // A round that waits for this waits for many syncs, and not for a disk that hangs.
                store.files.pulse.beat();
                if kind == Kind::Log {
                    store.files.synced(uid, self.begun);
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(LogError::Io { action: "open", path, source }),
        }
    }
}

pub(crate) fn wal_dir(dir: &Path) -> PathBuf {
    dir.join("wal")
}

pub(crate) fn partitions_dir(dir: &Path) -> PathBuf {
    dir.join("partitions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, SimulatedDisk};
    use chronik_core::ids::{LeaderEpoch, PartitionId, TopicId};
    use chronik_core::record::testing::BatchBuilder;
    use std::sync::mpsc;
    use std::thread;

    /// Its own sync succeeds, as the failure is told to who syncs first.
    #[test]
    fn a_round_fails_by_the_failure_of_somebody_elses_sync_of_its_segment() {
        let disk = SimulatedDisk::new(1);
        let options = Options { write_once_bytes: 100, ..Options::default() };
        let (mut log, _) = Log::open(disk.clone(), Path::new("/d"), options).expect("it opens");
        log.write_once(true);
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let append = |base| {
            let batch = BatchBuilder::new(1).payload(1000).build().assign(Offset(base), LeaderEpoch(1));
            [Op::Append { partition, batch }]
        };
        let mut syncs = 0;
        for base in 0..3 {
            let before = disk.syncs();
            log.commit(&append(base)).and_then(|()| log.apply(&append(base))).expect("the disk is whole");
            syncs = disk.syncs() - before;
        }
        assert_eq!(syncs, 2, "it is written once");
        let store = Arc::clone(&log.store);
        let uid = store.partition(partition).expect("it is there").read().segments[0].uid;
        let (begun, begins) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let sync = || {
                    let before = disk.syncs();
                    begun.send(()).expect("it is waited for");
                    // The round has done its own by then: of the segment, and of the write-ahead log.
                    while disk.syncs() < before + 2 {
                        thread::yield_now();
                    }
                    Err(rustix::io::Errno::IO.into())
                };
                store.syncs.run_of(uid, Path::new("a"), sync).expect_err("it fails");
            });
            begins.recv().expect("it begins");
            let committed = log.commit(&append(3));
            assert!(matches!(committed, Err(LogError::Io { action: crate::error::SYNC, .. })), "{committed:?}");
        });
        assert!(matches!(log.commit(&append(3)), Err(LogError::Poisoned)));
    }
}
