//! Elections that somebody asks for (KIP-460): of the preferred leader, and of anybody as the last resort. The latter a
//! topic may ask for once and for all (`unclean.leader.election.enable`).

use super::command::{Answer, Change, Election, MetadataCommand, Outcome, Refusal};
use super::config::UNCLEAN_LEADER_ELECTION_ENABLE;
use super::election::{Voters, with_epochs};
use super::image::{Image, Partition, Topic};
use super::reassignment::advanced;
use crate::ids::{BrokerId, PartitionId, TopicPartition};
use serde::{Deserialize, Serialize};

/// Partitions named in one command at most.
const MAX_NAMED: usize = 100_000;

/// What came of an election of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Elected {
    /// This broker leads now.
    Leader(BrokerId),
    /// The preferred replica leads, or there is a leader where only its absence is a reason to elect.
    NotNeeded,
    /// The preferred replica is not in sync, not alive, or about to stop.
    PreferredNotAvailable,
    /// No replica is alive.
    NobodyAvailable,
    /// There is no such partition.
    UnknownPartition,
}

impl Image {
    /// Elects leaders of these partitions, or of all that need it.
    pub(super) fn elect_leaders(
        &mut self,
        partitions: Option<&[TopicPartition]>,
        election: Election,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if partitions.is_some_and(|named| named.len() > MAX_NAMED) {
            return Err(Refusal::PolicyViolation(format!("more than {MAX_NAMED} partitions in one election")));
        }
        let mut named: Vec<TopicPartition> = match partitions {
            Some(named) => named.to_vec(),
            None => self.partitions().map(|(tp, ..)| tp).collect(),
        };
        named.sort_unstable();
        named.dedup();
        let mut results = Vec::new();
        for tp in named {
            let elected = match self.partition(tp) {
                None => Elected::UnknownPartition,
                Some(partition) => match leader_of(self, partition, election) {
                    Ok(after) => {
                        let leader = after.leader.map_or(Elected::NobodyAvailable, Elected::Leader);
                        self.replace_partition(tp, after, changes);
                        if election == Election::Unclean {
                            self.unclean_elections = self.unclean_elections.saturating_add(1);
                        }
                        leader
                    }
                    Err(why) => why,
                },
            };
            // As in Kafka, an election of all says nothing of those that need none.
            if partitions.is_some() || elected != Elected::NotNeeded {
                results.push((tp, elected));
            }
        }
        Ok(Answer::Elected(results))
    }

    /// What every command ends with: partitions that it has left without a leader, or whose replica or topic it has changed,
    /// get one that may lack committed records, where their topic would rather have that than none.
    pub(super) fn elect_where_asked(&mut self, command: &MetadataCommand, changes: &mut Vec<Change>) {
        let candidates: Vec<TopicPartition> = if let MetadataCommand::Unfence { id, .. } = command {
            let asked = self.topics.values().filter(|topic| self.elects_uncleanly(topic));
            let waiting = asked.flat_map(|topic| {
                let waiting = (0..).zip(&topic.partitions).filter(|(_, p)| p.leader.is_none());
                let here = waiting.filter(|(_, p)| p.replicas.contains(id));
                here.map(|(n, _)| TopicPartition { topic: topic.id, partition: PartitionId(n) })
            });
            waiting.collect()
        } else {
            let partitions = changes.iter().filter_map(|change| match change {
                Change::PartitionChanged(tp) => Some(*tp),
                Change::Broker(_) | Change::PartitionDeleted(_) => None,
            });
            partitions.collect()
        };
        let before = self.unclean_elections;
        for tp in candidates {
            let Some(partition) = self.partition(tp).filter(|p| p.leader.is_none()) else { continue };
            if !self.topics.get(&tp.topic).is_some_and(|topic| self.elects_uncleanly(topic)) {
                continue;
            }
            // One that is being added may have nothing at all, and would end the move: that is for a person to decide.
            let Ok(after) = leader_of_last_resort(self, partition, partition.original_replicas()) else { continue };
            self.replace_partition(tp, after, changes);
            self.unclean_elections = self.unclean_elections.saturating_add(1);
        }
        if self.unclean_elections > before {
            // Some of them had changed before.
            changes.sort_unstable();
            changes.dedup();
        }
    }

    /// The topic's own `unclean.leader.election.enable`, or that of all brokers.
    fn elects_uncleanly(&self, topic: &Topic) -> bool {
        let of_all = || self.cluster_configs.get(UNCLEAN_LEADER_ELECTION_ENABLE);
        topic.configs.get(UNCLEAN_LEADER_ELECTION_ENABLE).or_else(of_all).is_some_and(|value| &**value == "true")
    }
}

fn leader_of(image: &Image, partition: &Partition, election: Election) -> Result<Partition, Elected> {
    match election {
        Election::Preferred => {
            let preferred = partition.replicas.first().copied().ok_or(Elected::PreferredNotAvailable)?;
            if partition.leader == Some(preferred) {
                return Err(Elected::NotNeeded);
            }
            if !partition.isr.contains(&preferred) || !image.may_lead(preferred) {
                return Err(Elected::PreferredNotAvailable);
            }
            Ok(with_epochs(partition, Partition { leader: Some(preferred), ..partition.clone() }))
        }
        Election::Unclean => {
            if partition.leader.is_some() {
                return Err(Elected::NotNeeded);
            }
            // One that is being added may have nothing at all.
            let (old, added) = (partition.original_replicas(), partition.adding.iter().copied());
            leader_of_last_resort(image, partition, old.chain(added))
        }
    }
}

/// The first of these that may lead, whatever it lacks.
fn leader_of_last_resort(
    image: &Image,
    partition: &Partition,
    mut replicas: impl Iterator<Item = BrokerId>,
) -> Result<Partition, Elected> {
    let leader = replicas.find(|id| image.may_lead(*id)).ok_or(Elected::NobodyAvailable)?;
    let after = Partition { leader: Some(leader), isr: vec![leader], elr: Box::default(), ..partition.clone() };
    let voters = Voters { image, min_insync_replicas: 1, leader_asks: false };
    Ok(with_epochs(partition, advanced(&after, &voters).unwrap_or(after)))
}
