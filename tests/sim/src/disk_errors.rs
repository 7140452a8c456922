//! Disks that fail, in some of the worlds. A sync that fails ends the process, as what is durable is not known any more. What
//! cannot be read, for a while, is damage as its broker sees it: nobody is to count on its copy. And a bit that is lost with
//! the power is found by the start, which cuts the log back there and says so to the controller.

use crate::activity::Activity;
use crate::network::NodeId;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::replication::Event;

/// Between two of them at most.
const GAP_US: u64 = 3_000_000;

/// Whether and when. The chances are drawn apart from those of the world.
#[derive(Debug)]
pub(crate) struct DiskErrors {
    rng: Rng,
    some: bool,
}

impl DiskErrors {
    /// None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed.rotate_left(16) ^ 0x0065_696f);
        let some = rng.per_mille(300) && plant.is_none();
        Self { rng, some }
    }
}

impl World {
    pub(crate) fn first_disk_error(&mut self) {
        if self.disk_errors.some {
            self.next_disk_error();
        }
    }

    fn next_disk_error(&mut self) {
        let at = self.now_us + self.disk_errors.rng.within(1_000, GAP_US);
        self.at(at, Happening::DiskError);
    }

    /// One of a broker's next syncs fails, or a read has.
    pub(crate) fn disk_error(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_disk_error();
        let rng = &mut self.disk_errors.rng;
        let node = rng.index(self.nodes.len());
        if rng.per_mille(300) {
            self.read_error(node);
            return;
        }
        self.nodes[node].disk.fail_sync_after(rng.within(0, 4));
    }

    /// Of some partition a broker cannot read what comes from some batch on. When nothing goes wrong any more, it can.
    fn read_error(&mut self, node: NodeId) {
        let rng = &mut self.disk_errors.rng;
        let (tp, at) = (self.partitions[rng.index(self.partitions.len())], rng.any() as usize);
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(log) = process.logs.get(&tp).filter(|log| !log.batches.is_empty()) else { return };
        if !process.replicas.contains_key(&tp) || process.unreadable.contains_key(&tp) {
            return;
        }
        let from = log.batches[at % log.batches.len()].header().base_offset.max(log.start);
        process.unreadable.insert(tp, from);
        note!(self, "b{node} p{} cannot be read from {from} on", tp.partition);
        self.counts.note(Activity::ReadFailed);
        self.replica_event(node, self.nodes[node].incarnation, tp, Event::Damaged { from });
    }

    /// A broker's disk loses a bit with the power, now and then.
    pub(crate) fn rot(&mut self, node: NodeId) {
        let DiskErrors { rng, some } = &mut self.disk_errors;
        if *some && rng.per_mille(200) {
            note!(self, "b{node}'s disk loses a bit");
            let n = &mut self.nodes[node];
            n.disk.rot(&mut self.disk_errors.rng);
            (n.rotten, n.wiped) = (true, true);
        }
    }

    /// What a broker's disk was asked for has failed: it ends.
    pub(crate) fn disk_failed(&mut self, node: NodeId) {
        note!(self, "b{node}'s disk has failed");
        self.counts.note(Activity::DiskFailed);
        self.crash(node);
    }
}
