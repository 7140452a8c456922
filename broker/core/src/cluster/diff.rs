//! What lies between two images, for who skipped the entries between them (a snapshot was installed).

use super::command::Change;
use super::image::{Image, Topic};
use crate::ids::BrokerId;
use imbl::ordmap::DiffItem;
use std::collections::BTreeSet;

impl Image {
    /// Everything in this image, as if it had come to be at once.
    pub fn everything(&self) -> Vec<Change> {
        let brokers = self.brokers.keys().map(|id| Change::Broker(*id));
        brokers.chain(self.partitions().map(|(tp, ..)| Change::PartitionChanged(tp))).collect()
    }

    /// What changed from `before` to this image.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, broker) in &self.brokers {
            if before.brokers.get(id) != Some(broker) {
                changes.push(Change::Broker(*id));
            }
        }
        changes.extend(before.brokers.keys().filter(|id| !self.brokers.contains_key(id)).map(|id| Change::Broker(*id)));
        for (tp, ..) in before.partitions() {
            if self.partition(tp).is_none() {
                changes.push(Change::PartitionDeleted(tp));
            }
        }
        let same_cluster =
            before.cluster_configs == self.cluster_configs && before.broker_configs == self.broker_configs;
        for (tp, topic, partition) in self.partitions() {
            let same_topic = before
                .topics
                .get(&tp.topic)
                .is_some_and(|b| b.configs == topic.configs && b.min_insync_replicas == topic.min_insync_replicas);
            if before.partition(tp) != Some(partition) || !same_topic || !same_cluster {
                changes.push(Change::PartitionChanged(tp));
            }
        }
        changes
    }

    /// Brokers that led a partition in `before` and do not lead it any more, but for those of deleted topics. Costs what
    /// lies between the two images, not what is in them.
    pub fn lost_leaderships_since(&self, before: &Self) -> BTreeSet<BrokerId> {
        let mut lost = BTreeSet::new();
        for item in before.topics.diff(&self.topics) {
            if let DiffItem::Update { old: (_, old), new: (_, new) } = item {
                lost.extend(successions(old, new));
            }
        }
        lost
    }
}

fn successions(old: &Topic, new: &Topic) -> impl Iterator<Item = BrokerId> {
    let same = old.partitions.ptr_eq(&new.partitions);
    let pairs = old.partitions.iter().zip(&new.partitions).filter(move |_| !same);
    pairs.filter(|(old, new)| old.leader != new.leader).filter_map(|(old, _)| old.leader)
}
