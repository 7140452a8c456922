//! The cluster image: what the metadata log says, at one of its offsets.
//!
//! Cloning is cheap (persistent maps): a reader takes a clone and has a consistent view for as long as it likes.

use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, MetadataOffset, PartitionEpoch, PartitionId,
    ProducerId, TopicId, TopicPartition,
};
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// All that the cluster agrees on, as of [`Image::offset`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The last entry that is in this image.
    pub offset: MetadataOffset,
    /// `None` until the first entry of a new cluster.
    pub cluster_id: Option<ClusterId>,
    /// Every broker that is a member, whether it has ever registered or not.
    pub brokers: OrdMap<BrokerId, Broker>,
    /// Topics by id.
    pub topics: OrdMap<TopicId, Topic>,
    /// Topic ids by name.
    pub topic_ids: OrdMap<Arc<str>, TopicId>,
    /// The first producer id that no broker has been given yet.
    pub next_producer_id: ProducerId,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// Its current registration; `None` if it has never registered. A member that has not registered yet
    /// can be given replicas (it is expected), but is never in an ISR.
    pub epoch: Option<BrokerEpoch>,
    /// The data directory that it registered with.
    pub directory: Option<DirectoryId>,
    /// A fenced broker leads nothing, is in no ISR, and is not shown to clients.
    pub fenced: bool,
    /// Where clients reach it.
    pub kafka: Endpoint,
    /// Where its followers reach it (the WAL port).
    pub replication: Endpoint,
    /// The failure domain it is in, if it said so.
    pub rack: Option<Arc<str>>,
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or IP address; names are resolved at each dial.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// By partition index.
    pub partitions: Vector<Partition>,
    /// Configs that differ from the defaults, by Kafka's names.
    pub configs: OrdMap<Arc<str>, Arc<str>>,
    /// `min.insync.replicas`, resolved.
    pub min_insync_replicas: usize,
}

/// The replica state of one partition. Changed only through the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas; a subset of `replicas`.
    pub isr: Vec<BrokerId>,
    /// The eligible leader replicas (KIP-966): not in the ISR, but known to hold everything committed.
    pub elr: Vec<BrokerId>,
    /// `None` while no eligible replica is alive.
    pub leader: Option<BrokerId>,
    /// Grows with every change of `leader`.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of any field.
    pub partition_epoch: PartitionEpoch,
}

impl Image {
    /// The partition's state, if it exists.
    pub fn partition(&self, tp: TopicPartition) -> Option<&Partition> {
        self.topics.get(&tp.topic)?.partitions.get(usize::try_from(tp.partition.0).ok()?)
    }

    /// The topic of that name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The broker, if it is a member that is registered and not fenced.
    pub fn alive(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id).filter(|b| !b.fenced)
    }

    /// Every partition with its id.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Topic, &Partition)> {
        self.topics.iter().flat_map(|(id, topic)| {
            topic
                .partitions
                .iter()
                .enumerate()
                .map(move |(i, p)| (TopicPartition { topic: *id, partition: PartitionId(i as i32) }, topic, p))
        })
    }
}
