//! ISR changes that leaders ask for (KIP-497, KIP-903).

use super::command::{Answer, Change, Outcome, Refusal};
use super::election::{Voters, with_isr};
use super::image::Image;
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, TopicPartition};

impl Image {
    /// `seen` is the leader epoch and the partition epoch of the state that the leader decided upon.
    pub(super) fn alter_partition(
        &mut self,
        leader: BrokerId,
        tp: TopicPartition,
        seen: (LeaderEpoch, PartitionEpoch),
        isr: &[(BrokerId, BrokerEpoch)],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let partition = self.partition(tp).ok_or(Refusal::UnknownPartition)?;
        if partition.leader != Some(leader) || partition.leader_epoch != seen.0 {
            return Err(Refusal::NotLeader);
        }
        if partition.partition_epoch != seen.1 {
            return Err(Refusal::StalePartitionEpoch { given: seen.1, current: partition.partition_epoch });
        }
        if isr.len() > partition.replicas.len() {
            return Err(Refusal::InvalidIsr("it has more members than the partition has replicas".into()));
        }
        let new: Vec<BrokerId> = isr.iter().map(|(id, _)| *id).collect();
        if !new.contains(&leader) {
            return Err(Refusal::InvalidIsr("the leader cannot leave the ISR".into()));
        }
        if new.iter().enumerate().any(|(i, id)| new[..i].contains(id)) {
            return Err(Refusal::InvalidIsr("a broker is named twice".into()));
        }
        if let Some(id) = new.iter().find(|id| !partition.replicas.contains(id)) {
            return Err(Refusal::InvalidIsr(format!("broker {id} is not a replica of the partition")));
        }
        if let Some((id, _)) = isr.iter().find(|(id, e)| self.alive(*id).is_none_or(|b| b.epoch != Some(*e))) {
            return Err(Refusal::IneligibleReplica(*id));
        }
        if let Some(id) = new.iter().find(|id| !partition.isr.contains(id) && !self.may_lead(**id)) {
            return Err(Refusal::IneligibleReplica(*id));
        }
        // In the order of the replicas, so that one ISR has one form whoever asks for it.
        let ordered: Vec<BrokerId> = partition.replicas.iter().copied().filter(|id| new.contains(id)).collect();
        let min_insync_replicas = self.topics.get(&tp.topic).map_or(1, |t| t.min_insync_replicas);
        let voters = Voters { image: self, min_insync_replicas, leader_asks: true };
        let mut after = with_isr(partition, ordered, &voters);
        if after == *partition {
            // A leader that does not know what became of an earlier request asks for what it wants now, even if that
            // is what there is: with the partition epoch moved on, the earlier one can win no more.
            after.partition_epoch = PartitionEpoch(partition.partition_epoch.0.saturating_add(1));
        }
        let index = usize::try_from(tp.partition.0).map_err(|_| Refusal::UnknownPartition)?;
        if let Some(topic) = self.topics.get_mut(&tp.topic) {
            topic.partitions.set(index, after);
            changes.push(Change::PartitionChanged(tp));
        }
        Ok(Answer::Done)
    }
}
