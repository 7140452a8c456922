//! Blocks of producer ids, each given out once (KIP-730).

use super::command::{Answer, Outcome, Refusal};
use super::image::Image;
use crate::ids::ProducerId;

impl Image {
    pub(super) fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        let end = first.0.checked_add(i64::from(count)).filter(|_| count > 0);
        let end = ProducerId(end.ok_or(Refusal::InvalidProducerIdCount(count))?);
        self.next_producer_id = end;
        Ok(Answer::ProducerIds(first..end))
    }
}
