//! Partitions that move to other replicas (KIP-455): the new ones are added beside the old ones, and the old ones go when
//! all of the new ones are in sync.
//!
//! Until then nothing that was promised changes: all are replicas, the in-sync set is what the leader says, and as many
//! of it have to have a record as before. It ends in two steps. When all that are to stay are in sync one of them leads.
//! That leader asks for an in-sync set of them alone, once it has heard all others in its epoch: so nothing is committed
//! without a former leader that does not know yet that it is none. With the entry that grants this the others are no
//! replicas any more, and may drop their logs: not before, so that a broker which dies in the middle leaves at most a
//! reassignment that waits for it.

use super::command::{Answer, Change, Outcome, Reassignment, Refusal};
use super::election::{Voters, elect, with_epochs};
use super::image::{Image, Partition};
use super::partitions::MAX_REPLICAS_PER_BROKER;
use crate::ids::{BrokerId, TopicPartition};
use std::collections::BTreeSet;

/// Partitions named in one command at most.
const MAX_NAMED: usize = 20_000;

impl Partition {
    /// Whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas before the reassignment that is under way, or those that there are.
    pub fn original_replicas(&self) -> impl Iterator<Item = BrokerId> {
        self.replicas.iter().copied().filter(|id| !self.adding.contains(id))
    }

    /// The replicas after the reassignment that is under way, or those that there are.
    pub fn target_replicas(&self) -> impl Iterator<Item = BrokerId> {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id))
    }

    /// Whether the broker is a replica that should be in sync and is not. One that is being added is on its way.
    pub fn lacks(&self, id: BrokerId) -> bool {
        self.replicas.contains(&id) && !self.isr.contains(&id) && !self.adding.contains(&id)
    }
}

impl Image {
    pub(super) fn alter_reassignments(
        &mut self,
        requested: &[Reassignment],
        may_change_factor: bool,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if requested.len() > MAX_NAMED {
            return Err(Refusal::PolicyViolation(format!("more than {MAX_NAMED} partitions in one reassignment")));
        }
        self.room_for_reassignments(requested)?;
        let mut named = BTreeSet::new();
        let mut results = Vec::new();
        for Reassignment { partition, replicas } in requested {
            let moved = if named.insert(*partition) {
                self.reassigned(*partition, replicas.as_deref(), may_change_factor)
            } else {
                Err(Refusal::InvalidAssignment("the partition is named twice".into()))
            };
            results.push((
                *partition,
                moved.map(|after| {
                    if let Some(after) = after {
                        self.replace_partition(*partition, after, changes);
                    }
                }),
            ));
        }
        Ok(Answer::Reassigned(results))
    }

    /// Whether so many more replicas may be added to those that there are.
    fn room_for_reassignments(&self, requested: &[Reassignment]) -> Result<(), Refusal> {
        let most = MAX_REPLICAS_PER_BROKER * self.brokers.len();
        let added: usize = requested.iter().filter_map(|r| Some(r.replicas.as_ref()?.len())).sum();
        let now = || self.partitions().map(|(_, _, p)| p.replicas.len()).sum::<usize>();
        if added > most || now() + added > most {
            return Err(Refusal::PolicyViolation(format!(
                "with {added} replicas more the cluster would be above its limit of {most}"
            )));
        }
        Ok(())
    }

    /// The partition's state once it is to have these replicas; `None` if that is what it is to have already.
    fn reassigned(
        &self,
        tp: TopicPartition,
        target: Option<&[BrokerId]>,
        may_change_factor: bool,
    ) -> Result<Option<Partition>, Refusal> {
        let topic = self.topics.get(&tp.topic).ok_or(Refusal::UnknownPartition)?;
        let before = self.partition(tp).ok_or(Refusal::UnknownPartition)?;
        let original: Vec<BrokerId> = before.original_replicas().collect();
        let target = match target {
            None if !before.is_reassigning() => return Err(Refusal::NoReassignment),
            None => &original,
            Some(target) => {
                self.check_target(before, target)?;
                target
            }
        };
        if !may_change_factor && target.len() != original.len() {
            return Err(Refusal::InvalidReplicationFactor(format!(
                "The replication factor is changed from {} to {}",
                original.len(),
                target.len()
            )));
        }
        let adding: Box<[BrokerId]> = target.iter().copied().filter(|id| !original.contains(id)).collect();
        // One that was being added and is not to stay goes at once, unless others may count on what it has.
        let goes = |id: &BrokerId| {
            !target.contains(id) && (!before.adding.contains(id) || before.isr.contains(id) || before.elr.contains(id))
        };
        let removing: Box<[BrokerId]> = before.replicas.iter().copied().filter(goes).collect();
        let replicas = target.iter().chain(&removing).copied().collect();
        let wanted = Partition { replicas, adding, removing, ..before.clone() };
        let voters = Voters { image: self, min_insync_replicas: topic.min_insync_replicas, leader_asks: false };
        let after = with_epochs(before, elect(&wanted, &voters));
        Ok(Some(after).filter(|after| after != before))
    }

    /// Whether a partition may be moved to these replicas.
    fn check_target(&self, partition: &Partition, target: &[BrokerId]) -> Result<(), Refusal> {
        let invalid = |why: String| Err(Refusal::InvalidAssignment(why));
        if target.is_empty() {
            return invalid("a partition cannot have no replicas".into());
        }
        if target.len() > self.brokers.len() {
            return invalid("more replicas than there are brokers".into());
        }
        if let Some((_, id)) = target.iter().enumerate().find(|(i, id)| target[..*i].contains(id)) {
            return invalid(format!("broker {id} is named twice"));
        }
        for id in target {
            let Some(broker) = self.brokers.get(id) else {
                return invalid(format!("broker {id} is not a member"));
            };
            if broker.cordoned && !partition.replicas.contains(id) {
                return invalid(format!("broker {id} is cordoned"));
            }
        }
        Ok(())
    }
}

/// The partition a step further in its reassignment, if it can go one: when all replicas that stay are in sync, one of them
/// leads; and when nobody else is in sync or eligible any more, there are only these.
pub(super) fn advanced(partition: &Partition, voters: &Voters<'_>) -> Option<Partition> {
    let replicas: Vec<BrokerId> = partition.target_replicas().collect();
    if !partition.is_reassigning() || !replicas.iter().all(|id| partition.isr.contains(id)) {
        return None;
    }
    if !partition.leader.is_some_and(|id| replicas.contains(&id)) {
        let leader = voters.choose(&replicas, &replicas)?;
        return Some(Partition { leader: Some(leader), ..partition.clone() });
    }
    let alone = partition.isr.len() == replicas.len() && partition.elr.is_empty();
    alone.then(|| Partition {
        isr: replicas.clone(),
        replicas,
        adding: Box::default(),
        removing: Box::default(),
        ..partition.clone()
    })
}
