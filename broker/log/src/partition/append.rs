//! Appending batches to a partition's segments, unsynced.

use super::{Partition, Segment, Soft, folder, index};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Shared, Store};
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;

/// What was written since the last checkpoint, and must be synced by the next.
#[derive(Default)]
pub(crate) struct Dirty {
    /// Segments' contents, by partition, base offset and uid.
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
            let written = self.write_batches(tp, &tail, segment, now).inspect_err(|_| {
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
        let dir = folder(&self.root, tp);
        self.disk.create_dir(&dir).during("create", &dir)?;
        dirty.root = true;
        Ok(self.insert(tp, Partition::new(start), Soft::new(start, self.options.producer_expiration_ms)))
    }

    /// The segment that the first of the batches goes to, and how many of them fit.
    fn choose_segment(
        &self,
        tp: TopicPartition,
        &Tail { segment: last, end, .. }: &Tail,
        batches: &[&RecordBatch],
        dirty: &mut Dirty,
    ) -> Result<(Segment, usize), LogError> {
        let max_bytes = self.segment_bytes(tp);
        let max_ms = self.limits.of(tp).map_or(i64::MAX, |limit| limit.ms_of(tp));
        let fitting = |segment: &Segment| {
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
        };
        if let Some(last) = last {
            let n = if last.sealed { 0 } else { fitting(&last) };
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
        Ok((segment, fitting(&segment).max(1)))
    }

    fn write_batches(
        &self,
        tp: TopicPartition,
        before: &Tail,
        mut segment: Segment,
        batches: &[&RecordBatch],
    ) -> Result<Written, LogError> {
        let (position, first_entry) = (segment.len, segment.index_entries);
        let interval = self.index_interval_bytes(tp);
        let (mut end, mut epoch, mut empty) = (before.end, before.epoch, before.empty);
        let (mut epochs, mut entries) = (Vec::new(), Vec::new());
        for batch in batches {
            let header = batch.header();
            segment.sparse |= header.base_offset > end;
            if header.base_offset < end {
                return Err(LogError::OutOfOrder { partition: tp, expected: end, found: header.base_offset });
            }
            if segment.len >= segment.last_indexed.saturating_add(interval) && segment.len > 0 {
                let relative = (header.base_offset.0 - segment.base.0) as u32;
                index::encode(&mut entries, relative, segment.len as u32);
                segment.index_entries += 1;
                segment.last_indexed = segment.len;
            }
            if epoch.is_none_or(|epoch| epoch < header.leader_epoch) {
                epoch = Some(header.leader_epoch);
                epochs.push((header.leader_epoch, if empty { end } else { header.base_offset }));
            }
            empty = false;
            segment.len += batch.bytes().len() as u64;
            segment.times.observe(header);
            end = header.end_offset();
        }
        let parts: Vec<_> = batches.iter().map(|b| IoSlice::new(b.bytes())).collect();
        let path = folder(&self.root, tp).join(segment.log_name());
        let file = self.file(tp, &segment, Kind::Log).during("open", &path)?;
        self.keep_until_synced(segment.uid, &file)?;
        file.write_at(&parts, position).during("write", &path)?;
        if !entries.is_empty() {
            self.write_index(tp, &segment, first_entry, &entries)?;
        }
        Ok(Written { segment, end, epochs })
    }
}

/// What an append needs to know of its partition.
struct Tail {
    segment: Option<Segment>,
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
        let segment = partition.segments.last().copied();
        let epoch = segment.and(partition.epochs.last()).map(|(epoch, _)| *epoch);
        Self { segment, end: partition.end, epoch, empty: partition.start == partition.end }
    }
}

/// What an append changes of its partition, once the bytes are written.
struct Written {
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
        partition.epochs.extend(self.epochs);
        match partition.segments.last_mut().filter(|last| last.uid == self.segment.uid) {
            Some(last) => *last = self.segment,
            None => partition.segments.push(self.segment),
        }
    }
}
