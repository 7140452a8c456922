//! Brokers that are given nothing new, and brokers that leave for good.

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

    /// A member leaves for good: one that does not run, and that nothing is kept on. One that has left already is fine.
    pub(super) fn remove_broker(&mut self, id: BrokerId, changes: &mut Vec<Change>) -> Outcome {
        if self.alive(id).is_some() {
            return Err(Refusal::BrokerInUse(format!("broker {id} runs")));
        }
        let held = self.replicas_on(id).len();
        if held > 0 {
            return Err(Refusal::BrokerInUse(format!("broker {id} holds replicas of {held} partitions")));
        }
        if self.brokers.remove(&id).is_some() {
            self.broker_configs.remove(&id);
            self.permit = self.permit.take().filter(|permit| permit.broker != id);
            changes.push(Change::Broker(id));
        }
        Ok(Answer::Done)
    }
}
