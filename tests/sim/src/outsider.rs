//! One broker that never gets well, in some of the worlds: when the faults are over the others are healed, and have to be
//! well without it.

use crate::activity::Activity;
use crate::network::NodeId;
use crate::options::{Kind, Options};
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::Partition;

/// For ever.
const NEVER_US: u64 = u64::MAX / 4;
/// Between two crashes of one that does not stay up, at most.
const FLAPPING_US: u64 = 3_000_000;

/// Whether there is one.
#[derive(Debug)]
pub(crate) struct Outsider {
    rng: Rng,
    pub(crate) some: bool,
    pub(crate) node: Option<NodeId>,
}

impl Outsider {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed.rotate_left(56) ^ 0x6f75_7473_6964_6572);
        let some = rng.per_mille(300) && options.has(Kind::Outsider);
        Self { rng, some, node: None }
    }
}

impl World {
    /// Whether everybody is to do without that broker.
    pub(crate) fn is_absent(&self, node: NodeId) -> bool {
        self.gone == Some(node) || self.outsider.node == Some(node)
    }

    /// Whether each partition has as many other replicas as it needs, also when it has moved to where it is going.
    pub(crate) fn can_do_without(&self, node: NodeId) -> bool {
        let id = self.nodes[node].id;
        let missed = |min: usize, p: &Partition| p.replicas.contains(&id) && p.target_replicas().count() <= min;
        let mut all = self.controller.image.partitions();
        !all.any(|(_, t, p)| missed(p.min_insync_replicas(t.min_insync_replicas), p))
    }

    /// One is left out of the healing, if the others can do without it.
    pub(crate) fn leave_one_out(&mut self) {
        if !self.outsider.some {
            return;
        }
        let (node, what) = (self.outsider.rng.index(self.nodes.len()), self.outsider.rng.index(6));
        if !self.is_dispensable(node) || !self.can_do_without(node) {
            return;
        }
        let others: Vec<NodeId> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        match what {
            0 => {
                note!(self, "b{node} never comes back");
                self.gone = Some(node);
                self.crash(node);
            }
            1 => {
                note!(self, "b{node} never gets the controller back");
                self.network.without_controller.insert(node);
            }
            2 => {
                note!(self, "b{node}'s disk hangs for ever");
                self.nodes[node].hung_until_us = NEVER_US;
            }
            3 => {
                note!(self, "b{node} does not stay up");
                self.flap(node);
            }
            // Not from its clients. One that the controller hears would go on leading, or be elected.
            4 => {
                note!(self, "b{node} stays cut off from the others and from the controller");
                self.network.without_controller.insert(node);
                self.network.cut.extend(others.iter().flat_map(|other| [(node, *other), (*other, node)]));
            }
            _ => {
                note!(self, "b{node}'s disk stays slow");
                self.nodes[node].slow_syncs_until_us = NEVER_US;
            }
        }
        self.counts.note(Activity::Outsider);
        self.outsider.node = Some(node);
    }

    /// A process dies, and comes back, again and again.
    pub(crate) fn flap(&mut self, node: NodeId) {
        self.crash(node);
        let at = self.now_us + self.outsider.rng.within(1_000, FLAPPING_US);
        self.at(at, Happening::Flap(node));
    }
}
