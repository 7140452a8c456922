//! AlterPartitionReassignments: partitions are moved to other replicas, or stay where they were (KIP-455, KIP-860).

use super::errors::Code as _;
use super::{Deadline, Handlers};
use chronik_core::cluster::{Answer, MetadataCommand, Reassignment, Refusal};
use chronik_core::ids::{BrokerId, PartitionId, TopicPartition};
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse, StrBytes, message,
};

/// What comes of one partition.
type Outcome = (i32, Result<(), Refusal>);
/// A topic's partitions, each with its place among those that the controller is asked for.
type Places = Vec<(i32, Option<usize>)>;

pub(super) async fn handle(
    handlers: &Handlers,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = handlers.controller.image();
    let may_change_factor = request.allow_replication_factor_change;
    let mut wanted = Vec::new();
    let mut topics: Vec<(StrBytes, Places)> = Vec::new();
    for topic in request.topics {
        let id = image.topic_by_name(&topic.name).map(|t| t.id);
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let at = id.map(|topic| {
                let index = PartitionId(partition.partition_index);
                let replicas = partition.replicas.map(|ids| ids.into_iter().map(BrokerId).collect());
                wanted.push(Reassignment { partition: TopicPartition { topic, partition: index }, replicas });
                wanted.len() - 1
            });
            partitions.push((partition.partition_index, at));
        }
        topics.push((topic.name, partitions));
    }
    let mut results = Vec::new();
    if !wanted.is_empty() {
        let command = MetadataCommand::AlterPartitionReassignments { partitions: wanted, may_change_factor };
        match handlers.controller.decide(command, Deadline::after(request.timeout_ms).left()).await {
            Ok(Answer::Reassigned(done)) => results = done,
            Ok(_) => return refused(ErrorCode::UNKNOWN_SERVER_ERROR, "the controller's answer is another".into()),
            Err(error) => return refused(error.code(), error.to_string()),
        }
    }
    let responses = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, at)| {
            let done = at.and_then(|at| results.get(at)).map(|(_, done)| done.clone());
            partition((index, done.unwrap_or(Err(Refusal::UnknownPartition))))
        });
        message!(ReassignableTopicResponse { partitions: partitions.collect(), name: name })
    });
    message!(AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        responses: responses.collect(),
    })
}

fn partition((index, done): Outcome) -> ReassignablePartitionResponse {
    let (error, text) = match done {
        Ok(()) => (ErrorCode::NONE, None),
        Err(refusal) => (refusal.code(), Some(StrBytes::from(refusal.to_string()))),
    };
    message!(ReassignablePartitionResponse { partition_index: index, error_code: error.0, error_message: text })
}

fn refused(error: ErrorCode, text: String) -> AlterPartitionReassignmentsResponse {
    message!(AlterPartitionReassignmentsResponse { error_code: error.0, error_message: Some(StrBytes::from(text)) })
}
