//! The cluster image: what the metadata log says, at one of its offsets.
//!
//! Cloning is cheap (persistent maps): a reader takes a clone and has a consistent view for as long as it likes.

use super::config::Configs;
use super::features::{MetadataVersion, SupportedVersions};
use super::permits::Permit;
use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, PartitionEpoch,
    PartitionId, ProducerId, TopicId, TopicPartition,
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
    /// What may be written (see [`MetadataVersion`]).
    #[serde(default)]
    pub metadata_version: MetadataVersion,
    /// Broker properties that were changed for all brokers while they ran, by Kafka's names.
    #[serde(default)]
    pub cluster_configs: Configs,
    /// Broker properties that were changed for one broker alone.
    #[serde(default)]
    pub broker_configs: OrdMap<BrokerId, Configs>,
    /// Configs of single groups, by Kafka's names.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub group_configs: OrdMap<Arc<str>, Configs>,
    /// The permit to stop a broker that is outstanding.
    #[serde(default)]
    pub permit: Option<Permit>,
    /// Leaders that were elected although they may have lacked committed records, as somebody asked for it or a topic's
    /// configs, since there is the cluster.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unclean_elections: u64,
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
    /// The process that registered, so that a retry of its own is not taken for its successor.
    pub incarnation: Option<IncarnationId>,
    /// The entry that last fenced it (its registration counts as one). It may lead again only once it has
    /// applied that entry: before, it cannot know which leaderships it has lost.
    pub fenced_at: MetadataOffset,
    /// A fenced broker leads nothing, is in no ISR, and is not shown to clients.
    pub fenced: bool,
    /// It resigned everything in order to stop: it is not elected, and joins no ISR, until it registers anew. What
    /// nobody else can lead it may still lead.
    #[serde(default)]
    pub stopping: bool,
    /// Where clients reach it.
    pub kafka: Endpoint,
    /// Where its followers reach it (the WAL port).
    pub replication: Endpoint,
    /// The failure domain it is in, if it said so.
    pub rack: Option<Arc<str>>,
    /// The metadata versions that it speaks.
    #[serde(default)]
    pub versions: SupportedVersions,
    /// Nothing new is placed on it.
    #[serde(default)]
    pub cordoned: bool,
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
    pub configs: Configs,
    /// `min.insync.replicas`, resolved; see [`Partition::min_insync_replicas`] for what it means to a partition.
    pub min_insync_replicas: usize,
    /// `min.insync.replicas` as long as neither topic nor cluster say otherwise: that of the broker which asked for
    /// the topic.
    #[serde(default = "one")]
    pub default_min_insync_replicas: usize,
    /// The first producer id that was not given out when the topic was created: producers below it may have numbered
    /// what they wrote to a topic of the same name before it. A snapshot of a former version does not have it.
    #[serde(default)]
    pub older_producers: ProducerId,
}

/// The replica state of one partition. Changed only through the metadata log. Every broker keeps that of every partition,
/// so what is mostly empty takes no more than it has to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas; a subset of `replicas`.
    pub isr: Vec<BrokerId>,
    /// The eligible leader replicas (KIP-966): not in the ISR, but known to hold everything committed, as nothing is
    /// committed while there are any. The one that left the ISR last comes first.
    pub elr: Box<[BrokerId]>,
    /// `None` while no eligible replica is alive.
    pub leader: Option<BrokerId>,
    /// Replicas that a reassignment adds: they are replicas already, and count once all that are to stay are in sync.
    #[serde(default, skip_serializing_if = "<[BrokerId]>::is_empty")]
    pub adding: Box<[BrokerId]>,
    /// Replicas that a reassignment removes: they stay replicas until then.
    #[serde(default, skip_serializing_if = "<[BrokerId]>::is_empty")]
    pub removing: Box<[BrokerId]>,
    /// Grows with every change of `leader`, and whenever a replica is removed.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of any field.
    pub partition_epoch: PartitionEpoch,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
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

    /// Whether the broker is one that partitions may be given to lead, or take into their ISR.
    pub fn may_lead(&self, id: BrokerId) -> bool {
        self.alive(id).is_some_and(|b| !b.stopping)
    }

    /// Those of these brokers that are about to stop.
    pub fn stopping(&self, of: &[BrokerId]) -> Vec<BrokerId> {
        of.iter().copied().filter(|id| self.alive(*id).is_some_and(|b| b.stopping)).collect()
    }

    /// What is wrong with this image, if anything: rules that no sequence of commands may break.
    pub fn valid(&self) -> Result<(), String> {
        for (tp, _, partition) in self.partitions() {
            partition.valid().map_err(|e| format!("{tp}: {e}: {partition:?}"))?;
            if let Some(fenced) = partition.isr.iter().find(|id| self.alive(**id).is_none()) {
                return Err(format!("{tp}: broker {fenced} is fenced and in the ISR: {partition:?}"));
            }
            if let Some(stranger) = partition.replicas.iter().find(|id| !self.brokers.contains_key(id)) {
                return Err(format!("{tp}: replica {stranger} is no member"));
            }
        }
        let named = self.topic_ids.iter().all(|(name, id)| self.topics.get(id).is_some_and(|t| t.name == *name));
        if !named || self.topic_ids.len() != self.topics.len() {
            return Err("names and ids of topics disagree".into());
        }
        Ok(())
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

impl Partition {
    /// In-sync replicas without which nothing is committed: `min.insync.replicas` as the topic has it, but never more
    /// than there are replicas, before and after the reassignment that is under way.
    pub fn min_insync_replicas(&self, of_topic: usize) -> usize {
        of_topic.min(self.replicas.len() - self.adding.len()).min(self.replicas.len() - self.removing.len())
    }

    /// In-sync replicas beside which nobody has to be eligible, whoever of them is heard of: the minimum, and more than
    /// one where there are more, be they on their way.
    pub(super) fn enough_in_sync(&self, min_insync_replicas: usize) -> usize {
        min_insync_replicas.max(2).min(self.replicas.len())
    }

    fn valid(&self) -> Result<(), &'static str> {
        let repeats = |ids: &[BrokerId]| ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id));
        if self.replicas.is_empty() || repeats(&self.replicas) || repeats(&self.isr) || repeats(&self.elr) {
            return Err("no replicas, or one twice");
        }
        if !self.isr.iter().chain(&self.elr).all(|id| self.replicas.contains(id)) {
            return Err("in-sync or eligible without being a replica");
        }
        if self.elr.iter().any(|id| self.isr.contains(id)) {
            return Err("in-sync and eligible at once");
        }
        let moving = || self.adding.iter().chain(&self.removing);
        if repeats(&moving().copied().collect::<Vec<_>>()) || !moving().all(|id| self.replicas.contains(id)) {
            return Err("added or removed without being a replica, or both");
        }
        if [&self.adding, &self.removing].iter().any(|ids| ids.len() == self.replicas.len()) {
            return Err("no replica before its reassignment, or none after it");
        }
        match self.leader {
            Some(leader) if !self.isr.contains(&leader) => Err("the leader is not in sync"),
            None if !self.isr.is_empty() => Err("in-sync replicas and no leader"),
            _ => Ok(()),
        }
    }
}
