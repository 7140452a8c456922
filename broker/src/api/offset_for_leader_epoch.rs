//! OffsetForLeaderEpoch: where an epoch ends, for a client that wants to know whether its log was truncated
//! (KIP-320).

use super::Handlers;
use super::errors::Code as _;
use super::leaders::{epoch, find_partition, find_topic};
use chronik_core::cluster::Topic;
use chronik_core::ids::LeaderEpoch;
use chronik_wire::messages::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult, message,
};
use chronik_wire::{ErrorCode, TopicRef};
use futures::future::join_all;

pub(super) async fn handle(handlers: &Handlers, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = handlers.controller.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&image, &TopicRef::Name(topic.topic.clone()));
        let partitions = join_all(topic.partitions.iter().map(|p| one(handlers, found, p))).await;
        topics.push(message!(OffsetForLeaderTopicResult { topic: topic.topic, partitions: partitions }));
    }
    message!(OffsetForLeaderEpochResponse { topics: topics })
}

async fn one(handlers: &Handlers, topic: Result<&Topic, ErrorCode>, p: &OffsetForLeaderPartition) -> EpochEndOffset {
    let found = async {
        let partition = topic.and_then(|topic| find_partition(topic, p.partition))?;
        let asked = LeaderEpoch(p.leader_epoch);
        let found = handlers.partitions.epoch_end(partition, epoch(p.current_leader_epoch), asked).await;
        found.map_err(|e| e.code())
    };
    match found.await {
        Ok(found) => message!(EpochEndOffset {
            partition: p.partition,
            leader_epoch: found.epoch.map_or(-1, |e| e.0),
            end_offset: found.end.map_or(-1, |o| o.0),
        }),
        Err(error) => {
            message!(EpochEndOffset { partition: p.partition, error_code: error.0, leader_epoch: -1, end_offset: -1 })
        }
    }
}
