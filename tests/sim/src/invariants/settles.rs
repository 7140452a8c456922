//! When nothing goes wrong any more, everything is acknowledged, everyone is in sync, all logs are the same, and
//! nobody waits for an answer.

use crate::node::end;
use crate::world::World;
use chronik_core::ids::BrokerId;

impl World {
    /// What is not at rest yet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if let Some(n) = self.producers.iter().position(|p| !p.is_done()) {
            return Some(format!("producer {n} has batches that are not acknowledged"));
        }
        if self.controller.image.topics.is_empty() {
            return Some("the topic does not exist".into());
        }
        for (tp, _, partition) in self.controller.image.partitions() {
            let gone = self.gone.map(|node| self.nodes[node].id);
            let absent = |id: &BrokerId| gone == Some(*id);
            if partition.replicas.iter().any(|id| !absent(id) && !partition.isr.contains(id)) {
                return Some(format!("{tp} has only {:?} in sync", partition.isr));
            }
            let committed = self.checker.committed_end(tp);
            for node in self.nodes.iter().filter(|n| partition.replicas.contains(&n.id) && !absent(&n.id)) {
                let Some(process) = &node.process else { return Some(format!("broker {} is down", node.id)) };
                let log = process.logs.get(&tp).map_or(&[][..], Vec::as_slice);
                if end(log) != committed || node.durable.get(&tp).is_some_and(|durable| *durable < committed) {
                    return Some(format!("broker {} is at {} of {committed} in {tp}", node.id, end(log)));
                }
            }
        }
        for node in &self.nodes {
            if let Some(owed) = node.process.as_ref().and_then(|p| p.tickets.values().next()) {
                return Some(format!("broker {} owes {owed:?} an answer", node.id));
            }
        }
        // What is never read shows nothing of what may be read.
        let behind = self.readers.iter().find(|r| r.position < self.checker.committed_end(r.tp));
        behind.map(|r| format!("the reader of {} is at {}", r.tp, r.position))
    }
}
