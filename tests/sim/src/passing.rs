//! Topics that come and go beside the one that stays, in some of the worlds: brokers drop their logs, also those that were
//! away when the topic was deleted.

use crate::activity::Activity;
use crate::clients::Producer;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::world::{Happening, World, note};
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::{PartitionId, TopicId, TopicPartition};
use chronik_core::replication::Acks;
use std::collections::BTreeMap;

/// From a creation to the deletion, and the other way round, at most.
const GAP_US: u64 = 1_500_000;

/// Whether and when. The chances are drawn apart from those of the world.
#[derive(Debug)]
pub(crate) struct Passing {
    rng: Rng,
    some: bool,
    count: u128,
    now: Option<TopicPartition>,
}

impl Passing {
    /// None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed.rotate_left(48) ^ 0x0070_6173_7369_6e67);
        let some = rng.per_mille(300) && plant.is_none();
        Self { rng, some, count: 0, now: None }
    }
}

impl World {
    pub(crate) fn first_passing(&mut self) {
        if self.passing.some {
            self.next_passing();
        }
    }

    fn next_passing(&mut self) {
        let at = self.now_us + self.passing.rng.within(1_000, GAP_US);
        self.at(at, Happening::Pass);
    }

    /// Creates a topic, or deletes it.
    pub(crate) fn pass(&mut self) {
        if self.faults.over {
            return;
        }
        self.next_passing();
        if self.is_controller_away() {
            return;
        }
        if self.passing.now.is_some() {
            self.delete_passing();
        } else {
            self.create_passing();
        }
    }

    /// Not beside a disk of which the controller believes that it has everything, and which might get the only replica.
    fn create_passing(&mut self) {
        if self.controller.image.topics.is_empty() || self.is_a_copy_doubtful() {
            return;
        }
        self.passing.count += 1;
        let id = TopicId(uuid::Uuid::from_u128(1_000 + self.passing.count));
        let created = self.controller.apply(MetadataCommand::CreateTopic {
            id,
            name: "passing".into(),
            partitions: 1,
            replication_factor: self.replication_factor,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            default_min_insync_replicas: self.min_insync,
        });
        if created.is_ok() {
            let tp = TopicPartition { topic: id, partition: PartitionId(0) };
            note!(self, "a topic comes: {tp}");
            self.passing.now = Some(tp);
            let n = self.producers.len();
            self.producers.push(Producer::new(n, tp, Acks::All));
            self.at(self.now_us, Happening::Producer(n));
        }
    }

    /// Deletes the topic, if there is one.
    pub(crate) fn delete_passing(&mut self) {
        let Some(tp) = self.passing.now.take() else { return };
        let deleted = self.controller.apply(MetadataCommand::DeleteTopic { id: tp.topic });
        note!(self, "a topic goes: {tp}: {deleted:?}");
        self.counts.note(Activity::TopicDeleted);
        self.producers.iter_mut().filter(|p| p.partition() == tp).for_each(Producer::end);
    }
}
