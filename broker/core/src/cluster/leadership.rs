//! Elections that somebody asks for (KIP-460): of the preferred leader, and of anybody as the last resort.

use super::command::{Answer, Change, Election, Outcome, Refusal};
use super::election::{Voters, with_epochs};
use super::image::{Image, Partition};
use super::reassignment::advanced;
use crate::ids::{BrokerId, TopicPartition};
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
            let leader = old.chain(added).find(|id| image.may_lead(*id)).ok_or(Elected::NobodyAvailable)?;
            let after = Partition { leader: Some(leader), isr: vec![leader], elr: Box::default(), ..partition.clone() };
            let voters = Voters { image, min_insync_replicas: 1, leader_asks: false };
            Ok(with_epochs(partition, advanced(&after, &voters).unwrap_or(after)))
        }
    }
}
