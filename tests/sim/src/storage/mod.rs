//! What a broker's disk keeps.

mod model;
mod simulated;

pub(crate) use model::ModelDisk;
pub(crate) use simulated::SimulatedLog;

use crate::rng::Rng;
use chronik_core::ids::TopicPartition;
use chronik_core::record::RecordBatch;
use chronik_log::Op;
use std::collections::BTreeMap;

/// The batches of each partition.
pub(crate) type Logs = BTreeMap<TopicPartition, Vec<RecordBatch>>;

/// A broker's durable log on a disk that can be crashed.
pub(crate) trait Storage {
    /// Recovers what is there.
    fn open(&mut self) -> Result<Logs, String>;
    /// Makes `ops` durable, in order.
    fn commit(&mut self, ops: &[Op]) -> Result<(), String>;
    /// The process dies, perhaps with the machine, perhaps while it was making `unfinished` durable.
    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng);
    /// The disk is replaced by an empty one.
    fn wipe(&mut self, rng: &mut Rng);
}

/// Does to `logs` what `op` says.
pub(crate) fn apply(logs: &mut Logs, op: &Op) {
    match op {
        Op::Append { partition, batch } => logs.entry(*partition).or_default().push(batch.clone()),
        Op::Truncate { partition, to } => {
            let log = logs.entry(*partition).or_default();
            let kept = log.partition_point(|batch| batch.header().end_offset() <= *to);
            log.truncate(kept);
        }
        Op::AdvanceStart { partition, to } => {
            logs.entry(*partition).or_default().retain(|batch| batch.header().end_offset() > *to);
        }
        Op::Delete { partition } => {
            logs.remove(partition);
        }
    }
}
