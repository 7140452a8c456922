//! Of each idempotent producer, every batch is in the committed log once, in order, without a gap.

use crate::checker::Invariant;
use crate::world::World;
use chronik_core::ids::TopicPartition;
use chronik_core::record::RecordBatch;

impl World {
    /// Looks at a batch that has just been committed.
    pub(crate) fn check_producer(&mut self, tp: TopicPartition, batch: &RecordBatch) {
        let header = batch.header();
        if header.producer_id.is_none() {
            return;
        }
        // Producers are numbered from 1 on.
        let n = header.producer_id.map_or(0, |id| id.0 as usize).wrapping_sub(1);
        let next = self.checker.produced.entry(n).or_default();
        let expected = self.producers.get(n).and_then(|p| p.batches().get(*next));
        if expected.is_some_and(|batch| batch.sent.header().crc == header.crc) {
            *next += 1;
            return;
        }
        let how = format!("{tp} commits {header:?} of producer {n}, whose batch {next} is next");
        self.checker.fail(Invariant::ProducerOrder, how);
    }
}
