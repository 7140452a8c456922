//! The partitions of a log, shared between the thread that writes them and those that read.

use crate::Options;
use crate::disk::Disk;
use crate::partition::{Partition, Segment, folder, index_name, log_name};
use chronik_core::ids::TopicPartition;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One partition's state. The lock is held for reading or replacing it, never over I/O.
pub(crate) struct Shared(RwLock<Partition>);

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Partition> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Partition> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Store<D: Disk> {
    pub(crate) disk: D,
    pub(crate) root: PathBuf,
    pub(crate) options: Options,
    pub(crate) files: Files<D>,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<Shared>>>,
    uids: AtomicU64,
    recovering: AtomicBool,
}

impl<D: Disk> Store<D> {
    pub(crate) fn new(disk: D, root: PathBuf, options: Options) -> Self {
        let files = Files { open: Mutex::default(), limit: options.max_open_files.max(2) };
        Self {
            disk,
            root,
            options,
            files,
            partitions: RwLock::default(),
            uids: AtomicU64::new(0),
            recovering: AtomicBool::new(true),
        }
    }

    /// Whether the write-ahead log is being applied again: files may hold what no partition refers to (yet).
    pub(crate) fn recovering(&self) -> bool {
        self.recovering.load(Ordering::Relaxed)
    }

    pub(crate) fn recovered(&self) {
        self.recovering.store(false, Ordering::Relaxed);
    }

    pub(crate) fn next_uid(&self) -> u64 {
        self.uids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn partition(&self, tp: TopicPartition) -> Option<Arc<Shared>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&tp).cloned()
    }

    pub(crate) fn insert(&self, tp: TopicPartition, partition: Partition) -> Arc<Shared> {
        let shared = Arc::new(Shared(RwLock::new(partition)));
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(tp, Arc::clone(&shared));
        shared
    }

    pub(crate) fn take(&self, tp: TopicPartition) -> Option<Arc<Shared>> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&tp)
    }

    /// Every partition, in order.
    pub(crate) fn all(&self) -> Vec<(TopicPartition, Arc<Shared>)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(tp, shared)| (*tp, Arc::clone(shared))).collect()
    }

    /// A segment's file, opened if it is not.
    pub(crate) fn file(&self, tp: TopicPartition, segment: &Segment, kind: Kind) -> io::Result<Arc<D::File>> {
        if let Some(file) = self.files.get(segment.uid, kind) {
            return Ok(file);
        }
        let name = match kind {
            Kind::Log => log_name(segment.base),
            Kind::Index => index_name(segment.base),
        };
        let file = self.disk.open(&folder(&self.root, tp).join(name))?;
        Ok(self.files.insert(segment.uid, kind, file))
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
pub(crate) struct Files<D: Disk> {
    open: Mutex<Open<D>>,
    limit: usize,
}

struct Open<D: Disk> {
    files: HashMap<(u64, Kind), OpenFile<D>>,
    clock: u64,
}

struct OpenFile<D: Disk> {
    used: u64,
    file: Arc<D::File>,
}

impl<D: Disk> Default for Open<D> {
    fn default() -> Self {
        Self { files: HashMap::new(), clock: 0 }
    }
}

impl<D: Disk> Files<D> {
    fn get(&self, uid: u64, kind: Kind) -> Option<Arc<D::File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clock += 1;
        let now = open.clock;
        let found = open.files.get_mut(&(uid, kind))?;
        found.used = now;
        Some(Arc::clone(&found.file))
    }

    pub(crate) fn insert(&self, uid: u64, kind: Kind, file: D::File) -> Arc<D::File> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.files.len() >= self.limit {
            // An eighth at a time, so that a round over more partitions than files does not search each time.
            let mut used: Vec<u64> = open.files.values().map(|f| f.used).collect();
            let (_, newest_out, _) = used.select_nth_unstable(self.limit / 8);
            let newest_out = *newest_out;
            open.files.retain(|_, f| f.used > newest_out);
        }
        open.clock += 1;
        let now = open.clock;
        let file = Arc::new(file);
        open.files.insert((uid, kind), OpenFile { used: now, file: Arc::clone(&file) });
        file
    }

    /// Closes what belongs to a segment that is gone.
    pub(crate) fn forget(&self, uid: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.remove(&(uid, Kind::Log));
        open.files.remove(&(uid, Kind::Index));
    }
}
