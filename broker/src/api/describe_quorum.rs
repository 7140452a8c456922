//! DescribeQuorum: who votes in the controller quorum, and how far each has the metadata log (KIP-595, KIP-836,
//! KIP-853).

use super::Handlers;
use chronik_admin::{Broker, FactsResponse, Quorum, QuorumMember};
use chronik_core::ids::DirectoryId;
use chronik_wire::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use chronik_wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse, StrBytes, Uuid, message};
use chronik_wire::{ErrorCode, Header};
use std::time::{Duration, SystemTime};

/// How long the controller may take: the request does not say. Less than clients wait.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The metadata log, as Kafka calls it; it has one partition.
const TOPIC: &str = "__cluster_metadata";
/// What Kafka calls the controller's listener by default.
const LISTENER: &str = "CONTROLLER";

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let facts = match handlers.controller.facts(TIMEOUT).await {
        Ok(facts) => facts,
        Err(error) => return refused(header, ErrorCode::REQUEST_TIMED_OUT, error.message()),
    };
    let Some(quorum) = &facts.quorum else {
        return refused(header, ErrorCode::REQUEST_TIMED_OUT, "the quorum is not known");
    };
    let mut described = false;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| p.partition_index);
        let partitions = partitions.map(|index| match (&*topic.topic_name, index) {
            // Described once, however often it is named: a description is a hundred times as long as the name in a
            // request.
            (TOPIC, 0) if !std::mem::replace(&mut described, true) => partition(header, &facts, quorum),
            (TOPIC, 0) => message!(PartitionData { partition_index: index, error_code: ErrorCode::INVALID_REQUEST.0 }),
            _ => {
                message!(PartitionData { partition_index: index, error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0 })
            }
        });
        let partitions = partitions.collect();
        message!(TopicData { topic_name: topic.topic_name, partitions: partitions })
    });
    let nodes = if header.version < 2 { Vec::new() } else { quorum.voters.iter().map(node).collect() };
    message!(DescribeQuorumResponse { topics: topics.collect(), nodes: nodes })
}

fn refused(header: Header, error: ErrorCode, text: &str) -> DescribeQuorumResponse {
    let text = (header.version >= 2).then(|| StrBytes::from(text));
    message!(DescribeQuorumResponse { error_code: error.0, error_message: text })
}

fn partition(header: Header, facts: &FactsResponse, quorum: &Quorum) -> PartitionData {
    let replicas = |members: &[QuorumMember]| members.iter().map(|m| replica(header, facts, m)).collect();
    message!(PartitionData {
        leader_id: quorum.leader,
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: end(quorum.committed),
        current_voters: replicas(&quorum.voters),
        observers: replicas(&quorum.observers),
    })
}

/// The offset behind an entry.
fn end(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

fn replica(header: Header, facts: &FactsResponse, member: &QuorumMember) -> ReplicaState {
    let heard = member.heard_ms_ago.map_or(-1, |ms| now_ms().saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    message!(ReplicaState {
        replica_id: member.broker,
        replica_directory_id: if header.version < 2 { Uuid::ZERO } else { directory(facts, member.broker) },
        log_end_offset: member.matched.map_or(-1, end),
        last_fetch_timestamp: heard,
        last_caught_up_timestamp: if member.caught_up { heard } else { -1 },
    })
}

/// The directory that a broker has registered; zero for none.
fn directory(facts: &FactsResponse, id: i32) -> Uuid {
    let broker = facts.brokers.iter().find(|b| b.id == id);
    broker.and_then(registered).map_or(Uuid::ZERO, |id| Uuid::from_bytes(*id.0.as_bytes()))
}

/// The directory that it has registered.
pub(super) fn registered(broker: &Broker) -> Option<DirectoryId> {
    Some(DirectoryId(broker.directory_id.as_ref()?.parse().ok()?))
}

fn node(member: &QuorumMember) -> Node {
    let listeners = member.controller.iter().map(|at| {
        message!(Listener {
            name: StrBytes::from(LISTENER),
            host: StrBytes::from(&*at.host),
            port: u16::try_from(at.port).unwrap_or(0),
        })
    });
    message!(Node { node_id: member.broker, listeners: listeners.collect() })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
