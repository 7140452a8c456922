//! Idempotent producers (KIP-98): the last five batches of each, so that a retry is recognised and a gap is
//! not let in.
//!
//! What is known here follows from the log's batches alone ([`Producers::observe`]), so every replica comes to
//! know it by appending, and a restarted one by reading its log.

mod history;

use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use history::{History, Place};
use std::collections::BTreeMap;
use std::ops::Range;

/// How many producers of one partition are remembered at most. Beyond it, the one that has not written for
/// the longest is forgotten.
pub const MAX_PRODUCERS: usize = 10_000;

/// What is known of each producer that wrote to a partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, History>,
    /// Producers by the end of their last batch: the first has not written for the longest.
    by_end: BTreeMap<Offset, ProducerId>,
    /// No producer above this id has been forgotten. One up to it that is not known may have been, so that any first
    /// sequence of its must be let in.
    forgot: Option<ProducerId>,
}

/// A producer as it last wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Who.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The greatest timestamp of its last batch, in milliseconds since 1970.
    pub last_timestamp: i64,
}

/// What a leader does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Append it.
    New,
    /// Append it, if there is no reason against it: nothing is known of the producer, which may have been forgotten, or
    /// be older than the topic.
    Unknown,
    /// It is in the log already, at these offsets.
    Duplicate(Range<Offset>),
    /// It repeats a batch that lies before this offset, and is no longer remembered.
    OldDuplicate {
        /// Where the oldest batch starts that is still remembered of this producer.
        before: Offset,
    },
    /// Its sequence does not follow the producer's last one.
    OutOfOrder,
    /// A newer incarnation of the producer has written.
    Fenced,
}

impl Producers {
    /// Notes a batch that is in the log, in log order. Judges nothing: the log is what it is.
    pub fn observe(&mut self, header: &BatchHeader) {
        let Some(id) = header.producer_id.filter(|_| header.base_sequence >= 0) else { return };
        let end = header.end_offset();
        match self.by_id.get_mut(&id) {
            Some(history) => {
                self.by_end.remove(&history.end());
                history.push(header);
            }
            None => {
                self.by_id.insert(id, History::new(header));
            }
        }
        self.by_end.insert(end, id);
        if self.by_id.len() > MAX_PRODUCERS {
            self.forget_oldest();
        }
    }

    /// Judges a batch that a producer wants to append. Producers with ids below `older` may be older than the topic, and
    /// have numbered what they wrote to a topic of the same name before it.
    pub fn check(&self, header: &BatchHeader, older: ProducerId) -> Check {
        let Some(id) = header.producer_id else { return Check::New };
        let Some(history) = self.by_id.get(&id) else {
            // A log that was never cut at its start and has forgotten nobody with such an id proves that this producer
            // has not written: its first batch, or batches, are lost or still on their way.
            return match header.base_sequence {
                0 => Check::New,
                _ if id < older || self.forgot.is_some_and(|greatest| id <= greatest) => Check::Unknown,
                _ => Check::OutOfOrder,
            };
        };
        match history.place(header) {
            Place::Next => Check::New,
            Place::Repeats(offsets) => Check::Duplicate(offsets),
            Place::Before(before) => Check::OldDuplicate { before },
            Place::Elsewhere => Check::OutOfOrder,
            Place::OldEpoch => Check::Fenced,
        }
    }

    /// Notes that the log's first batches are gone, and producers that wrote only those with them.
    pub fn log_start_moved(&mut self) {
        self.forgot = Some(ProducerId(i64::MAX));
    }

    /// The producers that are remembered, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = ProducerState> {
        self.by_id.iter().map(|(id, history)| history.state(*id))
    }

    /// Where the last batch of each producer that is remembered ends.
    pub fn last_batches(&self) -> impl Iterator<Item = Offset> {
        self.by_end.keys().copied()
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_end.pop_first() {
            self.by_id.remove(&id);
            self.forgot = self.forgot.max(Some(id));
        }
    }

    /// Whether the two indexes agree, and none reaches beyond the log.
    pub(crate) fn valid(&self, log_end: Offset) -> bool {
        self.by_id.len() == self.by_end.len()
            && self.by_id.len() <= MAX_PRODUCERS
            && self.by_end.last_key_value().is_none_or(|(end, _)| *end <= log_end)
    }
}

#[cfg(test)]
mod tests;
