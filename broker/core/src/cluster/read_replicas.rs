//! Which replicas are near to a consumer that names its rack (KIP-392).

use super::image::Image;
use crate::ids::{BrokerId, TopicPartition};

impl Image {
    /// The in-sync followers in the consumer's rack, for the leader to choose from. None where the leader is in that rack
    /// itself: nobody has more than it, and nobody is nearer.
    pub fn followers_in_rack(&self, partition: TopicPartition, rack: &str) -> Vec<BrokerId> {
        let Some(state) = self.partition(partition) else { return Vec::new() };
        let is_there = |id: BrokerId| self.alive(id).is_some_and(|b| b.rack.as_deref() == Some(rack) && !b.stopping);
        if rack.is_empty() || state.leader.is_none_or(is_there) {
            return Vec::new();
        }
        state.isr.iter().copied().filter(|id| is_there(*id)).collect()
    }
}
