//! The ISR is a subset of the replicas, and each member's disk holds all that is committed.

use crate::checker::{Committed, Invariant};
use crate::world::World;
use chronik_core::ids::Offset;

impl World {
    pub(crate) fn check_in_sync(&mut self) {
        let mut broken = None;
        for (tp, _, partition) in self.controller.image.partitions() {
            // What of it is lost, its new leader will show.
            if self.checker.awaits_era(tp) {
                continue;
            }
            let committed_end = self.checker.committed_end(tp);
            for id in &partition.isr {
                let Some(node) = self.nodes.iter().position(|n| n.id == *id) else { continue };
                if !partition.replicas.contains(id) {
                    broken = Some(format!("broker {id} is in the ISR of {tp}, and no replica of it"));
                }
                let n = &self.nodes[node];
                let durable = n.durable.get(&tp).copied().unwrap_or(Offset::ZERO);
                if n.wiped {
                    continue;
                }
                // Whoever was elected uncleanly may have been about to remove what its disk has not got.
                let is_removed = self.checker.era(tp) > 0 && committed_end <= self.checker.removed_before(tp);
                if durable < committed_end && !is_removed {
                    broken = Some(format!(
                        "broker {id} is in the ISR of {tp} with {durable} on its disk, and {committed_end} is committed"
                    ));
                    continue;
                }
                let Some(log) = n.process.as_ref().and_then(|process| process.logs.get(&tp)) else { continue };
                let begins = log.batches.first().map_or(log.end, |batch| batch.header().base_offset);
                if log.start > self.checker.removed_before(tp) || !self.checker.may_lack(tp, log.start, begins) {
                    let start = log.start;
                    broken = Some(format!("broker {id} in the ISR of {tp} starts at {start} and has {begins} first"));
                }
                let agreed = self.checker.agreed.get(&(node, tp)).copied().unwrap_or(Offset::ZERO);
                let mut agreed = agreed.max(self.checker.known_from(tp));
                for batch in log.from(agreed) {
                    let found = Committed::from(batch);
                    let Some(known) = self.checker.committed_at(tp, found.base) else { break };
                    if !self.checker.is_left_of(tp, known, batch) {
                        broken =
                            Some(format!("broker {id} in the ISR of {tp} has {found:?} where {known:?} is committed"));
                        break;
                    }
                    agreed = found.end;
                }
                self.checker.agreed.insert((node, tp), agreed);
            }
        }
        if let Some(how) = broken {
            self.checker.fail(Invariant::InSyncHoldsCommitted, how);
        }
    }
}
