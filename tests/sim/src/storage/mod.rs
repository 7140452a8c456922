//! What a broker's disk keeps.

mod model;

pub(crate) use model::ModelDisk;

use crate::rng::Rng;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::BTreeMap;

/// One change of a broker's log.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A batch at the end of a partition.
    Append(TopicPartition, RecordBatch),
    /// A partition ends there from now on.
    Truncate(TopicPartition, Offset),
}

/// The batches of each partition.
pub(crate) type Logs = BTreeMap<TopicPartition, Vec<RecordBatch>>;

/// A broker's durable log on a disk that can be crashed.
pub(crate) trait Storage {
    /// Recovers what is there.
    fn open(&mut self) -> Logs;
    /// Makes `ops` durable, in order.
    fn commit(&mut self, ops: &[Op]);
    /// The process dies, perhaps with the machine, perhaps while it was making `unfinished` durable.
    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng);
    /// The disk is replaced by an empty one.
    fn wipe(&mut self, rng: &mut Rng);
}

/// Does to `logs` what `op` says.
pub(crate) fn apply(logs: &mut Logs, op: &Op) {
    match op {
        Op::Append(tp, batch) => logs.entry(*tp).or_default().push(batch.clone()),
        Op::Truncate(tp, to) => {
            let log = logs.entry(*tp).or_default();
            let kept = log.partition_point(|batch| batch.header().end_offset() <= *to);
            log.truncate(kept);
        }
    }
}
