//! Leaderships that a broker gives up: because it stops, or cannot do what a leader has to. The one way out of a
//! leadership beside being fenced.
//!
//! Who succeeds is in the ISR that the controller knows. A leader that has asked for another one meanwhile counts the
//! larger of the two, so each member of this one has all that was committed; its request is refused by its partition
//! epoch. A partition for which nobody else can lead stays as it is: a leader that can serve little is more than none.
//!
//! The entry that takes a leadership leaves the former leader in the ISR, whatever it asks for. Until it has heard of its
//! successor, its lease lets it answer readers with a high watermark that the successor may have passed: it does not
//! pass it while the former leader is one of those that it waits for. Who has heard asks once more, and then leaves.
//!
//! A copy that is given up may leave the partition to a broker that is about to stop, if nobody else is in sync. That is how
//! such an entry is applied in every version; so who would write it asks first, and keeps the copy.

use super::command::{Answer, Change, Leaving, ResignReason, ResignedPartitions};
use super::election::{Voters, with_epochs, with_isr, without_disk};
use super::image::{Image, Partition};
use crate::ids::{BrokerId, TopicPartition};
use std::collections::BTreeSet;

impl Image {
    pub(super) fn resign(
        &mut self,
        id: BrokerId,
        partitions: &ResignedPartitions,
        (leaving, reason): (Leaving, ResignReason),
        changes: &mut Vec<Change>,
    ) -> Answer {
        if reason == ResignReason::Stop
            && *partitions == ResignedPartitions::All
            && let Some(broker) = self.brokers.get_mut(&id)
            && !broker.stopping
        {
            broker.stopping = true;
            changes.push(Change::Broker(id));
        }
        let decide = |(tp, min_insync_replicas, partition): (TopicPartition, usize, &Partition)| {
            (tp, resigned(self, partition, min_insync_replicas, id, leaving))
        };
        let decided: Vec<(TopicPartition, Resigned)> = match partitions {
            ResignedPartitions::All => {
                self.partitions().map(|(tp, topic, p)| decide((tp, topic.min_insync_replicas, p))).collect()
            }
            ResignedPartitions::These(named) => {
                let named: BTreeSet<TopicPartition> = named.iter().copied().collect();
                let known = |tp: TopicPartition| {
                    Some((tp, self.topics.get(&tp.topic)?.min_insync_replicas, self.partition(tp)?))
                };
                named.into_iter().filter_map(known).map(decide).collect()
            }
        };
        let mut kept = Vec::new();
        for (tp, resigned) in decided {
            match resigned {
                Resigned::Nothing => {}
                Resigned::Kept => kept.push(tp),
                Resigned::Changed(after) => self.replace_partition(tp, after, changes),
            }
        }
        Answer::Resigned { kept }
    }

    /// Whether a leader that gives its copy up would be succeeded by a broker that is about to stop. That one leads until it
    /// is gone, and then perhaps nobody does: a leader that can serve little is more.
    pub fn only_one_that_stops_can_succeed(&self, leader: BrokerId, tp: TopicPartition) -> bool {
        let Some(p) = self.partition(tp).filter(|p| p.leader == Some(leader)) else { return false };
        let mut others = p.isr.iter().copied().filter(|id| *id != leader && self.alive(*id).is_some()).peekable();
        others.peek().is_some() && !others.any(|id| self.may_lead(id))
    }

    /// Puts a partition's new state in its place.
    pub(super) fn replace_partition(&mut self, tp: TopicPartition, after: Partition, changes: &mut Vec<Change>) {
        let Ok(index) = usize::try_from(tp.partition.0) else { return };
        if let Some(topic) = self.topics.get_mut(&tp.topic) {
            topic.partitions.set(index, after);
            changes.push(Change::PartitionChanged(tp));
        }
    }
}

/// What becomes of one partition.
enum Resigned {
    /// The broker has nothing to give up there.
    Nothing,
    /// Nobody else can lead it.
    Kept,
    Changed(Partition),
}

fn resigned(image: &Image, p: &Partition, min_insync_replicas: usize, id: BrokerId, leaving: Leaving) -> Resigned {
    let voters = Voters { image, min_insync_replicas, leader_asks: false };
    let others: Vec<BrokerId> = p.isr.iter().copied().filter(|b| *b != id).collect();
    let led = p.leader == Some(id);
    let successor = voters.choose(&p.replicas, &others).filter(|b| led && image.may_lead(*b));
    let after = match leaving {
        _ if successor.is_some() => with_epochs(p, Partition { leader: successor, ..p.clone() }),
        Leaving::Leadership | Leaving::InSync if led => return Resigned::Kept,
        Leaving::InSync if p.isr.contains(&id) => with_isr(p, others, &voters),
        Leaving::Copy if p.isr.contains(&id) || p.elr.contains(&id) => without_disk(p, id, &voters),
        Leaving::Leadership | Leaving::InSync | Leaving::Copy => return Resigned::Nothing,
    };
    let nobody = after.leader.is_none() && (led || after.isr.is_empty() && after.elr.is_empty());
    if nobody { Resigned::Kept } else { Resigned::Changed(after) }
}
