//! What goes wrong, and how it ends.

use crate::activity::Activity;
use crate::checker::Invariant;
use crate::network::{FAST_US, NodeId};
use crate::node::directory_id;
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::{Answer, Leaving, MetadataCommand, Partition, ResignReason, ResignedPartitions};
use chronik_core::ids::{MetadataOffset, TopicPartition};
use chronik_core::replication::{IsrState, Replica};

/// How often a broker looks whether it has heard of its successor.
const HEARD_US: u64 = 5_000;

/// So long after the last fault who was kept away comes back.
const BACK_US: u64 = 500_000;

/// How much goes wrong in a run.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Microseconds between two faults, at most.
    gap_us: u64,
    count: usize,
    pub(crate) over: bool,
}

impl Faults {
    /// As the seed has it.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        // A few worlds are so rough that most of their leaderships end before anyone hears of them.
        let gap_us = if rng.per_mille(200) { rng.within(30_000, 150_000) } else { rng.within(100_000, 2_000_000) };
        Self { gap_us, count: 0, over: false }
    }

    /// Faults so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl World {
    /// The next fault, if it is not over.
    pub(crate) fn fault(&mut self) {
        if self.faults.over {
            return;
        }
        self.faults.count += 1;
        let node = self.rng.index(self.nodes.len());
        let other = self.rng.index(self.nodes.len());
        match self.rng.index(16) {
            0..=2 => self.crash(node),
            3 => self.crash_all(),
            4 => self.stop(node),
            5 if node != other => {
                self.counts.note(Activity::Cut);
                note!(self, "cut b{node} to b{other}");
                self.network.cut.insert((node, other));
                if self.rng.per_mille(500) {
                    self.network.cut.insert((other, node));
                }
            }
            6 => {
                self.counts.note(Activity::ControllerLost);
                note!(self, "b{node} loses the controller");
                self.network.without_controller.insert(node);
            }
            7 => {
                self.counts.note(Activity::SlowDisk);
                self.nodes[node].slow_until_us = self.now_us + self.rng.within(100_000, 3_000_000);
            }
            14 => {
                self.counts.note(Activity::FullDisk);
                note!(self, "b{node}'s disk is full");
                self.nodes[node].full_until_us = self.now_us + self.rng.within(100_000, 3_000_000);
            }
            15 => {
                self.counts.note(Activity::HungDisk);
                note!(self, "b{node}'s disk hangs");
                self.nodes[node].hung_until_us = self.now_us + self.rng.within(100_000, 5_000_000);
            }
            8 => {
                let ahead = self.rng.within(1_000, 2_000_000);
                self.counts.note(Activity::ClockJump);
                note!(self, "b{node}'s clock jumps by {ahead}");
                self.nodes[node].clock_ahead_us += ahead;
            }
            9 => self.reset_all_of(node),
            13 => {
                let stops = self.rng.per_mille(400);
                self.resign(node, self.nodes[node].incarnation, stops);
            }
            10 => {
                let all: Vec<_> = self.network.connections.keys().copied().collect();
                if !all.is_empty() {
                    let one = all[self.rng.index(all.len())];
                    self.reset(one);
                }
            }
            _ => {
                note!(self, "what was cut is whole again");
                self.network.cut.clear();
                self.network.without_controller.clear();
            }
        }
        let gap = self.faults.gap_us;
        self.within(1_000, gap, Happening::Fault);
    }

    /// A broker gives its leaderships up. What it leads, as far as it knows, it asks to be succeeded in first; it leaves the
    /// ISR, or stops, when it has heard of that. Its replicas hear of it like all others: late.
    pub(crate) fn resign(&mut self, node: NodeId, incarnation: u64, stops: bool) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        let id = self.nodes[node].id;
        let Some((broker_epoch, image)) =
            self.nodes[node].process.as_ref().and_then(|p| Some((p.epoch?, p.image.clone())))
        else {
            return;
        };
        let (partitions, reason) = if stops {
            (ResignedPartitions::All, ResignReason::Stop)
        } else {
            (ResignedPartitions::These(vec![self.partitions[0]]), ResignReason::Asked)
        };
        let leads = image.partitions().any(|(_, _, p)| p.leader == Some(id));
        let leaving = if leads { Leaving::Leadership } else { Leaving::InSync };
        let command = MetadataCommand::Resign { broker: id, broker_epoch, partitions, leaving, reason };
        if self.is_controller_away() {
            // It hears nothing, and waits for nobody.
            if self.commits_unheard() {
                let outcome = self.controller.apply(command);
                note!(self, "b{node} resigns and does not hear of it ({reason:?}, {leaving:?}): {outcome:?}");
            }
            if stops {
                self.crash(node);
            }
            return;
        }
        let outcome = self.controller.apply(command);
        note!(self, "b{node} resigns ({reason:?}, {leaving:?}): {outcome:?}");
        if outcome.is_ok() {
            self.counts.note(Activity::Resigned);
        }
        let moved = matches!(&outcome, Ok(Answer::Resigned { kept }) if kept.is_empty());
        if leads && moved && (stops || self.rng.per_mille(500)) {
            self.within(500, 20_000, Happening::Resign(node, incarnation, stops));
        } else if stops {
            self.crash(node);
        }
    }

    /// A broker has less of a partition than it acknowledged, or not what its leader has: nobody is to count on it. Where
    /// it leads it asks to be succeeded first, and once more when it has heard of that, as brokers do.
    pub(crate) fn give_up_copy(&mut self, node: NodeId, tp: TopicPartition) {
        let led = self.leads(node, tp);
        if self.resign_copy(node, tp) && led && !self.leads(node, tp) {
            let resigned_at = self.controller.image.offset;
            self.at(
                self.now_us + HEARD_US,
                Happening::GiveUpCopy(node, self.nodes[node].incarnation, tp, resigned_at, 40),
            );
        }
    }

    /// It asks once more when it has heard of its successor, if that is not too late.
    pub(crate) fn give_up_copy_again(
        &mut self,
        (node, incarnation): (NodeId, u64),
        tp: TopicPartition,
        resigned_at: MetadataOffset,
        tries: u8,
    ) {
        match self.process(node, incarnation).map(|process| process.image.offset) {
            Some(applied) if applied >= resigned_at => {
                self.resign_copy(node, tp);
            }
            Some(_) if tries > 0 => {
                self.at(self.now_us + HEARD_US, Happening::GiveUpCopy(node, incarnation, tp, resigned_at, tries - 1));
            }
            _ => {}
        }
    }

    fn leads(&self, node: NodeId, tp: TopicPartition) -> bool {
        self.controller.image.partition(tp).is_some_and(|p| p.leader == Some(self.nodes[node].id))
    }

    /// False if the controller does not hear it, or it hears nothing of the controller.
    fn resign_copy(&mut self, node: NodeId, tp: TopicPartition) -> bool {
        let n = &self.nodes[node];
        let Some(broker_epoch) = n.process.as_ref().and_then(|p| p.epoch) else { return false };
        if !self.reaches_controller(node) {
            return false;
        }
        let partitions = ResignedPartitions::These(vec![tp]);
        let (broker, leaving, reason) = (n.id, Leaving::Copy, ResignReason::Damage);
        let command = MetadataCommand::Resign { broker, broker_epoch, partitions, leaving, reason };
        let away = self.is_controller_away();
        if away && !self.commits_unheard() {
            return false;
        }
        let outcome = self.controller.apply(command);
        note!(self, "b{node} p{} gives its copy up: {outcome:?}", tp.partition);
        self.counts.note(Activity::CopyGivenUp);
        !away
    }

    /// Whether the cluster counts on a broker's copy of a partition.
    pub(crate) fn is_counted(&self, node: NodeId, tp: TopicPartition) -> bool {
        let id = self.nodes[node].id;
        let counted = |p: &Partition| p.leader == Some(id) || p.isr.contains(&id) || p.elr.contains(&id);
        self.controller.image.partition(tp).is_some_and(counted)
    }

    /// A process dies, perhaps in the middle of a write, perhaps with its disk.
    pub(crate) fn crash(&mut self, node: NodeId) {
        let may_lose_disk = self.is_dispensable(node);
        let Some(process) = self.nodes[node].process.take() else { return };
        note!(self, "b{node} crashes");
        self.counts.note(Activity::Crash);
        let Self { nodes, rng, .. } = self;
        let mut unfinished = process.syncing;
        // Of what only waited, nothing is on the disk, but an unlucky moment may lie just after the round began.
        if unfinished.is_empty() {
            unfinished = process.queue;
        }
        nodes[node].disk.crash(&unfinished, rng);
        if !unfinished.is_empty() {
            self.counts.note(Activity::CrashInWrite);
        }
        let nodes = &mut self.nodes;
        nodes[node].stopped_until_us = 0;
        self.reset_all_of(node);
        if self.rng.per_mille(150) && may_lose_disk {
            self.lose_disk(node);
        } else if may_lose_disk {
            self.rot(node);
        }
        self.within(1_000, 3_000_000, Happening::Resume(node));
    }

    /// A disk is replaced by an empty one.
    fn lose_disk(&mut self, node: NodeId) {
        note!(self, "b{node} loses its disk");
        self.counts.note(Activity::DiskLost);
        let n = &mut self.nodes[node];
        n.disk.wipe(&mut self.rng);
        n.directory = directory_id(self.rng.any());
        n.wiped = true;
        n.durable.clear();
    }

    fn crash_all(&mut self) {
        if self.rng.per_mille(300) {
            self.counts.note(Activity::CrashOfAll);
            for node in 0..self.nodes.len() {
                self.crash(node);
            }
        }
    }

    /// A process is stopped for a while (SIGSTOP), and all that reaches it waits.
    fn stop(&mut self, node: NodeId) {
        if self.nodes[node].process.is_some() {
            let until = self.now_us + self.rng.within(100_000, 3_000_000);
            self.counts.note(Activity::Stop);
            note!(self, "b{node} stops until {until}");
            self.nodes[node].stopped_until_us = until;
        }
    }

    /// A process starts if there is none.
    pub(crate) fn resume(&mut self, node: NodeId) {
        if self.nodes[node].process.is_some() || self.gone == Some(node) || self.unclean.keeps_away(node) {
            return;
        }
        let rotten = self.nodes[node].rotten;
        if let Err(how) = self.nodes[node].start() {
            self.checker.fail(Invariant::LogRecovers, format!("broker {node}'s log: {how}"));
            return;
        }
        note!(self, "b{node} starts");
        if rotten && self.nodes[node].wiped {
            self.counts.note(Activity::DiskRotted);
        }
        self.check_producers_of(node);
        if !self.nodes[node].durable.is_empty() {
            self.counts.note(Activity::Recovery);
        }
        self.forget_checked(node);
        let incarnation = self.nodes[node].incarnation;
        self.within(1_000, 20_000, Happening::Tick(node, incarnation));
        self.within(1_000, 20_000, Happening::Metadata(node, incarnation));
    }

    /// Whether what is committed, and each partition, survives the loss of this broker's disk, even if it is only noticed
    /// when the others are gone for a while: no other loss is unknown to the controller, and in each partition somebody
    /// else is eligible. A leader that is deciding otherwise may have decided so by the time of its death.
    pub(crate) fn is_dispensable(&self, node: NodeId) -> bool {
        let n = &self.nodes[node];
        if self.is_a_copy_doubtful() || self.gone.is_some() || self.outsider.node.is_some() {
            return false;
        }
        // The topic may be created before anybody misses the broker, with its only replica there.
        if self.controller.image.topics.is_empty() {
            return false;
        }
        self.controller.image.partitions().all(|(tp, _, p)| {
            let view = n.process.as_ref().and_then(|process| process.replicas.get(&tp)).and_then(Replica::isr);
            // A move to it alone may have been decided by the time of its death as well.
            let only = p.is_reassigning() && p.target_replicas().eq([n.id]);
            let decided =
                !only && p.leader != Some(n.id) || view.is_some_and(|view| view.state() == IsrState::Committed);
            decided && p.isr.iter().chain(&p.elr).any(|other| *other != n.id)
        })
    }

    /// A power cut of all at the very end, after which one comes back with an empty disk, or never; false if that would
    /// be more than a partition can bear.
    fn last_power_cut(&mut self) -> bool {
        let node = self.rng.index(self.nodes.len());
        let empty = self.rng.per_mille(500);
        let needed = !self.can_do_without(node);
        if self.controller.image.topics.is_empty() || !self.is_dispensable(node) || (needed && !empty) {
            return false;
        }
        self.counts.note(Activity::CrashOfAll);
        self.gone = Some(node);
        for other in 0..self.nodes.len() {
            self.crash(other);
        }
        if empty {
            self.gone = None;
            self.lose_disk(node);
        } else {
            note!(self, "b{node} never comes back");
            self.counts.note(Activity::NeverReturned);
        }
        true
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        note!(self, "nothing goes wrong any more");
        self.faults.over = true;
        for node in self.unclean.end() {
            self.at(self.now_us + BACK_US, Happening::Resume(node));
        }
        self.failovers.end();
        self.delete_passing();
        self.end_pattern();
        self.network.cut.clear();
        self.network.without_controller.clear();
        self.network.slowest_us = FAST_US;
        for node in 0..self.nodes.len() {
            let node = &mut self.nodes[node];
            (node.slow_until_us, node.full_until_us, node.hung_until_us) = (0, 0, 0);
            node.slow_syncs_until_us = 0;
        }
        let power_cut = self.rng.per_mille(400) && self.last_power_cut();
        if !power_cut {
            for node in 0..self.nodes.len() {
                self.resume(node);
            }
            self.leave_one_out();
        }
    }
}
