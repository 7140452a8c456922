//! Partitions that somebody moves to other brokers, or leaves where they are after all, in some of the worlds.

use crate::activity::Activity;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::{Answer, MetadataCommand, Reassignment};
use chronik_core::ids::BrokerId;

/// Between two of them at most, where there are any.
const GAP_US: u64 = 1_500_000;

/// Whether and when. The chances are drawn apart from those of the world: without reassignments it is the same one.
#[derive(Debug)]
pub(crate) struct Reassignments {
    rng: Rng,
    some: bool,
}

impl Reassignments {
    /// None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(!seed);
        let some = rng.per_mille(400) && plant.is_none();
        Self { rng, some }
    }
}

impl World {
    pub(crate) fn first_reassignment(&mut self) {
        if self.reassignments.some {
            self.next_reassignment();
        }
    }

    fn next_reassignment(&mut self) {
        let at = self.now_us + self.reassignments.rng.within(1_000, GAP_US);
        self.at(at, Happening::Reassign);
    }

    /// Asks for one, whatever state the partition is in.
    pub(crate) fn reassign(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_reassignment();
        let rng = &mut self.reassignments.rng;
        let partition = self.partitions[rng.index(self.partitions.len())];
        let replicas = (!rng.per_mille(200)).then(|| {
            let mut others: Vec<BrokerId> = self.nodes.iter().map(|n| n.id).collect();
            let factor = self.replication_factor as usize;
            let wanted = if rng.per_mille(800) { factor } else { 1 + rng.index(others.len()) };
            (0..wanted.min(others.len())).map(|_| others.swap_remove(rng.index(others.len()))).collect::<Vec<_>>()
        });
        // What would be left is one copy, on a disk that may just have been lost.
        if replicas.as_ref().is_some_and(|r| r.len() == 1) && self.is_a_copy_doubtful() {
            return;
        }
        if !self.controller_takes() {
            return;
        }
        let what = format!("{replicas:?}");
        let partitions = vec![Reassignment { partition, replicas }];
        let command = MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: true };
        let outcome = self.controller.apply(command);
        note!(self, "p{} is to move to {what}: {outcome:?}", partition.partition);
        if matches!(outcome, Ok(Answer::Reassigned(results)) if results.iter().all(|(_, done)| done.is_ok())) {
            self.counts.note(Activity::Reassigned);
        }
    }
}
