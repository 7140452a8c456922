//! What a replica knows of its own log.

use super::epochs::Epochs;
use super::event::LogState;
use crate::ids::{LeaderEpoch, Offset};
use crate::producers::{Appended, Producers};
use crate::record::BatchHeader;
use crate::time::Instant;

/// The log of this replica, as far as decisions need it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) start: Offset,
    /// Where the batch begins that holds the start.
    pub(super) first_batch: Offset,
    /// Where the start will be when all that was asked for is done.
    moving_to: Offset,
    pub(super) end: Offset,
    /// What is below is synced on this broker.
    pub(super) durable: Offset,
    /// What is below is known to be committed. Goes back only with what is cut off, and where an operator has chosen a leader
    /// that had not got it on its disk.
    pub(super) high_watermark: Offset,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    /// When producers wrote.
    pub(super) appended: Appended,
    /// What is from there on cannot be read.
    pub(super) damaged: Option<Offset>,
}

impl Log {
    pub(super) fn new(state: LogState) -> Self {
        let mut epochs = Epochs::new(state.epochs);
        epochs.drop_before(state.start);
        epochs.drop_from(state.end);
        let mut producers = state.producers;
        if state.start > Offset::ZERO {
            producers.log_start_moved();
        }
        Self {
            start: state.start,
            first_batch: state.first_batch.min(state.start),
            moving_to: state.start,
            end: state.end,
            durable: state.end,
            // Nothing is known to be committed by looking at one's own disk, except what is gone from it.
            high_watermark: state.start,
            epochs,
            appended: if producers.is_empty() { Appended::default() } else { Appended::before(state.end) },
            producers,
            damaged: None,
        }
    }

    /// Where the log ends as far as it can be read, and the epoch of the last batch before. Only asked of a replica that
    /// does not lead.
    pub(super) fn readable_end(&self) -> (Offset, Option<LeaderEpoch>) {
        match self.damaged.filter(|from| *from < self.end) {
            None => (self.end, self.last_epoch()),
            Some(from) if from <= self.start => (self.start, None),
            Some(from) => (from, self.epochs.at(Offset(from.0 - 1))),
        }
    }

    /// Takes over what is left after a truncation.
    pub(super) fn truncated(&mut self, state: LogState) {
        let (high_watermark, mut appended) = (self.high_watermark, std::mem::take(&mut self.appended));
        *self = Self::new(state);
        appended.cut(self.end);
        self.appended = appended;
        self.high_watermark = high_watermark.clamp(self.start, self.end);
    }

    /// Whether the start should be moved to `to`: it is before that, and not on its way there. Nothing that may not be
    /// committed is ever removed.
    pub(super) fn wants_start(&mut self, to: Offset) -> bool {
        let wanted = to > self.moving_to && to <= self.high_watermark;
        if wanted {
            self.moving_to = to;
        }
        wanted
    }

    /// Notes that what is before `start` is gone. Producers are remembered beyond their batches, as long as the process
    /// lives.
    pub(super) fn start_advanced(&mut self, start: Offset, first_batch: Offset) {
        if start <= self.start || start > self.high_watermark {
            return;
        }
        self.start = start;
        self.moving_to = self.moving_to.max(start);
        self.first_batch = first_batch.min(start);
        self.epochs.drop_before(start);
    }

    /// Notes that a batch was appended, which continues the log.
    pub(super) fn append(&mut self, now: Instant, header: &BatchHeader) {
        debug_assert!(header.base_offset >= self.end, "batches continue the log");
        // An empty log cannot tell whether the epoch of its first batch began in the gap before it (see `Epochs::drop_before`).
        let empty = self.start == self.end;
        self.epochs.assign(header.leader_epoch, if empty { self.end } else { header.base_offset });
        self.producers.observe(header);
        self.end = header.end_offset();
        if header.producer_id.is_some() {
            self.appended.note(now, self.end);
        }
    }

    /// The epoch of the last batch. Only asked of a replica that does not lead: its epochs all have records.
    pub(super) fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// Raises the high watermark; true if it moved. What is committed elsewhere may not be here yet.
    pub(super) fn raise_high_watermark(&mut self, to: Offset) -> bool {
        let to = to.min(self.end);
        let moved = to > self.high_watermark;
        if moved {
            self.high_watermark = to;
        }
        moved
    }

    /// A leadership begins. A leader that was in sync, or eligible, has on its disk what is committed. One that an operator
    /// has chosen may know of more than that: nobody else has to have it any more, and it must not answer for it before its
    /// disk has it.
    pub(super) fn lead(&mut self) {
        self.high_watermark = self.high_watermark.min(self.durable.max(self.moving_to));
    }

    pub(super) fn valid(&self) -> bool {
        self.first_batch <= self.start
            && self.start <= self.moving_to
            && self.start <= self.high_watermark
            && self.high_watermark <= self.end
            && self.durable <= self.end
            && self.epochs.valid(self.end)
            && self.epochs.entries().first().is_none_or(|(_, first)| *first == self.start)
            && self.producers.valid(self.end)
    }
}
