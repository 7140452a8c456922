//! Topics that are created and deleted.

use super::assignment::place;
use super::command::{Answer, Change, Outcome, Refusal};
use super::config;
use super::image::{Image, Partition, Topic};
use crate::ids::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Partitions of one topic at most: a few bytes from a client must not become gigabytes here.
pub const MAX_PARTITIONS: i32 = 10_000;

/// Kafka's name for the metadata log, which no topic may have.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The topic of the group coordinators, by Kafka's name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic of the transaction coordinators, by Kafka's name.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Kafka's limit for a topic's name, in bytes.
const MAX_NAME: usize = 249;

/// Whether a topic of that name is the brokers' own, whoever created it: no client writes to it, and it is compacted.
pub fn is_internal(topic: &str) -> bool {
    matches!(topic, OFFSETS_TOPIC | TRANSACTIONS_TOPIC)
}

/// What `CreateTopic` asks for.
pub(super) struct NewTopic<'a> {
    pub(super) id: TopicId,
    pub(super) name: &'a str,
    pub(super) partitions: i32,
    pub(super) replication_factor: i16,
    pub(super) assignments: &'a BTreeMap<i32, Vec<BrokerId>>,
    pub(super) configs: &'a BTreeMap<String, String>,
    pub(super) default_min_insync_replicas: i32,
}

impl Image {
    pub(super) fn create_topic(&mut self, new: &NewTopic<'_>, changes: &mut Vec<Change>) -> Outcome {
        if self.topics.get(&new.id).is_some_and(|t| &*t.name == new.name) {
            return Ok(Answer::Topic(new.id));
        }
        self.check_name(new.name)?;
        if self.topics.contains_key(&new.id) {
            return Err(Refusal::TopicExists(new.name.into()));
        }
        let configs = config::of_new_topic(new.configs, self.metadata_version).map_err(Refusal::InvalidConfig)?;
        let name: Arc<str> = new.name.into();
        let mut topic = Topic {
            id: new.id,
            name: Arc::clone(&name),
            partitions: self.replicas_of(new)?.into_iter().map(|replicas| self.first_state(replicas)).collect(),
            configs,
            min_insync_replicas: 1,
            default_min_insync_replicas: usize::try_from(new.default_min_insync_replicas).unwrap_or(1).max(1),
            older_producers: self.next_producer_id,
        };
        topic.min_insync_replicas = self.min_insync_replicas(&topic);
        self.room_for(topic.partitions.iter().map(|p| p.replicas.as_slice()))?;
        for i in 0..topic.partitions.len() {
            let tp = TopicPartition { topic: new.id, partition: PartitionId(i as i32) };
            changes.push(Change::PartitionChanged(tp));
        }
        self.topics.insert(new.id, topic);
        self.topic_ids.insert(name, new.id);
        Ok(Answer::Topic(new.id))
    }

    pub(super) fn delete_topic(&mut self, id: TopicId, changes: &mut Vec<Change>) -> Outcome {
        let topic = self.topics.remove(&id).ok_or(Refusal::UnknownTopic)?;
        self.topic_ids.remove(&topic.name);
        for i in 0..topic.partitions.len() {
            changes.push(Change::PartitionDeleted(TopicPartition { topic: id, partition: PartitionId(i as i32) }));
        }
        Ok(Answer::Done)
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let invalid = |why: String| Err(Refusal::InvalidTopicName(why));
        if name.is_empty() {
            return invalid("a topic's name cannot be empty".into());
        }
        if name == "." || name == ".." {
            return invalid(format!("a topic cannot be called '{name}'"));
        }
        if name.len() > MAX_NAME {
            return invalid(format!("a topic's name has at most {MAX_NAME} characters, not {}", name.len()));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return invalid("a topic's name has only ASCII letters, digits, '.', '_' and '-'".into());
        }
        if name == METADATA_TOPIC {
            return invalid(format!("'{METADATA_TOPIC}' is the name of the metadata log"));
        }
        if self.topic_ids.contains_key(name) {
            return Err(Refusal::TopicExists(name.into()));
        }
        // As in Kafka: monitoring writes both characters as '_', and would mix the two topics up.
        if name.contains(['.', '_'])
            && let Some(other) = self.topic_ids.keys().find(|other| same_but_for_dots(name, other))
        {
            return invalid(format!("'{name}' differs from topic '{other}' only in '.' and '_'"));
        }
        Ok(())
    }

    fn replicas_of(&self, new: &NewTopic<'_>) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let count = if new.assignments.is_empty() {
            new.partitions
        } else {
            i32::try_from(new.assignments.len()).unwrap_or(i32::MAX)
        };
        if !(1..=MAX_PARTITIONS).contains(&count) {
            return Err(Refusal::InvalidPartitions(format!(
                "a topic has 1 to {MAX_PARTITIONS} partitions, not {count}"
            )));
        }
        if !new.assignments.is_empty() {
            return self.check_assignments(new.assignments);
        }
        let factor = usize::try_from(new.replication_factor)
            .map_err(|_| Refusal::InvalidReplicationFactor(format!("replication factor {}", new.replication_factor)))?;
        // Any number that differs from topic to topic would do; this one spreads consecutive creations best.
        place(self, self.topics.len(), count as usize, factor)
    }

    fn check_assignments(&self, given: &BTreeMap<i32, Vec<BrokerId>>) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let invalid = |why: String| Err(Refusal::InvalidAssignment(why));
        let factor = given.values().next().map_or(0, Vec::len);
        for (expected, (index, replicas)) in (0..).zip(given) {
            if *index != expected {
                return invalid(format!(
                    "partition {expected} is missing: partitions are numbered from 0 without a gap"
                ));
            }
            self.check_assignment(usize::try_from(*index).unwrap_or(0), replicas, factor)?;
        }
        Ok(given.values().cloned().collect())
    }

    /// Whether a partition may have these replicas, of which the topic's first one has `factor`.
    pub(super) fn check_assignment(&self, index: usize, replicas: &[BrokerId], factor: usize) -> Result<(), Refusal> {
        let invalid = |why: String| Err(Refusal::InvalidAssignment(why));
        if replicas.is_empty() || replicas.len() != factor {
            return invalid(format!("partition {index} has {} replicas, partition 0 has {factor}", replicas.len()));
        }
        if replicas.len() > self.brokers.len() {
            return invalid(format!("partition {index} has more replicas than there are brokers"));
        }
        if let Some((_, id)) = replicas.iter().enumerate().find(|(i, id)| replicas[..*i].contains(id)) {
            return invalid(format!("partition {index} has broker {id} twice"));
        }
        if let Some(id) = replicas.iter().find(|id| !self.brokers.contains_key(id)) {
            return invalid(format!("broker {id} of partition {index} is not a member"));
        }
        if let Some(id) = replicas.iter().find(|id| self.brokers.get(id).is_some_and(|b| b.cordoned)) {
            return invalid(format!("broker {id} of partition {index} is cordoned"));
        }
        if !replicas.iter().any(|id| self.alive(*id).is_some()) {
            return invalid(format!("no broker of partition {index} is alive"));
        }
        Ok(())
    }

    /// A new partition is empty, so every replica that is alive and stays is in sync; one that is about to stop only if
    /// there is nobody else.
    pub(super) fn first_state(&self, replicas: Vec<BrokerId>) -> Partition {
        let mut isr: Vec<BrokerId> = replicas.iter().copied().filter(|id| self.may_lead(*id)).collect();
        if isr.is_empty() {
            isr = replicas.iter().copied().filter(|id| self.alive(*id).is_some()).collect();
        }
        Partition {
            leader: isr.first().copied(),
            isr,
            elr: Box::default(),
            adding: Box::default(),
            removing: Box::default(),
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        }
    }
}

fn same_but_for_dots(a: &str, b: &str) -> bool {
    let plain = |c: u8| if c == b'.' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}
