//! Brokers that are given nothing new, and what brokers hold.

use super::command::{Answer, Change, Outcome, Refusal};
use super::image::Image;
use crate::ids::{BrokerId, TopicPartition};

impl Image {
    /// What the broker holds: a member that does is not removed.
    pub fn replicas_on(&self, broker: BrokerId) -> Vec<TopicPartition> {
        self.partitions().filter(|(_, _, p)| p.replicas.contains(&broker)).map(|(tp, ..)| tp).collect()
    }

    pub(super) fn cordon(&mut self, id: BrokerId, cordoned: bool, changes: &mut Vec<Change>) -> Outcome {
        let broker = self.brokers.get_mut(&id).ok_or(Refusal::UnknownBroker(id))?;
        if broker.cordoned != cordoned {
            broker.cordoned = cordoned;
            changes.push(Change::Broker(id));
        }
        Ok(Answer::Done)
    }
}
