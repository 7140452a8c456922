//! Gaps that refusals made: a producer sends on while a batch of its is refused, and what comes after that batch is
//! out of order only because of the refusal. It gets the same answer, which says to try again; on
//! `OUT_OF_ORDER_SEQUENCE_NUMBER` a producer would give up its epoch and write again what is in the log already.
//!
//! Only the refusals of one leadership are known here. What was refused before it began, by this broker or another,
//! nobody may remember: a young leadership takes every gap for such a one.

use super::event::ProduceError;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use std::collections::BTreeMap;

/// Producers that are remembered at most; the others get `OUT_OF_ORDER_SEQUENCE_NUMBER`.
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
        let known = self.first.get(&id).is_some_and(|(epoch, first, _)| {
            *epoch == header.producer_epoch && !comes_after(*first, header.base_sequence)
        });
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
        let first = self.first.get(&header.producer_id?);
        let (epoch, _, error) = first.filter(|(_, first, _)| comes_after(header.base_sequence, *first))?;
        (*epoch == header.producer_epoch).then_some(*error)
    }
}

/// Whether a sequence number comes after another; after the greatest they begin with 0 again.
fn comes_after(sequence: i32, other: i32) -> bool {
    (1..1 << 30).contains(&(sequence.wrapping_sub(other) & i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_comes_after_another_across_the_end() {
        for (sequence, other, after) in
            [(5, 4, true), (4, 5, false), (4, 4, false), (0, i32::MAX, true), (i32::MAX, 0, false)]
        {
            assert_eq!(comes_after(sequence, other), after, "{sequence} after {other}");
        }
    }
}
