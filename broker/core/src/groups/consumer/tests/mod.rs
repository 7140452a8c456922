mod joining;
mod random;
mod reconciliation;
mod static_members;
mod subscriptions;

use super::*;
use crate::cluster::{Image, Partition, Topic};
use crate::groups::event::{Config, Now};
use crate::groups::record::TopicPartitions;
use crate::groups::request::{Client, ConsumerGroupHeartbeat as Heartbeat};
use crate::groups::response::{ConsumerGroupHeartbeat as Answer, GroupError};
use crate::ids::LeaderEpoch;
use std::time::Duration;

fn topic_id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    TopicId(uuid::Uuid::from_bytes(bytes))
}

/// Metadata with these topics, by name and number of partitions.
fn image(offset: u64, topics: &[(&str, usize)]) -> Image {
    let mut image = Image { offset: MetadataOffset(offset), ..Image::default() };
    for (name, partitions) in topics {
        let partition = Partition {
            replicas: Vec::new(),
            isr: Vec::new(),
            elr: Box::default(),
            adding: Box::default(),
            removing: Box::default(),
            leader: None,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: crate::ids::PartitionEpoch(0),
        };
        let topic = Topic {
            id: topic_id(name),
            name: Arc::from(*name),
            partitions: std::iter::repeat_n(partition, *partitions).collect(),
            configs: imbl::OrdMap::new(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: crate::ids::ProducerId(0),
        };
        image.topic_ids.insert(topic.name.clone(), topic.id);
        image.topics.insert(topic.id, topic);
    }
    image
}

/// A heartbeat that says nothing but the epoch.
fn beat(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        group: Arc::from("g"),
        member_id: Arc::from(member),
        member_epoch: epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        subscribed_topic_regex: None,
        server_assignor: None,
        owned: None,
    }
}

fn join(member: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|t| Arc::from(*t)).collect()),
        owned: Some(Vec::new()),
        ..beat(member, 0)
    }
}

fn owns(member: &str, epoch: i32, owned: &[(&str, &[i32])]) -> Heartbeat {
    Heartbeat { owned: Some(partitions(owned)), ..beat(member, epoch) }
}

fn partitions(of: &[(&str, &[i32])]) -> Vec<TopicPartitions> {
    of.iter().map(|(name, p)| TopicPartitions { topic_id: topic_id(name), partitions: p.to_vec() }).collect()
}

/// A group, its log, and what it goes by.
struct Harness {
    group: ConsumerGroup,
    log: Vec<GroupRecord>,
    config: Config,
    image: Image,
    now: Now,
    deadlines: BTreeMap<Deadline, Instant>,
}

impl Harness {
    fn new(topics: &[(&str, usize)]) -> Self {
        Self {
            group: ConsumerGroup::new(Arc::from("g")),
            log: Vec::new(),
            config: Config::default(),
            image: image(1, topics),
            now: Now { monotonic: Instant(1), wall_ms: 1_000_000 },
            deadlines: BTreeMap::new(),
        }
    }

    fn step<R>(&mut self, with: impl FnOnce(&mut ConsumerGroup, &mut StepContext<'_>) -> R) -> (R, Vec<GroupRecord>) {
        let mut context = StepContext::new(self.now, &self.config, &self.image, "g");
        let result = with(&mut self.group, &mut context);
        for (deadline, after) in context.deadlines {
            match after {
                Some(after) => self.deadlines.insert(deadline, self.now.monotonic + after),
                None => self.deadlines.remove(&deadline),
            };
        }
        self.log.extend(context.records.iter().cloned());
        (result, context.records)
    }

    fn heartbeat(&mut self, request: &Heartbeat) -> Result<Answer, GroupError> {
        let client = Client { id: Arc::from("c"), host: Arc::from("/10.0.0.1") };
        let (result, records) = self.step(|group, context| group.heartbeat(request, &client, 7, context));
        assert!(result.is_ok() || records.is_empty(), "a refused heartbeat has written {records:?}");
        result.map_err(|(error, _)| error)
    }

    /// A heartbeat that is accepted: the member's epoch, and its assignment if the answer has one.
    fn ok(&mut self, request: &Heartbeat) -> (i32, Option<Vec<TopicPartitions>>) {
        let answer = self.heartbeat(request).unwrap_or_else(|e| panic!("{request:?} is refused: {e}"));
        (answer.member_epoch, answer.assignment)
    }

    /// Lets time pass, and the deadlines that it brings.
    fn pass(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic + time;
        self.now.wall_ms += i64::try_from(time.as_millis()).unwrap();
        let now = self.now.monotonic;
        let due: Vec<_> = self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(d, _)| d.clone()).collect();
        for deadline in due {
            if self.deadlines.remove(&deadline).is_some() {
                self.step(|group, context| group.deadline(&deadline, context));
            }
        }
    }

    fn set_topics(&mut self, topics: &[(&str, usize)]) {
        self.image = image(self.image.offset.0 + 1, topics);
        self.group.topics_changed(self.image.offset);
    }

    /// What the log makes, read from the beginning.
    fn loaded(&self) -> ConsumerGroup {
        let mut group = ConsumerGroup::new(Arc::from("g"));
        for record in &self.log {
            group.apply(&record.key, record.value.as_ref());
        }
        group.find_owners();
        group
    }

    /// Goes on with what the log makes, as after a failover.
    fn fail_over(&mut self) {
        self.assert_loaded_is_written();
        self.group = self.loaded();
        self.deadlines.clear();
        self.step(ConsumerGroup::loaded);
    }

    fn assert_loaded_is_written(&self) {
        let loaded = self.loaded();
        assert_eq!(loaded.epoch, self.group.epoch);
        assert_eq!(loaded.metadata_hash, self.group.metadata_hash);
        assert_eq!(loaded.assignment_epoch, self.group.assignment_epoch);
        assert_eq!(loaded.members, self.group.members);
        assert_eq!(loaded.static_members, self.group.static_members);
        assert_eq!(loaded.targets, self.group.targets);
        assert_eq!(loaded.regexes, self.group.regexes);
        assert_eq!(loaded.owners, self.group.owners);
    }
}
