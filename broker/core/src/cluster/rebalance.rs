//! A plan by which all brokers hold about as much: which replicas go where, and who is to be the preferred leader.
//!
//! Its goals, each only as far as it spoils none before it: a partition's replicas are in as many racks as there are;
//! brokers hold as many replicas as each other, of those with equally many the one with more room on its disk is given
//! the next; and they are preferred for as many partitions as each other. A broker whose disk is nearly full is given
//! nothing. Only brokers that are alive and not cordoned take part: what others hold stays.
//!
//! It is planned from one image, and planned anew for the next moves, so there is nothing to remember: whoever asks
//! again goes on where it stands.

use super::command::Reassignment;
use super::image::Image;
use super::partitions::MAX_REPLICAS_PER_BROKER;
use crate::ids::{BrokerId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Of a disk that is fuller than this, in percent, nothing more is asked.
pub const FULL_PERCENT: u8 = 85;
/// Partitions that get another preferred leader at a time, which moves no bytes.
const REORDERED_AT_ONCE: usize = 500;
/// How often it is looked for partitions that could have another preferred leader.
const ROUNDS: usize = 4;

/// A broker's disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// All of it.
    pub total: u64,
    /// What can still be written.
    pub free: u64,
}

/// How evenly a cluster is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The fewest and the most replicas that a broker holds.
    pub replicas: (usize, usize),
    /// The fewest and the most partitions that a broker is preferred for.
    pub preferred: (usize, usize),
    /// Partitions whose replicas are in fewer racks than they could be.
    pub crowded: usize,
}

/// What is to be done until a cluster is used evenly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebalance {
    /// Reassignments to begin now.
    pub moves: Vec<Reassignment>,
    /// Partitions that are on their way somewhere, whoever moves them.
    pub under_way: Vec<TopicPartition>,
    /// Partitions that are to change, with those that are not among `moves` yet.
    pub left: usize,
    /// Brokers that will hold less than their share, as their disks are nearly full.
    pub full: Vec<BrokerId>,
    /// How it is now, and how it will be.
    pub now: Spread,
    /// After the plan.
    pub planned: Spread,
}

/// Why nothing is begun at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// So many partitions are not well.
    Ailing(usize),
    /// A broker may be stopped.
    Permit(BrokerId),
}

impl Image {
    /// What speaks against moving anything at the moment: it will pass.
    pub fn not_now(&self) -> Option<NotNow> {
        let ailing = self.ailing().count();
        let permit = || self.permit.as_ref().map(|permit| NotNow::Permit(permit.broker));
        if ailing > 0 { Some(NotNow::Ailing(ailing)) } else { permit() }
    }

    /// How to use all brokers evenly, with `at_once` partitions under way at most. `disks` are those that are known.
    pub fn rebalance(&self, disks: &BTreeMap<BrokerId, DiskUse>, at_once: usize) -> Rebalance {
        let mut plan = Plan::new(self, disks);
        let now = plan.spread();
        plan.over_racks();
        plan.replicas();
        plan.preferred();
        let planned = plan.spread();
        let share = plan.share();
        let is_full = |(_, taker): &(&BrokerId, &Taker<'_>)| taker.full && taker.replicas < share;
        let full = plan.takers.iter().filter(is_full).map(|(id, _)| *id).collect();
        let under_way: Vec<TopicPartition> =
            self.partitions().filter(|(_, _, p)| p.is_reassigning()).map(|(tp, ..)| tp).collect();
        let changed: Vec<&Planned> = plan.partitions.iter().filter(|p| p.before != p.replicas).collect();
        let (reordered, to_move): (Vec<&Planned>, Vec<&Planned>) =
            changed.iter().copied().partition(|p| p.is_reordered());
        let begun = to_move.into_iter().take(at_once.saturating_sub(under_way.len()));
        let begun = begun.chain(reordered.into_iter().take(REORDERED_AT_ONCE.min(at_once.saturating_mul(32))));
        let moves = begun.map(|p| Reassignment { partition: p.id, replicas: Some(p.replicas.clone()) }).collect();
        Rebalance { moves, left: changed.len(), full, under_way, now, planned }
    }
}

/// One partition that may be changed.
struct Planned {
    id: TopicPartition,
    before: Vec<BrokerId>,
    replicas: Vec<BrokerId>,
}

impl Planned {
    fn is_reordered(&self) -> bool {
        self.replicas.iter().all(|id| self.before.contains(id))
    }
}

/// A broker that takes part.
struct Taker<'a> {
    rack: Option<&'a str>,
    replicas: usize,
    preferred: usize,
    /// In thousandths of the disk; 0 if it is not known.
    used: u64,
    full: bool,
}

impl Taker<'_> {
    fn may_take(&self) -> bool {
        !self.full && self.replicas < MAX_REPLICAS_PER_BROKER
    }
}

struct Plan<'a> {
    takers: BTreeMap<BrokerId, Taker<'a>>,
    partitions: Vec<Planned>,
    racks: BTreeMap<BrokerId, Option<&'a str>>,
}

impl<'a> Plan<'a> {
    fn new(image: &'a Image, disks: &BTreeMap<BrokerId, DiskUse>) -> Self {
        let taker = |b: &'a super::image::Broker| {
            let used = disks.get(&b.id).filter(|disk| disk.total > 0).map_or(0, |disk| {
                u64::try_from(u128::from(disk.total.saturating_sub(disk.free)) * 1000 / u128::from(disk.total))
                    .unwrap_or(0)
            });
            let full = used > u64::from(FULL_PERCENT) * 10;
            (b.id, Taker { rack: b.rack.as_deref(), replicas: 0, preferred: 0, used, full })
        };
        let takers = image.brokers.values().filter(|b| !b.cordoned && image.may_lead(b.id)).map(taker).collect();
        let racks = image.brokers.values().map(|b| (b.id, b.rack.as_deref())).collect();
        let mut plan = Self { takers, partitions: Vec::new(), racks };
        for (id, topic, partition) in image.partitions() {
            let before: Vec<BrokerId> = partition.target_replicas().collect();
            plan.count(&before, 1);
            // What is on its way, or not well, is left alone.
            if !partition.is_reassigning() && partition.ailment(topic.min_insync_replicas).is_none() {
                plan.partitions.push(Planned { id, replicas: before.clone(), before });
            }
        }
        plan
    }

    fn count(&mut self, replicas: &[BrokerId], by: isize) {
        for (i, id) in replicas.iter().enumerate() {
            if let Some(taker) = self.takers.get_mut(id) {
                taker.replicas = taker.replicas.saturating_add_signed(by);
                taker.preferred = taker.preferred.saturating_add_signed(if i == 0 { by } else { 0 });
            }
        }
    }

    fn rack(&self, id: BrokerId) -> Option<&'a str> {
        self.racks.get(&id).copied().flatten()
    }

    fn racks_of(&self, replicas: &[BrokerId]) -> usize {
        replicas.iter().map(|id| self.rack(*id)).collect::<BTreeSet<_>>().len()
    }

    /// In how many racks so many replicas can be.
    fn possible_racks(&self, replicas: usize) -> usize {
        self.takers.values().map(|taker| taker.rack).collect::<BTreeSet<_>>().len().min(replicas)
    }

    fn put(&mut self, partition: usize, replicas: Vec<BrokerId>) {
        self.count(&replicas, 1);
        let before = std::mem::replace(&mut self.partitions[partition].replicas, replicas);
        self.count(&before, -1);
    }

    /// Of two replicas in one rack, one goes to a rack that the partition is not in.
    fn over_racks(&mut self) {
        for i in 0..self.partitions.len() {
            loop {
                let replicas = &self.partitions[i].replicas;
                let used: Vec<_> = replicas.iter().map(|id| self.rack(*id)).collect();
                if self.racks_of(replicas) >= self.possible_racks(replicas.len()) {
                    break;
                }
                let twice = (0..used.len()).rev().find(|at| used[..*at].contains(&used[*at]));
                let free = self.takers.iter().filter(|(_, taker)| taker.may_take() && !used.contains(&taker.rack));
                let to = free.min_by_key(|(id, taker)| (taker.replicas, taker.used, **id)).map(|(id, _)| *id);
                let (Some(twice), Some(to)) = (twice, to) else { break };
                let mut replicas = replicas.clone();
                replicas[twice] = to;
                self.put(i, replicas);
            }
        }
    }

    /// How many replicas every broker should have at least.
    fn share(&self) -> usize {
        self.takers.values().map(|taker| taker.replicas).sum::<usize>() / self.takers.len().max(1)
    }

    /// Replicas go from brokers that hold more than their share to those that hold less; and where racks leave that uneven,
    /// from those that hold more to those that hold fewer.
    fn replicas(&mut self) {
        let all: usize = self.takers.values().map(|taker| taker.replicas).sum();
        let (least, most) = (self.share(), all.div_ceil(self.takers.len().max(1)));
        self.move_replicas(|from, to| (from > most && to < most) || (from > least && to < least));
        self.move_replicas(|from, to| from >= to + 2);
    }

    /// Moves replicas between brokers of which one should give and the other should take, by how many they hold.
    fn move_replicas(&mut self, should: impl Fn(usize, usize) -> bool) {
        let mut replicas_on: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (i, partition) in self.partitions.iter().enumerate() {
            for id in partition.replicas.iter().filter(|id| self.takers.contains_key(id)) {
                replicas_on.entry(*id).or_default().push(i);
            }
        }
        let mut donors: Vec<(usize, BrokerId)> = self.takers.iter().map(|(id, taker)| (taker.replicas, *id)).collect();
        donors.sort_unstable_by(|a, b| b.cmp(a));
        for (_, donor) in donors {
            for partition in replicas_on.get(&donor).into_iter().flatten().copied() {
                let Some(to) = self.receiver(partition, donor, &should) else { continue };
                let replicas = self.partitions[partition].replicas.iter();
                let replicas = replicas.map(|id| if *id == donor { to } else { *id }).collect();
                self.put(partition, replicas);
            }
        }
    }

    /// Who takes this partition's replica from a broker; `None` if it had better stay.
    fn receiver(&self, partition: usize, donor: BrokerId, should: &impl Fn(usize, usize) -> bool) -> Option<BrokerId> {
        let replicas = &self.partitions[partition].replicas;
        let holds = self.takers.get(&donor)?.replicas;
        let takes = |(id, taker): &(&BrokerId, &Taker<'_>)| {
            should(holds, taker.replicas) && taker.may_take() && !replicas.contains(id)
        };
        let mut able: Vec<_> = self.takers.iter().filter(takes).collect();
        able.sort_unstable_by_key(|(id, taker)| (taker.replicas, taker.used, **id));
        let racks = self.racks_of(replicas);
        let stays_spread = |to: BrokerId| {
            let after: Vec<BrokerId> = replicas.iter().map(|id| if *id == donor { to } else { *id }).collect();
            self.racks_of(&after) >= racks
        };
        able.into_iter().map(|(id, _)| *id).find(|to| stays_spread(*to))
    }

    /// Another one of a partition's replicas becomes the preferred leader where the one that is has more of them.
    fn preferred(&mut self) {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for i in 0..self.partitions.len() {
                let replicas = &self.partitions[i].replicas;
                let Some(first) = replicas.first().and_then(|id| self.takers.get(id)) else { continue };
                let others = replicas.iter().enumerate().skip(1);
                let others = others.filter_map(|(at, id)| Some((self.takers.get(id)?.preferred, at)));
                let Some((_, at)) = others.min().filter(|(fewest, _)| fewest + 2 <= first.preferred) else {
                    continue;
                };
                let mut replicas = replicas.clone();
                replicas.swap(0, at);
                self.put(i, replicas);
                changed = true;
            }
            if !changed {
                return;
            }
        }
    }

    fn spread(&self) -> Spread {
        let range = |of: fn(&Taker<'_>) -> usize| {
            let all = || self.takers.values().map(of);
            (all().min().unwrap_or(0), all().max().unwrap_or(0))
        };
        let crowded = |p: &&Planned| self.racks_of(&p.replicas) < self.possible_racks(p.replicas.len());
        Spread {
            replicas: range(|taker| taker.replicas),
            preferred: range(|taker| taker.preferred),
            crowded: self.partitions.iter().filter(crowded).count(),
        }
    }
}
