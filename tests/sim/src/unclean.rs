//! Unclean elections, in some of the worlds: where nobody leads, an operator has a replica elected that is alive and may lack
//! what was committed, or the topic's configs ask for that. So that there is somebody to elect, one replica is cut off until
//! it is behind, perhaps all that it has is removed meanwhile, and then all that are eligible are away.
//!
//! Not in worlds with compaction: what a cleaning may leave is judged by one log. Nor in those where disks lose something: the
//! copy that is chosen may be damaged, or the only other one, and what its log has and cannot be read would be committed.

use crate::network::NodeId;
use crate::options::{Kind, Options};
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::{Election, MetadataCommand, Partition};
use chronik_core::ids::TopicPartition;

/// Between two looks of the operator at most.
const LOOK_US: u64 = 300_000;
/// Between two replicas that are left behind, at most.
const GAP_US: u64 = 2_000_000;

/// Whether and when. The chances are drawn apart from those of the world.
#[derive(Debug)]
pub(crate) struct Unclean {
    rng: Rng,
    pub(crate) some: bool,
    /// The topic's configs ask for it, and no operator.
    pub(crate) by_config: bool,
    step: Step,
    /// Brokers that are away for now.
    away: Vec<NodeId>,
}

/// How far it is with the replica that is to be elected.
#[derive(Clone, Copy, Debug)]
enum Step {
    Rest,
    /// It is cut off.
    Behind(NodeId, TopicPartition),
    /// And the others may have removed what it has.
    Removed(NodeId, TopicPartition),
    /// It is the only one.
    Alone,
}

impl Unclean {
    /// None beside what it does not go with.
    pub(crate) fn new(options: &Options, beside_others: bool) -> Self {
        let mut rng = Rng::new(options.seed.rotate_left(8) ^ 0x0075_6e63_6c65_616e);
        let some = rng.per_mille(300) && options.has(Kind::Unclean) && !beside_others;
        let by_config = rng.per_mille(300) && some;
        Self { rng, some, by_config, step: Step::Rest, away: Vec::new() }
    }

    /// Whether a broker does not come back yet.
    pub(crate) fn keeps_away(&self, node: NodeId) -> bool {
        self.away.contains(&node)
    }

    /// Nobody is kept away any more. Returns those that were.
    pub(crate) fn end(&mut self) -> Vec<NodeId> {
        self.step = Step::Rest;
        std::mem::take(&mut self.away)
    }
}

impl World {
    pub(crate) fn first_unclean(&mut self) {
        if self.unclean.some {
            self.next_look();
            self.next_step(1_000, GAP_US);
        }
    }

    fn next_look(&mut self) {
        if !self.unclean.by_config {
            let at = self.now_us + self.unclean.rng.within(1_000, LOOK_US);
            self.at(at, Happening::ElectUncleanly);
        }
    }

    fn next_step(&mut self, low_us: u64, high_us: u64) {
        let at = self.now_us + self.unclean.rng.within(low_us, high_us);
        self.at(at, Happening::LeaveBehind);
    }

    /// An operator looks whether there is a leader, and has one elected. When nothing goes wrong any more, only where nobody
    /// else can ever come: who was elected may have lost its disk.
    pub(crate) fn elect_uncleanly(&mut self) {
        self.next_look();
        let (decides, over) = (self.unclean.rng.per_mille(500), self.faults.over);
        let image = &self.controller.image;
        let may_wait = |p: &Partition| p.leader.is_some() || over && !p.elr.is_empty();
        let waits = |p: &Partition| !may_wait(p) && p.replicas.iter().any(|id| image.may_lead(*id));
        let due = self.partitions.iter().any(|tp| image.partition(*tp).is_some_and(waits));
        if !due || !decides || !self.controller_takes() {
            return;
        }
        let partitions = Some(self.partitions.clone());
        let outcome = self.controller.apply(MetadataCommand::ElectLeaders { partitions, election: Election::Unclean });
        note!(self, "somebody is to lead, whatever it lacks: {outcome:?}");
    }

    /// The next step towards a replica that lacks something and is the only one.
    pub(crate) fn leave_behind(&mut self) {
        if self.faults.over {
            return;
        }
        match std::mem::replace(&mut self.unclean.step, Step::Rest) {
            Step::Rest => self.cut_one_off(),
            Step::Behind(node, tp) => {
                if self.unclean.rng.per_mille(500) {
                    self.remove_all(tp);
                }
                self.unclean.step = Step::Removed(node, tp);
                self.next_step(10_000, 400_000);
            }
            Step::Removed(node, tp) => self.leave_alone(node, tp),
            Step::Alone => {
                for node in std::mem::take(&mut self.unclean.away) {
                    let at = self.now_us + self.unclean.rng.within(0, 1_500_000);
                    self.at(at, Happening::Resume(node));
                }
                self.next_step(500_000, GAP_US);
            }
        }
    }

    /// One that is in sync, and does not lead, is cut off from the other brokers.
    fn cut_one_off(&mut self) {
        let rng = &mut self.unclean.rng;
        let tp = self.partitions[rng.index(self.partitions.len())];
        let chance = rng.any() as usize;
        let in_sync = self.controller.image.partition(tp).map(|p| (p.leader, p.isr.clone()));
        let Some((Some(leader), isr)) = in_sync else { return self.next_step(1_000, GAP_US) };
        let followers: Vec<NodeId> =
            isr.into_iter().filter(|id| *id != leader).filter_map(|id| self.node_of(id)).collect();
        if followers.is_empty() {
            return self.next_step(1_000, GAP_US);
        }
        let node = followers[chance % followers.len()];
        note!(self, "b{node} is left behind in p{}", tp.partition);
        self.network.cut.extend(self.ways_of(node));
        self.unclean.step = Step::Behind(node, tp);
        self.next_step(800_000, 2_500_000);
    }

    fn ways_of(&self, node: NodeId) -> Vec<(NodeId, NodeId)> {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }

    /// All that is committed of a partition is removed.
    fn remove_all(&mut self, tp: TopicPartition) {
        let leader = self.controller.image.partition(tp).and_then(|p| p.leader);
        let Some(node) = leader.and_then(|id| self.node_of(id)) else { return };
        if self.nodes[node].stopped_until_us > self.now_us {
            return;
        }
        if let Some((_, committed)) = self.removable(node, tp) {
            self.remove_before(node, tp, committed);
        }
    }

    /// If it is behind, all that are eligible are away for a while.
    fn leave_alone(&mut self, node: NodeId, tp: TopicPartition) {
        for way in self.ways_of(node) {
            self.network.cut.remove(&way);
        }
        let behind = self.nodes[node].process.is_some() && !self.is_counted(node, tp);
        if !behind {
            return self.next_step(1_000, GAP_US);
        }
        let others: Vec<NodeId> =
            (0..self.nodes.len()).filter(|other| *other != node && self.is_counted(*other, tp)).collect();
        note!(self, "b{node} is the only one left of p{}", tp.partition);
        for other in others {
            self.crash(other);
            self.unclean.away.push(other);
        }
        self.unclean.step = Step::Alone;
        self.next_step(1_200_000, 4_000_000);
    }
}
