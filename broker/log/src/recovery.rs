//! Opening a log: the checkpoint, and the write-ahead log's operations after it, applied again.
//!
//! At the checkpoint each partition was what the checkpoint says, synced. What the segments' files hold
//! beyond, or in place of it, is what was applied after the checkpoint and before the end, in any state of
//! decay. So:
//! 1. The chain of WAL blocks is read once, without touching anything: it must be whole (see `wal`; or, if the options say
//!    so, it is gone by as far as it goes, and the log as a whole is not to be believed), and it
//!    tells of each partition how far it was cut back at most, how far its start was moved, when it was deleted
//!    last, and what it is in the end (`history`). Then it is made durable: a process that was killed, or ended
//!    after a sync that failed, may have left it in memory only.
//! 2. Partitions that were deleted begin empty. The others are cut to what lies between the greatest start and the
//!    least end that any operation after the checkpoint named: that was not written to since the checkpoint, so batch
//!    boundaries can be found there. What lies elsewhere is in the WAL, as far as it still counts.
//! 3. The batches in the WAL that no later operation has removed are appended in order; the first of them may find its
//!    partition empty, whatever came before it, and begins it. An append below the end replaces what is
//!    there: the WAL's order decides, never what a file happens to hold. Then the starts are moved to where they are
//!    in the end, which may be within a batch.
//!
//!    Of a partition with batches that the WAL only refers to (see `once`) all are appended again, those before its start
//!    too, and segments begin where those batches' segments do: so each of them comes to the place where it is. The others
//!    begin where there is a file, so that no more room is taken than before.
//! 4. Files that nothing refers to are taken out of use, lengths are cut, and a new checkpoint of a new run ends the
//!    recovery; until it is durable, doing all of this again has the same result.
//!
//! Batches are applied only after they are durable in the WAL. So, in a partition that was not cut back or
//! deleted since the checkpoint, valid batches that continue it behind the WAL's end prove that the WAL lost
//! its end to damage; they are kept, and reported. What else was in that end nobody knows, so the log as a whole
//! is not to be believed ([`Log::wal_lost`]). What the disk cannot read there proves that too, and is cut off only when the
//! checkpoint says that something is lost. (Behind what was announced, see `once`, they prove nothing; but they are kept
//! where the WAL is known to have lost its end.)
//!
//! What looks as if it had never been finished is dropped in silence, so nothing is taken for that because of one read: what is
//! not found is looked for once more, and what the disk cannot read then is lost, or damaged. The WAL is read twice, the
//! second time when files are changed already: if it ends earlier then, the opening fails before anything says that the log is
//! whole.
//!
//! Damage to what a checkpoint covers does not keep a log from being opened: a segment's file that is missing
//! or too short, or damage in the way of a truncation, marks its partition
//! ([`RecoveredPartition::damaged`]); other damage is found by the reads. A mark that a read has made is proven again.
//! Such a partition ends where it is damaged if what comes behind has no place there. That is kept aside, from the WAL and
//! from the files, with what is damaged: it is whole perhaps, and nowhere else. Files are left as they are until the checkpoint
//! has the mark.

use crate::apply::Stuck;
use crate::at_once::{several_at_once, syncs_at_once};
use crate::disk::{Disk, DiskFile, create_dir_all};
use crate::error::{IoContext, LogError, lock};
use crate::history::{Fate, History};
use crate::log::{Log, partitions_dir, wal_dir};
use crate::once::Once;
use crate::partition::{Dirty, Partition, Referred, Snapshot, Soft, batch_at, folder, log_name};
use crate::space::Ballast;
use crate::store::{Shared, Store};
use crate::tails::end_partitions;
use crate::tidy::{tidy, tidy_partition};
use crate::wal::entry::{LoggedKind, LoggedOp, Place};
use crate::wal::replay::{Chain, replay, replay_again};
use crate::wal::writer::WalWriter;
use crate::wal::{Mark, Position, segment};
use crate::{Options, ReadError, RecoveredPartition, checkpoint};
use chronik_core::ids::{Lsn, Offset, TopicPartition};
use chronik_core::record::{BatchHeader, RecordBatch};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

impl<D: Disk> Log<D> {
    /// Opens the log in `dir`, or creates it, and says what it holds.
    pub fn open(disk: D, dir: &Path, options: Options) -> Result<(Self, Vec<RecoveredPartition>), LogError> {
        let options = options.bounded();
        create_dir_all(&disk, dir).during("create", dir)?;
        let lock = lock(&disk, dir)?;
        // Not that of a broker which runs.
        Ballast::new(disk.clone(), dir, options.ballast_bytes).release_if_needed();
        // What is seen here may be a rename that only memory knows of yet.
        disk.sync_dir(dir).during("sync", dir)?;
        let (wal, root) = (wal_dir(dir), partitions_dir(dir));
        if !disk.exists(&checkpoint::path(dir)).during("look for", dir)? {
            found(&disk, dir, &wal, &root)?;
        }
        create_dir_all(&disk, &wal).during("create", &wal)?;
        create_dir_all(&disk, &root).during("create", &root)?;
        disk.sync_dir(dir).during("sync", dir)?;

        let number = disk.random().during("draw a number for", dir)?;
        let store = Arc::new(Store::new(disk.clone(), root, options, number));
        let checkpoint = checkpoint::read(&disk, dir, || store.next_uid())?;
        let from = checkpoint.wal;
        let mut dirty = Dirty::default();
        let Restored { end, lost, aside, dropped } = if checkpoint.mark.run == 0 {
            Restored { end: from, lost: false, aside: BTreeSet::new(), dropped: Dropped::new() }
        } else {
            restore(&store, &wal, from, checkpoint.mark, checkpoint.partitions, &mut dirty)?
        };
        // The checkpoint lets go of the write-ahead log that has them.
        store.keep_batches(&dropped)?;
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
            cuts: HashMap::new(),
            stuck: Stuck::default(),
            reached: applied,
            applied,
            once: Once::new(),
            beside: None,
            checkpointed: end.lsn,
            replayed_from: from.lsn,
            replaced: Vec::new(),
            poisoned: false,
            wal_lost: checkpoint.wal_lost || lost,
            _lock: lock,
        };
        log.checkpoint()?;
        // What is cut off says no more that something is lost: now the checkpoint says so.
        log.store.set_tails_aside(aside.iter().copied())?;
        aside.iter().try_for_each(|tp| tidy_partition(&log.store, *tp, &mut log.dirty))?;
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
    let mut bytes = checkpoint::encode(mark, start, 0);
    checkpoint::encode_loss(&mut bytes, false);
    checkpoint::write(disk, dir, bytes)
}

/// What the first reading of the WAL has found.
struct Found {
    chain: Chain,
    histories: BTreeMap<TopicPartition, History>,
    /// The batches that the chain refers to, and nothing says to have been synced.
    unsynced: Vec<(TopicPartition, Place, RecordBatch)>,
    /// Where the disk cannot read such a batch.
    unreadable: BTreeSet<(TopicPartition, Place)>,
}

/// Reads the WAL for the first time. Nothing is changed.
fn read_wal<D: Disk>(
    store: &Store<D>,
    wal: &Path,
    from: Position,
    mark: Mark,
    partitions: &BTreeMap<TopicPartition, (Partition, Vec<Snapshot>)>,
) -> Result<Found, LogError> {
    let mut histories: BTreeMap<TopicPartition, History> = BTreeMap::new();
    let mut count = 0;
    let (mut unsynced, mut unreadable) = (Vec::new(), BTreeSet::new());
    let whole = |op: &LoggedOp| {
        let LoggedKind::Reference { header, place } = &op.kind else { return Ok(true) };
        match batch_at(&store.disk, &store.root, op.partition, header, *place)? {
            Referred::Whole(batch) => unsynced.push((op.partition, *place, batch)),
            Referred::Unreadable => {
                unreadable.insert((op.partition, *place));
            }
            Referred::Missing => return Ok(false),
        }
        Ok(true)
    };
    let chain = replay(&store.disk, wal, from, mark, whole, |op| {
        count += 1;
        let tp = op.partition;
        let history = histories.entry(tp).or_insert_with(|| History::after(partitions.get(&tp).map(|(p, _)| p)));
        history.observe(count, &op.kind).map_err(|e| LogError::corrupt(wal, e.to_string()))
    })?;
    histories.values_mut().for_each(History::finish);
    Ok(Found { chain, histories, unsynced, unreadable })
}

/// What comes of applying the WAL again.
struct Restored {
    /// Where it ends.
    end: Position,
    /// Whether that is not where it ended once.
    lost: bool,
    /// Partitions that may have something behind their ends which was acknowledged: they are damaged, or the disk cannot read
    /// what is there. It is there still.
    aside: BTreeSet<TopicPartition>,
    dropped: Dropped,
}

/// The batches of the write-ahead log that come behind damage to their partitions, and have no place there: as many bytes as
/// the log has had since the checkpoint, at most.
type Dropped = BTreeMap<TopicPartition, Vec<RecordBatch>>;

/// Brings the partitions to where the WAL ends.
fn restore<D: Disk>(
    store: &Store<D>,
    wal: &Path,
    from: Position,
    mark: Mark,
    partitions: Vec<(TopicPartition, Partition, Vec<Snapshot>)>,
    dirty: &mut Dirty,
) -> Result<Restored, LogError> {
    let partitions: BTreeMap<_, _> = partitions.into_iter().map(|(tp, p, snapshots)| (tp, (p, snapshots))).collect();
    let Found { mut chain, histories, unsynced, unreadable } = read_wal(store, wal, from, mark, &partitions)?;
    if let Some(lost) = chain.lost.take_if(|_| !store.options.open_with_wal_loss) {
        return Err(lost);
    }
    let lost = chain.lost.is_some();
    if let Some(lost) = &chain.lost {
        tracing::error!(%lost, "the write-ahead log has lost synced operations");
    }
    // It must not get lost after segments were changed by it, and not what it refers to before it.
    for (tp, place, batch) in &unsynced {
        write_again(store, *tp, *place, batch)?;
    }
    chain.make_durable(&store.disk, wal)?;
    // Names that came and went again have left no trace to see, but a power cut may bring them back, and after the
    // new checkpoint nothing says any more that they are to go.
    dirty.folders.extend(histories.keys());
    dirty.root |= histories.values().any(|history| history.deleted.is_some());
    restore_checkpointed(store, partitions, &histories, dirty)?;
    for (tp, history) in &histories {
        if !history.referenced.is_empty() {
            store.roll_at(*tp, history.referenced.iter().map(|(base, end)| (*base, *end)));
        }
        let Some(cleared) = &history.cleared else { continue };
        let shared = match store.partition(*tp) {
            Some(shared) => shared,
            None if cleared.producers.is_some() => store.create_partition(*tp, cleared.at, dirty)?,
            None => continue,
        };
        shared.soft().begin_at(cleared.at, cleared.producers.as_ref());
    }
    let dropped = append_again(store, wal, (from, chain.end), mark, &histories, &unreadable, dirty)?;
    for (tp, history) in &histories {
        if let Some(whole) = &history.whole {
            apply_start(store, *tp, whole, dirty)?;
        }
    }
    let (proven, unread) = end_partitions(store, &histories, lost, dirty)?;
    let is_damaged = |shared: &Shared| shared.read().damaged.is_some();
    let damaged = store.all().into_iter().filter(|(_, shared)| is_damaged(shared)).map(|(tp, _)| tp);
    let aside = damaged.chain(unread).collect();
    tidy(store, lost, &aside, dirty)?;
    Ok(Restored { end: chain.end, lost: lost || proven, aside, dropped })
}

/// Brings partitions to what the checkpoint says of them, and cuts off what no longer counts of that. What is damaged is read
/// twice, with a pause between: many partitions are read at once.
fn restore_checkpointed<D: Disk>(
    store: &Store<D>,
    partitions: BTreeMap<TopicPartition, (Partition, Vec<Snapshot>)>,
    histories: &BTreeMap<TopicPartition, History>,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let (mut known, mut doubted) = (Vec::new(), Vec::new());
    for (tp, (partition, snapshots)) in partitions {
        let history = histories.get(&tp);
        if history.is_some_and(|h| h.deleted.is_some()) {
            continue;
        }
        let limits = history.and_then(History::limits);
        let to_start = limits.map_or(Offset(i64::MIN), |(_, start)| start);
        // What the start has moved past is gone.
        doubted.extend(partition.damaged.filter(|from| *from < partition.end).map(|from| (tp, from.max(to_start))));
        known.push((tp, partition.end, to_start));
        let soft = Soft::recovered(snapshots, partition.end, store.options.producer_expiration_ms);
        store.insert(tp, partition, soft);
    }
    several_at_once(syncs_at_once::<D>(doubted.len()), &doubted, |(tp, from)| believe_again(store, *tp, *from))?;
    for (tp, checkpoint_end, _) in &known {
        let history = histories.get(tp).filter(|h| h.referenced.is_empty());
        if let Some((end, start)) = history.and_then(History::limits) {
            // Before the start is moved behind all of it: what is known of producers at the end of what is left stays.
            if let Some(shared) = store.partition(*tp) {
                shared.soft().cut(end);
            }
            // When nothing is left between them, nothing of it may be on the disk either.
            let start = if start < end { start } else { start.max(*checkpoint_end) };
            store.advance_start(*tp, start, dirty)?;
            store.truncate(*tp, end, dirty)?;
        }
    }
    let missing = Mutex::new(Vec::new());
    several_at_once(syncs_at_once::<D>(known.len()), &known, |(tp, _, start)| {
        find_damage(store, *tp, *start, &missing)
    })?;
    let missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    dirty.root |= !missing.is_empty();
    dirty.folders.extend(missing);
    Ok(())
}

/// Writes a batch again where it is, and syncs it: as [`Chain::make_durable`](crate::wal::replay::Chain::make_durable)
/// does with blocks.
fn write_again<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    place: Place,
    batch: &RecordBatch,
) -> Result<(), LogError> {
    let path = folder(&store.root, tp).join(log_name(place.base));
    let file = store.disk.open(&path).during("open", &path)?;
    file.write_at(&[IoSlice::new(batch.bytes())], place.position).during("write again", &path)?;
    file.sync_data().during("sync", &path)
}

/// Appends what the chain between two positions has and still counts. Returns what cannot be appended, as something before it
/// is lost.
fn append_again<D: Disk>(
    store: &Store<D>,
    wal: &Path,
    (from, end): (Position, Position),
    mark: Mark,
    histories: &BTreeMap<TopicPartition, History>,
    unreadable: &BTreeSet<(TopicPartition, Place)>,
    dirty: &mut Dirty,
) -> Result<Dropped, LogError> {
    let (mut count, mut dropped) = (0, Dropped::new());
    let visit = |op: LoggedOp| {
        count += 1;
        let tp = op.partition;
        let fate = |end| histories.get(&tp).map_or(Fate::Stays, |h| h.fate(count, end));
        match op.kind {
            LoggedKind::Append { batch, .. } => {
                let batch = RecordBatch::check(batch).map_err(|e| LogError::corrupt(wal, e.to_string()))?;
                if let Some(history) = histories.get(&tp) {
                    leave_what_is_gone(store, tp, history, batch.header());
                }
                match fate(batch.header().end_offset()) {
                    Fate::Stays if is_behind_damage(store, tp, batch.header()) => {
                        dropped.entry(tp).or_default().push(batch);
                        Ok(())
                    }
                    Fate::Stays => redo(store, tp, histories.get(&tp), &batch, dirty),
                    Fate::BeforeStart => note_producer(store, tp, &batch, dirty),
                    Fate::Gone => Ok(()),
                }
            }
            LoggedKind::Reference { header, place } => {
                let batch = BatchHeader::read(&header).map_err(|e| LogError::corrupt(wal, e.to_string()))?;
                if fate(batch.end_offset()) == Fate::Gone {
                    return Ok(());
                }
                let may_be_gone = histories.get(&tp).is_some_and(|h| h.is_before_start(batch.end_offset()));
                redo_reference(store, tp, &batch, place, may_be_gone)?;
                if !may_be_gone && unreadable.contains(&(tp, place)) {
                    tracing::error!(partition = %tp, base = %batch.base_offset, ?place, "the disk cannot read a segment");
                    mark_damaged(store, tp, batch.base_offset);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    };
    replay_again(&store.disk, wal, from, end, mark, visit)?;
    Ok(dropped)
}

/// Whether a batch has no place in its partition, as what came right before it is lost. Where the partition ends as it did then,
/// offsets between its end and the batch had none: what is damaged before the end takes nothing of its place away.
fn is_behind_damage<D: Disk>(store: &Store<D>, tp: TopicPartition, batch: &BatchHeader) -> bool {
    let Some(shared) = store.partition(tp) else { return false };
    let state = shared.read();
    let is_behind = batch.base_offset > state.end && state.lost_end;
    if is_behind {
        tracing::warn!(partition = %tp, end = %state.end, base = %batch.base_offset, "a batch behind damage is dropped");
    }
    is_behind
}

/// Marks a partition from that offset on, if it is not from an earlier one.
fn mark_damaged<D: Disk>(store: &Store<D>, tp: TopicPartition, from: Offset) {
    let Some(shared) = store.partition(tp) else { return };
    let mut partition = shared.write();
    partition.damaged = Some(partition.damaged.map_or(from, |known| known.min(from)));
}

/// Notes who wrote a batch that was removed since.
fn note_producer<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    batch: &RecordBatch,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let shared = match store.partition(tp) {
        Some(shared) => shared,
        None => store.create_partition(tp, batch.header().base_offset, dirty)?,
    };
    shared.soft().observe(batch.header());
    Ok(())
}

/// Appends a batch that still counts again.
fn redo<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    history: Option<&History>,
    batch: &RecordBatch,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let base = batch.header().base_offset;
    if let Some(shared) = store.partition(tp) {
        let (end, damaged, empty) = {
            let state = shared.read();
            (state.end, state.damaged.is_some(), state.segments.is_empty())
        };
        // Where batches are only referred to it is as it was then, and its segment begins where it did.
        let as_it_was = history.is_some_and(|h| !h.referenced.is_empty());
        if empty && !damaged && !as_it_was {
            let mut state = shared.write();
            (state.start, state.end) = (base, base);
            state.epochs.retain(|(_, start)| *start < base);
        } else if base < end {
            store.truncate(tp, base, dirty)?;
        }
    }
    store.append(tp, &[batch], dirty)
}

/// Begins a segment with the first batch that is not before the start, if the one before may be gone, with batches in it that
/// are only referred to.
fn leave_what_is_gone<D: Disk>(store: &Store<D>, tp: TopicPartition, history: &History, next: &BatchHeader) {
    if history.referenced.is_empty() || history.is_before_start(next.end_offset()) {
        return;
    }
    let Some(shared) = store.partition(tp) else { return };
    let state = shared.read();
    if history.is_before_start(state.end) && state.segments.last().is_some_and(|last| !history.is_needed(last.base)) {
        store.roll_at(tp, [(state.end, state.end)]);
    }
}

/// Appends a batch that is in its segment already, or may be gone with it, as it is before the log's start.
fn redo_reference<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    header: &BatchHeader,
    place: Place,
    may_be_gone: bool,
) -> Result<(), LogError> {
    let base = header.base_offset;
    if store.partition(tp).is_none() {
        return Err(LogError::corrupt(&folder(&store.root, tp), format!("the batch at offset {base} has no segment")));
    }
    // It stays in its file, which is kept aside.
    if !is_behind_damage(store, tp, header) && !store.take_over(tp, header, place, may_be_gone)? {
        tracing::error!(partition = %tp, %base, ?place, "a segment lost synced data");
        mark_damaged(store, tp, base);
        if let Some(shared) = store.partition(tp) {
            shared.write().lost_end = true;
        }
    }
    Ok(())
}

/// Brings a partition's start, and an empty one as a whole, to what it is after all operations.
fn apply_start<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    whole: &Partition,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let damaged = store.partition(tp).is_some_and(|p| p.read().damaged.is_some());
    store.advance_start(tp, whole.start, dirty)?;
    let Some(shared) = store.partition(tp) else { return Ok(()) };
    let mut state = shared.write();
    if damaged {
        // What is behind the start may be lost too.
        state.damaged = state.damaged.or(Some(state.end));
    }
    if state.damaged.is_none() && state.segments.first().is_some_and(|first| first.base == state.start) {
        // Before the first batch that there is, compaction may have left a gap, which belongs to the log.
        state.start = state.start.min(whole.start);
    }
    if state.segments.is_empty() && state.damaged.is_none() {
        (state.start, state.end) = (whole.start, whole.end);
        state.epochs.clone_from(&whole.epochs);
    }
    Ok(())
}

/// Takes the mark off a partition that a read has found damaged, if all from there on can be read now. (What a recovery
/// could not keep is marked at the partition's end, also where a read had found something before that, and stays so until the
/// partition is cut: so nothing forgets it before it is written elsewhere that nobody may count on this log.)
fn believe_again<D: Disk>(store: &Store<D>, tp: TopicPartition, from: Offset) -> Result<(), LogError> {
    let Some(shared) = store.partition(tp) else { return Ok(()) };
    let begin = from.max(shared.read().start);
    match store.check_from(tp, begin, |_| {}) {
        Ok(()) => {
            tracing::info!(partition = %tp, %from, "what could not be read can be read again, and is as it was written");
            shared.write().damaged = None;
        }
        Err(ReadError::Io { source, .. }) => {
            return Err(LogError::Io { action: "read", path: folder(&store.root, tp), source });
        }
        Err(_) => {}
    }
    Ok(())
}

/// Marks a partition of which a segment's file is missing or too short, from its first batch on that is not whole. What ends
/// at `start` or before it is removed, and may be gone. Notes where a file was missing, and is there now.
fn find_damage<D: Disk>(
    store: &Store<D>,
    tp: TopicPartition,
    start: Offset,
    missing: &Mutex<Vec<TopicPartition>>,
) -> Result<(), LogError> {
    let Some(shared) = store.partition(tp) else { return Ok(()) };
    let (segments, end) = {
        let state = shared.read();
        (state.segments.clone(), state.end)
    };
    for (n, &segment) in segments.iter().enumerate() {
        let may_be_gone = segments.get(n + 1).map_or(end, |next| next.base) <= start;
        let path = folder(&store.root, tp).join(segment.log_name());
        let len = match store.disk.open(&path) {
            Ok(file) => file.len().during("measure", &path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                store.disk.create_dir(&folder(&store.root, tp)).during("create", &path)?;
                store.disk.create(&path).during("create", &path)?;
                missing.lock().unwrap_or_else(PoisonError::into_inner).push(tp);
                0
            }
            Err(source) => return Err(LogError::Io { action: "open", path, source }),
        };
        if len < segment.len && !may_be_gone {
            tracing::error!(
                partition = %tp, path = %path.display(), bytes = len, synced = segment.len,
                "a segment lost synced data"
            );
            let begin = segment.base.max(shared.read().start);
            let from = match store.check_from(tp, begin, |_| {}) {
                Err(ReadError::Damaged { offset, .. }) => offset,
                Err(ReadError::Io { source, .. }) => return Err(LogError::Io { action: "read", path, source }),
                // It is too short for all of it to be there.
                Ok(()) | Err(_) => begin,
            };
            mark_damaged(store, tp, from);
        }
    }
    Ok(())
}
