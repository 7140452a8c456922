//! Follows the metadata: a shard begins when this broker begins to lead a partition of `__consumer_offsets`, and ends
//! with that leader epoch.

use super::handle::{Coordinators, Route, Routes};
use super::lag::LagTask;
use super::memory::{GroupMemory, Memory};
use super::metrics::CoordinatorMetrics;
use super::shard::ShardTask;
use super::topic::{self, OffsetsTopic};
use crate::partitions::Partitions;
use chronik_core::cluster::{Image, Topic};
use chronik_core::groups;
use chronik_core::ids::{BrokerId, LeaderEpoch, PartitionId, TopicId, TopicPartition};
use chronik_quorum::ControllerHandle;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Requests that wait for one shard at most.
const QUEUE: usize = 4096;

/// What the coordinators need of their broker.
#[derive(Debug)]
pub struct CoordinatorsConfig {
    /// This broker.
    pub me: BrokerId,
    /// The partitions of this broker.
    pub partitions: Partitions,
    /// The controller.
    pub controller: ControllerHandle,
    /// What groups go by.
    pub groups: groups::Config,
    /// Bytes of what the members of all groups say that are kept at most.
    pub member_bytes: usize,
    /// Bytes of groups and their committed offsets beside that. What is in the log is kept, however much it is.
    pub offset_bytes: usize,
    /// How `__consumer_offsets` is created.
    pub topic: OffsetsTopic,
    /// What is shown of groups.
    pub shown: GroupMetricsConfig,
    /// Where they are counted.
    pub metrics: CoordinatorMetrics,
    /// Ends everything.
    pub stop: CancellationToken,
}

/// What is shown of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMetricsConfig {
    /// From one look to the next, at their number as well as at how far they are behind.
    pub every: Duration,
    /// Partitions at most in which it is shown how far they are behind, those of all groups together; 0 to show none
    /// (`group.lag.metrics.max.partitions`).
    pub max_partitions: usize,
}

impl Default for GroupMetricsConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), max_partitions: 5000 }
    }
}

/// Starts the coordinators on `tasks`.
pub fn start(config: CoordinatorsConfig, tasks: &TaskTracker) -> Coordinators {
    let (routes, watched) = watch::channel(Routes::new());
    let handle = Coordinators::new(config.me, config.controller.clone(), config.topic, watched);
    tasks.spawn(LagTask::new(&config, handle.clone()).run());
    let memory = GroupMemory { members: Memory::new(config.member_bytes), offsets: Memory::new(config.offset_bytes) };
    let manager = Manager { config, memory, tasks: tasks.clone(), routes, shards: BTreeMap::new(), known: None };
    tasks.spawn(manager.run());
    handle
}

struct Manager {
    config: CoordinatorsConfig,
    memory: GroupMemory,
    tasks: TaskTracker,
    routes: watch::Sender<Routes>,
    /// The shards that run, by partition and leader epoch.
    shards: BTreeMap<(TopicPartition, LeaderEpoch), CancellationToken>,
    /// The topic that was looked at last.
    known: Option<TopicId>,
}

impl Manager {
    async fn run(mut self) {
        let mut images = self.config.controller.images();
        loop {
            let image = images.borrow_and_update().clone();
            self.follow(&image);
            tokio::select! {
                () = self.config.stop.cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Says once what is not as it should be with a topic that is new here.
    fn look_at(&mut self, topic: &Topic) {
        if self.known.replace(topic.id) != Some(topic.id)
            && let Some(lacks) = self.config.topic.lacks(topic)
        {
            warn!(lacks, "{} was not created as group coordinators need it", topic.name);
        }
    }

    fn follow(&mut self, image: &Image) {
        if let Some(topic) = image.topic_by_name(topic::NAME) {
            self.look_at(topic);
        }
        let led = led(image, self.config.me);
        let ended: Vec<_> = self.shards.keys().filter(|shard| !led.contains(shard)).copied().collect();
        for shard in ended {
            if let Some(stop) = self.shards.remove(&shard) {
                stop.cancel();
                self.routes.send_modify(|routes| {
                    routes.remove(&shard.0.partition);
                });
            }
        }
        for shard in led {
            if !self.shards.contains_key(&shard) {
                self.begin(shard.0, shard.1);
            }
        }
    }

    fn begin(&mut self, partition: TopicPartition, epoch: LeaderEpoch) {
        let (requests, request_queue) = mpsc::channel(QUEUE);
        let (abandoned, abandoned_queue) = mpsc::unbounded_channel();
        let stop = self.config.stop.child_token();
        let task = ShardTask::new(
            &self.config,
            &self.memory,
            (partition, epoch),
            request_queue,
            abandoned_queue,
            stop.clone(),
        );
        self.tasks.spawn(task.run());
        self.shards.insert((partition, epoch), stop);
        self.routes.send_modify(|routes| {
            routes.insert(partition.partition, Route { requests, abandoned });
        });
    }
}

/// The partitions of `__consumer_offsets` that a broker leads, with their leader epochs.
fn led(image: &Image, me: BrokerId) -> Vec<(TopicPartition, LeaderEpoch)> {
    let Some(topic) = image.topic_by_name(topic::NAME) else { return Vec::new() };
    (0..)
        .zip(&topic.partitions)
        .filter(|(_, state)| state.leader == Some(me))
        .map(|(i, state)| (TopicPartition { topic: topic.id, partition: PartitionId(i) }, state.leader_epoch))
        .collect()
}
