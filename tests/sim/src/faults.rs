//! What goes wrong, and how it ends.

use crate::activity::Activity;
use crate::checker::Invariant;
use crate::network::{FAST_US, NodeId};
use crate::node::directory_id;
use crate::rng::Rng;
use crate::world::{Happening, World, note};

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
        match self.rng.index(13) {
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
            8 => {
                let ahead = self.rng.within(1_000, 2_000_000);
                self.counts.note(Activity::ClockJump);
                note!(self, "b{node}'s clock jumps by {ahead}");
                self.nodes[node].clock_ahead_us += ahead;
            }
            9 => self.reset_all_of(node),
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

    /// A process dies, perhaps in the middle of a write, perhaps with its disk.
    pub(crate) fn crash(&mut self, node: NodeId) {
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
        if self.rng.per_mille(150) && self.may_lose_disk(node) {
            note!(self, "b{node} loses its disk");
            self.counts.note(Activity::DiskLost);
            let n = &mut self.nodes[node];
            n.disk.wipe(&mut self.rng);
            n.directory = directory_id(self.rng.any());
            n.wiped = true;
            n.durable.clear();
        }
        self.within(1_000, 3_000_000, Happening::Resume(node));
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
        if self.nodes[node].process.is_some() {
            return;
        }
        if let Err(how) = self.nodes[node].start() {
            self.checker.fail(Invariant::LogRecovers, format!("broker {node}'s log: {how}"));
            return;
        }
        note!(self, "b{node} starts");
        if !self.nodes[node].durable.is_empty() {
            self.counts.note(Activity::Recovery);
        }
        self.forget_checked(node);
        let incarnation = self.nodes[node].incarnation;
        self.within(1_000, 20_000, Happening::Tick(node, incarnation));
        self.within(1_000, 20_000, Happening::Metadata(node, incarnation));
    }

    /// Whether what is committed survives the loss of this disk: no other loss is unknown to the controller, and in
    /// each partition someone else is eligible, and stays so if it is fenced before the controller hears. With `min.insync.replicas` of 1 it does
    /// not: the ISR may shrink to the lost disk alone, and nobody is eligible beside it.
    fn may_lose_disk(&self, node: NodeId) -> bool {
        let id = self.nodes[node].id;
        if self.nodes.iter().any(|n| n.wiped) {
            return false;
        }
        self.controller.image.partitions().all(|(_, _, p)| {
            let mut eligible = p.isr.iter().chain(&p.elr).copied();
            if self.min_insync == 1 { !eligible.any(|other| other == id) } else { eligible.any(|other| other != id) }
        })
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        note!(self, "nothing goes wrong any more");
        self.faults.over = true;
        self.network.cut.clear();
        self.network.without_controller.clear();
        self.network.slowest_us = FAST_US;
        for node in 0..self.nodes.len() {
            self.nodes[node].slow_until_us = 0;
            self.resume(node);
        }
    }
}
