//! Reading segments, and never serving what was not checked.

use super::{Partition, Segment, epoch_at};
use crate::disk::{Disk, DiskFile, is_unreadable, look_again, read_exact_at};
use crate::store::{Kind, Store};
use bytes::Bytes;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::{BatchHeader, HEADER_LEN, RecordBatch};
use std::io;

/// Bytes that a walk over headers reads at once.
const WINDOW: usize = 16 * 1024;
/// Bytes of a batch larger than that are read at once, when its CRC is checked.
const PIECE: usize = 256 * 1024;
/// Where the bytes of a batch begin that its CRC covers.
const CRC_FROM: usize = 21;
/// Bytes behind a partition's end that a recovery takes at once, or a batch.
const TAIL: u64 = 8 * 1024 * 1024;
/// How often a read starts again because the log was truncated under it.
const ATTEMPTS: usize = 16;

/// Why a partition cannot be read there.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such partition, or it was deleted meanwhile.
    #[error("{0} is not in this log")]
    UnknownPartition(TopicPartition),
    /// The offset lies before the log's start: what was there is gone, or never was.
    #[error("offset {offset} is before the log's start, {start}")]
    BelowStart {
        /// The one asked for.
        offset: Offset,
        /// The first one there is.
        start: Offset,
    },
    /// The offset lies after the log's end.
    #[error("offset {offset} is outside of the log, which holds {start} to {end}")]
    OutOfRange {
        /// The one asked for.
        offset: Offset,
        /// The first one there is.
        start: Offset,
        /// The one after the last.
        end: Offset,
    },
    /// What is on the disk there is not what was written, or cannot be read.
    #[error("{partition} is damaged at offset {offset}: {detail}")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is lost, as far as this read came.
        offset: Offset,
        /// What was found.
        detail: String,
    },
    /// The disk refused.
    #[error("cannot read {partition}: {source}")]
    Io {
        /// The partition.
        partition: TopicPartition,
        /// What the disk said.
        source: io::Error,
    },
}

/// A read that failed, before it is known whether the log changed meanwhile.
#[derive(Debug)]
pub(crate) enum Failure {
    Damaged(Offset, String),
    Io(io::Error),
}

/// Walks over a segment's batches and checks that each continues the one before.
pub(crate) struct Cursor<'a, F> {
    file: &'a F,
    epochs: &'a [(LeaderEpoch, Offset)],
    segment: Segment,
    /// Where the segment's batches end.
    len: u64,
    /// No batch of it ends behind that.
    until: Offset,
    pub(crate) offset: Offset,
    /// What was expected before the last batch, and where that begins.
    before: (Offset, u64),
    pub(crate) position: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a, F: DiskFile> Cursor<'a, F> {
    pub(crate) fn new(file: &'a F, state: &'a Partition, segment: &Segment, from: (Offset, u64)) -> Self {
        let window = Vec::new();
        let (epochs, segment, len, until) = (&state.epochs, *segment, segment.len, until(state, segment));
        let (offset, position) = from;
        Self { file, epochs, segment, len, until, offset, before: from, position, window, window_at: 0 }
    }

    /// The header of the batch at the cursor, which stays there; `None` at the segment's end. The CRC is
    /// checked too if the whole batch is within the bytes read.
    pub(crate) fn peek(&mut self) -> Result<Option<BatchHeader>, Failure> {
        let left = self.len.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let damaged = |why: String| Err(Failure::Damaged(offset, why));
        if left < HEADER_LEN as u64 {
            return damaged(format!("{left} bytes at {} are no batch", self.position));
        }
        let mut bytes = self.in_window();
        let whole = |b: &[u8]| BatchHeader::read(b).is_ok_and(|h| h.total_len <= b.len() || h.total_len > WINDOW);
        if bytes.len() < HEADER_LEN || !whole(bytes) {
            self.fill(left).map_err(|e| unread(e, offset))?;
            bytes = &self.window;
        }
        let header = match BatchHeader::read(bytes) {
            Ok(header) => header,
            Err(e) => return damaged(e.to_string()),
        };
        if header.total_len as u64 > left {
            return damaged(format!("a batch of {} bytes where {left} are left", header.total_len));
        }
        if header.total_len <= WINDOW && header.total_len > bytes.len() {
            return damaged("the segment's file is too short".into());
        }
        if let Err(why) = self.segment.may_hold(&header, offset, self.until) {
            // No CRC covers offsets: where there may be gaps, it may be the batch before that has a wrong one.
            let doubted = self.segment.sparse && header.base_offset < offset;
            return Err(Failure::Damaged(if doubted { self.before.0 } else { offset }, why));
        }
        if epoch_at(self.epochs, header.base_offset) != Some(header.leader_epoch) {
            return damaged(format!("leader epoch {} is not that of its offset", header.leader_epoch));
        }
        if let Some(batch) = bytes.get(..header.total_len)
            && crc32c::crc32c(&batch[CRC_FROM..]) != header.crc
        {
            return damaged("its CRC does not fit its bytes".into());
        }
        Ok(Some(header))
    }

    /// Checks the CRC of the batch that was peeked at, if peeking has not.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<(), Failure> {
        if header.total_len <= WINDOW {
            return Ok(());
        }
        let mut piece = vec![0; header.total_len.min(PIECE)];
        let (mut crc, mut done) = (0, CRC_FROM);
        while done < header.total_len {
            let n = piece.len().min(header.total_len - done);
            let read = read_exact_at(self.file, &mut piece[..n], self.position + done as u64);
            read.map_err(|e| unread(e, self.offset))?;
            crc = crc32c::crc32c_append(crc, &piece[..n]);
            done += n;
        }
        if crc == header.crc {
            return Ok(());
        }
        Err(Failure::Damaged(self.offset, "its CRC does not fit its bytes".into()))
    }

    /// Moves past a batch that was peeked at.
    pub(crate) fn skip(&mut self, header: &BatchHeader) {
        self.before = (self.offset, self.position);
        self.position += header.total_len as u64;
        self.offset = header.end_offset();
    }

    /// Where what is damaged from that offset on begins, as this cursor has found it.
    pub(super) fn damaged_at(&self, offset: Offset) -> u64 {
        if offset < self.offset { self.before.1 } else { self.position }
    }

    /// Moves to the first batch that ends after `offset`.
    pub(super) fn seek(&mut self, offset: Offset) -> Result<Option<BatchHeader>, Failure> {
        while let Some(header) = self.peek()? {
            if header.end_offset() > offset {
                return Ok(Some(header));
            }
            self.skip(&header);
        }
        Ok(None)
    }

    /// Moves to the batch that begins at `offset` or holds it, without looking at what begins there.
    pub(super) fn seek_start(&mut self, offset: Offset) -> Result<(), Failure> {
        while self.offset < offset {
            match self.peek()? {
                Some(header) if header.end_offset() <= offset => self.skip(&header),
                _ => break,
            }
        }
        Ok(())
    }

    /// Reads what it can from the cursor on into the window. What cannot be read behind the batch does not matter.
    fn fill(&mut self, left: u64) -> io::Result<()> {
        match self.read_window(left.min(WINDOW as u64)) {
            Err(e) if is_unreadable(&e) => {}
            other => return other,
        }
        self.read_window(HEADER_LEN as u64)?;
        match BatchHeader::read(&self.window) {
            Ok(header) if header.total_len <= WINDOW => self.read_window(left.min(header.total_len as u64)),
            _ => Ok(()),
        }
    }

    fn read_window(&mut self, len: u64) -> io::Result<()> {
        self.window.resize(len as usize, 0);
        self.window_at = self.position;
        let read = self.file.read_at(&mut self.window, self.position);
        self.window.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }

    fn in_window(&self) -> &[u8] {
        let skipped = self.position.checked_sub(self.window_at).unwrap_or(u64::MAX);
        usize::try_from(skipped).ok().and_then(|n| self.window.get(n..)).unwrap_or(&[])
    }
}

impl<D: Disk> Store<D> {
    /// Whole batches from the one that holds `from`, up to those that end at `up_to`.
    pub(crate) fn read(
        &self,
        tp: TopicPartition,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        self.consistently(tp, |state| {
            in_range(state, from)?;
            let up_to = up_to.min(state.end);
            if from >= up_to {
                return Ok(Ok(Vec::new()));
            }
            Ok(self.read_batches(tp, state, from, up_to, max_bytes))
        })
    }

    /// Visits the header of each batch from the one that holds `from`, to the applied end.
    pub(crate) fn scan(
        &self,
        tp: TopicPartition,
        from: Offset,
        visit: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        self.walk(tp, from, Offset(i64::MAX), false, visit)
    }

    /// Visits the header of each batch from the one that holds `from`, to the last one that begins before `until`.
    pub(crate) fn scan_range(
        &self,
        tp: TopicPartition,
        from: Offset,
        until: Offset,
        visit: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        self.walk(tp, from, until, false, visit)
    }

    /// Visits the header of each batch, and checks every CRC.
    pub(crate) fn check(&self, tp: TopicPartition, visit: impl FnMut(&BatchHeader)) -> Result<(), ReadError> {
        let start = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?.read().start;
        self.check_from(tp, start, visit)
    }

    /// The same, from the batch on that holds `from`.
    pub(crate) fn check_from(
        &self,
        tp: TopicPartition,
        from: Offset,
        visit: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        self.walk(tp, from, Offset(i64::MAX), true, visit)
    }

    /// Checks every CRC from the batch on that holds `from`, for about `max_bytes`. Returns how many bytes it were, and
    /// where to go on; `None` at the end.
    pub(crate) fn check_some(
        &self,
        tp: TopicPartition,
        from: Offset,
        max_bytes: u64,
    ) -> Result<(u64, Option<Offset>), ReadError> {
        let mut headers = Vec::new();
        let end = self.consistently(tp, |state| {
            let from = from.max(state.start);
            in_range(state, from)?;
            headers.clear();
            Ok(self.scan_segment(tp, state, from, (true, max_bytes), &mut headers).map(|()| state.end))
        })?;
        let bytes = headers.iter().map(|header| header.total_len as u64).sum();
        Ok((bytes, headers.last().map(BatchHeader::end_offset).filter(|next| *next < end)))
    }

    /// Takes the mark off a partition of which all that is known to be damaged is before the start by now. Where that is in a
    /// segment of which some is left, this is read first: behind damage nothing was found there but by the index.
    pub(crate) fn look_behind_damage(&self, tp: TopicPartition) -> Result<(), ReadError> {
        let shared = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?;
        let (last, start, until) = {
            let state = shared.read();
            let Some(last) = state.damaged.and(state.damaged_to).filter(|last| *last < state.start) else {
                return Ok(());
            };
            let mut left = state.segments_with_ends().take_while(|(segment, _)| segment.base <= last);
            (last, state.start, left.next().map(|(_, end)| end))
        };
        if let Some(until) = until.filter(|until| *until > start) {
            self.walk(tp, start, until, true, |_| {})?;
        }
        let mut now = shared.write();
        // Nothing else was found meanwhile.
        if now.damaged_to == Some(last) {
            tracing::info!(partition = %tp, %start, "what was damaged is before the log's start: the rest counts as whole");
            (now.damaged, now.damaged_to) = (None, None);
            shared.forget_repeats();
        }
        Ok(())
    }

    fn walk(
        &self,
        tp: TopicPartition,
        from: Offset,
        until: Offset,
        every_crc: bool,
        mut visit: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        let mut next = from;
        loop {
            // One segment at a time; headers are handed out when the segment is known not to have changed.
            let mut headers = Vec::new();
            let end = self.consistently(tp, |state| {
                in_range(state, next)?;
                headers.clear();
                Ok(self.scan_segment(tp, state, next, (every_crc, u64::MAX), &mut headers).map(|()| state.end))
            })?;
            headers.iter().filter(|header| header.base_offset < until).for_each(&mut visit);
            match headers.last() {
                Some(last) if last.end_offset() < end.min(until) => next = last.end_offset(),
                _ => return Ok(()),
            }
        }
    }

    /// Runs a read on a snapshot of the partition, again if a truncation came between. What fails otherwise is read once
    /// more, after a pause: not for the thread that writes.
    pub(super) fn consistently<T>(
        &self,
        tp: TopicPartition,
        mut read: impl FnMut(&Partition) -> Result<Result<T, Failure>, ReadError>,
    ) -> Result<T, ReadError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let shared = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?;
            let state = shared.read().clone();
            let mut result = read(&state)?;
            if let Err(failure) = &result
                && shared.read().version == state.version
            {
                // A cable, a controller, a bit in memory: what can be read in the end is no damage.
                if let Some(repeats) = shared.repeats() {
                    tracing::warn!(partition = %tp, ?failure, repeats, "a read failed, and is repeated");
                }
                self.disk.pause();
                result = read(&state)?;
            }
            if shared.read().version != state.version && attempt < ATTEMPTS {
                continue;
            }
            return result.map_err(|failure| match failure {
                Failure::Io(source) => ReadError::Io { partition: tp, source },
                Failure::Damaged(offset, detail) => {
                    let offset = offset.max(state.start);
                    let mut now = shared.write();
                    if now.version == state.version && now.found_damage(offset, self.recovering()) {
                        tracing::error!(partition = %tp, %offset, detail, "partition is damaged");
                        drop(now);
                        self.tell_damage(tp, offset);
                    }
                    ReadError::Damaged { partition: tp, offset, detail }
                }
            });
        }
    }

    fn read_batches(
        &self,
        tp: TopicPartition,
        state: &Partition,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<RecordBatch>, Failure> {
        let segment = segment_of(state, from).ok_or_else(|| gone(from))?;
        let file = self.file(tp, &segment, Kind::Log).or_else(|e| not_found(e, from))?;
        let mut cursor = Cursor::new(&*file, state, &segment, self.locate(tp, &segment, &file, from));
        let first = cursor.seek(from)?.ok_or_else(|| gone(from))?;
        if first.end_offset() > up_to {
            return Ok(Vec::new());
        }
        // Whole batches only, so the bytes asked for may grow to those of the first batch, and are otherwise
        // bounded by what the segment has.
        let len = (max_bytes.max(first.total_len) as u64).min(segment.len - cursor.position) as usize;
        let mut bytes = vec![0; len];
        let mut read = read_exact_at(&*file, &mut bytes, cursor.position);
        if read.as_ref().is_err_and(is_unreadable) {
            // It may be in a later batch.
            bytes.truncate(first.total_len);
            read = read_exact_at(&*file, &mut bytes, cursor.position);
        }
        read.map_err(|e| unread(e, first.base_offset))?;
        let mut position = cursor.position;
        let mut bytes = Bytes::from(bytes);
        let mut batches = Vec::new();
        let mut next = first.base_offset;
        // What was expected where the last batch begins, and what is behind it.
        let (mut before, mut expected) = (cursor.offset, cursor.offset);
        while let Ok(header) = BatchHeader::read(&bytes) {
            if header.total_len > bytes.len() || (!batches.is_empty() && header.end_offset() > up_to) {
                break;
            }
            match checked(bytes.split_to(header.total_len), next, &segment, state) {
                Ok(batch) => {
                    next = header.end_offset();
                    (before, expected) = (expected, next);
                    position += header.total_len as u64;
                    batches.push(batch);
                }
                // What is good is served; the next read finds the damage first.
                Err(_) if !batches.is_empty() => break,
                Err(detail) => return Err(Failure::Damaged(next, detail)),
            }
        }
        if segment.sparse && !batches.is_empty() && is_doubted(&*file, &segment, position, next) {
            // See `Cursor::peek`.
            batches.pop();
            if batches.is_empty() {
                return Err(Failure::Damaged(before, "the batch behind it begins before its end".into()));
            }
        }
        if batches.is_empty() {
            return Err(Failure::Damaged(next, "its header changed while it was read".into()));
        }
        Ok(batches)
    }

    fn scan_segment(
        &self,
        tp: TopicPartition,
        state: &Partition,
        from: Offset,
        (every_crc, max_bytes): (bool, u64),
        headers: &mut Vec<BatchHeader>,
    ) -> Result<(), Failure> {
        if from >= state.end {
            return Ok(());
        }
        let segment = segment_of(state, from).ok_or_else(|| gone(from))?;
        let file = self.file(tp, &segment, Kind::Log).or_else(|e| not_found(e, from))?;
        let mut cursor = Cursor::new(&*file, state, &segment, self.locate(tp, &segment, &file, from));
        let mut next = cursor.seek(from)?;
        let begin = cursor.position;
        while let Some(header) = next {
            if every_crc {
                cursor.check(&header)?;
            }
            headers.push(header);
            cursor.skip(&header);
            if headers.len() >= 4096 || cursor.position - begin >= max_bytes {
                return Ok(());
            }
            next = cursor.peek()?;
        }
        if headers.is_empty() { Err(gone(from)) } else { Ok(()) }
    }
}

/// Whether the batch that ends there, and ends with `next`, may have a wrong offset, as the one behind it begins before that.
fn is_doubted(file: &impl DiskFile, segment: &Segment, position: u64, next: Offset) -> bool {
    let mut header = [0; HEADER_LEN];
    let is_there = position + HEADER_LEN as u64 <= segment.len && read_exact_at(file, &mut header, position).is_ok();
    is_there && BatchHeader::read(&header).is_ok_and(|header| header.base_offset < next)
}

/// The batches at `position` that are whole, right, and continue the partition, or the first of them if they are many. Fails if
/// the disk cannot read what is there. What seems to be nothing is looked at once more.
pub(crate) fn tail_batches<D: Disk>(
    disk: &D,
    file: &D::File,
    position: u64,
    partition: &Partition,
) -> Result<Vec<RecordBatch>, io::Error> {
    let look = || {
        let mut batches = Vec::new();
        match read_tail(file, position, partition, &mut batches) {
            Err(error) if batches.is_empty() => Err(error),
            // Where it fails behind others, it is asked for again, from there on.
            _ => Ok(Some(batches).filter(|batches| !batches.is_empty())),
        }
    };
    Ok(look_again(disk, look)?.unwrap_or_default())
}

fn read_tail<F: DiskFile>(
    file: &F,
    mut position: u64,
    partition: &Partition,
    batches: &mut Vec<RecordBatch>,
) -> io::Result<()> {
    let file_len = file.len()?;
    let until = position + TAIL;
    let mut next = partition.end;
    let mut epoch = partition.epochs.last().map_or(LeaderEpoch(-1), |(epoch, _)| *epoch);
    while position < until {
        let mut header = [0; HEADER_LEN];
        if file.read_at(&mut header, position)? < HEADER_LEN {
            return Ok(());
        }
        let Ok(header) = BatchHeader::read(&header) else { return Ok(()) };
        if header.base_offset < next
            || header.leader_epoch < epoch
            || header.last_offset_delta < 0
            || position + header.total_len as u64 > file_len
        {
            return Ok(());
        }
        let mut bytes = vec![0; header.total_len];
        read_exact_at(file, &mut bytes, position)?;
        let Ok(batch) = RecordBatch::check(bytes.into()) else { return Ok(()) };
        position += header.total_len as u64;
        next = header.end_offset();
        epoch = header.leader_epoch;
        batches.push(batch);
    }
    Ok(())
}

fn checked(bytes: Bytes, expected: Offset, segment: &Segment, state: &Partition) -> Result<RecordBatch, String> {
    let batch = RecordBatch::check(bytes).map_err(|e| e.to_string())?;
    let header = batch.header();
    segment.may_hold(header, expected, until(state, segment))?;
    if state.epoch_at(header.base_offset) != Some(header.leader_epoch) {
        return Err(format!("leader epoch {} is not that of its offset", header.leader_epoch));
    }
    Ok(batch)
}

pub(super) fn in_range(state: &Partition, offset: Offset) -> Result<(), ReadError> {
    if offset < state.start {
        return Err(ReadError::BelowStart { offset, start: state.start });
    }
    if offset > state.end {
        return Err(ReadError::OutOfRange { offset, start: state.start, end: state.end });
    }
    Ok(())
}

/// No batch of the segment ends behind that.
fn until(state: &Partition, segment: &Segment) -> Offset {
    let after = state.segments.partition_point(|s| s.base <= segment.base);
    state.segments.get(after).map_or(state.end, |next| next.base)
}

pub(super) fn segment_of(state: &Partition, offset: Offset) -> Option<Segment> {
    let after = state.segments.partition_point(|s| s.base <= offset);
    // What lies before the first one is a gap before its first batch.
    state.segments.get(after.saturating_sub(1)).copied()
}

fn gone(offset: Offset) -> Failure {
    Failure::Damaged(offset, "its segment ends before it".into())
}

fn unread(e: io::Error, offset: Offset) -> Failure {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Damaged(offset, "the segment's file is too short".into()),
        _ if is_unreadable(&e) => Failure::Damaged(offset, format!("the disk cannot read it: {e}")),
        _ => Failure::Io(e),
    }
}

pub(super) fn not_found<T>(e: io::Error, offset: Offset) -> Result<T, Failure> {
    if e.kind() == io::ErrorKind::NotFound {
        return Err(Failure::Damaged(offset, "its segment's file is missing".into()));
    }
    Err(Failure::Io(e))
}
