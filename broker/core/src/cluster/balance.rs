//! Leaderships that go back to their preferred replicas by themselves (`auto.leader.rebalance.enable`): after brokers were
//! restarted one after the other, most would stay where they were handed over to.
//!
//! It is looked from time to time, and where a broker leads too few of those that it is preferred for, it is given them
//! again, a few in one entry and then a pause: each costs its clients a refused request, and its new leader a first one of
//! all of them.

use super::features::MetadataVersion;
use super::image::{Image, Partition};
use crate::ids::{BrokerId, TopicPartition};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Leaderships that move in one entry.
const AT_ONCE: usize = 64;
/// From one entry to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// When to look, and how much may be amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderBalanceConfig {
    /// `leader.imbalance.check.interval.seconds`.
    pub interval: Duration,
    /// `leader.imbalance.per.broker.percentage`: of the partitions that a broker is preferred for, others may lead so many.
    pub percentage: u32,
}

/// The clock of it, in a controller leader's memory: the next leader begins anew.
#[derive(Clone, Copy, Debug)]
pub struct LeaderBalance {
    config: LeaderBalanceConfig,
    next: Instant,
    under_way: bool,
}

impl LeaderBalance {
    /// Looks for the first time after the interval.
    pub fn new(config: LeaderBalanceConfig, now: Instant) -> Self {
        Self { config, next: now + config.interval, under_way: false }
    }

    /// The partitions whose preferred replica is to be elected now. Once begun it goes on until none is left, whatever the
    /// percentage.
    pub fn due(&mut self, now: Instant, image: &Image) -> Vec<TopicPartition> {
        if now < self.next {
            return Vec::new();
        }
        let tolerated = if self.under_way { 0 } else { self.config.percentage };
        let elected = image.displaced_leaderships(tolerated, AT_ONCE);
        self.under_way = !elected.is_empty();
        self.next = now + if self.under_way { PAUSE } else { self.config.interval };
        elected
    }
}

impl Image {
    /// Partitions, so many at most, that their preferred replica does not lead and can be given without any harm: it is
    /// neither cordoned nor about to stop nor missing in any ISR, and the partition has all its replicas and stays where
    /// it is. Only of brokers that lack more than `percentage` of what they are preferred for. None while a permit to stop
    /// a broker is outstanding, as they may be on their way to another one.
    pub fn displaced_leaderships(&self, percentage: u32, at_once: usize) -> Vec<TopicPartition> {
        if self.metadata_version < MetadataVersion::OPERATIONS || self.permit.is_some() {
            return Vec::new();
        }
        let ready = self.whole_brokers();
        let mut preferred: BTreeMap<BrokerId, (usize, Vec<TopicPartition>)> = BTreeMap::new();
        for (tp, topic, partition) in self.partitions() {
            let Some(first) = partition.replicas.first().filter(|id| ready.contains(id)) else { continue };
            let (all, displaced) = preferred.entry(*first).or_default();
            *all += 1;
            if partition.leader != Some(*first) && is_healthy(partition, topic.min_insync_replicas) {
                displaced.push(tp);
            }
        }
        let imbalanced =
            preferred.into_values().filter(|(all, displaced)| displaced.len() * 100 > all * percentage as usize);
        imbalanced.flat_map(|(_, displaced)| displaced).take(at_once).collect()
    }

    /// The brokers that may lead, are not cordoned, and are in sync in all their partitions.
    fn whole_brokers(&self) -> BTreeSet<BrokerId> {
        let holdings = self.holdings();
        let whole = |id: &BrokerId| holdings.get(id).is_none_or(|holdings| holdings.out_of_sync == 0);
        let ready = self.brokers.values().filter(|b| !b.cordoned && self.may_lead(b.id));
        ready.map(|b| b.id).filter(whole).collect()
    }
}

/// Whether the partition is neither being reassigned nor lacks replicas or a leader.
fn is_healthy(partition: &Partition, min_insync_replicas: usize) -> bool {
    !partition.is_reassigning() && partition.ailment(min_insync_replicas).is_none()
}
