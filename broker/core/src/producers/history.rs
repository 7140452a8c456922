//! The last batches of one producer.

use super::ProducerState;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use std::ops::Range;

/// Batches remembered of each producer; clients have at most as many requests in flight (KIP-98).
const REMEMBERED: usize = 5;

/// One batch.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    end_offset: Offset,
}

/// The last batches of one incarnation of one producer; there is always one.
#[derive(Clone, Debug)]
pub(super) struct History {
    epoch: ProducerEpoch,
    /// The first batch that was seen of this incarnation was its first: all before the oldest remembered one was seen.
    from_start: bool,
    /// The greatest timestamp of the last batch, in milliseconds since 1970.
    last_timestamp: i64,
    /// Oldest first; `len` of them are set.
    batches: [Written; REMEMBERED],
    len: usize,
}

/// Where a batch stands in a producer's sequence.
#[derive(Debug)]
pub(super) enum Place {
    Next,
    Repeats(Range<Offset>),
    Before(Offset),
    Elsewhere,
    OldEpoch,
}

impl History {
    pub(super) fn new(header: &BatchHeader) -> Self {
        let mut history = Self {
            epoch: header.producer_epoch,
            from_start: header.base_sequence == 0,
            last_timestamp: header.max_timestamp,
            batches: [Written::default(); REMEMBERED],
            len: 0,
        };
        history.push(header);
        history
    }

    /// Notes a batch that is in the log.
    pub(super) fn push(&mut self, header: &BatchHeader) {
        if header.producer_epoch != self.epoch {
            self.epoch = header.producer_epoch;
            self.from_start = header.base_sequence == 0;
            self.len = 0;
        }
        self.last_timestamp = header.max_timestamp;
        if self.len == REMEMBERED {
            self.batches.copy_within(1.., 0);
            self.len -= 1;
        }
        self.batches[self.len] = Written {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
        };
        self.len += 1;
    }

    pub(super) fn place(&self, header: &BatchHeader) -> Place {
        if header.producer_epoch < self.epoch {
            return Place::OldEpoch;
        }
        if header.producer_epoch > self.epoch {
            return if header.base_sequence == 0 { Place::Next } else { Place::Elsewhere };
        }
        let batches = &self.batches[..self.len];
        let range = (header.base_sequence, header.last_sequence());
        if let Some(same) = batches.iter().rev().find(|b| (b.base_sequence, b.last_sequence) == range) {
            return Place::Repeats(same.base_offset..same.end_offset);
        }
        let next = after(self.batches[self.len - 1].last_sequence);
        if header.base_sequence == next {
            return Place::Next;
        }
        // Sequences wrap, so "before" means: less than half of all sequences behind.
        let behind = next.wrapping_sub(after(range.1)) & i32::MAX;
        let remembered = next.wrapping_sub(batches[0].base_sequence) & i32::MAX;
        if self.from_start && behind >= remembered && behind < i32::MAX / 2 {
            return Place::Before(batches[0].base_offset);
        }
        Place::Elsewhere
    }

    pub(super) fn state(&self, id: ProducerId) -> ProducerState {
        let last_sequence = self.batches[self.len - 1].last_sequence;
        ProducerState { id, epoch: self.epoch, last_sequence, last_timestamp: self.last_timestamp }
    }

    pub(super) fn end(&self) -> Offset {
        self.batches[self.len - 1].end_offset
    }
}

/// The sequence number after `sequence`: they wrap from `i32::MAX` to 0.
fn after(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}
