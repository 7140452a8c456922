//! What the metadata log decides, for people: a line for each change, and one for many of a kind.

use chronik_core::cluster::config::ConfigResource;
use chronik_core::cluster::{Answer, Change, Image, MetadataCommand, Outcome, Partition, ResignedPartitions};
use chronik_core::ids::{BrokerId, TopicId};

/// More partitions than this in one entry are told of in one line.
const LINES: usize = 8;

/// Brokers and topics that come and go. `before` is the image without the entry that the command is of.
pub(super) fn log(before: &Image, command: &MetadataCommand, outcome: &Outcome) {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::debug!(%refusal, "a metadata command was refused");
            return;
        }
    };
    match (command, answer) {
        (MetadataCommand::CreateCluster { cluster_id, members, .. }, _) => {
            tracing::info!(%cluster_id, members = members.len(), "created the cluster");
        }
        (MetadataCommand::RegisterBroker { member, .. }, Answer::Registered(epoch)) => {
            tracing::info!(broker = %member.id, %epoch, "registered broker {}", member.id);
        }
        (MetadataCommand::Fence { id, epoch }, _) => tracing::info!(broker = %id, %epoch, "fenced broker {id}"),
        (MetadataCommand::Unfence { id, epoch }, _) => tracing::info!(broker = %id, %epoch, "unfenced broker {id}"),
        (MetadataCommand::CreateTopic { name, id, .. }, _) => {
            tracing::info!(topic = %name, topic_id = %id, "created topic {name}");
        }
        (MetadataCommand::DeleteTopic { id }, _) => {
            let topic = name(before, *id);
            tracing::info!(topic, topic_id = %id, "deleted topic {topic}");
        }
        (MetadataCommand::CreatePartitions { topic: id, total, .. }, _) => {
            let topic = name(before, *id);
            tracing::info!(topic, topic_id = %id, partitions = total, "added partitions to topic {topic}");
        }
        (MetadataCommand::AlterConfigs { resource, changes, .. }, _) => {
            let configs: Vec<&str> = changes.iter().map(|c| c.name.as_str()).collect();
            tracing::info!(?resource, ?configs, "changed configs of {}", whose(before, resource));
        }
        (MetadataCommand::SetMetadataVersion { version }, _) => {
            tracing::info!(%version, "raised the metadata version");
        }
        (MetadataCommand::GrantPermit { broker, incarnation, ttl_ms, .. }, _) => {
            tracing::info!(%broker, %incarnation, ttl_ms, "gave a permit to stop broker {broker}");
        }
        (MetadataCommand::ClosePermit { permit, .. }, _) => tracing::info!(permit = permit.0, "closed a permit"),
        (MetadataCommand::Cordon { broker, cordoned }, _) => {
            let what = if *cordoned { "cordoned" } else { "uncordoned" };
            tracing::info!(%broker, "{what} broker {broker}");
        }
        (MetadataCommand::UnregisterBroker { id }, _) => tracing::info!(broker = %id, "forgot broker {id}"),
        (MetadataCommand::Resign { broker, partitions, reason, .. }, Answer::Resigned { kept }) => {
            let resigned = match partitions {
                ResignedPartitions::All => "everything".into(),
                ResignedPartitions::These(these) => format!("{} partitions", these.len()),
            };
            tracing::info!(broker = %broker, ?reason, kept = kept.len(), "broker {broker} resigned {resigned}");
        }
        _ => {}
    }
}

/// Leaders and ISRs that change.
pub(super) fn log_partitions(before: &Image, after: &Image, changes: &[Change]) {
    let partitions: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::PartitionChanged(tp) => Some((*tp, before.partition(*tp)?, after.partition(*tp)?)),
            _ => None,
        })
        .collect();
    if after.unclean_elections > before.unclean_elections {
        let eligible = |p: &Partition, id: &BrokerId| p.isr.contains(id) || p.elr.contains(id);
        for (tp, old, new) in &partitions {
            if let Some(leader) = new.leader.filter(|id| old.leader != Some(*id) && !eligible(old, id)) {
                let (topic, partition) = (name(after, tp.topic), tp.partition.0);
                tracing::warn!(topic, partition, %leader, "elected a leader that may lack acknowledged records");
            }
        }
    }
    if partitions.len() > LINES {
        let leaders = partitions.iter().filter(|(_, old, new)| old.leader != new.leader).count();
        let leaderless = partitions.iter().filter(|(_, _, new)| new.leader.is_none()).count();
        tracing::info!(partitions = partitions.len(), leaders, leaderless, "partitions changed");
        return;
    }
    for (tp, old, new) in partitions {
        let topic = name(after, tp.topic);
        let leader = new.leader.map_or(-1, |id| id.0);
        let (epoch, isr) = (new.leader_epoch.0, ids(&new.isr));
        if old.leader == new.leader {
            tracing::info!(topic, partition = tp.partition.0, leader, %isr, "the ISR changed");
        } else {
            tracing::info!(topic, partition = tp.partition.0, leader, epoch, %isr, "the leader changed");
        }
    }
}

fn ids(brokers: &[BrokerId]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What clients call the topic.
fn name(image: &Image, id: TopicId) -> &str {
    image.topics.get(&id).map_or("", |topic| &topic.name)
}

/// Whose configs were changed.
fn whose(image: &Image, resource: &ConfigResource) -> String {
    match resource {
        ConfigResource::Topic(id) => format!("topic {}", name(image, *id)),
        ConfigResource::Broker(id) => format!("broker {id}"),
        ConfigResource::Cluster => "all brokers".to_owned(),
        ConfigResource::Group(group) => format!("group {group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::Topic;

    #[test]
    fn people_are_told_the_names_of_topics() {
        let mut image = Image::default();
        let id = TopicId::default();
        let topic = Topic {
            id,
            name: "orders".into(),
            partitions: std::iter::empty().collect(),
            configs: image.cluster_configs.clone(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: image.next_producer_id,
        };
        image.topics.insert(id, topic);
        for (resource, said) in [
            (ConfigResource::Topic(id), "topic orders"),
            (ConfigResource::Broker(BrokerId(7)), "broker 7"),
            (ConfigResource::Cluster, "all brokers"),
            (ConfigResource::Group("shop".into()), "group shop"),
        ] {
            assert_eq!(whose(&image, &resource), said);
        }
    }
}
