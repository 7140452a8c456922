//! Logs that this broker holds no more: their topic was deleted, or their partition has moved to other brokers.
//!
//! Nothing is dropped before an entry of the metadata log says so. All that the owner has of the replica goes at once; the
//! log goes in the writer's order, after what was queued for it.

use super::input::Input;
use super::owner::Owner;
use chronik_core::cluster::Image;
use chronik_core::ids::TopicPartition;
use chronik_core::replication::{Event, PartitionState};
use chronik_log::Op;
use tracing::info;

impl Owner {
    /// The topic is gone.
    pub(super) fn delete(&mut self, partition: TopicPartition) {
        if let Some(mut hosted) = self.partitions.remove(&partition) {
            hosted.wake();
            self.count_producers(hosted.producer_bytes, 0);
            // Dropping the tickets answers them: the way back closes.
            self.drop_log(partition);
        }
    }

    /// This broker is no replica of the partition any more: it ends what it led, and then there is nothing left of it.
    pub(super) fn leave(&mut self, partition: TopicPartition, state: PartitionState) {
        if !self.partitions.contains_key(&partition) {
            return;
        }
        self.step(partition, Event::Metadata(state));
        info!(%partition, "No replica of the partition any more: dropping its log");
        self.delete(partition);
    }

    /// Drops the logs of what was deleted or moved while this broker was away. Topic ids are never used again, so what the
    /// cluster does not know it has deleted; if it is the cluster that wrote these logs.
    pub(super) fn delete_forgotten(&mut self, image: &Image) {
        if image.cluster_id.is_none() || image.cluster_id != self.shell.cluster {
            return;
        }
        let assigned = |tp: &TopicPartition| image.partition(*tp).is_some_and(|p| p.replicas.contains(&self.shell.me));
        let forgotten: Vec<_> = self.recovered.keys().filter(|tp| !assigned(tp)).copied().collect();
        for partition in forgotten {
            let topic = image.topics.get(&partition.topic).map_or("", |topic| &topic.name);
            info!(topic, %partition, "Dropping a log whose topic was deleted, or which was moved, while this broker was away");
            self.recovered.remove(&partition);
            self.drop_log(partition);
        }
    }

    fn drop_log(&mut self, partition: TopicPartition) {
        self.deleting.insert(partition);
        let owners = self.shell.owners.clone();
        let done = move || owners.send(partition, Input::Deleted { partition });
        self.shell.writer.submit(Op::Delete { partition }, Box::new(done));
    }

    /// The log is gone. If this broker has been given the partition again meanwhile, it begins with nothing.
    pub(super) fn deleted(&mut self, partition: TopicPartition) {
        self.deleting.remove(&partition);
        let Some(image) = self.image.clone() else { return };
        if image.partition(partition).is_some_and(|p| p.replicas.contains(&self.shell.me)) {
            self.forget_tail(partition);
            self.update_replica(&image, partition);
            self.count(&image, partition);
        }
    }

    /// Batches of a dropped log are counted no more.
    fn forget_tail(&mut self, partition: TopicPartition) {
        self.tails.retain(|kept| kept.partition != partition);
        self.tails_bytes = self.tails.iter().map(|kept| kept.bytes).sum();
    }
}
