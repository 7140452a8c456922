//! Partitions that are added to a topic, and how many there may be.

use super::assignment::place;
use super::command::{Answer, Change, MetadataCommand, Outcome, Refusal};
use super::image::Image;
use super::topics::MAX_PARTITIONS;
use crate::ids::{BrokerId, PartitionId, TopicId, TopicPartition};
use std::collections::BTreeMap;

/// Replicas on one broker at most, and in the whole cluster for each of its brokers: more would be refused by none, and
/// served by none.
pub(super) const MAX_REPLICAS_PER_BROKER: usize = 50_000;

impl Image {
    pub(super) fn create_partitions(
        &mut self,
        id: TopicId,
        total: i32,
        assignments: &[Vec<BrokerId>],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let topic = self.topics.get(&id).ok_or(Refusal::UnknownTopic)?;
        let now = topic.partitions.len();
        let wanted = usize::try_from(total).unwrap_or(0);
        if wanted <= now {
            let same = if wanted == now { "already has" } else { "cannot lose partitions; it has" };
            return Err(Refusal::InvalidPartitions(format!("the topic {same} {now} partitions")));
        }
        if total > MAX_PARTITIONS {
            return Err(Refusal::InvalidPartitions(format!(
                "a topic has {MAX_PARTITIONS} partitions at most, not {total}"
            )));
        }
        let more = wanted - now;
        let factor = topic.partitions.front().map_or(1, |p| p.target_replicas().count());
        let replicas = if assignments.is_empty() {
            place(self, self.topics.len().wrapping_add(now), more, factor)?
        } else {
            if assignments.len() != more {
                return Err(Refusal::InvalidAssignment(format!(
                    "{more} partitions are added, and {} of them have replicas assigned",
                    assignments.len()
                )));
            }
            for (i, replicas) in assignments.iter().enumerate() {
                self.check_assignment(now + i, replicas, factor)?;
            }
            assignments.to_vec()
        };
        self.room_for(replicas.iter().map(Vec::as_slice))?;
        let new: Vec<_> = replicas.into_iter().map(|replicas| self.first_state(replicas)).collect();
        if let Some(topic) = self.topics.get_mut(&id) {
            for (i, partition) in new.into_iter().enumerate() {
                topic.partitions.push_back(partition);
                let partition = PartitionId(i32::try_from(now + i).unwrap_or(i32::MAX));
                changes.push(Change::PartitionChanged(TopicPartition { topic: id, partition }));
            }
        }
        Ok(Answer::Done)
    }

    /// Whether these replicas may be added to those that there are.
    pub(super) fn room_for<'a>(&self, more: impl Iterator<Item = &'a [BrokerId]>) -> Result<(), Refusal> {
        let most = MAX_REPLICAS_PER_BROKER * self.brokers.len().max(1);
        let now: usize = self.topics.values().map(|t| t.partitions.len() * replication_factor(t)).sum();
        let more: usize = more.map(<[BrokerId]>::len).sum();
        if now + more > most {
            return Err(Refusal::PolicyViolation(format!(
                "the cluster has {now} replicas of partitions; {more} more would be above its limit of {most}. Delete \
                 topics, or add brokers"
            )));
        }
        Ok(())
    }

    /// What a command would come to, and whether it may be asked for at all: brokers have a limit of their own. That is
    /// looked at here and not where entries are applied, as brokers of several versions must apply them alike.
    pub fn try_out(&self, command: &MetadataCommand) -> Outcome {
        let mut after = self.clone();
        let answer = after.apply(after.offset, command).0?;
        after.room_on_brokers(self)?;
        Ok(answer)
    }

    /// Whether no broker has got more replicas since `before` than it may have.
    fn room_on_brokers(&self, before: &Self) -> Result<(), Refusal> {
        // Nobody has more than all of them together.
        if self.topics.values().map(|t| t.partitions.len() * replication_factor(t)).sum::<usize>()
            <= MAX_REPLICAS_PER_BROKER
        {
            return Ok(());
        }
        let had = before.replicas_of_brokers();
        for (id, has) in self.replicas_of_brokers() {
            let had = had.get(&id).copied().unwrap_or(0);
            if has > MAX_REPLICAS_PER_BROKER.max(had) {
                return Err(Refusal::PolicyViolation(format!(
                    "broker {id} has {had} replicas of partitions; {} more would be above its limit of \
                     {MAX_REPLICAS_PER_BROKER}. Delete topics, or move partitions to other brokers",
                    has - had
                )));
            }
        }
        Ok(())
    }

    pub(super) fn replicas_of_brokers(&self) -> BTreeMap<BrokerId, usize> {
        let mut found = BTreeMap::new();
        for id in self.partitions().flat_map(|(_, _, partition)| &partition.replicas) {
            *found.entry(*id).or_insert(0) += 1;
        }
        found
    }
}

fn replication_factor(topic: &super::image::Topic) -> usize {
    topic.partitions.front().map_or(0, |p| p.replicas.len())
}
