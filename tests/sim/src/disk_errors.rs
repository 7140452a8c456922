//! Disks whose syncs fail, in some of the worlds: the process ends, as what is durable is not known any more.

use crate::activity::Activity;
use crate::network::NodeId;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::world::{Happening, World, note};

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

    /// One of a broker's next syncs fails.
    pub(crate) fn disk_error(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_disk_error();
        let rng = &mut self.disk_errors.rng;
        let node = rng.index(self.nodes.len());
        self.nodes[node].disk.fail_sync_after(rng.within(0, 4));
    }

    /// What a broker's disk was asked for has failed: it ends.
    pub(crate) fn disk_failed(&mut self, node: NodeId) {
        note!(self, "b{node}'s disk has failed");
        self.counts.note(Activity::DiskFailed);
        self.crash(node);
    }
}
