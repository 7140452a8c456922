//! What is acknowledged is committed, where it was said to be, and stays so.

use crate::activity::Activity;
use crate::checker::{Committed, Invariant};
use crate::network::NodeId;
use crate::node::Asked;
use crate::world::World;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Acks, ProduceError};

impl World {
    pub(crate) fn check_acknowledgement(&mut self, node: NodeId, tp: TopicPartition, asked: Asked, base: Offset) {
        match self.producers[asked.producer].acks() {
            // It may be answered before it is known whether the leadership goes on.
            Acks::None => return,
            Acks::Leader => return self.check_leader_has(node, tp, asked, base),
            Acks::All | Acks::Committed => self.check_one_acknowledges(node, tp),
        }
        // The commit that this acknowledgement follows from may not have been looked at yet.
        self.check_committed_order(node, tp);
        let Some(batch) = self.producers[asked.producer].batches().get(asked.number) else { return };
        if let Some(how) = self.missing(tp, &batch.sent, base) {
            self.checker.fail(
                Invariant::AcknowledgedIsCommitted,
                format!("broker {node} acknowledges {asked:?} at {base}: {how}"),
            );
        }
        self.producers[asked.producer].found(asked.number);
    }

    /// What is acknowledged with `acks=1` is on the leader's disk.
    fn check_leader_has(&mut self, node: NodeId, tp: TopicPartition, asked: Asked, base: Offset) {
        self.check_one_acknowledges(node, tp);
        self.counts.note(Activity::AcknowledgedByLeader);
        let Some(batch) = self.producers[asked.producer].batches().get(asked.number) else { return };
        let end = base.plus(batch.sent.header().end_offset().0 - batch.sent.header().base_offset.0);
        let durable = self.nodes[node].durable.get(&tp).copied().unwrap_or(Offset::ZERO);
        if durable < end {
            let how = format!("broker {node} acknowledges {asked:?} at {base}, and has {durable} of {tp} on its disk");
            self.checker.fail(Invariant::AcknowledgedIsCommitted, how);
        }
    }

    /// Checks all batches that were acknowledged with `acks=all`, at the end of a run.
    pub(crate) fn check_acknowledged(&mut self) {
        let mut broken = None;
        for producer in self.producers.iter().filter(|p| p.acks() == Acks::All) {
            // What an unclean election may have lost was acknowledged before it.
            for batch in producer.batches().iter().filter(|batch| !batch.lost) {
                let Some(base) = batch.acknowledged else { continue };
                if let Some(how) = self.missing(producer.partition(), &batch.sent, base) {
                    broken = Some(format!("an acknowledged batch is lost: {how}"));
                }
            }
        }
        if let Some(how) = broken {
            self.checker.fail(Invariant::AcknowledgedIsCommitted, how);
        }
    }

    fn missing(&self, tp: TopicPartition, batch: &RecordBatch, base: Offset) -> Option<String> {
        let committed = self.checker.committed.get(&tp).map_or(&[][..], Vec::as_slice);
        let at = committed.partition_point(|c| c.base < base);
        match committed.get(at).filter(|c| c.base == base) {
            Some(Committed { crc, .. }) if *crc == batch.header().crc => None,
            Some(other) => Some(format!("{other:?} is there, not {:?}", batch.header())),
            None => Some(format!("nothing is committed there, only up to {}", self.checker.committed_end(tp))),
        }
    }

    /// A producer that keeps to the protocol gets no fatal error.
    pub(crate) fn check_refusal(&mut self, asked: Asked, error: ProduceError, first: bool) {
        let wrong = match error {
            ProduceError::InvalidProducerEpoch | ProduceError::DuplicateSequence => true,
            // Of a later batch, it says that an earlier one was not let in.
            // Nor that what was acknowledged is still there after an unclean election.
            ProduceError::OutOfOrderSequence => first && !self.producers[asked.producer].may_lack(),
            _ => false,
        };
        if wrong {
            self.checker.fail(Invariant::RightRefusals, format!("{asked:?} is refused: {error}"));
        }
    }
}
