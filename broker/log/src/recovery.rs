//! Opening a log: the checkpoint, and the write-ahead log's operations after it, applied again.
//!
//! At the checkpoint each partition was what the checkpoint says, synced. What the segments' files hold
//! beyond, or in place of it, is what was applied after the checkpoint and before the end, in any state of
//! decay. So:
//! 1. The chain of WAL blocks is read once, without touching anything: it must be whole (see `wal`), and it
//!    tells how far each partition was cut back at most, and which were deleted last when. Then it is made
//!    durable: a process that was killed, or ended after a sync that failed, may have left it in memory only.
//! 2. Partitions that were deleted begin empty. The others are cut to the least offset that any truncation
//!    after the checkpoint named: what lies below was not written to since the checkpoint, so batch
//!    boundaries can be found there. What lies above is in the WAL, as far as it still counts.
//! 3. The operations are applied in order. Appends that lie behind a partition's end, because the truncation
//!    that made them obsolete was done in step 2, are passed over; an append below the end replaces what is
//!    there: the WAL's order decides, never what a file happens to hold.
//! 4. Files that nothing refers to are removed, lengths are cut, and a new checkpoint of a new run ends the
//!    recovery; until it is durable, doing all of this again has the same result.
//!
//! Batches are applied only after they are durable in the WAL. So, in a partition that was not cut back or
//! deleted since the checkpoint, valid batches that continue it behind the WAL's end prove that the WAL lost
//! its end to damage; they are kept, and reported. What else was in that end nobody knows, so the log as a whole
//! is not to be believed ([`Log::wal_lost`]).
//!
//! Damage to what a checkpoint covers does not keep a log from being opened: a segment's file that is missing
//! or too short, or damage in the way of a truncation, marks its partition
//! ([`RecoveredPartition::damaged`]); other damage is found by the reads.

use crate::disk::{Disk, DiskFile, create_dir_all};
use crate::error::{IoContext, LogError, lock};
use crate::log::{Log, partitions_dir, wal_dir};
use crate::partition::{Dirty, Partition, folder, index_name, log_name, parse_folder, tail_batches};
use crate::store::{Kind, Store};
use crate::wal::entry::{LoggedKind, LoggedOp};
use crate::wal::replay::replay;
use crate::wal::writer::WalWriter;
use crate::wal::{Mark, Position, segment};
use crate::{Options, ReadError, RecoveredPartition, checkpoint};
use chronik_core::ids::{Lsn, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a partition was cut since the checkpoint; operations are counted from 1.
#[derive(Clone, Copy, Default)]
struct Cuts {
    /// The last deletion.
    deleted: Option<u64>,
    /// The least truncation since, and the last operation that named it.
    least: Option<(Offset, u64)>,
}

impl<D: Disk> Log<D> {
    /// Opens the log in `dir`, or creates it, and says what it holds.
    pub fn open(disk: D, dir: &Path, options: Options) -> Result<(Self, Vec<RecoveredPartition>), LogError> {
        let options = options.bounded();
        create_dir_all(&disk, dir).during("create", dir)?;
        let lock = lock(&disk, dir)?;
        // What is seen here may be a rename that only memory knows of yet.
        disk.sync_dir(dir).during("sync", dir)?;
        let (wal, root) = (wal_dir(dir), partitions_dir(dir));
        if !disk.exists(&checkpoint::path(dir)).during("look for", dir)? {
            found(&disk, dir, &wal, &root)?;
        }
        create_dir_all(&disk, &wal).during("create", &wal)?;
        create_dir_all(&disk, &root).during("create", &root)?;
        disk.sync_dir(dir).during("sync", dir)?;

        let store = Arc::new(Store::new(disk.clone(), root, options));
        let checkpoint = checkpoint::read(&disk, dir, || store.next_uid())?;
        let from = checkpoint.wal;
        let mut dirty = Dirty::default();
        let (end, kept) = if checkpoint.mark.run == 0 {
            (from, false)
        } else {
            restore(&store, &wal, from, checkpoint.mark, checkpoint.partitions, &mut dirty)?
        };
        let existing = segment::list(&disk, &wal).during("list", &wal)?;
        store.recovered();
        let mark = Mark { run: checkpoint.mark.run + 1, ..checkpoint.mark };
        let wal = WalWriter::start(disk, wal, store.options.wal_segment_bytes, mark, end.lsn, existing)?;
        let applied = wal.position();
        let mut log = Self {
            store,
            dir: dir.to_path_buf(),
            wal,
            dirty,
            unapplied: VecDeque::new(),
            pending_ends: HashMap::new(),
            applied,
            checkpointed: end.lsn,
            replayed_from: from.lsn,
            poisoned: false,
            wal_lost: checkpoint.wal_lost || kept,
            _lock: lock,
        };
        log.checkpoint()?;
        let partitions: Vec<_> =
            log.store.all().into_iter().map(|(tp, p)| RecoveredPartition::of(tp, &p.read())).collect();
        let replayed = end.lsn.0 - from.lsn.0;
        tracing::info!(dir = %dir.display(), partitions = partitions.len(), replayed_bytes = replayed, "log opened");
        Ok((log, partitions))
    }
}

/// Puts the first checkpoint of an empty log in place. It comes before everything else: a directory that
/// holds anything but no checkpoint has lost it.
fn found<D: Disk>(disk: &D, dir: &Path, wal: &Path, root: &Path) -> Result<(), LogError> {
    for sub in [wal, root] {
        if disk.exists(sub).during("look for", sub)? && !disk.list(sub).during("list", sub)?.is_empty() {
            return Err(LogError::corrupt(&checkpoint::path(dir), "it is missing, but there are data"));
        }
    }
    let start = Position { lsn: Lsn(0), segment: 0, offset: 0 };
    let mark = Mark { nonce: disk.random().during("draw a number for", dir)?, run: 0 };
    checkpoint::write(disk, dir, checkpoint::encode(mark, start, 0))
}

/// Brings the partitions to where the WAL ends. Returns that position, and whether the partitions prove that it
/// is not where the WAL ended once.
fn restore<D: Disk>(
    store: &Store<D>,
    wal: &Path,
    from: Position,
    mark: Mark,
    partitions: Vec<(TopicPartition, Partition)>,
    dirty: &mut Dirty,
) -> Result<(Position, bool), LogError> {
    let mut cuts: BTreeMap<TopicPartition, Cuts> = BTreeMap::new();
    let mut count = 0;
    let chain = replay(&store.disk, wal, from, mark, |op| {
        count += 1;
        let cuts = cuts.entry(op.partition).or_default();
        match op.kind {
            LoggedKind::Append(_) => {}
            LoggedKind::Truncate(to) => match cuts.least {
                Some((least, _)) if least < to => {}
                _ => cuts.least = Some((to, count)),
            },
            LoggedKind::Delete => *cuts = Cuts { deleted: Some(count), least: None },
        }
        Ok(())
    })?;
    // It must not get lost after segments were changed by it.
    chain.settle(&store.disk, wal, from.segment)?;
    // Names that came and went again have left no trace to see, but a power cut may bring them back, and after the
    // new checkpoint nothing says any more that they are to go.
    dirty.folders.extend(cuts.keys());
    dirty.root |= cuts.values().any(|cut| cut.deleted.is_some());
    for (tp, partition) in partitions {
        let cut = cuts.get(&tp).copied().unwrap_or_default();
        if cut.deleted.is_some() {
            continue;
        }
        store.insert(tp, partition);
        if let Some((to, _)) = cut.least {
            store.truncate(tp, to, dirty)?;
        }
        find_damage(store, tp, dirty)?;
    }
    let mut count = 0;
    replay(&store.disk, wal, from, mark, |op| {
        count += 1;
        let cut = cuts.get(&op.partition).copied().unwrap_or_default();
        if cut.deleted.is_some_and(|deleted| count <= deleted) {
            return Ok(());
        }
        redo(store, wal, op, cut.least.is_some_and(|(_, last)| count < last), dirty)
    })?;
    let mut kept = false;
    for (tp, _) in store.all() {
        if cuts.get(&tp).is_none_or(|c| c.deleted.is_none() && c.least.is_none()) {
            kept |= keep_tail(store, tp, dirty)?;
        }
    }
    tidy(store, dirty)?;
    Ok((chain.end, kept))
}

/// Applies one operation again. `obsolete`: a truncation that was done already is still to come.
fn redo<D: Disk>(
    store: &Store<D>,
    wal: &Path,
    op: LoggedOp,
    obsolete: bool,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let tp = op.partition;
    match op.kind {
        LoggedKind::Append(bytes) => {
            let batch = RecordBatch::check(bytes).map_err(|e| LogError::corrupt(wal, e.to_string()))?;
            let base = batch.header().base_offset;
            let state = store.partition(tp).map(|p| (p.read().end, p.read().damaged));
            match state.map(|(end, _)| end) {
                Some(end) if base > end && obsolete => return Ok(()),
                Some(end) if base > end && state.is_some_and(|(_, damaged)| damaged.is_some()) => {
                    tracing::warn!(partition = %tp, %end, %base, "a batch behind damage is dropped");
                    return Ok(());
                }
                Some(end) if base > end => {
                    return Err(LogError::corrupt(wal, format!("{tp} ends at {end}, and offset {base} follows")));
                }
                Some(end) if base < end => store.truncate(tp, base, dirty)?,
                _ => {}
            }
            store.append(tp, &[&batch], dirty)
        }
        LoggedKind::Truncate(to) => store.truncate(tp, to, dirty),
        LoggedKind::Delete => Ok(()),
    }
}

/// Marks a partition of which a segment's file is missing or too short, from its first batch on that is not whole.
fn find_damage<D: Disk>(store: &Store<D>, tp: TopicPartition, dirty: &mut Dirty) -> Result<(), LogError> {
    let Some(shared) = store.partition(tp) else { return Ok(()) };
    let segments = shared.read().segments.clone();
    for segment in segments {
        let path = folder(&store.root, tp).join(log_name(segment.base));
        let len = match store.disk.open(&path) {
            Ok(file) => file.len().during("measure", &path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                store.disk.create_dir(&folder(&store.root, tp)).during("create", &path)?;
                store.disk.create(&path).during("create", &path)?;
                dirty.folders.insert(tp);
                dirty.root = true;
                0
            }
            Err(source) => return Err(LogError::Io { action: "open", path, source }),
        };
        if len < segment.len {
            tracing::error!(
                partition = %tp, path = %path.display(), bytes = len, synced = segment.len,
                "a segment lost synced data"
            );
            let from = match store.check_from(tp, segment.base, |_| {}) {
                Err(ReadError::Damaged { offset, .. }) => offset,
                Err(ReadError::Io { source, .. }) => return Err(LogError::Io { action: "read", path, source }),
                // It is too short for all of it to be there.
                Ok(()) | Err(_) => segment.base,
            };
            let mut partition = shared.write();
            partition.damaged = Some(partition.damaged.map_or(from, |known| known.min(from)));
        }
    }
    Ok(())
}

/// Takes over valid batches that continue the partition in its files: they were durable in a WAL that has
/// lost them. Returns whether there were any.
fn keep_tail<D: Disk>(store: &Store<D>, tp: TopicPartition, dirty: &mut Dirty) -> Result<bool, LogError> {
    let Some(shared) = store.partition(tp) else { return Ok(false) };
    let mut kept = false;
    loop {
        let state = shared.read().clone();
        if state.damaged.is_some() {
            return Ok(kept);
        }
        // Behind the last segment's end, or in the segment that would come next.
        let last = state.segments.last().map(|s| (log_name(s.base), s.len));
        let mut batches = Vec::new();
        for (name, position) in last.into_iter().chain([(log_name(state.end), 0)]) {
            let path = folder(&store.root, tp).join(name);
            if batches.is_empty() && store.disk.exists(&path).during("look for", &path)? {
                let file = store.disk.open(&path).during("open", &path)?;
                batches = tail_batches(&file, position, &state).during("read", &path)?;
            }
        }
        if batches.is_empty() {
            return Ok(kept);
        }
        tracing::error!(
            partition = %tp, from = %state.end, batches = batches.len(),
            "the write-ahead log has lost batches that the partition still has; they are kept"
        );
        store.append(tp, &batches.iter().collect::<Vec<_>>(), dirty)?;
        kept = true;
    }
}

/// Removes and cuts what no partition refers to.
fn tidy<D: Disk>(store: &Store<D>, dirty: &mut Dirty) -> Result<(), LogError> {
    let known = store.all();
    for entry in store.disk.list(&store.root).during("list", &store.root)? {
        if let Some(tp) = parse_folder(&entry.name)
            && known.binary_search_by_key(&tp, |(tp, _)| *tp).is_err()
        {
            tracing::info!(partition = %tp, "removing what is left of a deleted partition");
            store.remove_folder(tp)?;
            dirty.root = true;
        }
    }
    for (tp, shared) in known {
        let segments = shared.read().segments.clone();
        let dir = folder(&store.root, tp);
        for entry in store.disk.list(&dir).during("list", &dir)? {
            let used = |s: &crate::partition::Segment| [log_name(s.base), index_name(s.base)].contains(&entry.name);
            if !segments.iter().any(used) {
                crate::partition::remove_if_there(&store.disk, &dir.join(&entry.name))?;
                dirty.folders.insert(tp);
            }
        }
        for segment in segments {
            let path = dir.join(log_name(segment.base));
            let file = store.file(tp, &segment, Kind::Log).during("open", &path)?;
            if file.len().during("measure", &path)? > segment.len {
                file.set_len(segment.len).during("cut", &path)?;
                dirty.segments.insert((tp, segment.base, segment.uid));
            }
        }
    }
    Ok(())
}
