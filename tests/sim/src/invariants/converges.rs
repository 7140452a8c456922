//! When nothing goes wrong any more, everything is acknowledged, everyone is in sync, all logs are the same, and
//! nobody waits for an answer.

use crate::node::Node;
use crate::world::World;
use chronik_core::ids::{BrokerId, Offset};

impl World {
    /// Why the cluster has not converged yet.
    pub(crate) fn not_converged(&self) -> Option<String> {
        if let Some(n) = self.producers.iter().position(|p| !p.is_done()) {
            return Some(format!("producer {n} has batches that are not acknowledged"));
        }
        if self.controller.image.topics.is_empty() {
            return Some("the topic does not exist".into());
        }
        let absent = |id: &BrokerId| self.node_of(*id).is_some_and(|node| self.is_absent(node));
        let somebody_is = self.nodes.iter().any(|node| absent(&node.id));
        for node in self.nodes.iter().filter(|node| !absent(&node.id)) {
            if let Some(tp) = node.durable.keys().find(|tp| self.controller.image.partition(**tp).is_none()) {
                return Some(format!("broker {} still has a log of {tp}, which was deleted", node.id));
            }
        }
        for (tp, _, partition) in self.controller.image.partitions() {
            if partition.replicas.iter().any(|id| !absent(id) && !partition.isr.contains(id)) {
                return Some(format!("{tp} has only {:?} in sync", partition.isr));
            }
            if !somebody_is && partition.is_reassigning() {
                return Some(format!("{tp} is still being moved: {partition:?}"));
            }
            let has_left = |n: &&Node| !partition.replicas.contains(&n.id) && !absent(&n.id);
            let left = self.nodes.iter().filter(has_left).find(|n| n.durable.contains_key(&tp));
            if let Some(node) = left {
                return Some(format!("broker {} still has a log of {tp}, and is no replica", node.id));
            }
            let committed = self.checker.committed_end(tp);
            let leader = self.nodes.iter().find(|node| partition.leader == Some(node.id));
            let leads_from =
                leader.and_then(|node| node.process.as_ref()?.logs.get(&tp)).map_or(Offset::ZERO, |log| log.start);
            for node in self.nodes.iter().filter(|n| partition.replicas.contains(&n.id) && !absent(&n.id)) {
                let Some(process) = &node.process else { return Some(format!("broker {} is down", node.id)) };
                let log = process.logs.get(&tp).cloned().unwrap_or_default();
                // One that had moved its start before the leader was elected may be ahead of it.
                if log.start < leads_from {
                    return Some(format!("broker {} starts at {}, its leader at {leads_from}", node.id, log.start));
                }
                if log.end != committed || node.durable.get(&tp).is_some_and(|durable| *durable < committed) {
                    return Some(format!("broker {} is at {} of {committed} in {tp}", node.id, log.end));
                }
            }
        }
        for node in self.nodes.iter().filter(|node| !absent(&node.id)) {
            if let Some(owed) = node.process.as_ref().and_then(|p| p.tickets.values().next()) {
                return Some(format!("broker {} owes {owed:?} an answer", node.id));
            }
        }
        // What is never read shows nothing of what may be read.
        let behind = self.readers.iter().find(|r| r.position < self.checker.committed_end(r.tp));
        behind.map(|r| format!("the reader of {} is at {}", r.tp, r.position))
    }
}
