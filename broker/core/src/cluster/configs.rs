//! Configs that change while a topic is there and while brokers run.

use super::command::{Answer, Change, Outcome, Refusal};
use super::config::{
    self, BROKER_RACK, ConfigChange, ConfigResource, MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION_ENABLE,
};
use super::features::MetadataVersion;
use super::image::{Image, Topic};
use crate::ids::{PartitionId, TopicId, TopicPartition};

impl Image {
    pub(super) fn alter_configs(
        &mut self,
        resource: &ConfigResource,
        replace: bool,
        configs: &[ConfigChange],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let wrong = Refusal::InvalidConfig;
        match *resource {
            ConfigResource::Group(ref group) => return self.alter_group_configs(group, replace, configs),
            ConfigResource::Topic(id) => {
                let topic = self.topics.get(&id).ok_or(Refusal::UnknownTopic)?;
                let current = |known: &config::TopicConfig| known.default.to_owned();
                let after = config::changed(
                    &topic.configs,
                    replace,
                    configs,
                    self.metadata_version,
                    config::topic_config,
                    current,
                );
                let mut topic = topic.clone();
                topic.configs = after.map_err(wrong)?;
                topic.min_insync_replicas = self.min_insync_replicas(&topic);
                self.topics.insert(id, topic);
                self.topic_changed(id, changes);
            }
            ConfigResource::Broker(id) => {
                if !self.brokers.contains_key(&id) {
                    return Err(Refusal::UnknownBroker(id));
                }
                // The controller goes by these, and it is on any of the brokers.
                for of_all in [MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION_ENABLE] {
                    if configs.iter().any(|c| c.name == of_all) {
                        return Err(wrong(format!("{of_all} is set for the cluster or for a topic")));
                    }
                }
                let before = self.broker_configs.get(&id).cloned().unwrap_or_default();
                let after = config::changed(
                    &before,
                    replace,
                    configs,
                    self.metadata_version,
                    |name| config::of_one_broker(name).or_else(|| config::of_broker_property(name)),
                    default,
                );
                let after = after.map_err(wrong)?;
                if let (Some(rack), Some(broker)) = (after.get(BROKER_RACK), self.brokers.get_mut(&id)) {
                    broker.rack = Some(rack.clone());
                }
                if after.is_empty() {
                    self.broker_configs.remove(&id);
                } else {
                    self.broker_configs.insert(id, after);
                }
                changes.push(Change::Broker(id));
            }
            ConfigResource::Cluster => {
                // Brokers that know no such config of all brokers would refuse the whole entry.
                let unclean = configs.iter().any(|c| c.name == UNCLEAN_LEADER_ELECTION_ENABLE);
                if unclean && self.metadata_version < MetadataVersion::UNCLEAN_ELECTIONS {
                    let (needs, is) = (MetadataVersion::UNCLEAN_ELECTIONS, self.metadata_version);
                    let why = format!("needs metadata version {needs}, and the cluster is at {is}");
                    return Err(wrong(format!("{UNCLEAN_LEADER_ELECTION_ENABLE} {why}")));
                }
                let before = &self.cluster_configs;
                let after = config::changed(
                    before,
                    replace,
                    configs,
                    self.metadata_version,
                    config::of_broker_property,
                    default,
                );
                self.cluster_configs = after.map_err(wrong)?;
                let all: Vec<TopicId> = self.topics.keys().copied().collect();
                for id in all {
                    let Some(topic) = self.topics.get(&id) else { continue };
                    let least = self.min_insync_replicas(topic);
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.min_insync_replicas = least;
                    }
                    self.topic_changed(id, changes);
                }
            }
        }
        Ok(Answer::Done)
    }

    fn topic_changed(&self, id: TopicId, changes: &mut Vec<Change>) {
        let partitions = self.topics.get(&id).map_or(0, |t| t.partitions.len());
        for i in 0..partitions {
            let partition = PartitionId(i32::try_from(i).unwrap_or(i32::MAX));
            changes.push(Change::PartitionChanged(TopicPartition { topic: id, partition }));
        }
    }

    /// `min.insync.replicas` of a topic: its own, or the cluster's, or that of the broker which asked for the topic.
    pub(super) fn min_insync_replicas(&self, topic: &Topic) -> usize {
        let of_cluster = || self.cluster_configs.get(MIN_INSYNC_REPLICAS).and_then(|v| v.parse().ok());
        topic.own_min_insync_replicas().or_else(of_cluster).unwrap_or(topic.default_min_insync_replicas).max(1)
    }
}

fn default(known: &config::TopicConfig) -> String {
    known.default.to_owned()
}
