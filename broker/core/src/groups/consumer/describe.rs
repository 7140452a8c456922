//! ConsumerGroupDescribe.

use super::ConsumerGroup;
use super::assignment::Assignment;
use crate::groups::event::Config;
use crate::groups::response::{DescribedConsumerGroup, DescribedConsumerMember};

impl ConsumerGroup {
    /// The group, for ConsumerGroupDescribe.
    pub(in crate::groups) fn describe(&self, config: &Config) -> DescribedConsumerGroup {
        let members = self.members.iter().map(|(id, member)| DescribedConsumerMember {
            member_id: id.clone(),
            instance_id: member.about.instance_id.clone(),
            rack_id: member.about.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.about.client_id.clone(),
            client_host: member.about.client_host.clone(),
            subscribed_topic_names: member.about.subscribed_topic_names.clone(),
            subscribed_topic_regex: member.about.subscribed_topic_regex.clone(),
            // What it was asked to give back is its own until it has.
            assignment: member.assigned.iter().chain(member.revoking.iter()).collect::<Assignment>().to_topics(),
            target_assignment: self.targets.get(id).map(Assignment::to_topics).unwrap_or_default(),
            classic: member.about.classic.is_some(),
        });
        DescribedConsumerGroup {
            state: self.state(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor(&config.consumer_assignors).name().into(),
            members: members.collect(),
        }
    }
}
