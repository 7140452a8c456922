//! Appending batches to a partition's segments, unsynced.

use super::{Partition, Segment, Soft, folder, index, log_name};
use crate::at_once::{several_at_once, syncs_at_once};
use crate::disk::{Disk, DiskFile, is_unreadable, look_again, read_exact_at};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Shared, Store};
use crate::wal::entry::Place;
use bytes::Bytes;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::{BatchHeader, RecordBatch};
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// What was written since the last checkpoint, and must be synced by the next.
#[derive(Default)]
pub(crate) struct Dirty {
    /// Segments' contents, by partition, base offset and uid. Those that the open files do not know to be unsynced are
    /// synced already.
    pub(crate) segments: BTreeSet<(TopicPartition, Offset, u64)>,
    /// Segments that were cut, and whose files have bytes beyond their length.
    pub(crate) cuts: BTreeSet<(TopicPartition, Offset, u64)>,
    /// Indexes of segments that are full.
    pub(crate) indexes: BTreeSet<(TopicPartition, Offset, u64)>,
    /// Partitions in whose folders names came or went.
    pub(crate) folders: BTreeSet<TopicPartition>,
    /// Whether folders came or went.
    pub(crate) root: bool,
}

impl<D: Disk> Store<D> {
    /// Appends batches, each of which continues the partition; the first one ever creates it.
    pub(crate) fn append(
        &self,
        tp: TopicPartition,
        mut batches: &[&RecordBatch],
        dirty: &mut Dirty,
    ) -> Result<(), LogError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let shared = match self.partition(tp) {
            Some(partition) => partition,
            None => self.create_partition(tp, first.header().base_offset, dirty)?,
        };
        while !batches.is_empty() {
            // Only this thread changes partitions: nothing moves between the reading and the writing of state.
            let tail = Tail::of(&shared.read());
            let (segment, n) = self.choose_segment(tp, &tail, batches, dirty)?;
            let (now, later) = batches.split_at(n);
            let (written, _) = self.write_batches(tp, &tail, segment, now).inspect_err(|_| {
                // What is tried again begins another segment, of the same name.
                if segment.len == 0 {
                    self.files.forget(segment.uid);
                }
            })?;
            dirty.segments.insert((tp, segment.base, segment.uid));
            written.publish(&mut shared.write());
            let mut soft = shared.soft();
            for batch in now {
                soft.observe(batch.header());
            }
            drop(soft);
            batches = later;
        }
        Ok(())
    }

    pub(crate) fn create_partition(
        &self,
        tp: TopicPartition,
        start: Offset,
        dirty: &mut Dirty,
    ) -> Result<Arc<Shared>, LogError> {
        self.create_folder(tp, dirty)?;
        Ok(self.insert_empty(tp, start))
    }

    /// Makes a partition's folder, if it is not there.
    pub(crate) fn create_folder(&self, tp: TopicPartition, dirty: &mut Dirty) -> Result<(), LogError> {
        let dir = folder(&self.root, tp);
        self.disk.create_dir(&dir).during("create", &dir)?;
        dirty.root = true;
        Ok(())
    }

    /// Begins a partition, whose folder is there or comes before its first segment and the next checkpoint.
    pub(crate) fn insert_empty(&self, tp: TopicPartition, start: Offset) -> Arc<Shared> {
        self.insert(tp, Partition::new(start), Soft::new(start, self.options.producer_expiration_ms))
    }

    /// Whether a partition's next batches can be written by [`Self::write_ahead`], and to which segment, by its number.
    pub(crate) fn appendable(&self, tp: TopicPartition) -> Option<u64> {
        let shared = self.partition(tp)?;
        let state = shared.read();
        let last = state.segments.last().filter(|last| !last.sealed && state.damaged.is_none())?;
        Some(last.uid)
    }

    /// Makes the names durable that lead to these partitions' segments. All at once: small appends of the round wait for it.
    pub(crate) fn sync_names(&self, tps: &BTreeSet<TopicPartition>) -> Result<(), LogError> {
        let mut all: Vec<_> = tps.iter().map(|tp| folder(&self.root, *tp)).collect();
        if !all.is_empty() {
            all.push(self.root.clone());
        }
        several_at_once(syncs_at_once::<D>(all.len()), &all, |dir| {
            self.syncs.run(dir, || self.disk.sync_dir(dir))?;
            self.files.pulse.beat();
            Ok(())
        })
    }

    /// Writes batches behind the partition's end in the segment of that number, where nobody looks yet: they are durable
    /// after [`Self::sync_ahead`], and part of the log after [`Self::publish`]. `None` when they do not all fit there.
    pub(crate) fn write_ahead(
        &self,
        tp: TopicPartition,
        uid: u64,
        batches: &[&RecordBatch],
    ) -> Result<Option<Ahead<D>>, LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(None) };
        let tail = Tail::of(&shared.read());
        let Some(segment) = tail.segment.filter(|last| last.uid == uid && !last.sealed) else { return Ok(None) };
        if self.fitting(tp, tail.segments, &segment, batches) < batches.len() {
            return Ok(None);
        }
        let (written, file) = self.write_batches(tp, &tail, segment, batches)?;
        let mut position = segment.len;
        let places = batches.iter().map(|batch| {
            let place = Place { base: segment.base, position };
            position += batch.bytes().len() as u64;
            place
        });
        let places = places.collect();
        Ok(Some(Ahead { written, places, file }))
    }

    /// Makes durable what was written ahead to that segment's file.
    pub(crate) fn sync_ahead(&self, uid: u64, file: &D::File) -> Result<(), LogError> {
        let begun = self.files.now();
        self.syncs.run_of(uid, &self.root, || file.sync_data())?;
        self.files.synced(uid, begun);
        self.files.pulse.beat();
        Ok(())
    }

    /// Lets readers see what was written ahead.
    pub(crate) fn publish(&self, tp: TopicPartition, written: Written, batches: &[&RecordBatch]) {
        let Some(shared) = self.partition(tp) else { return };
        written.publish(&mut shared.write());
        let mut soft = shared.soft();
        for batch in batches {
            soft.observe(batch.header());
        }
    }

    /// Appends a batch that is at that place already. Says whether it can be there; it need not be if it `may_be_gone`.
    pub(crate) fn take_over(
        &self,
        tp: TopicPartition,
        header: &BatchHeader,
        place: Place,
        may_be_gone: bool,
    ) -> Result<bool, LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(false) };
        let tail = Tail::of(&shared.read());
        let here = |last: &Segment| !last.sealed && (last.base, last.len) == (place.base, place.position);
        let Some(segment) = tail.segment.filter(here) else { return Ok(false) };
        if !may_be_gone && !holds(&self.disk, &self.root, tp, place, header.total_len)? {
            return Ok(false);
        }
        let Planned { written, entries } = self.plan(tp, &tail, segment, std::iter::once(header))?;
        if !entries.is_empty() {
            self.write_index(tp, &written.segment, segment.index_entries, &entries)?;
        }
        written.publish(&mut shared.write());
        shared.soft().observe(header);
        Ok(true)
    }

    /// How many of the batches fit into a segment, where the partition has so many of them.
    fn fitting(&self, tp: TopicPartition, segments: usize, segment: &Segment, batches: &[&RecordBatch]) -> usize {
        let max_bytes = self.segment_bytes(tp, segments);
        let max_ms = self.limits.of(tp).map_or(i64::MAX, |limit| limit.ms_of(tp));
        let (mut len, mut times) = (segment.len, segment.times);
        let fits = |batch: &&&RecordBatch| {
            let header = batch.header();
            times.observe(header);
            len += batch.bytes().len() as u64;
            let relative = header.end_offset().0 - segment.base.0;
            let aged = times.first >= 0 && header.max_timestamp.saturating_sub(times.first) > max_ms;
            len <= max_bytes && !aged && relative <= i64::from(i32::MAX)
        };
        batches.iter().take_while(fits).count()
    }

    /// The segment that the first of the batches goes to, and how many of them fit.
    fn choose_segment(
        &self,
        tp: TopicPartition,
        &Tail { segment: last, segments, end, .. }: &Tail,
        batches: &[&RecordBatch],
        dirty: &mut Dirty,
    ) -> Result<(Segment, usize), LogError> {
        // What a recovery finds at its place has to come to the same one.
        let rolls = if self.recovering() {
            self.rolls(tp, last.map(|last| last.base), end).during("look for a segment in", &folder(&self.root, tp))?
        } else {
            None
        };
        if let Some(last) = last {
            let n = match rolls {
                _ if last.sealed => 0,
                Some(rolls) => usize::from(!rolls || last.base == end),
                None => self.fitting(tp, segments, &last, batches),
            };
            if n > 0 {
                return Ok((last, n));
            }
            dirty.indexes.insert((tp, last.base, last.uid));
        }
        // Not where the batch starts: there may be a gap before it, which belongs to this segment.
        let base = end;
        let segment = Segment::new(self.next_uid(), base);
        let path = folder(&self.root, tp).join(segment.log_name());
        // A recovery does not empty what it finds: it may turn out to be all that is left (see `recovery`).
        let found = self.recovering() && self.disk.exists(&path).during("look for", &path)?;
        let file = if found { self.disk.open(&path) } else { self.disk.create(&path) }.during("create", &path)?;
        self.files.insert(segment.uid, Kind::Log, file);
        dirty.folders.insert(tp);
        // What is larger than a segment gets one to itself.
        let n = if rolls.is_some() { 1 } else { self.fitting(tp, segments, &segment, batches).max(1) };
        Ok((segment, n))
    }

    fn write_batches(
        &self,
        tp: TopicPartition,
        before: &Tail,
        segment: Segment,
        batches: &[&RecordBatch],
    ) -> Result<(Written, Arc<D::File>), LogError> {
        let Planned { written, entries } = self.plan(tp, before, segment, batches.iter().map(|b| b.header()))?;
        let parts: Vec<_> = batches.iter().map(|b| IoSlice::new(b.bytes())).collect();
        let path = || folder(&self.root, tp).join(segment.log_name());
        let file = self.file(tp, &segment, Kind::Log).during_at("open", path)?;
        self.make_room_to_write()?;
        let wrote = file.write_at(&parts, segment.len);
        // Not before: a sync meanwhile may have come too early. What failed may have written some.
        self.keep_until_synced(segment.uid, &file);
        wrote.during_at("write", path)?;
        if !entries.is_empty() {
            self.write_index(tp, &segment, segment.index_entries, &entries)?;
        }
        Ok((written, file))
    }

    /// What comes of appending batches with these headers, and the entries that it adds to the segment's index.
    fn plan<'a>(
        &self,
        tp: TopicPartition,
        before: &Tail,
        mut segment: Segment,
        headers: impl Iterator<Item = &'a BatchHeader>,
    ) -> Result<Planned, LogError> {
        let interval = self.index_interval_bytes(tp);
        let (mut end, mut epoch, mut empty) = (before.end, before.epoch, before.empty);
        let (mut epochs, mut entries) = (Vec::new(), Vec::new());
        for header in headers {
            segment.sparse |= header.base_offset > end;
            if header.base_offset < end {
                return Err(LogError::OutOfOrder { partition: tp, expected: end, found: header.base_offset });
            }
            if index::is_due(&segment, interval, self.options.index_from_bytes) {
                index::push(&mut entries, &mut segment, header.base_offset, interval);
            }
            if epoch.is_none_or(|epoch| epoch < header.leader_epoch) {
                epoch = Some(header.leader_epoch);
                epochs.push((header.leader_epoch, if empty { end } else { header.base_offset }));
            }
            empty = false;
            segment.len += header.total_len as u64;
            segment.times.observe(header);
            end = header.end_offset();
        }
        Ok(Planned { written: Written { segment, end, epochs }, entries })
    }
}

/// Whether a segment's file is as long as a batch at that place needs it.
fn holds<D: Disk>(disk: &D, root: &Path, tp: TopicPartition, place: Place, len: usize) -> Result<bool, LogError> {
    let path = folder(root, tp).join(log_name(place.base));
    match disk.open(&path).and_then(|file| file.len()) {
        Ok(found) => Ok(found >= place.position.saturating_add(len as u64)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(LogError::Io { action: "measure", path, source }),
    }
}

/// What is at the place that a reference names.
pub(crate) enum Referred {
    /// The batch.
    Whole(RecordBatch),
    /// The disk cannot say: a batch that never came there could be read, as something else.
    Unreadable,
    /// Something else, or nothing.
    Missing,
}

/// Looks for the batch with that header at that place, twice if it is not found: what is not there was perhaps not finished, and
/// may be forgotten.
pub(crate) fn batch_at<D: Disk>(
    disk: &D,
    root: &Path,
    tp: TopicPartition,
    header: &Bytes,
    place: Place,
) -> Result<Referred, LogError> {
    match look_again(disk, || look_for_batch(disk, root, tp, header, place)) {
        Ok(found) => Ok(found.map_or(Referred::Missing, Referred::Whole)),
        Err(LogError::Io { source, .. }) if is_unreadable(&source) => Ok(Referred::Unreadable),
        Err(other) => Err(other),
    }
}

/// The same, once.
fn look_for_batch<D: Disk>(
    disk: &D,
    root: &Path,
    tp: TopicPartition,
    header: &Bytes,
    place: Place,
) -> Result<Option<RecordBatch>, LogError> {
    let Ok(BatchHeader { total_len, .. }) = BatchHeader::read(header) else { return Ok(None) };
    if !holds(disk, root, tp, place, total_len)? {
        return Ok(None);
    }
    let path = folder(root, tp).join(log_name(place.base));
    let mut bytes = vec![0; total_len];
    let file = disk.open(&path).during("open", &path)?;
    read_exact_at(&file, &mut bytes, place.position).during("read", &path)?;
    let same = bytes.starts_with(header);
    Ok(RecordBatch::check(bytes.into()).ok().filter(|_| same))
}

/// Batches that are written and not part of the log yet.
pub(crate) struct Ahead<D: Disk> {
    pub(crate) written: Written,
    /// Where each of them is.
    pub(crate) places: Vec<Place>,
    /// Of that segment.
    pub(crate) file: Arc<D::File>,
}

impl<D: Disk> Ahead<D> {
    /// Of the segment that they are in.
    pub(crate) fn uid(&self) -> u64 {
        self.written.segment.uid
    }
}

struct Planned {
    written: Written,
    entries: Vec<u8>,
}

/// What an append needs to know of its partition.
struct Tail {
    /// The last one.
    segment: Option<Segment>,
    /// How many there are.
    segments: usize,
    end: Offset,
    /// `None` if there are no batches, not even before the start: what was there once may have been of a newer epoch than
    /// what comes, if the log begins anew.
    epoch: Option<LeaderEpoch>,
    /// Whether nothing is left before the end. The first batch may come behind a gap then, and its epoch begins with the
    /// log, as nobody can say where in the gap it began.
    empty: bool,
}

impl Tail {
    fn of(partition: &Partition) -> Self {
        let (segment, segments) = (partition.segments.last().copied(), partition.segments.len());
        let epoch = segment.and(partition.epochs.last()).map(|(epoch, _)| *epoch);
        Self { segment, segments, end: partition.end, epoch, empty: partition.start == partition.end }
    }
}

/// What an append changes of its partition, once the bytes are written.
pub(crate) struct Written {
    segment: Segment,
    end: Offset,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Written {
    fn publish(self, partition: &mut Partition) {
        partition.end = self.end;
        if partition.segments.is_empty() {
            partition.epochs.clear();
        }
        // Most partitions never have another one.
        partition.epochs.reserve_exact(self.epochs.len());
        partition.epochs.extend(self.epochs);
        if let Some(last) = partition.segments.last_mut().filter(|last| last.uid == self.segment.uid) {
            *last = self.segment;
        } else {
            if partition.segments.is_empty() {
                // Most partitions of a broker with very many never have another one.
                partition.segments.reserve_exact(1);
            }
            partition.segments.push(self.segment);
        }
    }
}
