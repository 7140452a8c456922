//! DescribeProducers: the idempotent producers that this broker's replica of a partition remembers, be it the leader or
//! a follower (KIP-664).

use super::Handlers;
use super::errors::Code as _;
use super::leaders::{find_partition, find_topic};
use chronik_core::cluster::Topic;
use chronik_wire::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersTopicResult, DescribedProducers,
    ProducerState, StrBytes, message,
};
use chronik_wire::{ErrorCode, TopicRef};

/// Producers of one answer at most: a partition may have thousands of them, and a request name thousands of partitions.
const MOST: usize = 100_000;

pub(super) async fn handle(handlers: &Handlers, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let image = handlers.controller.image();
    let mut left = MOST;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&image, &TopicRef::Name(topic.name.clone()));
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let answer = match one(handlers, found, index, left).await {
                Ok(producers) => {
                    left -= producers.len();
                    message!(DescribedProducers { partition_index: index, active_producers: producers })
                }
                Err((error, text)) => message!(DescribedProducers {
                    partition_index: index,
                    error_code: error.0,
                    error_message: text.map(StrBytes::from),
                }),
            };
            partitions.push(answer);
        }
        topics.push(message!(DescribeProducersTopicResult { name: topic.name, partitions: partitions }));
    }
    message!(DescribeProducersResponse { topics: topics })
}

async fn one(
    handlers: &Handlers,
    topic: Result<&Topic, ErrorCode>,
    index: i32,
    room: usize,
) -> Result<Vec<ProducerState>, (ErrorCode, Option<&'static str>)> {
    let too_many = (ErrorCode::INVALID_REQUEST, Some("too many producers for one answer: ask for fewer partitions"));
    if room == 0 {
        return Err(too_many);
    }
    let partition = topic.and_then(|topic| find_partition(topic, index)).map_err(|error| (error, None))?;
    let producers = handlers.partitions.producers(partition).await.map_err(|error| (error.code(), None))?;
    if producers.len() > room {
        return Err(too_many);
    }
    let described = producers.into_iter().map(|producer| {
        message!(ProducerState {
            producer_id: producer.id.0,
            producer_epoch: i32::from(producer.epoch.0),
            last_sequence: producer.last_sequence,
            last_timestamp: producer.last_timestamp,
            // There are no transactions.
            coordinator_epoch: -1,
            current_txn_start_offset: -1,
        })
    });
    Ok(described.collect())
}
