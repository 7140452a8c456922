//! Brokers that come, fall silent, and come back (KIP-631, KIP-841).

use super::command::{Answer, Change, Member, Outcome, Refusal};
use super::config::BROKER_RACK;
use super::election::{Voters, elect, with_isr, without_disk};
use super::features::SupportedVersions;
use super::image::{Broker, Image, Partition};
use crate::ids::{
    BrokerEpoch, BrokerId, DirectoryId, IncarnationId, MetadataOffset, PartitionId, TopicId, TopicPartition,
};
use std::collections::BTreeSet;

/// A broker's process as it presents itself.
pub(super) struct Process<'a> {
    pub(super) member: &'a Member,
    pub(super) directory: DirectoryId,
    pub(super) incarnation: IncarnationId,
    /// Partitions of which the directory has lost something.
    pub(super) damaged: &'a [TopicPartition],
    /// The metadata versions that it speaks.
    pub(super) versions: SupportedVersions,
}

/// What a broker that is withdrawn no longer holds.
enum Lost {
    Nothing,
    /// Something of each of these.
    Partitions(BTreeSet<TopicPartition>),
    Disk,
}

impl Lost {
    fn includes(&self, tp: TopicPartition) -> bool {
        match self {
            Self::Nothing => false,
            Self::Partitions(lost) => lost.contains(&tp),
            Self::Disk => true,
        }
    }
}

impl Image {
    /// A new process of a broker. It starts fenced, and all that its predecessor led or was in sync with is
    /// given up first, even as the only replica: what it has in memory may be less than its predecessor had.
    pub(super) fn register(
        &mut self,
        offset: MetadataOffset,
        process: &Process<'_>,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Process { member, directory, incarnation, damaged, versions } = *process;
        if member.id.0 < 0 {
            return Err(Refusal::InvalidBroker(member.id));
        }
        if !versions.contains(self.metadata_version) {
            return Err(Refusal::InvalidMetadataVersion(format!(
                "the cluster is at metadata version {}; broker {} speaks {versions}",
                self.metadata_version, member.id
            )));
        }
        let before = self.brokers.get(&member.id);
        if let Some(Broker { epoch: Some(epoch), incarnation: Some(current), .. }) = before
            && *current == incarnation
        {
            return Ok(Answer::Registered(*epoch));
        }
        let disk_lost = before.and_then(|b| b.directory).is_some_and(|former| former != directory);
        let lost = if disk_lost { Lost::Disk } else { Lost::Partitions(damaged.iter().copied().collect()) };
        let epoch = BrokerEpoch(i64::try_from(offset.0).unwrap_or(i64::MAX));
        let broker = Broker {
            epoch: Some(epoch),
            directory: Some(directory),
            incarnation: Some(incarnation),
            fenced_at: offset,
            versions,
            cordoned: before.is_some_and(|b| b.cordoned),
            // Who puts a running broker into a rack knows better than its file, which is the same for all pods.
            rack: self.dynamic_property(member.id, BROKER_RACK).cloned().or_else(|| member.rack.clone()),
            ..Broker::expected(member)
        };
        self.brokers.insert(member.id, broker);
        changes.push(Change::Broker(member.id));
        self.withdraw(member.id, &lost, changes);
        Ok(Answer::Registered(epoch))
    }

    pub(super) fn fence(
        &mut self,
        offset: MetadataOffset,
        id: BrokerId,
        epoch: BrokerEpoch,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if self.current_registration(id, epoch)?.fenced {
            return Ok(Answer::Done);
        }
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.fenced = true;
            broker.fenced_at = offset;
        }
        changes.push(Change::Broker(id));
        self.withdraw(id, &Lost::Nothing, changes);
        Ok(Answer::Done)
    }

    pub(super) fn unfence(&mut self, id: BrokerId, epoch: BrokerEpoch, changes: &mut Vec<Change>) -> Outcome {
        if !self.current_registration(id, epoch)?.fenced {
            return Ok(Answer::Done);
        }
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.fenced = false;
        }
        changes.push(Change::Broker(id));
        self.change_partitions(changes, |image, _, p, min_insync_replicas| {
            let waits = p.leader.is_none() && p.elr.contains(&id);
            waits.then(|| elect(p, &Voters { image, min_insync_replicas, leader_asks: false }))
        });
        Ok(Answer::Done)
    }

    /// Forgets a member that is not alive and has no replicas: where there are some, they would never come back.
    pub(super) fn unregister(&mut self, id: BrokerId, changes: &mut Vec<Change>) -> Outcome {
        if !self.brokers.contains_key(&id) {
            return Err(Refusal::UnknownBroker(id));
        }
        if self.alive(id).is_some() {
            return Err(Refusal::BrokerInUse(format!("broker {id} is alive: stop it first")));
        }
        let placed = self.partitions().filter(|(_, _, p)| p.replicas.contains(&id)).count();
        if placed > 0 {
            let text = format!("broker {id} has replicas of {placed} partitions: move them to other brokers first");
            return Err(Refusal::BrokerInUse(text));
        }
        self.brokers.remove(&id);
        self.broker_configs.remove(&id);
        self.permit = self.permit.take().filter(|permit| permit.broker != id);
        changes.push(Change::Broker(id));
        Ok(Answer::Done)
    }

    /// Takes a fenced broker out of every ISR, and out of what it could have been eligible for without its loss.
    fn withdraw(&mut self, id: BrokerId, lost: &Lost, changes: &mut Vec<Change>) {
        self.change_partitions(changes, |image, tp, p, min_insync_replicas| {
            let voters = Voters { image, min_insync_replicas, leader_asks: false };
            if lost.includes(tp) && (p.isr.contains(&id) || p.elr.contains(&id)) {
                Some(without_disk(p, id, &voters))
            } else if p.isr.contains(&id) {
                let isr = p.isr.iter().copied().filter(|b| *b != id).collect();
                Some(with_isr(p, isr, &voters))
            } else {
                None
            }
        });
    }

    /// Replaces each partition for which `decide` has a new state. It gets the partition's id and the topic's
    /// `min.insync.replicas`.
    fn change_partitions(
        &mut self,
        changes: &mut Vec<Change>,
        decide: impl Fn(&Self, TopicPartition, &Partition, usize) -> Option<Partition>,
    ) {
        let mut replaced: Vec<(TopicId, Vec<(usize, Partition)>)> = Vec::new();
        for (id, topic) in &self.topics {
            let partitions = topic.partitions.iter().enumerate();
            let new: Vec<_> = partitions
                .filter_map(|(i, p)| {
                    let tp = TopicPartition { topic: *id, partition: PartitionId(i as i32) };
                    Some((i, decide(self, tp, p, topic.min_insync_replicas).filter(|new| new != p)?))
                })
                .collect();
            if !new.is_empty() {
                replaced.push((*id, new));
            }
        }
        for (id, new) in replaced {
            let Some(topic) = self.topics.get_mut(&id) else { continue };
            for (i, partition) in new {
                topic.partitions.set(i, partition);
                let tp = TopicPartition { topic: id, partition: PartitionId(i as i32) };
                changes.push(Change::PartitionChanged(tp));
            }
        }
    }
}
