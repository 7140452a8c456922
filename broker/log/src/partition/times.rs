//! Finding batches by their timestamps (KIP-33): each segment knows the greatest of its batches, so that a lookup reads
//! only the segment that has the answer; and its index knows the greatest of those before a batch (see `index`), so that it
//! reads only the part of it that has the answer: no more, whatever the segment's size, than what is between two entries that
//! know times, or before the first one. Two things make it read on: an index of an older broker, or a lost one; and a log that
//! starts within a segment behind a later timestamp, as the index counts that in. Then a lookup by time goes on until a batch is
//! as late as what is asked for, and one for the greatest may read all of that segment's headers.
//!
//! A segment that was cut by a truncation, or comes from a checkpoint of version 2, has a bound in place of it, until
//! [`crate::LogReader::measure`] reads it: a lookup may read it in vain, and is right all the same.

use super::index::Timed;
use super::read::{Cursor, Failure, in_range, not_found};
use super::{Partition, ReadError, Segment};
use crate::disk::{Disk, DiskFile as _};
use crate::store::{Kind, Store};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::BatchHeader;
use std::time::UNIX_EPOCH;

/// The timestamps of a segment's batches, in milliseconds since 1970; -1 where no batch has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// The greatest of the first batch.
    pub(crate) first: i64,
    /// No batch has a greater one.
    pub(crate) max: i64,
    /// Where the first batch that has it begins.
    pub(crate) max_at: Offset,
    /// Whether there is such a batch.
    pub(crate) exact: bool,
}

impl Times {
    pub(crate) const EMPTY: Self = Self { first: -1, max: -1, max_at: Offset(-1), exact: true };
    pub(crate) const UNKNOWN: Self = Self { first: -1, max: i64::MAX, max_at: Offset(-1), exact: false };

    pub(crate) fn observe(&mut self, header: &BatchHeader) {
        // What compaction has left of a batch without records has no timestamp that anybody could look for.
        if header.record_count == 0 {
            return;
        }
        if self.first < 0 {
            self.first = header.max_timestamp;
        }
        if header.max_timestamp > self.max {
            self.max = header.max_timestamp;
            self.max_at = header.base_offset;
        }
    }
}

/// What a segment is, for whoever decides how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The offset of its first record.
    pub base: Offset,
    /// The offset after its last one.
    pub end: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// The greatest timestamp of its first batch, in milliseconds since 1970, if it has one and that is known.
    pub first_timestamp: Option<i64>,
    /// The greatest timestamp of its batches, in milliseconds since 1970, or -1 when they have none. `None` when it is
    /// not known, see [`crate::LogReader::measure`].
    pub max_timestamp: Option<i64>,
}

/// What a look into one segment says.
enum Look {
    Found(BatchHeader),
    /// Nothing there; it goes on at this offset.
    Next(Offset),
    Nothing,
}

impl<D: Disk> Store<D> {
    /// The header of the first batch that ends after `from` and has a timestamp from `at` on, if it ends at `up_to` or
    /// before.
    pub(crate) fn first_at_or_after(
        &self,
        tp: TopicPartition,
        at: i64,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<BatchHeader>, ReadError> {
        let mut next = from;
        loop {
            let look = self.consistently(tp, |state| {
                in_range(state, next)?;
                Ok(self.look(tp, state, at, next, up_to.min(state.end)))
            })?;
            match look {
                Look::Found(header) => return Ok(Some(header)),
                Look::Next(offset) => next = offset,
                Look::Nothing => return Ok(None),
            }
        }
    }

    /// Looks into the first segment that may have it.
    fn look(
        &self,
        tp: TopicPartition,
        state: &Partition,
        at: i64,
        from: Offset,
        up_to: Offset,
    ) -> Result<Look, Failure> {
        let candidate = state.segments_with_ends().find(|(s, end)| *end > from && s.times.max >= at);
        let Some((segment, end)) = candidate.filter(|(s, _)| s.base < up_to) else { return Ok(Look::Nothing) };
        let mut found = None;
        self.visit(tp, state, segment, from, Some(at), |header| {
            let fits = header.max_timestamp >= at && header.record_count > 0;
            found = fits.then_some(*header);
            fits || header.end_offset() >= up_to
        })?;
        Ok(match found {
            Some(header) if header.end_offset() <= up_to => Look::Found(header),
            None if end < up_to => Look::Next(end),
            _ => Look::Nothing,
        })
    }

    /// The header of the first of the batches with the greatest timestamp, of those that end after `from`, and at `up_to`
    /// or before.
    pub(crate) fn greatest_timestamp(
        &self,
        tp: TopicPartition,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        self.consistently(tp, |state| {
            in_range(state, from)?;
            let up_to = up_to.min(state.end);
            let mut segments: Vec<_> =
                state.segments_with_ends().filter(|(s, end)| *end > from && s.base < up_to).collect();
            segments.sort_by_key(|(s, _)| (std::cmp::Reverse(s.times.max), s.base));
            let mut best: Option<(i64, Offset)> = None;
            for (segment, end) in segments {
                if best
                    .is_some_and(|(max, at)| segment.times.max < max || segment.times.max == max && segment.base > at)
                {
                    continue;
                }
                let mut times = segment.times;
                if !times.exact || segment.base < from || end > up_to {
                    times = match self.times_between(tp, state, segment, from, up_to) {
                        Ok(times) => times,
                        Err(failure) => return Ok(Err(failure)),
                    };
                }
                let better = best.is_none_or(|(max, at)| times.max > max || times.max == max && times.max_at < at);
                if times.max >= 0 && better {
                    best = Some((times.max, times.max_at));
                }
            }
            Ok(Ok(best.map(|(_, at)| at)))
        })
    }

    /// The greatest timestamp of a segment's batches that end after `from`, and at `up_to` or before, with the first batch
    /// that has it.
    fn times_between(
        &self,
        tp: TopicPartition,
        state: &Partition,
        segment: &Segment,
        from: Offset,
        up_to: Offset,
    ) -> Result<Times, Failure> {
        let from = from.max(segment.base);
        let file = self.file(tp, segment, Kind::Log).or_else(|e| not_found(e, from))?;
        let is_before = |timed: &Timed| segment.base.plus(i64::from(timed.relative)) < up_to;
        // What it has counted in may all be before `from`: then it says nothing.
        let known = self.last_timed(tp, segment, &file, is_before).filter(|timed| timed.place(segment).0 > from);
        let mut times = Times::EMPTY;
        let (begin, before) = known.map_or((from, -1), |timed| (timed.place(segment).0, timed.max));
        self.visit(tp, state, segment, begin, None, |header| {
            if header.end_offset() <= up_to {
                times.observe(header);
            }
            header.end_offset() >= up_to
        })?;
        if before < 0 || times.max > before {
            return Ok(times);
        }
        // Nothing that is looked at has a greater one. If all that has it is before `from`, this comes to `up_to`.
        times = Times::EMPTY;
        self.visit(tp, state, segment, from, Some(before), |header| {
            if header.end_offset() <= up_to {
                times.observe(header);
            }
            times.max >= before || header.end_offset() >= up_to
        })?;
        Ok(times)
    }

    /// Reads the segments whose greatest timestamp is not known.
    pub(crate) fn measure(&self, tp: TopicPartition) -> Result<(), ReadError> {
        let shared = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?;
        let inexact: Vec<u64> = shared.read().segments.iter().filter(|s| !s.times.exact).map(|s| s.uid).collect();
        for uid in inexact {
            let measured = self.consistently(tp, |state| {
                let Some(segment) = state.segments.iter().find(|s| s.uid == uid) else { return Ok(Ok(None)) };
                let mut times = Times::EMPTY;
                let visited = self.visit(tp, state, segment, segment.base, None, |header| {
                    times.observe(header);
                    false
                });
                Ok(visited.map(|()| Some((segment.len, times))))
            })?;
            let mut state = shared.write();
            let segment = state.segments.iter_mut().find(|s| s.uid == uid);
            // Meanwhile it may have grown, or been cut.
            if let (Some((len, times)), Some(segment)) = (measured, segment)
                && segment.len == len
            {
                segment.times = times;
            }
        }
        Ok(())
    }

    /// When the segment's file was last written to, in milliseconds since 1970.
    pub(crate) fn modified(&self, tp: TopicPartition, base: Offset) -> Option<i64> {
        let shared = self.partition(tp)?;
        let segment = shared.read().segments.iter().find(|s| s.base == base).copied()?;
        let since = self.file(tp, &segment, Kind::Log).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    }

    /// Visits the headers of a segment's batches from the one on that holds `from`, until `visit` says that it is enough. Those
    /// before all that have a timestamp from `at` on may be passed over.
    fn visit(
        &self,
        tp: TopicPartition,
        state: &Partition,
        segment: &Segment,
        from: Offset,
        at: Option<i64>,
        mut visit: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<(), Failure> {
        let from = from.max(segment.base);
        let file = self.file(tp, segment, Kind::Log).or_else(|e| not_found(e, from))?;
        let near = self.locate(tp, segment, &file, from);
        let earlier = at.and_then(|at| self.last_timed(tp, segment, &file, |timed| timed.max < at));
        let place = earlier.map(|timed| timed.place(segment)).filter(|(_, position)| *position > near.1);
        let mut cursor = Cursor::new(&*file, state, segment, place.unwrap_or(near));
        let mut next = cursor.seek(from)?;
        while let Some(header) = next {
            if visit(&header) {
                break;
            }
            cursor.skip(&header);
            next = cursor.peek()?;
        }
        Ok(())
    }
}

impl Partition {
    /// Each segment, and where the next one begins.
    pub(crate) fn segments_with_ends(&self) -> impl Iterator<Item = (&Segment, Offset)> {
        let ends = self.segments.iter().skip(1).map(|s| s.base).chain([self.end]);
        self.segments.iter().zip(ends)
    }

    pub(crate) fn segment_infos(&self) -> Vec<SegmentInfo> {
        let info = |(s, end): (&Segment, Offset)| SegmentInfo {
            base: s.base,
            end,
            bytes: s.len,
            first_timestamp: Some(s.times.first).filter(|t| *t >= 0),
            max_timestamp: s.times.exact.then_some(s.times.max),
        };
        self.segments_with_ends().map(info).collect()
    }
}
