//! The last batches of one producer.

use super::ProducerState;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use std::ops::Range;

/// Batches remembered of each producer. Clients have one less in flight at most (KIP-98): the last one that is committed is
/// known while all of these are not, and compaction leaves it.
pub(super) const REMEMBERED: usize = 6;

/// One batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) base_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
}

/// The last batches of one incarnation of one producer; there is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) epoch: ProducerEpoch,
    /// The first batch that was seen of this incarnation was its first: all before the oldest remembered one was seen.
    pub(super) from_start: bool,
    /// The greatest timestamp of the last batch, in milliseconds since 1970.
    pub(super) last_timestamp: i64,
    /// What the log's clock showed after the last batch.
    pub(super) clock: i64,
    /// Oldest first. No longer than it must be: most producers of a broker with very many have written once.
    pub(super) batches: Vec<Written>,
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
    pub(super) fn new(header: &BatchHeader, clock: i64) -> Self {
        let mut history = Self {
            epoch: header.producer_epoch,
            from_start: header.base_sequence == 0,
            last_timestamp: header.max_timestamp,
            clock,
            batches: Vec::new(),
        };
        history.push(header, clock);
        history
    }

    /// Notes a batch that is in the log.
    pub(super) fn push(&mut self, header: &BatchHeader, clock: i64) {
        if header.producer_epoch != self.epoch {
            self.epoch = header.producer_epoch;
            self.from_start = header.base_sequence == 0;
            self.batches.clear();
        }
        self.last_timestamp = header.max_timestamp;
        self.clock = clock;
        self.write(Written {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
        });
    }

    fn write(&mut self, batch: Written) {
        if self.batches.len() == REMEMBERED {
            self.batches.remove(0);
        }
        self.batches.reserve_exact(1);
        self.batches.push(batch);
    }

    /// Takes over what came later: batches that this history has already are passed over.
    pub(super) fn extend(&mut self, later: &Self) {
        if later.epoch == self.epoch {
            let known = self.end();
            later.batches.iter().filter(|batch| batch.base_offset >= known).for_each(|batch| self.write(*batch));
            (self.last_timestamp, self.clock) = (later.last_timestamp, later.clock);
        } else {
            self.clone_from(later);
        }
    }

    pub(super) fn place(&self, header: &BatchHeader) -> Place {
        if header.producer_epoch < self.epoch {
            return Place::OldEpoch;
        }
        if header.producer_epoch > self.epoch {
            return if header.base_sequence == 0 { Place::Next } else { Place::Elsewhere };
        }
        let batches = &self.batches[..];
        let range = (header.base_sequence, header.last_sequence());
        if let Some(same) = batches.iter().rev().find(|b| (b.base_sequence, b.last_sequence) == range) {
            return Place::Repeats(same.base_offset..same.end_offset);
        }
        let next = after(self.last().last_sequence);
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
        let last_sequence = self.last().last_sequence;
        ProducerState { id, epoch: self.epoch, last_sequence, last_timestamp: self.last_timestamp }
    }

    pub(super) fn end(&self) -> Offset {
        self.last().end_offset
    }

    fn last(&self) -> Written {
        self.batches.last().copied().unwrap_or_default()
    }
}

/// The sequence number after `sequence`: they wrap from `i32::MAX` to 0.
fn after(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}
