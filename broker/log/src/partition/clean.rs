//! Compaction of a partition's closed segments: what is left of them is written aside, synced, and takes their place.
//!
//! That is not in the write-ahead log. The partition's state changes in memory, where readers and the next checkpoint find
//! it, and the old files stay where they are until that checkpoint is durable: a crash before it leaves the old segments,
//! one after it the new ones. Whatever else the write-ahead log has to say of the partition holds for either, as both have
//! the same offsets, and batches with the same first and last ones.
//!
//! None of it is done on the thread that writes, and nothing here makes that wait.

use super::{Partition, Segment, folder, index};
use crate::Cleaning;
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::partition::ReadError;
use crate::store::{Kind, Shared, Store};
use chronik_core::compaction::{Filtered, OffsetMap, Rules};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{RecordBatch, WalkError, max_decompressed};
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::PathBuf;

/// Bytes that are read, or gathered to be written, at once.
const PIECE: usize = 1024 * 1024;
/// How often a group is cleaned again because the log's start has moved into it.
const ATTEMPTS: usize = 16;

/// Why a partition was not cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// It changed meanwhile, or it is not to be touched.
    #[error("the log changed while it was cleaned")]
    Changed,
    /// Whoever asked for it wants no more.
    #[error("the cleaning was stopped")]
    Stopped,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch cannot be decompressed.
    #[error("the batch at offset {offset} cannot be cleaned: {source}")]
    Batch {
        /// Where it begins.
        offset: Offset,
        /// Why.
        source: WalkError,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] LogError),
    /// What is in use cannot be synced: the log does not go on.
    #[error(transparent)]
    Sync(LogError),
}

/// What to clean, and by what rules.
#[derive(Clone, Debug)]
pub struct CleanSpec {
    /// The first offset that stays as it is: where a closed segment ends. All before it is committed.
    pub until: Offset,
    /// Where the last batches of producers end that are remembered: these stay, if need be without records.
    pub producers: BTreeSet<Offset>,
    /// Bytes of memory for keys.
    pub buffer_bytes: usize,
    /// Drawn at random.
    pub secret: (u64, u64),
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// Bytes that a batch may decompress to, if it is not long itself ([`max_decompressed`]).
    pub max_decompressed: u64,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// What is before it was cleaned. Less than was asked for if its keys did not fit.
    pub cleaned_to: Offset,
    /// Keys in the part that was not cleaned before.
    pub keys: usize,
    /// Bytes of the segments that were read to be written again.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
}

/// What a cleaning does, before or after it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanStep {
    /// So many bytes more were read and written.
    Moved(u64),
    /// What is left of segments that have so many bytes is to be written: it has no more. Said of the first ones before their
    /// keys are read, too.
    Begins(u64),
    /// Segments that have so many bytes are replaced. Their files leave with the next checkpoint.
    Replaced(u64),
}

/// Asks whether to go on; may take its time.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(CleanStep) -> bool;

impl<D: Disk> Store<D> {
    /// Cleans a partition, from its first segment on: so a tombstone goes only when all that it deletes is gone. What was
    /// done counts, also if it ends early.
    pub(crate) fn clean(
        &self,
        tp: TopicPartition,
        spec: &CleanSpec,
        go_on: GoOn<'_>,
    ) -> Result<CleanReport, CleanError> {
        let shared = self.partition(tp).ok_or(CleanError::Changed)?;
        let state = shared.read().clone();
        let closed = state.segments_with_ends().take(state.segments.len().saturating_sub(1));
        let until = closed.map(|(_, end)| end).take_while(|end| *end <= spec.until).last();
        let Some(until) = until.filter(|until| *until > state.cleaned_to) else {
            return Ok(CleanReport { cleaned_to: state.cleaned_to, ..CleanReport::default() });
        };
        if state.damaged.is_some() {
            return Err(CleanError::Changed);
        }
        // Where there is no room for the first of it, all keys would be read for nothing, and again with the next attempt.
        let first: u64 = self.next_group(tp, &state, Offset(0), until).iter().map(|(segment, _)| segment.len).sum();
        if !go_on(CleanStep::Begins(first)) {
            return Err(CleanError::Stopped);
        }
        let (latest, to) = self.map_keys(tp, &state, until, spec, go_on)?;
        let mut work = Work { tp, spec, latest, to, cuts: state.cuts, report: CleanReport::default() };
        let (mut next, mut attempts) = (Offset(0), 0);
        loop {
            let state = shared.read().clone();
            if state.cuts != work.cuts {
                return Err(CleanError::Changed);
            }
            let group = self.next_group(tp, &state, next, to);
            let Some((_, end)) = group.last().copied() else { break };
            match self.clean_group(&mut work, &shared, &state, &group, go_on) {
                // The log's start has moved into the group, or past some of it.
                Err(CleanError::Changed) if attempts < ATTEMPTS => attempts += 1,
                done => {
                    done?;
                    (next, attempts) = (end, 0);
                }
            }
        }
        {
            let _changing = self.change();
            work.note_cleaned(&mut shared.write(), to)?;
        }
        Ok(CleanReport { cleaned_to: to, keys: work.latest.len(), ..work.report })
    }

    /// The last offset of each key in what was not cleaned before, and how far the keys fit: up to which record, so that a
    /// batch that has more keys than fit is cleaned too, in several passes.
    fn map_keys(
        &self,
        tp: TopicPartition,
        state: &Partition,
        until: Offset,
        spec: &CleanSpec,
        go_on: GoOn<'_>,
    ) -> Result<(OffsetMap, Offset), CleanError> {
        let begin = state.cleaned_to.max(state.start);
        let keys = usize::try_from(until.0 - begin.0).unwrap_or(usize::MAX);
        let mut latest = OffsetMap::new(spec.buffer_bytes, keys, spec.secret);
        let mut next = begin;
        while next < until {
            let batches = match self.read(tp, next, until, PIECE) {
                // What was before it is gone, and replaces nothing.
                Err(ReadError::BelowStart { start, .. }) => {
                    next = start;
                    continue;
                }
                other => other.map_err(unless_changed)?,
            };
            if !go_on(CleanStep::Moved(batches.iter().map(|b| b.bytes().len() as u64).sum())) {
                return Err(CleanError::Stopped);
            }
            let Some(last) = batches.last() else { return Err(CleanError::Changed) };
            next = last.header().end_offset();
            for batch in &batches {
                if let Some(to) = note_keys(&mut latest, batch, begin, spec)? {
                    return Ok((latest, to));
                }
            }
        }
        Ok((latest, until))
    }

    /// The first of the segments that begin at `from` or behind it and before `to`, as many as fit one.
    fn next_group(&self, tp: TopicPartition, state: &Partition, from: Offset, to: Offset) -> Vec<(Segment, Offset)> {
        let max_bytes = self.segment_bytes(tp, state.segments.len());
        let (mut bytes, mut base) = (0, None);
        let segments = state.segments_with_ends().filter(|(segment, _)| (from..to).contains(&segment.base));
        let fits = |(segment, end): &(&Segment, Offset)| {
            bytes += segment.len;
            let base = base.get_or_insert(segment.base);
            *base == segment.base || bytes <= max_bytes && end.0 - base.0 <= i64::from(i32::MAX)
        };
        segments.take_while(fits).map(|(segment, end)| (*segment, end)).collect()
    }

    /// Writes what is left of some segments that follow each other, and puts it in their place.
    fn clean_group(
        &self,
        work: &mut Work<'_>,
        shared: &Shared,
        state: &Partition,
        group: &[(Segment, Offset)],
        go_on: GoOn<'_>,
    ) -> Result<(), CleanError> {
        let (Some((first, _)), Some((_, end))) = (group.first(), group.last()) else { return Ok(()) };
        let before: u64 = group.iter().map(|(segment, _)| segment.len).sum();
        if !go_on(CleanStep::Begins(before)) {
            return Err(CleanError::Stopped);
        }
        let segment =
            Segment { sealed: true, cleaned: true, sparse: true, ..Segment::new(self.next_uid(), first.base) };
        let dir = folder(&self.root, work.tp);
        let path = dir.join(segment.log_name());
        let file = self.disk.create(&path).during("create", &path).map_err(unless_gone)?;
        let mut writing = Writing { file, path, segment, buffer: Vec::new(), index: Vec::new(), changed: false };
        let written = self.write_group(work, &mut writing, state, *end, go_on);
        let same = group.len() == 1 && !writing.changed && writing.segment.len == before;
        let done = match written {
            Ok(()) if same => {
                let _changing = self.change();
                work.note_cleaned(&mut shared.write(), *end)
            }
            Ok(()) => self
                .make_durable(work.tp, &writing, group)
                .and_then(|()| self.swap(work, shared, state, &writing, group)),
            Err(error) => Err(error),
        };
        if same || done.is_err() {
            // Nobody refers to them; if they cannot be removed, the next start does.
            let _ = self.disk.remove(&writing.path);
            let _ = self.disk.remove(&dir.join(segment.index_name()));
        }
        done?;
        work.report.bytes_before += before;
        work.report.bytes_after += writing.segment.len;
        if same || go_on(CleanStep::Replaced(before)) { Ok(()) } else { Err(CleanError::Stopped) }
    }

    fn write_group(
        &self,
        work: &Work<'_>,
        writing: &mut Writing<D>,
        state: &Partition,
        end: Offset,
        go_on: GoOn<'_>,
    ) -> Result<(), CleanError> {
        let rules = Rules {
            latest: &work.latest,
            to: work.to,
            now_ms: work.spec.now_ms,
            delete_retention_ms: work.spec.delete_retention_ms,
            max_decompressed: work.spec.max_decompressed,
        };
        let interval = self.index_interval_bytes(work.tp);
        let mut next = writing.segment.base.max(state.start);
        // So does the log: the epoch of its first record may have begun before its start.
        let mut begins_log = state.segments.first().is_some_and(|first| first.base == writing.segment.base);
        while next < end {
            let batches = self.read(work.tp, next, end, PIECE).map_err(unless_changed)?;
            let mut bytes = 0;
            for batch in &batches {
                let header = batch.header();
                next = header.end_offset();
                // A segment ends with a batch: else nobody could tell where the next one begins. So does an epoch begin
                // with one: else a follower that fills its log from this one would take records that an older leader
                // left behind in the gap for a part of it.
                let begins_epoch = state.epochs.binary_search_by_key(&header.base_offset, |(_, at)| *at).is_ok();
                let keep_empty = next >= end || begins_epoch || work.spec.producers.contains(&next);
                let filtered = rules.filter(batch, keep_empty || std::mem::take(&mut begins_log));
                bytes += header.total_len as u64;
                let filtered = filtered.map_err(|source| CleanError::Batch { offset: header.base_offset, source })?;
                writing.changed |= !matches!(filtered, Filtered::Same);
                match filtered {
                    Filtered::Same => bytes += writing.push(batch, interval)?,
                    Filtered::Rewritten(batch) => bytes += writing.push(&batch, interval)?,
                    Filtered::Nothing => {}
                }
            }
            if !go_on(CleanStep::Moved(bytes)) {
                return Err(CleanError::Stopped);
            }
            if batches.is_empty() {
                return Err(CleanError::Changed);
            }
        }
        Ok(writing.flush()?)
    }

    /// Makes the new segment durable, and the old ones: a checkpoint that was begun before the swap stands for those, and
    /// does not find them any more to sync them. That one of those cannot be synced is not the cleaning's failure but the
    /// log's, as no later sync tells of it.
    fn make_durable(
        &self,
        tp: TopicPartition,
        writing: &Writing<D>,
        group: &[(Segment, Offset)],
    ) -> Result<(), CleanError> {
        let dir = folder(&self.root, tp);
        writing.file.sync_data().during("sync", &writing.path)?;
        if !writing.index.is_empty() {
            let path = dir.join(writing.segment.index_name());
            let file = self.disk.create(&path).during("create", &path).map_err(unless_gone)?;
            file.write_at(&[IoSlice::new(&writing.index)], 0).during("write", &path)?;
            file.sync_data().during("sync", &path)?;
        }
        for (segment, _) in group {
            let path = dir.join(segment.log_name());
            let file = self.file(tp, segment, Kind::Log).during("open", &path).map_err(unless_gone)?;
            self.syncs.run_of(segment.uid, &path, || file.sync_data()).map_err(CleanError::Sync)?;
        }
        match self.syncs.run(&dir, || self.disk.sync_dir(&dir)) {
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(CleanError::Changed),
            other => other.map_err(CleanError::Sync),
        }
    }

    /// Puts the new segment in the place of the old ones, if all is as it was.
    fn swap(
        &self,
        work: &Work<'_>,
        shared: &Shared,
        state: &Partition,
        writing: &Writing<D>,
        group: &[(Segment, Offset)],
    ) -> Result<(), CleanError> {
        let (Some((first, _)), Some((_, end))) = (group.first(), group.last()) else { return Ok(()) };
        let _changing = self.change();
        let mut now = shared.write();
        let at = now.segments.iter().position(|s| s.uid == first.uid).ok_or(CleanError::Changed)?;
        let range = at..at + group.len();
        let are_there = now.segments.get(range.clone()).is_some_and(|found| {
            found.iter().zip(group).all(|(found, (known, _))| (found.uid, found.len) == (known.uid, known.len))
        });
        // A start that is within it by now would have let another batch begin the log.
        let begins_as_it_did = now.start == state.start || now.start <= first.base;
        let is_closed = now.segments.get(range.end).is_some_and(|next| next.base == *end);
        if !are_there || !begins_as_it_did || !is_closed {
            return Err(CleanError::Changed);
        }
        work.note_cleaned(&mut now, *end)?;
        now.segments.splice(range, [writing.segment]);
        now.version += 1;
        drop(now);
        for (segment, _) in group {
            self.files.forget(segment.uid);
        }
        self.replaced(work.tp, group.iter().map(|(segment, _)| *segment));
        Ok(())
    }

    /// What is to be known of a partition to decide whether to clean it.
    pub(crate) fn cleaning(&self, tp: TopicPartition) -> Option<Cleaning> {
        let shared = self.partition(tp)?;
        let state = shared.read();
        Some(Cleaning { segments: state.segment_infos(), cleaned_to: state.cleaned_to })
    }
}

/// Notes the keys of the batch's records from `begin` on, and returns the offset of the first one that does not fit.
fn note_keys(
    latest: &mut OffsetMap,
    batch: &RecordBatch,
    begin: Offset,
    spec: &CleanSpec,
) -> Result<Option<Offset>, CleanError> {
    let header = batch.header();
    if header.is_control() || header.record_count == 0 {
        return Ok(None);
    }
    let broken = |source| CleanError::Batch { offset: header.base_offset, source };
    let max = max_decompressed(spec.max_decompressed, batch.bytes().len());
    let body = batch.decompressed(max).map_err(broken)?;
    for record in batch.raw_records(&body, max) {
        let record = record.map_err(broken)?;
        let Some(key) = record.key else { continue };
        let offset = header.base_offset.plus(i64::from(record.offset_delta));
        if offset >= begin && latest.put(key, offset).is_err() {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

/// A cleaning that is under way.
struct Work<'a> {
    tp: TopicPartition,
    spec: &'a CleanSpec,
    latest: OffsetMap,
    /// What is before it can be cleaned by that.
    to: Offset,
    /// The partition's, when this began.
    cuts: u64,
    report: CleanReport,
}

impl Work<'_> {
    /// Notes that all before `end` is cleaned, unless the partition was cut meanwhile.
    fn note_cleaned(&self, now: &mut Partition, end: Offset) -> Result<(), CleanError> {
        if now.cuts != self.cuts {
            return Err(CleanError::Changed);
        }
        now.cleaned_to = now.cleaned_to.max(end.min(self.to));
        Ok(())
    }
}

/// A log that is cut or deleted, or whose start moves, while it is read has not failed.
fn unless_changed(error: ReadError) -> CleanError {
    match error {
        ReadError::UnknownPartition(_) | ReadError::BelowStart { .. } | ReadError::OutOfRange { .. } => {
            CleanError::Changed
        }
        other => other.into(),
    }
}

/// Nor has one whose files are removed.
fn unless_gone(error: LogError) -> CleanError {
    match error {
        LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => CleanError::Changed,
        other => other.into(),
    }
}

/// The segment that is being written.
struct Writing<D: Disk> {
    file: D::File,
    path: PathBuf,
    segment: Segment,
    /// What of it is not written yet.
    buffer: Vec<u8>,
    index: Vec<u8>,
    /// Whether anything in it is not what it was.
    changed: bool,
}

impl<D: Disk> Writing<D> {
    /// Adds a batch, and returns its bytes.
    fn push(&mut self, batch: &RecordBatch, interval: u64) -> Result<u64, LogError> {
        let (header, bytes) = (batch.header(), batch.bytes());
        let segment = &mut self.segment;
        if segment.len > 0 && segment.len >= segment.last_indexed.saturating_add(interval) {
            index::push(&mut self.index, segment, header.base_offset, interval);
        }
        segment.len += bytes.len() as u64;
        segment.times.observe(header);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len() as u64)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let at = self.segment.len - self.buffer.len() as u64;
        self.file.write_at(&[IoSlice::new(&self.buffer)], at).during("write", &self.path)?;
        self.buffer.clear();
        Ok(())
    }
}
