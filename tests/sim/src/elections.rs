//! Leaderships that somebody gives back to the preferred replicas, in some of the worlds.

use crate::activity::Activity;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::{Answer, Elected, Election, MetadataCommand};

/// Between two of them at most, where there are any.
const GAP_US: u64 = 1_000_000;

/// Whether and when. The chances are drawn apart from those of the world: without elections it is the same one.
#[derive(Debug)]
pub(crate) struct Elections {
    rng: Rng,
    some: bool,
}

impl Elections {
    /// None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed.rotate_left(32) ^ 0x0e1e_c710);
        let some = rng.per_mille(400) && plant.is_none();
        Self { rng, some }
    }
}

impl World {
    pub(crate) fn first_election(&mut self) {
        if self.elections.some {
            self.next_election();
        }
    }

    fn next_election(&mut self) {
        let at = self.now_us + self.elections.rng.within(1_000, GAP_US);
        self.at(at, Happening::Elect);
    }

    /// Asks for one, whoever leads and whatever becomes of it: the former leader is alive, has a lease, and hears of it as
    /// late as of everything.
    pub(crate) fn elect(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_election();
        if !self.controller_takes() {
            return;
        }
        let command = MetadataCommand::ElectLeaders { partitions: None, election: Election::Preferred };
        let outcome = self.controller.apply(command);
        note!(self, "preferred replicas are to lead: {outcome:?}");
        if let Ok(Answer::Elected(results)) = outcome {
            for _ in results.iter().filter(|(_, elected)| matches!(elected, Elected::Leader(_))) {
                self.counts.note(Activity::PreferredElected);
            }
        }
    }
}
