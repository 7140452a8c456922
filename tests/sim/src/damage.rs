//! Damaged logs, in some of the worlds: a bit or a sector that a disk loses with the power, which the start finds; a bit that
//! it loses while its broker runs, which a check in the background finds; and what cannot be read for a while. Nobody is to
//! count on such a copy before it is repaired from its leader.
//!
//! No more is lost than can be promised to be repaired: of what a disk loses there is another copy that counts, and no
//! other disk is lost, or lost something, that is not repaired.

use crate::activity::Activity;
use crate::checker::Invariant;
use crate::network::NodeId;
use crate::node::BadBatch;
use crate::options::{Kind, Options};
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::Event;

/// Between two at most, while brokers run.
const GAP_US: u64 = 2_000_000;

/// Whether and when.
#[derive(Debug)]
pub(crate) struct Damage {
    rng: Rng,
    pub(crate) some: bool,
}

impl Damage {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed.rotate_left(24) ^ 0x6461_6d61_6765);
        let some = rng.per_mille(250) && options.has(Kind::Damage);
        Self { rng, some }
    }
}

impl World {
    pub(crate) fn first_damage(&mut self) {
        if self.damage.some {
            self.next_damage();
        }
    }

    fn next_damage(&mut self) {
        let at = self.now_us + self.damage.rng.within(1_000, GAP_US);
        self.at(at, Happening::Damage);
    }

    /// Whether some broker's copies may be less than the others believe, or than it can give them.
    pub(crate) fn is_a_copy_doubtful(&self) -> bool {
        let unreadable = |n: &crate::node::Node| n.process.as_ref().is_some_and(|p| !p.unreadable.is_empty());
        self.nodes.iter().any(|n| n.wiped || n.rotten || unreadable(n))
    }

    /// Of some partition a running broker cannot read a batch: for a while, or because its disk has lost a bit of it.
    pub(crate) fn damage(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_damage();
        let rng = &mut self.damage.rng;
        let (node, lasts) = (rng.index(self.nodes.len()), rng.per_mille(500));
        let (tp, at) = (self.partitions[rng.index(self.partitions.len())], rng.any() as usize);
        if !self.is_dispensable(node) || self.nodes[node].stopped_until_us > self.now_us {
            return;
        }
        let n = &self.nodes[node];
        let Some(process) = &n.process else { return };
        let Some(replica) = process.replicas.get(&tp) else { return };
        let Some(log) = process.logs.get(&tp).filter(|_| !process.deleting.contains(&tp)) else { return };
        // Of what is not committed yet, this may be the only copy when it is.
        let known = log.batches.partition_point(|batch| batch.header().end_offset() <= replica.status().committed);
        if known == 0 {
            return;
        }
        if let Some(from) = self.spoil(node, tp, at % known, lasts) {
            self.replica_event(node, self.nodes[node].incarnation, tp, Event::Damaged { from });
        }
    }

    /// Before a log is cut back to `to`, its disk loses a bit of the batch before. Nobody has read that yet.
    pub(crate) fn damage_in_the_way(&mut self, node: NodeId, tp: TopicPartition, to: Offset) {
        if !self.damage.some || self.faults.over || !self.is_dispensable(node) {
            return;
        }
        let Some(process) = &self.nodes[node].process else { return };
        let (Some(replica), Some(log)) = (process.replicas.get(&tp), process.logs.get(&tp)) else { return };
        let stay = log.batches.partition_point(|batch| batch.header().end_offset() <= to);
        let committed = |at: usize| log.batches[at].header().end_offset() <= replica.status().committed;
        let Some(last) = stay.checked_sub(1).filter(|at| committed(*at)) else { return };
        if !process.unreadable.contains_key(&tp) {
            self.spoil(node, tp, last, true);
        }
    }

    /// A batch cannot be read, for a while or for good. Returns from where on the log is damaged.
    fn spoil(&mut self, node: NodeId, tp: TopicPartition, at: usize, lasts: bool) -> Option<Offset> {
        let n = &mut self.nodes[node];
        let process = n.process.as_mut()?;
        let log = process.logs.get(&tp)?;
        let mut base = log.batches[at].header().base_offset;
        let mut from = base.max(log.start);
        if lasts {
            match n.disk.lose_a_bit(tp, base, &mut self.damage.rng) {
                Ok(None) => return None,
                // Behind a gap the damage may be found from the end of the batch before on.
                Ok(Some(found)) if found <= from && log.from(found).len() <= log.batches.len() - at + 1 => {
                    (n.rotten, from) = (true, found);
                    base = log.from(found).first().map_or(base, |batch| batch.header().base_offset);
                }
                found => {
                    let how = format!("broker {node} lost a bit of {tp} at {from}, and its check says {found:?}");
                    self.checker.fail(Invariant::LogRecovers, how);
                    return None;
                }
            }
        }
        process.unreadable.insert(tp, BadBatch { base, from, lasts });
        note!(self, "b{node} p{} cannot be read at {from} ({})", tp.partition, if lasts { "for good" } else { "now" });
        self.counts.note(if lasts { Activity::BitLost } else { Activity::ReadFailed });
        Some(from)
    }

    /// A broker's disk loses a bit or a sector with the power, now and then.
    pub(crate) fn rot(&mut self, node: NodeId) {
        let Damage { rng, some } = &mut self.damage;
        if *some && rng.per_mille(200) {
            note!(self, "b{node}'s disk loses something");
            let n = &mut self.nodes[node];
            n.disk.rot(&mut self.damage.rng);
            (n.rotten, n.wiped) = (true, true);
        }
    }
}
