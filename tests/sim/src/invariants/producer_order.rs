//! Of each idempotent producer, every batch is in the committed log once, in order, without a gap but for what an unclean
//! election has lost.

use crate::checker::Invariant;
use crate::clients::Producer;
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
        let committed = self.checker.produced.entry(n).or_default();
        let next = committed.last().map_or(0, |(number, _)| number + 1);
        let producer = self.producers.get(n);
        // What an unclean election has lost may have come before it.
        let candidates = if producer.is_some_and(Producer::may_lack) { usize::MAX } else { 1 };
        let batches = producer.map_or(&[][..], Producer::batches).iter().enumerate();
        let mut expected = batches.skip(next).take(candidates);
        if let Some((number, _)) = expected.find(|(_, batch)| batch.sent.header().crc == header.crc) {
            committed.push((number, header.base_offset));
            return;
        }
        let how = format!("{tp} commits {header:?} of producer {n}, whose batch {next} is next");
        self.checker.fail(Invariant::ProducerOrder, how);
    }
}
