//! What the write-ahead log says of one partition since the checkpoint, before any of it is applied again.

use crate::partition::Partition;
use crate::wal::entry::LoggedKind;
use bytes::Bytes;
use chronik_core::ids::Offset;
use chronik_core::record::{BatchHeader, HeaderError};
use std::collections::BTreeMap;

/// The operations on one partition, which are counted from 1.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The last deletion.
    pub(crate) deleted: Option<u64>,
    /// The last operation since that left nothing of what was known of its producers.
    pub(crate) cleared: Option<Cleared>,
    /// Whether it was truncated since.
    pub(crate) truncated: bool,
    /// Whether there may be batches behind its end that no round has finished.
    pub(crate) announced: bool,
    /// The base offsets of segments that batches are in which are only referred to, and where the last of these ends. If
    /// there are any, nothing but appends and moves of the start within the log came since the checkpoint (see `once`).
    pub(crate) referenced: BTreeMap<Offset, Offset>,
    /// The truncations and moves of the start since, ascending.
    cuts: Vec<Cut>,
    /// What the partition is after all of it, but for its segments; `None` when it is not there.
    pub(crate) whole: Option<Partition>,
}

/// A log began anew.
#[derive(Debug)]
pub(crate) struct Cleared {
    number: u64,
    /// Where.
    pub(crate) at: Offset,
    /// The producers of the records before it, if known.
    pub(crate) producers: Option<Bytes>,
}

/// What has become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    /// The log's start is behind it. Who wrote it is known all the same.
    BeforeStart,
    /// It might never have been.
    Gone,
}

/// Of an operation and all that follow it, once [`History::finish`] was called.
#[derive(Clone, Copy, Debug)]
struct Cut {
    number: u64,
    /// The least end that a truncation names.
    end: Offset,
    /// The greatest start that is named.
    start: Offset,
}

impl History {
    /// That of a partition which was this at the checkpoint.
    pub(crate) fn after(checkpoint: Option<&Partition>) -> Self {
        let whole = checkpoint.map(|p| Partition { segments: Vec::new(), epochs: p.epochs.clone(), ..*p });
        Self { whole, ..Self::default() }
    }

    /// Takes the next operation on the partition, of that number.
    pub(crate) fn observe(&mut self, number: u64, op: &LoggedKind) -> Result<(), HeaderError> {
        match op {
            LoggedKind::Append { batch: bytes, .. } | LoggedKind::Reference { header: bytes, .. } => {
                let header = BatchHeader::read(bytes)?;
                match op {
                    LoggedKind::Append { announces, .. } => self.announced |= announces,
                    LoggedKind::Reference { place, .. } => {
                        self.announced = true;
                        self.referenced.insert(place.base, header.end_offset());
                    }
                    _ => {}
                }
                let whole = self.whole.get_or_insert_with(|| Partition::new(header.base_offset));
                whole.end = header.end_offset();
                if whole.epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
                    whole.epochs.push((header.leader_epoch, header.base_offset));
                }
            }
            LoggedKind::Truncate(to) => {
                self.truncated = true;
                self.cuts.push(Cut { number, end: *to, start: Offset(i64::MIN) });
                match &mut self.whole {
                    Some(whole) if *to < whole.start => {
                        *whole = Partition::new(*to);
                        self.cleared = Some(Cleared { number, at: *to, producers: None });
                    }
                    Some(whole) if *to < whole.end => {
                        whole.end = *to;
                        whole.epochs.retain(|(_, start)| start < to);
                    }
                    _ => {}
                }
            }
            LoggedKind::AdvanceStart(to) => {
                self.cuts.push(Cut { number, end: Offset(i64::MAX), start: *to });
                let whole = self.whole.get_or_insert_with(|| Partition::new(*to));
                if *to > whole.end {
                    self.cleared = Some(Cleared { number, at: *to, producers: None });
                }
                whole.start = whole.start.max(*to);
                whole.end = whole.end.max(*to);
            }
            LoggedKind::BeginAt(at, producers) => {
                self.observe(number, &LoggedKind::AdvanceStart(*at))?;
                if self.whole.as_ref().is_some_and(|whole| whole.end == *at) {
                    self.cleared = Some(Cleared { number, at: *at, producers: Some(producers.clone()) });
                }
            }
            LoggedKind::Delete => *self = Self { deleted: Some(number), ..Self::default() },
        }
        Ok(())
    }

    /// To be called when all operations were observed.
    pub(crate) fn finish(&mut self) {
        let (mut end, mut start) = (Offset(i64::MAX), Offset(i64::MIN));
        for cut in self.cuts.iter_mut().rev() {
            end = end.min(cut.end);
            start = start.max(cut.start);
            (cut.end, cut.start) = (end, start);
        }
    }

    /// Whether a batch that ends there may be gone with its segment, if it is only referred to: all of it is before the start.
    pub(crate) fn is_before_start(&self, batch_end: Offset) -> bool {
        self.whole.as_ref().is_some_and(|whole| batch_end <= whole.start)
    }

    /// Whether batches from the log's start on are in the segment with that base offset, and only referred to.
    pub(crate) fn is_needed(&self, base: Offset) -> bool {
        self.referenced.get(&base).is_some_and(|end| !self.is_before_start(*end))
    }

    /// The least end that any truncation names, and the greatest start: of what the checkpoint has, no more than what
    /// lies between them still counts, and that was not written to since.
    pub(crate) fn limits(&self) -> Option<(Offset, Offset)> {
        self.cuts.first().map(|cut| (cut.end, cut.start))
    }

    /// What has become of a batch that the operation of that number appended, and that ends there.
    pub(crate) fn fate(&self, number: u64, batch_end: Offset) -> Fate {
        if !self.referenced.is_empty() {
            // All of them are appended, so that each comes to its place; then the start is moved.
            return if self.deleted.is_some_and(|deleted| number <= deleted) { Fate::Gone } else { Fate::Stays };
        }
        let next = self.cuts.get(self.cuts.partition_point(|cut| cut.number < number));
        if self.deleted.is_some_and(|deleted| number <= deleted) || next.is_some_and(|cut| batch_end > cut.end) {
            Fate::Gone
        } else if next.is_none_or(|cut| batch_end > cut.start) {
            Fate::Stays
        } else if self.cleared.as_ref().is_some_and(|cleared| number < cleared.number) {
            Fate::Gone
        } else {
            Fate::BeforeStart
        }
    }
}
