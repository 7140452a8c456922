//! The partitions of a log, shared between the thread that writes them and those that read.

use crate::Pulse;
use crate::at_once::{several_at_once, syncs_at_once};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::partition::{Partition, Segment, Soft, folder, log_name};
use crate::syncs::Syncs;
use crate::trash::Trash;
use crate::{Options, SegmentLimits};
use chronik_core::ids::{Offset, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// So that positions fit an index.
const MAX_SEGMENT_BYTES: u64 = 1 << 31;
/// So many segments that a partition has double what the next one may have.
const MANY_SEGMENTS: usize = 1024;

/// One partition's state. The locks are held for reading or replacing it, never over I/O.
pub(crate) struct Shared {
    partition: RwLock<Partition>,
    soft: Mutex<Soft>,
    /// Reads that failed and were repeated, since it was cut last.
    repeats: AtomicU64,
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Partition> {
        self.partition.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Partition> {
        self.partition.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn soft(&self) -> MutexGuard<'_, Soft> {
        self.soft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a read that failed and is repeated. Says how many there were where that is to be said: at the first, and each
    /// time that there are twice as many. Whoever reads what is damaged does so again and again.
    pub(crate) fn repeats(&self) -> Option<u64> {
        let repeats = self.repeats.fetch_add(1, Ordering::Relaxed) + 1;
        repeats.is_power_of_two().then_some(repeats)
    }

    /// What was damaged is gone: what fails from now on is something else.
    pub(crate) fn forget_repeats(&self) {
        self.repeats.store(0, Ordering::Relaxed);
    }
}

pub(crate) struct Store<D: Disk> {
    pub(crate) disk: D,
    pub(crate) root: PathBuf,
    pub(crate) options: Options,
    pub(crate) files: Files<D>,
    pub(crate) trash: Trash,
    pub(crate) limits: SegmentLimits,
    pub(crate) syncs: Syncs,
    /// Held by whoever puts something into `damaged/`.
    pub(crate) keeping: Mutex<()>,
    /// Held by whoever replaces a partition's segments by others: the thread that writes, or a cleaning for a moment.
    changing: Mutex<()>,
    /// Segments that compaction has replaced, whose files are there until a checkpoint says so too.
    replaced: Mutex<Vec<(TopicPartition, Segment)>>,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<Shared>>>,
    uids: AtomicU64,
    recovering: AtomicBool,
    /// While recovering, of partitions with batches that are at their places already: where those segments begin, and where
    /// the last of these batches ends in each.
    rolls: Mutex<HashMap<TopicPartition, BTreeMap<Offset, Offset>>>,
    on_damage: RwLock<Vec<OnDamage>>,
}

/// Called with a partition and its first offset that is known to be unreadable.
pub(crate) type OnDamage = Box<dyn Fn(TopicPartition, Offset) + Send + Sync>;

impl<D: Disk> Store<D> {
    /// `number` is a random one, from which segments are numbered.
    pub(crate) fn new(disk: D, root: PathBuf, options: Options, number: u64) -> Self {
        let files = Files::new(options.max_open_files.max(4));
        Self {
            disk,
            root,
            options,
            files,
            trash: Trash::default(),
            limits: SegmentLimits::default(),
            syncs: Syncs::default(),
            keeping: Mutex::default(),
            changing: Mutex::default(),
            replaced: Mutex::default(),
            partitions: RwLock::default(),
            uids: AtomicU64::new(number),
            recovering: AtomicBool::new(true),
            rolls: Mutex::default(),
            on_damage: RwLock::default(),
        }
    }

    /// Calls `watcher` with damage that reads find from now on.
    pub(crate) fn watch_damage(&self, watcher: OnDamage) {
        self.on_damage.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    pub(crate) fn tell_damage(&self, tp: TopicPartition, offset: Offset) {
        for tell in self.on_damage.read().unwrap_or_else(PoisonError::into_inner).iter() {
            tell(tp, offset);
        }
    }

    /// Whether the write-ahead log is being applied again: files may hold what no partition refers to (yet).
    pub(crate) fn recovering(&self) -> bool {
        self.recovering.load(Ordering::Relaxed)
    }

    pub(crate) fn recovered(&self) {
        self.recovering.store(false, Ordering::Relaxed);
        self.rolls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Has the recovery begin segments of a partition as they began: there, each with the end of the last batch in it that is
    /// at its place already.
    pub(crate) fn roll_at(&self, tp: TopicPartition, segments: impl IntoIterator<Item = (Offset, Offset)>) {
        self.rolls.lock().unwrap_or_else(PoisonError::into_inner).entry(tp).or_default().extend(segments);
    }

    /// Whether a segment of that partition begins where its last one, with that base offset, ends; `None` if nothing says so.
    pub(crate) fn rolls(&self, tp: TopicPartition, last: Option<Offset>, at: Offset) -> io::Result<Option<bool>> {
        let needed = {
            let rolls = self.rolls.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = rolls.get(&tp) else { return Ok(None) };
            if known.contains_key(&at) {
                return Ok(Some(true));
            }
            last.and_then(|last| known.get(&last)).is_some_and(|end| *end > at)
        };
        // All others are where they were too, so that a recovery takes no more room than the log did: a file is there then.
        Ok(Some(!needed && self.disk.exists(&folder(&self.root, tp).join(log_name(at)))?))
    }

    /// A number that no segment has had, in this process or an earlier one.
    pub(crate) fn next_uid(&self) -> u64 {
        self.uids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn partition(&self, tp: TopicPartition) -> Option<Arc<Shared>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&tp).cloned()
    }

    pub(crate) fn insert(&self, tp: TopicPartition, partition: Partition, soft: Soft) -> Arc<Shared> {
        let (partition, soft, repeats) = (RwLock::new(partition), Mutex::new(soft), AtomicU64::default());
        let shared = Arc::new(Shared { partition, soft, repeats });
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(tp, Arc::clone(&shared));
        shared
    }

    pub(crate) fn take(&self, tp: TopicPartition) -> Option<Arc<Shared>> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&tp)
    }

    /// To be held while a partition's segments are replaced.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes segments whose files are to go when the next checkpoint is durable.
    pub(crate) fn replaced(&self, tp: TopicPartition, segments: impl Iterator<Item = Segment>) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.extend(segments.map(|segment| (tp, segment)));
    }

    /// Those that were noted until now, and are not any more.
    pub(crate) fn take_replaced(&self) -> Vec<(TopicPartition, Segment)> {
        std::mem::take(&mut *self.replaced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of a segment at most, where a partition has so many of them. A topic may ask for segments of some bytes: each costs
    /// a file, memory, and a place in each checkpoint, so there are not as many as there are batches.
    pub(crate) fn segment_bytes(&self, tp: TopicPartition, segments: usize) -> u64 {
        let bytes = self.limits.of(tp).map_or(self.options.segment_bytes, |limit| limit.bytes);
        let times = 1u64.checked_shl((segments / MANY_SEGMENTS) as u32).unwrap_or(u64::MAX);
        bytes.saturating_mul(times).min(MAX_SEGMENT_BYTES)
    }

    /// Bytes between two entries of an index.
    pub(crate) fn index_interval_bytes(&self, tp: TopicPartition) -> u64 {
        self.limits.of(tp).map_or(self.options.index_interval_bytes, |limit| limit.index_interval_bytes)
    }

    /// Every partition, in order.
    pub(crate) fn all(&self) -> Vec<(TopicPartition, Arc<Shared>)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(tp, shared)| (*tp, Arc::clone(shared))).collect()
    }

    /// The segment of that number, if it is still one of the partition's.
    pub(crate) fn segment(&self, tp: TopicPartition, uid: u64) -> Option<Segment> {
        self.partition(tp)?.read().segments.iter().copied().find(|s| s.uid == uid)
    }

    /// Cuts the file of a segment that is not appended to any more to the segment's length.
    pub(crate) fn cut_file(&self, tp: TopicPartition, uid: u64) -> Result<(), LogError> {
        let (path, file, len) = {
            // A truncation meanwhile would let another segment have its name, and that one be cut.
            let _changing = self.change();
            let Some(segment) = self.segment(tp, uid).filter(|s| s.sealed) else { return Ok(()) };
            (folder(&self.root, tp).join(segment.log_name()), self.file(tp, &segment, Kind::Log), segment.len)
        };
        match file.and_then(|file| file.set_len(len)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.during("cut", &path),
        }
    }

    /// A segment's file, opened if it is not.
    pub(crate) fn file(&self, tp: TopicPartition, segment: &Segment, kind: Kind) -> io::Result<Arc<D::File>> {
        if let Some(file) = self.files.get(segment.uid, kind) {
            return Ok(file);
        }
        let name = match kind {
            Kind::Log => segment.log_name(),
            Kind::Index => segment.index_name(),
        };
        let file = self.disk.open(&folder(&self.root, tp).join(name))?;
        Ok(self.files.insert(segment.uid, kind, file))
    }

    /// To be called before a segment's file is written to. Where too many are not synced, others are: on the thread of
    /// [`Self::sync_early`] if there is one, which is waited for only at the limit.
    pub(crate) fn make_room_to_write(&self) -> Result<(), LogError> {
        // Its file is there, and its folder: a round may make thousands.
        self.files.pulse.beat();
        if self.files.is_synced_early() {
            self.files.wait_below(self.files.limit / 2);
        } else if self.files.count_unsynced() >= self.files.limit / 2 {
            self.sync_oldest()?;
        }
        Ok(())
    }

    /// To be called when a segment's file was written to: keeps it open until it is synced.
    pub(crate) fn keep_until_synced(&self, uid: u64, file: &Arc<D::File>) {
        self.files.written(uid, file);
    }

    /// Syncs half of what is not synced.
    fn sync_oldest(&self) -> Result<(), LogError> {
        let oldest = self.files.oldest_unsynced();
        several_at_once(syncs_at_once::<D>(oldest.len()), &oldest, |(uid, written, file)| {
            self.syncs.run_of(*uid, &self.root, || file.sync_data())?;
            self.files.synced(*uid, *written);
            self.files.pulse.beat();
            Ok(())
        })
    }

    /// Syncs segments before there are too many that are not, until [`Files::close`].
    pub(crate) fn sync_early(&self) -> Result<(), LogError> {
        while self.files.wait_above(self.files.early()) {
            self.sync_oldest()?;
        }
        Ok(())
    }
}

/// Which of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Log,
    Index,
}

/// The files that are kept open: at most `limit`, the least recently used are closed first. A reader may
/// hold one a little longer.
///
/// A segment that was written to is kept open until it is synced, through the same descriptor: when the kernel
/// fails to write it back, it tells those who have the file open, and later ones perhaps not. These are at most half
/// of the files.
pub(crate) struct Files<D: Disk> {
    open: Mutex<Open<D>>,
    /// How many are not synced has changed, or nobody syncs them early any more.
    changed: Condvar,
    limit: usize,
    /// The writer's.
    pub(crate) pulse: Pulse,
}

struct Open<D: Disk> {
    files: HashMap<(u64, Kind), OpenFile<D>>,
    /// How many of them are not synced.
    unsynced: usize,
    /// Whether a thread syncs them before they are too many.
    synced_early: bool,
    /// How many wait until there are fewer.
    waiting: usize,
    clock: u64,
}

struct OpenFile<D: Disk> {
    used: u64,
    /// When it was written to last, if it was not synced since.
    written: Option<u64>,
    file: Arc<D::File>,
}

impl<D: Disk> Default for Open<D> {
    fn default() -> Self {
        Self { files: HashMap::new(), unsynced: 0, synced_early: false, waiting: 0, clock: 0 }
    }
}

impl<D: Disk> Open<D> {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Closes files if there are `limit`: of those that are synced an eighth at a time, so that a round over more
    /// partitions than files does not search each time. Says whether there is room.
    fn make_room(&mut self, limit: usize) -> bool {
        if self.files.len() >= limit {
            let synced = self.files.values().filter(|f| f.written.is_none());
            let mut used: Vec<u64> = synced.map(|f| f.used).collect();
            if let Some(last) = used.len().checked_sub(1) {
                let newest_out = *used.select_nth_unstable((limit / 8).min(last)).1;
                self.files.retain(|_, f| f.written.is_some() || f.used > newest_out);
            }
        }
        self.files.len() < limit
    }
}

impl<D: Disk> Files<D> {
    fn new(limit: usize) -> Self {
        Self { open: Mutex::default(), changed: Condvar::new(), limit, pulse: Pulse::default() }
    }

    fn get(&self, uid: u64, kind: Kind) -> Option<Arc<D::File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = open.tick();
        let found = open.files.get_mut(&(uid, kind))?;
        found.used = now;
        Some(Arc::clone(&found.file))
    }

    pub(crate) fn insert(&self, uid: u64, kind: Kind, file: D::File) -> Arc<D::File> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = Arc::new(file);
        // Another thread may have opened it meanwhile; what is kept for its sync stays.
        if !open.files.contains_key(&(uid, kind)) && open.make_room(self.limit) {
            let used = open.tick();
            open.files.insert((uid, kind), OpenFile { used, written: None, file: Arc::clone(&file) });
        }
        file
    }

    /// From how many on that are not synced they are synced early.
    fn early(&self) -> usize {
        self.limit / 4
    }

    /// Whether who writes to so many more may have to wait until others are synced.
    pub(crate) fn may_wait_to_write(&self, more: usize) -> bool {
        self.count_unsynced() + more >= self.limit / 2
    }

    fn count_unsynced(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).unsynced
    }

    /// A segment's file that was written to and not synced since.
    pub(crate) fn unsynced(&self, uid: u64) -> Option<Arc<D::File>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = open.files.get(&(uid, Kind::Log)).filter(|file| file.written.is_some())?;
        Some(Arc::clone(&file.file))
    }

    /// Notes that a segment's file was written to.
    fn written(&self, uid: u64, file: &Arc<D::File>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        open.make_room(self.limit);
        let now = open.tick();
        let entry = open.files.entry((uid, Kind::Log));
        let entry = entry.or_insert_with(|| OpenFile { used: now, written: None, file: Arc::clone(file) });
        if entry.written.replace(now).is_none() {
            // Another one may have been opened meanwhile, and learns of no failure to write this back.
            entry.file = Arc::clone(file);
            open.unsynced += 1;
            // Nobody waits for fewer.
            if open.unsynced == self.early() + 1 {
                self.changed.notify_all();
            }
        }
    }

    /// The half of those that are not synced that were written to longest ago, and when: they are to be synced, and
    /// [`Self::synced`] called.
    fn oldest_unsynced(&self) -> Vec<(u64, u64, Arc<D::File>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let written = |((uid, _), f): (&(u64, Kind), &OpenFile<D>)| Some((*uid, f.written?, Arc::clone(&f.file)));
        let mut unsynced: Vec<_> = open.files.iter().filter_map(written).collect();
        unsynced.sort_unstable_by_key(|(_, written, _)| *written);
        unsynced.truncate(unsynced.len().div_ceil(2));
        unsynced
    }

    /// Says that a thread syncs early from now on.
    pub(crate) fn begin_syncing_early(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).synced_early = true;
    }

    /// Says that it does no more.
    pub(crate) fn end_syncing_early(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).synced_early = false;
        self.changed.notify_all();
    }

    fn is_synced_early(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).synced_early
    }

    /// Waits until no more than so many are not synced. Each one that is synced meanwhile is progress.
    fn wait_below(&self, limit: usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.synced_early && open.unsynced > limit {
            let before = open.unsynced;
            open.waiting += 1;
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
            open.waiting -= 1;
            if open.unsynced < before {
                self.pulse.beat();
            }
        }
    }

    /// Waits until more than so many are not synced; false when nobody is to sync them any more.
    fn wait_above(&self, limit: usize) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.changed.wait_while(open, |open| open.synced_early && open.unsynced <= limit);
        open.unwrap_or_else(PoisonError::into_inner).synced_early
    }

    /// How many are open, and how many of them are not synced.
    pub(crate) fn count(&self) -> (usize, usize) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (open.files.len(), open.unsynced)
    }

    /// The time by this clock: whatever is written from now on is written later.
    pub(crate) fn now(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clock
    }

    /// Notes that what was written to a segment's file until that time is synced.
    pub(crate) fn synced(&self, uid: u64, until: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        if let Some(file) = open.files.get_mut(&(uid, Kind::Log))
            && file.written.is_some_and(|written| written <= until)
        {
            file.written = None;
            open.unsynced -= 1;
            // To wake nobody is a system call too.
            if open.waiting > 0 {
                self.changed.notify_all();
            }
        }
    }

    /// Closes what belongs to a segment that is gone.
    pub(crate) fn forget(&self, uid: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        if open.files.remove(&(uid, Kind::Log)).is_some_and(|f| f.written.is_some()) {
            open.unsynced -= 1;
            self.changed.notify_all();
        }
        open.files.remove(&(uid, Kind::Index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimulatedDisk;
    use std::path::Path;
    use std::time::{Duration, Instant};

    #[test]
    fn a_partition_is_small_as_a_log_may_have_ten_thousand() {
        let bytes = size_of::<Shared>();
        assert!(bytes <= 376, "it takes {bytes} bytes");
    }

    #[test]
    fn what_is_written_while_a_file_is_synced_is_not_taken_for_synced() {
        let disk = SimulatedDisk::new(1);
        let file = Arc::new(disk.create(Path::new("/a.log")).unwrap());
        let files = Files::<SimulatedDisk>::new(4);
        files.written(7, &file);
        let [(uid, until, _)] = &files.oldest_unsynced()[..] else { panic!("one file is not synced") };
        files.written(7, &file);
        files.synced(*uid, *until);
        assert!(files.unsynced(7).is_some());
        files.synced(7, files.now());
        assert!(files.unsynced(7).is_none() && files.get(7, Kind::Log).is_some());
    }

    #[test]
    fn the_file_that_was_written_to_is_the_one_that_is_synced() {
        let disk = SimulatedDisk::new(1);
        let path = Path::new("/a.log");
        let (wrote, reads) = (Arc::new(disk.create(path).unwrap()), disk.open(path).unwrap());
        let files = Files::<SimulatedDisk>::new(4);
        files.insert(7, Kind::Log, reads);
        files.written(7, &wrote);
        assert!(files.unsynced(7).is_some_and(|kept| Arc::ptr_eq(&kept, &wrote)));
    }

    #[test]
    fn a_round_that_waits_for_one_sync_after_the_other_makes_progress() {
        let disk = SimulatedDisk::new(1);
        let file = Arc::new(disk.create(Path::new("/a.log")).unwrap());
        let files = Files::<SimulatedDisk>::new(4);
        files.begin_syncing_early();
        let begun = Instant::now();
        files.pulse.begin();
        for uid in 0..2 {
            files.written(uid, &file);
        }
        let late = Duration::from_millis(20);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while files.pulse.age() < late {
                    std::thread::yield_now();
                }
                files.synced(0, u64::MAX);
            });
            files.wait_below(1);
        });
        assert!(files.pulse.age() + late <= begun.elapsed(), "what was synced is no progress");
    }
}
