//! Faults with a shape, in some of the worlds: several things that go wrong together, as people have met them. In these
//! worlds clocks also go at different rates.

use crate::activity::Activity;
use crate::network::NodeId;
use crate::options::{Kind, Options};
use crate::rng::Rng;
use crate::world::{Happening, World, note};

/// Between two of them at most.
const GAP_US: u64 = 4_000_000;
/// What a sync takes on a disk that is slow all the time.
pub(crate) const SLOW_SYNC_US: u64 = 300_000;
/// How far clocks go wrong, in so many thousandths. The controller waits longer than a lease lasts by more than that.
const DRIFT_PER_MILLE: u64 = 50;

/// Whether and when.
#[derive(Debug)]
pub(crate) struct Patterns {
    rng: Rng,
    pub(crate) some: bool,
    /// One is in force.
    on: bool,
    /// What is cut for now.
    cut: Vec<(NodeId, NodeId)>,
}

impl Patterns {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed.rotate_left(40) ^ 0x7368_6170_6573);
        let some = rng.per_mille(300) && options.has(Kind::Patterns);
        Self { rng, some, on: false, cut: Vec::new() }
    }
}

impl World {
    pub(crate) fn first_pattern(&mut self) {
        if !self.patterns.some {
            return;
        }
        for node in &mut self.nodes {
            node.clock_per_mille = self.patterns.rng.within(1_000 - DRIFT_PER_MILLE, 1_000 + DRIFT_PER_MILLE);
        }
        self.next_pattern();
    }

    fn next_pattern(&mut self) {
        let at = self.now_us + self.patterns.rng.within(1_000, GAP_US);
        self.at(at, Happening::Pattern);
    }

    /// One begins, or ends.
    pub(crate) fn pattern(&mut self) {
        if self.faults.over {
            return;
        }
        if std::mem::take(&mut self.patterns.on) {
            self.end_pattern();
            self.next_pattern();
            return;
        }
        self.patterns.on = true;
        let rng = &mut self.patterns.rng;
        let a = rng.index(self.nodes.len());
        let b = (a + 1 + rng.index(self.nodes.len() - 1)) % self.nodes.len();
        let (what, lasts_us) = (rng.index(4), rng.within(200_000, GAP_US));
        match what {
            0 => {
                note!(self, "b{a} and b{b} see the others, and not each other");
                self.counts.note(Activity::Bridge);
                self.cut_off([(a, b), (b, a)].into());
            }
            1 | 2 => {
                let leader = self.a_leader().unwrap_or(a);
                let others = (0..self.nodes.len()).filter(|other| *other != leader);
                if what == 1 {
                    note!(self, "b{leader} hears nobody");
                    self.counts.note(Activity::Deaf);
                    self.network.deaf.insert(leader);
                    self.cut_off(others.map(|other| (other, leader)).collect());
                } else {
                    note!(self, "nobody hears b{leader}");
                    self.counts.note(Activity::Mute);
                    self.network.mute.insert(leader);
                    self.cut_off(others.map(|other| (leader, other)).collect());
                }
            }
            _ => {
                note!(self, "b{a} and b{b} take {SLOW_SYNC_US} us for a sync");
                self.counts.note(Activity::SlowSyncs);
                for node in [a, b] {
                    self.nodes[node].slow_syncs_until_us = self.now_us + lasts_us;
                }
            }
        }
        let at = self.now_us + lasts_us;
        self.at(at, Happening::Pattern);
    }

    fn cut_off(&mut self, ways: Vec<(NodeId, NodeId)>) {
        self.network.cut.extend(ways.iter().copied());
        self.patterns.cut = ways;
    }

    /// A broker that leads something, as the controller knows.
    fn a_leader(&self) -> Option<NodeId> {
        self.controller.image.partitions().find_map(|(_, _, p)| self.node_of(p.leader?))
    }

    /// What is cut is whole again.
    pub(crate) fn end_pattern(&mut self) {
        for way in std::mem::take(&mut self.patterns.cut) {
            self.network.cut.remove(&way);
        }
        self.network.deaf.clear();
        self.network.mute.clear();
    }

    /// Whether a broker whose disk hangs is fenced for that, as brokers are: not in the worlds of seeds that are older.
    pub(crate) fn fences_hung(&self) -> bool {
        self.patterns.some || self.outsider.some
    }
}
