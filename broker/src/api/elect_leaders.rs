//! ElectLeaders: of the preferred replicas, or of any replica as the last resort (KIP-460).

use super::errors::Code as _;
use super::leaders::find_partition;
use super::{Deadline, Handlers, each_once};
use chronik_core::cluster::{Answer, Elected, Election, MetadataCommand};
use chronik_core::ids::{PartitionId, TopicPartition};
use chronik_wire::messages::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, StrBytes, message,
};
use chronik_wire::{ErrorCode, Header};
use std::collections::BTreeMap;

/// `ElectionType`, by Kafka's numbers.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// An answer for one partition.
type Answered = (i32, ErrorCode, Option<String>);

pub(super) async fn handle(handlers: &Handlers, header: Header, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let election = match request.election_type {
        _ if header.version == 0 => Election::Preferred,
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        _ => return refused(ErrorCode::INVALID_REQUEST),
    };
    let image = handlers.controller.image();
    let mut answers: BTreeMap<String, Vec<Answered>> = BTreeMap::new();
    let mut named = Vec::new();
    let all = request.topic_partitions.is_none();
    for topic in request.topic_partitions.unwrap_or_default() {
        let found = image.topic_by_name(&topic.topic);
        let of_topic = answers.entry(topic.topic.to_string()).or_default();
        for partition in topic.partitions {
            match found.filter(|topic| find_partition(topic, partition).is_ok()) {
                Some(topic) => named.push(TopicPartition { topic: topic.id, partition: PartitionId(partition) }),
                None => of_topic.push((partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)),
            }
        }
    }
    // What is asked for is an entry of the metadata log, which every broker keeps.
    let named = each_once(named, Clone::clone);
    if all || !named.is_empty() {
        let command = MetadataCommand::ElectLeaders { partitions: (!all).then(|| named.clone()), election };
        let results = match handlers.controller.decide(command, Deadline::after(request.timeout_ms).left()).await {
            Ok(Answer::Elected(results)) => results.into_iter().map(|(tp, elected)| (tp, error_of(elected))).collect(),
            // Version 0 has no other place for it.
            Err(error) if header.version == 0 => named.into_iter().map(|tp| (tp, (error.code(), None))).collect(),
            Err(error) => return refused(error.code()),
            Ok(_) => Vec::new(),
        };
        for (tp, (error, text)) in results {
            let Some(topic) = image.topics.get(&tp.topic) else { continue };
            let text = text.map(str::to_owned);
            answers.entry(topic.name.to_string()).or_default().push((tp.partition.0, error, text));
        }
    }
    let results = answers.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, error, text)| {
            message!(PartitionResult {
                partition_id: partition,
                error_code: error.0,
                error_message: text.map(StrBytes::from),
            })
        });
        message!(ReplicaElectionResult { topic: topic.into(), partition_result: partitions.collect() })
    });
    message!(ElectLeadersResponse { replica_election_results: results.collect() })
}

fn refused(error: ErrorCode) -> ElectLeadersResponse {
    message!(ElectLeadersResponse { error_code: error.0 })
}

fn error_of(elected: Elected) -> (ErrorCode, Option<&'static str>) {
    match elected {
        Elected::Leader(_) => (ErrorCode::NONE, None),
        Elected::NotNeeded => (ErrorCode::ELECTION_NOT_NEEDED, Some("leader election not needed")),
        Elected::PreferredNotAvailable => {
            (ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, Some("the preferred replica is not alive and in sync"))
        }
        Elected::NobodyAvailable => (ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, Some("no replica is alive")),
        Elected::UnknownPartition => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None),
    }
}
