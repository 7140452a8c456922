//! Idempotent producers (KIP-98): the last six batches of each, so that a retry is recognised and a gap is
//! not let in.
//!
//! What is known here follows from the log's batches alone ([`Producers::observe`]), so every replica comes to
//! know it by appending, and a restarted one by a snapshot and the batches after it.
//!
//! Producers that have not written for long are forgotten (`producer.id.expiration.ms`). The time is that of the log's
//! own clock, the greatest timestamp of its batches so far: so all replicas forget the same producers at the same batch,
//! whatever their own clocks say and whenever they were started. A clock that jumps ahead forgets too early, which costs
//! no more than that a retry from before the jump is not recognised.

mod encoding;
mod history;
mod memory;
mod sorted;

use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
pub use encoding::MAX_ENCODED_LEN;
use history::{History, Place};
pub use memory::{Appended, forget_idlest};
use sorted::Sorted;
use std::ops::Range;

/// How many producers of one partition are remembered at most. Beyond it, the one that has not written for
/// the longest is forgotten.
pub const MAX_PRODUCERS: usize = 10_000;

/// After how many milliseconds without a batch a producer is forgotten, unless something else is configured
/// (`producer.id.expiration.ms`).
pub const DEFAULT_EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// About what one producer takes in memory beside its batches, and each of them.
const PRODUCER_BYTES: usize = 112;
const BATCH_BYTES: usize = size_of::<history::Written>();

/// What is known of each producer that wrote to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producers {
    by_id: Sorted<ProducerId, History>,
    /// Producers by the end of their last batch: the first has not written for the longest.
    by_end: Sorted<Offset, ProducerId>,
    /// No producer above this id has been forgotten. One up to it that is not known may have been, so that any first
    /// sequence of its must be let in.
    forgot: Option<ProducerId>,
    /// The log's clock: no batch has a greater timestamp, in milliseconds since 1970; -1 before there is one.
    clock: i64,
    /// Batches that are remembered of all producers together.
    batches: usize,
    expiration_ms: i64,
}

impl Default for Producers {
    fn default() -> Self {
        Self::new(DEFAULT_EXPIRATION_MS)
    }
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
    /// Nobody is known yet. Whoever has not written for `expiration_ms` of the log's clock is forgotten.
    pub fn new(expiration_ms: i64) -> Self {
        let (by_id, by_end) = (Sorted::new(), Sorted::new());
        Self { by_id, by_end, forgot: None, clock: -1, batches: 0, expiration_ms }
    }

    /// Notes a batch that is in the log, in log order. Judges nothing: the log is what it is.
    pub fn observe(&mut self, header: &BatchHeader) {
        self.clock = self.clock.max(header.max_timestamp);
        self.expire();
        let Some(id) = header.producer_id.filter(|_| header.base_sequence >= 0) else { return };
        let mut history = self.remove(id);
        match &mut history {
            Some(history) => history.push(header, self.clock),
            None => history = Some(History::new(header, self.clock)),
        }
        self.insert(id, history);
        self.bound(MAX_PRODUCERS);
    }

    /// What is known of a part of a log, to [extend](Self::extend) what is known of all before it: nobody expires, as the
    /// log's clock is not known that far.
    pub fn of_part() -> Self {
        Self::new(i64::MAX)
    }

    /// Adds what `later` knows of the part of the log that follows the part which this knows. Batches that both know
    /// are added once.
    pub fn extend(&mut self, later: &Self) {
        let clock = self.clock;
        for id in later.by_end.values() {
            let Some(newer) = later.by_id.get(id) else { continue };
            let mut history = self.remove(*id);
            match &mut history {
                Some(history) => history.extend(newer),
                None => history = Some(newer.clone()),
            }
            // What came later may have older timestamps, and its own clock knows of no others.
            let history = history.map(|history| History { clock: history.clock.max(clock), ..history });
            self.insert(*id, history);
        }
        self.clock = self.clock.max(later.clock);
        self.forgot = self.forgot.max(later.forgot);
        self.expire();
        self.bound(MAX_PRODUCERS);
    }

    /// Drops who has not written from `offset` on, as somebody else knows them.
    pub fn retain_from(&mut self, offset: Offset) {
        while let Some((_, id)) = self.by_end.first().filter(|(end, _)| **end <= offset) {
            let id = *id;
            self.remove(id);
        }
    }

    /// Forgets those that have not written from `offset` on.
    pub fn forget_before(&mut self, offset: Offset) {
        while self.idlest().is_some_and(|end| end <= offset) {
            self.forget_oldest();
        }
    }

    /// Where the last batch ends of the producer that has not written for the longest.
    fn idlest(&self) -> Option<Offset> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// About how many bytes of memory this takes.
    pub fn memory(&self) -> usize {
        self.by_id.len() * PRODUCER_BYTES + self.batches * BATCH_BYTES
    }

    /// Forgets those that have not written for the longest, beyond `most`.
    pub fn bound(&mut self, most: usize) {
        while self.by_id.len() > most {
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

    /// Where the last batch of each producer that is remembered ends, and its last one that is committed: the other may be
    /// cut off yet.
    pub fn last_batches(&self, high_watermark: Offset) -> impl Iterator<Item = Offset> {
        let committed = move |history: &History| {
            history.batches.iter().rev().map(|batch| batch.end_offset).find(|end| *end <= high_watermark)
        };
        self.by_end.keys().copied().chain(self.by_id.values().filter_map(committed))
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Forgets who has not written for too long. Who wrote later also saw the later clock.
    fn expire(&mut self) {
        let (clock, expiration_ms) = (self.clock, self.expiration_ms);
        let expired = |history: &History| clock.saturating_sub(history.clock) >= expiration_ms;
        while let Some((_, id)) = self.by_end.first()
            && self.by_id.get(id).is_none_or(expired)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_end.first() {
            let id = *id;
            self.remove(id);
            self.forgot = self.forgot.max(Some(id));
        }
    }

    fn remove(&mut self, id: ProducerId) -> Option<History> {
        let history = self.by_id.remove(&id)?;
        self.by_end.remove(&history.end());
        self.batches -= history.batches.len();
        Some(history)
    }

    fn insert(&mut self, id: ProducerId, history: Option<History>) {
        let Some(history) = history else { return };
        self.batches += history.batches.len();
        self.by_end.insert(history.end(), id);
        self.by_id.insert(id, history);
    }

    /// Whether the two indexes agree, and none reaches beyond the log.
    pub(crate) fn valid(&self, log_end: Offset) -> bool {
        self.by_id.len() == self.by_end.len()
            && self.by_id.len() <= MAX_PRODUCERS
            && self.by_end.last().is_none_or(|(end, _)| *end <= log_end)
    }
}

#[cfg(test)]
mod tests;
