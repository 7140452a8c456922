//! How far followers are behind that are not in sync. Their leaders know it, and nobody asks them but for facts.

use super::proto;
use chronik_core::ids::{BrokerId, PartitionId, TopicId, TopicPartition};
use chronik_core::replication::Lag;
use std::time::Duration;
use tokio::sync::oneshot;

/// Questions that wait to be answered at most.
pub const LAGS_QUESTIONS: usize = 16;
/// Partitions that are asked about at a time.
pub(super) const MOST: usize = 1000;

/// A question to the broker that leads these partitions.
#[derive(Debug)]
pub struct LagsQuestion {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
    /// The answer: what is not known is not in it.
    pub reply: oneshot::Sender<Vec<FollowerLag>>,
}

/// How far a follower of a partition is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerLag {
    /// The partition.
    pub partition: TopicPartition,
    /// How far it is behind.
    pub lag: Lag,
}

pub(super) fn question(partitions: &[TopicPartition]) -> proto::LagsRequest {
    let one = |tp: &TopicPartition| proto::TopicPartition {
        topic_id: tp.topic.0.as_bytes().to_vec(),
        partition: tp.partition.0,
    };
    proto::LagsRequest { partitions: partitions.iter().map(one).collect() }
}

/// What is not understood is not answered.
pub(super) fn asked(request: &proto::LagsRequest) -> Vec<TopicPartition> {
    request.partitions.iter().take(MOST).filter_map(partition).collect()
}

pub(super) fn answer(lags: &[FollowerLag]) -> proto::LagsResponse {
    let one = |FollowerLag { partition, lag }: &FollowerLag| proto::FollowerLag {
        partition: Some(proto::TopicPartition {
            topic_id: partition.topic.0.as_bytes().to_vec(),
            partition: partition.partition.0,
        }),
        follower: lag.follower.0,
        behind: lag.behind,
        for_at_least_ms: u64::try_from(lag.for_at_least.as_millis()).unwrap_or(u64::MAX),
    };
    proto::LagsResponse { lags: lags.iter().map(one).collect() }
}

pub(super) fn answered(response: &proto::LagsResponse) -> Vec<FollowerLag> {
    let one = |said: &proto::FollowerLag| {
        let lag = Lag {
            follower: BrokerId(said.follower),
            behind: said.behind,
            for_at_least: Duration::from_millis(said.for_at_least_ms),
        };
        Some(FollowerLag { partition: partition(said.partition.as_ref()?)?, lag })
    };
    response.lags.iter().filter_map(one).collect()
}

fn partition(said: &proto::TopicPartition) -> Option<TopicPartition> {
    let topic = TopicId(uuid::Uuid::from_slice(&said.topic_id).ok()?);
    Some(TopicPartition { topic, partition: PartitionId(said.partition) })
}
