//! Replicas agree where each epoch starts, as far as they are committed.

use crate::world::World;
use chronik_core::ids::{LeaderEpoch, Offset};

impl World {
    pub(crate) fn check_epochs(&mut self) {
        let mut broken = None;
        for tp in &self.partitions {
            let committed = self.checker.committed_end(*tp);
            let mut first: Option<(usize, Vec<(LeaderEpoch, Offset)>)> = None;
            for (node, n) in self.nodes.iter().enumerate() {
                let Some(replica) = n.process.as_ref().and_then(|p| p.replicas.get(tp)) else { continue };
                let epochs: Vec<_> = replica.epochs().iter().copied().filter(|(_, start)| *start < committed).collect();
                match &first {
                    Some((other, known)) if *known != epochs => {
                        broken = Some(format!("brokers {other} and {node} differ on {tp}: {known:?} and {epochs:?}"));
                    }
                    Some(_) => {}
                    None => first = Some((node, epochs)),
                }
            }
        }
        if let Some(how) = broken {
            self.checker.fail(how);
        }
    }
}
