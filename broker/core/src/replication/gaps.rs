//! Gaps that refusals made: a producer sends on while a batch of its is refused, and what comes after that batch is
//! out of order only because of the refusal. It gets the same answer, which says to try again; told that its
//! sequence is broken, a producer would give up its epoch and write again what is in the log already.
//!
//! Only the refusals of one leadership are known here. What was refused before it began, by this broker or another,
//! nobody may remember: a young leadership takes every gap for such a one.

use super::event::ProduceError;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use std::collections::BTreeMap;

/// Producers that are remembered at most; the others are told that they are out of order.
const MAX: usize = 1000;

/// The first refused batch of each producer that has one.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    first: BTreeMap<ProducerId, (ProducerEpoch, i32, ProduceError)>,
}

impl Gaps {
    /// A batch that would have been next was refused.
    pub(super) fn refused(&mut self, header: &BatchHeader, error: ProduceError) {
        let Some(id) = header.producer_id else { return };
        let known = self.first.get(&id).is_some_and(|(epoch, ..)| *epoch == header.producer_epoch);
        if !known && (self.first.len() < MAX || self.first.contains_key(&id)) {
            self.first.insert(id, (header.producer_epoch, header.base_sequence, error));
        }
    }

    /// The next batch was taken.
    pub(super) fn closed(&mut self, header: &BatchHeader) {
        if let Some(id) = header.producer_id {
            self.first.remove(&id);
        }
    }

    /// Why the batch is out of order, if a refusal made it so.
    pub(super) fn why(&self, header: &BatchHeader) -> Option<ProduceError> {
        let (epoch, _, error) =
            self.first.get(&header.producer_id?).filter(|(_, first, _)| *first != header.base_sequence)?;
        (*epoch == header.producer_epoch).then_some(*error)
    }
}
