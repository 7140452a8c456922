//! CreatePartitions: more partitions for topics (KIP-195).

use super::create_topics::MAX_PARTITIONS_PER_REQUEST;
use super::errors::Code as _;
use super::resources::Refused;
use super::{Deadline, Handlers};
use chronik_core::cluster::Image;
use chronik_core::ids::BrokerId;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult, StrBytes,
    message,
};
use futures::stream::{self, StreamExt as _};
use std::collections::HashMap;

/// Topics of one request that are changed at the same time.
const TOGETHER: usize = 16;

pub(super) async fn handle(handlers: &Handlers, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let (deadline, validate_only) = (Deadline::after(request.timeout_ms), request.validate_only);
    let too_many = added(&handlers.controller.image(), &request.topics) > MAX_PARTITIONS_PER_REQUEST;
    let mut times = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let times = &times;
    let results = stream::iter(request.topics)
        .map(|topic| async move {
            let name = topic.name.clone();
            let done = if too_many {
                let text = format!("more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request");
                Err((ErrorCode::POLICY_VIOLATION, text))
            } else if times.get(&name).is_some_and(|n| *n > 1) {
                Err((ErrorCode::INVALID_REQUEST, "the topic is in the request more than once".into()))
            } else {
                one(handlers, topic, validate_only, deadline).await
            };
            let (error, text) = done.map_or_else(|(error, text)| (error, Some(text)), |()| (ErrorCode::NONE, None));
            message!(CreatePartitionsTopicResult {
                name: name,
                error_code: error.0,
                error_message: text.map(StrBytes::from),
            })
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(CreatePartitionsResponse { results: results })
}

/// How many partitions a request adds to the topics that there are.
fn added(image: &Image, topics: &[CreatePartitionsTopic]) -> i64 {
    let now = |topic: &CreatePartitionsTopic| image.topic_by_name(&topic.name).map(|t| t.partitions.len() as i64);
    topics.iter().filter_map(|topic| Some((i64::from(topic.count) - now(topic)?).max(0))).sum()
}

async fn one(
    handlers: &Handlers,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    deadline: Deadline,
) -> Result<(), Refused> {
    let image = handlers.controller.image();
    let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic".to_owned());
    let found = image.topic_by_name(&topic.name).ok_or_else(unknown)?;
    if found.is_internal() {
        // Kafka's tools have refused it, too: a coordinator is found by the number of partitions.
        let text = format!(
            "the partitions of {} cannot be changed: what is in them would be looked for in others. Delete the topic \
             while nobody uses it, and it is created anew",
            found.name
        );
        return Err((ErrorCode::INVALID_PARTITIONS, text));
    }
    // None at all leaves the choice to the controller; an empty list assigns nothing to what is added.
    let by_hand = topic.assignments.is_some();
    let assignments: Vec<Vec<BrokerId>> = topic
        .assignments
        .unwrap_or_default()
        .into_iter()
        .map(|assignment| assignment.broker_ids.into_iter().map(BrokerId).collect())
        .collect();
    let grows = usize::try_from(topic.count).is_ok_and(|count| count > found.partitions.len());
    if by_hand && assignments.is_empty() && grows {
        let text = "partitions are added, and none of them has replicas assigned";
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, text.into()));
    }
    let created =
        handlers.controller.create_partitions(found.id, topic.count, assignments, validate_only, deadline.left());
    created.await.map_err(|error| (error.code(), error.to_string()))
}
