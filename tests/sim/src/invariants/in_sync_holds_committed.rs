//! The ISR is a subset of the replicas, and each member's disk holds all that is committed.

use crate::checker::{Committed, Invariant};
use crate::world::World;
use chronik_core::ids::Offset;

impl World {
    pub(crate) fn check_in_sync(&mut self) {
        let mut broken = None;
        for (tp, _, partition) in self.controller.image.partitions() {
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
                if durable < committed_end {
                    broken = Some(format!(
                        "broker {id} is in the ISR of {tp} with {durable} on its disk, and {committed_end} is committed"
                    ));
                    continue;
                }
                let (Some(process), Some(committed)) = (&n.process, self.checker.committed.get(&tp)) else { continue };
                let log = process.logs.get(&tp).map_or(&[][..], Vec::as_slice);
                let agreed = self.checker.agreed.entry((node, tp)).or_default();
                while let (Some(known), Some(batch)) = (committed.get(*agreed), log.get(*agreed)) {
                    let found = Committed::from(batch);
                    if found != *known {
                        broken =
                            Some(format!("broker {id} in the ISR of {tp} has {found:?} where {known:?} is committed"));
                        break;
                    }
                    *agreed += 1;
                }
            }
        }
        if let Some(how) = broken {
            self.checker.fail(Invariant::InSyncHoldsCommitted, how);
        }
    }
}
