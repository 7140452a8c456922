//! What is not well in an image: partitions that lack replicas, and brokers that are on their way back.

use super::image::{Broker, Image, Partition, Topic};
use crate::ids::{BrokerId, TopicPartition};
use std::collections::BTreeMap;

/// How bad it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ailment {
    /// Nobody leads it.
    Offline,
    /// Fewer replicas are in sync than `min.insync.replicas` asks for: it takes no writes with acks=all.
    UnderMinIsr,
    /// Not as many replicas are in sync as there are, without those that a reassignment adds.
    UnderReplicated,
}

/// A partition that is not well.
#[derive(Clone, Debug)]
pub struct Ailing<'a> {
    /// What is wrong with it; the worst that there is.
    pub ailment: Ailment,
    /// Which it is.
    pub id: TopicPartition,
    /// Its topic.
    pub topic: &'a Topic,
    /// Its state.
    pub partition: &'a Partition,
}

/// What a broker has to do with the partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Partitions that it leads.
    pub leaders: usize,
    /// Partitions that it is a replica of.
    pub replicas: usize,
    /// Those of them in which it is not in sync, without those that a reassignment gives it.
    pub out_of_sync: usize,
    /// Those of them of which there is no other replica.
    pub only_replica: usize,
}

impl Partition {
    /// What is wrong with the partition, if anything.
    pub fn ailment(&self, min_insync_replicas: usize) -> Option<Ailment> {
        if self.leader.is_none() {
            Some(Ailment::Offline)
        } else if self.isr.len() < self.min_insync_replicas(min_insync_replicas) {
            Some(Ailment::UnderMinIsr)
        } else if self.isr.len() < self.original_replicas().count() {
            Some(Ailment::UnderReplicated)
        } else {
            None
        }
    }
}

impl Image {
    /// Every partition that is not well, in the order of topics.
    pub fn ailing(&self) -> impl Iterator<Item = Ailing<'_>> {
        self.partitions().filter_map(|(id, topic, partition)| {
            let ailment = partition.ailment(topic.min_insync_replicas)?;
            Some(Ailing { ailment, id, topic, partition })
        })
    }

    /// Whether nobody leads the partition, and replicas are alive that may lack committed records: whether one of these is
    /// to lead, somebody has to decide ([`Election::Unclean`](super::Election::Unclean)), unless others come back.
    pub fn is_undecided(&self, partition: &Partition) -> bool {
        partition.leader.is_none() && partition.replicas.iter().any(|id| self.may_lead(*id))
    }

    /// What each member has to do with the partitions.
    pub fn holdings(&self) -> BTreeMap<BrokerId, Holdings> {
        let mut holdings: BTreeMap<BrokerId, Holdings> =
            self.brokers.keys().map(|id| (*id, Holdings::default())).collect();
        for (_, _, partition) in self.partitions() {
            for id in &partition.replicas {
                let broker = holdings.entry(*id).or_default();
                broker.replicas += 1;
                broker.leaders += usize::from(partition.leader == Some(*id));
                broker.out_of_sync += usize::from(partition.lacks(*id));
                broker.only_replica += usize::from(partition.replicas.len() == 1);
            }
        }
        holdings
    }
}

impl Broker {
    /// Whether the broker is away, or back and not yet in sync with what it holds. One that is fenced and holds nothing
    /// is not missed.
    pub fn is_recovering(&self, holdings: Holdings) -> bool {
        holdings.out_of_sync > 0 || (self.fenced && holdings.replicas > 0)
    }
}
