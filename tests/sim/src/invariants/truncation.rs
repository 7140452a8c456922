//! What is cut off was never committed.

use crate::checker::{Committed, Invariant};
use crate::network::NodeId;
use crate::world::World;
use chronik_core::ids::{Offset, TopicPartition};

impl World {
    pub(crate) fn check_truncation(&mut self, node: NodeId, tp: TopicPartition, to: Offset) {
        let Some(process) = &self.nodes[node].process else { return };
        let log = process.logs.get(&tp).map_or(&[][..], Vec::as_slice);
        let committed = self.checker.committed.get(&tp).map_or(&[][..], Vec::as_slice);
        let kept = log.partition_point(|batch| batch.header().end_offset() <= to);
        let lost = log[kept..].iter().map(Committed::from).find(|batch| committed.contains(batch));
        if let Some(agreed) = self.checker.agreed.get_mut(&(node, tp)) {
            *agreed = (*agreed).min(kept);
        }
        if let Some(batch) = lost {
            self.checker.fail(
                Invariant::Truncation,
                format!("broker {node} cuts {tp} back to {to}, and {batch:?} is committed"),
            );
        }
    }
}
