//! Emptying a broker: for each of its replicas, who takes its place.
//!
//! It is planned from one image, as many partitions at a time as may be under way, and planned anew for the next ones. So
//! there is nothing to remember: whoever asks again goes on where it stands.

use super::command::Reassignment;
use super::image::{Broker, Image, Partition};
use super::partitions::MAX_REPLICAS_PER_BROKER;
use crate::ids::{BrokerId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// What is left to be done until a broker holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// Reassignments to begin now.
    pub moves: Vec<Reassignment>,
    /// Partitions that are on their way from the broker.
    pub under_way: Vec<TopicPartition>,
    /// Partitions for which there are not enough other brokers.
    pub nowhere: Vec<TopicPartition>,
    /// Replicas that the broker holds still.
    pub left: usize,
}

impl Image {
    /// How to empty a broker, with `at_once` partitions under way at most. New replicas come on brokers that are alive
    /// and not cordoned, and below the limit of replicas: in a rack that the partition is not in yet if there is one,
    /// and then where the fewest replicas are.
    pub fn drain(&self, broker: BrokerId, at_once: usize) -> Drain {
        let mut load: BTreeMap<BrokerId, usize> = self
            .brokers
            .values()
            .filter(|b| b.id != broker && !b.cordoned && self.may_lead(b.id))
            .map(|b| (b.id, 0))
            .collect();
        let mut to_move = Vec::new();
        for (tp, _, partition) in self.partitions() {
            for id in partition.target_replicas() {
                load.entry(id).and_modify(|count| *count += 1);
            }
            if partition.replicas.contains(&broker) {
                to_move.push((tp, partition));
            }
        }
        // By the replicas that each has now: one that is being moved away counts until it is removed.
        let now = self.replicas_of_brokers();
        let room = |id: &BrokerId| MAX_REPLICAS_PER_BROKER.saturating_sub(now.get(id).copied().unwrap_or(0));
        let mut room: BTreeMap<BrokerId, usize> = load.keys().map(|id| (*id, room(id))).collect();
        let mut drain = Drain { left: to_move.len(), ..Drain::default() };
        let mut waiting = Vec::new();
        for (tp, partition) in to_move {
            // One that is moved to somebody who is gone would never be done.
            let on_its_way =
                partition.removing.contains(&broker) && partition.adding.iter().all(|id| self.alive(*id).is_some());
            if on_its_way {
                drain.under_way.push(tp);
            } else if !partition.is_reassigning() || partition.removing.contains(&broker) {
                waiting.push((tp, partition));
            }
        }
        for (tp, partition) in waiting {
            match self.without_broker(partition, broker, &load, &room) {
                None => drain.nowhere.push(tp),
                Some(replicas) if drain.under_way.len() + drain.moves.len() < at_once => {
                    for id in replicas.iter().filter(|id| !partition.replicas.contains(id)) {
                        load.entry(*id).and_modify(|count| *count += 1);
                        room.entry(*id).and_modify(|left| *left = left.saturating_sub(1));
                    }
                    drain.moves.push(Reassignment { partition: tp, replicas: Some(replicas) });
                }
                Some(_) => {}
            }
        }
        drain
    }

    /// The replicas before any reassignment, with another broker in the place of this one; `None` if there is none.
    fn without_broker(
        &self,
        partition: &Partition,
        broker: BrokerId,
        load: &BTreeMap<BrokerId, usize>,
        room: &BTreeMap<BrokerId, usize>,
    ) -> Option<Vec<BrokerId>> {
        let original: Vec<BrokerId> = partition.original_replicas().collect();
        let others = original.iter().filter(|id| **id != broker);
        let rack = |id: &BrokerId| self.brokers.get(id).and_then(|b: &Broker| b.rack.as_deref());
        let racks: BTreeSet<&str> = others.clone().filter_map(rack).collect();
        let has_room = |id: &BrokerId| room.get(id).is_some_and(|left| *left > 0);
        let free = load.iter().filter(|(id, _)| !original.contains(id) && has_room(id));
        let same_rack = |id: &BrokerId| rack(id).is_some_and(|rack| racks.contains(rack));
        let (chosen, _) = free.min_by_key(|(id, count)| (same_rack(id), **count, **id))?;
        Some(original.iter().map(|id| if *id == broker { *chosen } else { *id }).collect())
    }
}
