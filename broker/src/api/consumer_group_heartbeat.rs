//! ConsumerGroupHeartbeat (KIP-848): a member of a consumer group joins, stays, and leaves by it.

use super::errors::Code as _;
use super::groups::{answer_of, group_id, optional, wire};
use super::{Handlers, Reply, RequestContext, answer};
use crate::coordinators::limited;
use crate::partitions::Reservation;
use chronik_core::groups::record::TopicPartitions;
use chronik_core::groups::request::ConsumerGroupHeartbeat;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OwnedTopicPartitions, StrBytes,
    consumer_group_heartbeat as wire_types, message, topic_id, wire_id,
};
use chronik_wire::{ErrorCode, Header};
use std::sync::Arc;

/// The first version in which a member brings its own id (KIP-1082).
const CLIENT_MAKES_ID: i16 = 1;

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
    reservation: &Reservation,
) -> Reply {
    if !handlers.config.consumer_groups {
        let code = ErrorCode::UNSUPPORTED_VERSION.0;
        return answer((&handlers.errors, header), async move {
            message!(ConsumerGroupHeartbeatResponse { error_code: code })
        });
    }
    let asked = wanted(header.version, request).map(|wanted| {
        let wanted = Request::ConsumerGroupHeartbeat(wanted);
        handlers.coordinators.ask(&request.group_id, context.client(), wanted, reservation)
    });
    answer((&handlers.errors, header), async move {
        let answered = match asked {
            Ok(asked) => answer_of!(asked.await, ConsumerGroupHeartbeat).map_err(|error| (error, None)).flatten(),
            Err(refusal) => Err(refusal),
        };
        match answered {
            Ok(heartbeat) => message!(ConsumerGroupHeartbeatResponse {
                member_id: Some(wire(&heartbeat.member_id)),
                member_epoch: heartbeat.member_epoch,
                heartbeat_interval_ms: heartbeat.heartbeat_interval_ms,
                assignment: heartbeat.assignment.map(|topics| {
                    message!(wire_types::Assignment { topic_partitions: topics.iter().map(assigned).collect() })
                }),
            }),
            Err((error, text)) => message!(ConsumerGroupHeartbeatResponse {
                error_code: error.code().0,
                error_message: Some(StrBytes::from(text.unwrap_or_else(|| error.to_string()))),
            }),
        }
    })
}

/// Why a request is refused, in a word and in a sentence.
type Refusal = (GroupError, Option<String>);

fn wanted(version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<ConsumerGroupHeartbeat, Refusal> {
    if version >= CLIENT_MAKES_ID && request.member_id.trim().is_empty() {
        return Err((GroupError::InvalidRequest, Some("MemberId can't be empty.".to_owned())));
    }
    decoded(version, request).map_err(|error| (error, None))
}

fn decoded(version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<ConsumerGroupHeartbeat, GroupError> {
    let names = |names: &Vec<StrBytes>| names.iter().map(|n| limited(n)).collect::<Result<Vec<Arc<str>>, _>>();
    Ok(ConsumerGroupHeartbeat {
        group: group_id(&request.group_id)?,
        member_id: limited(&request.member_id)?,
        member_epoch: request.member_epoch,
        instance_id: optional(request.instance_id.as_ref())?,
        rack_id: optional(request.rack_id.as_ref())?,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topic_names: request.subscribed_topic_names.as_ref().map(names).transpose()?,
        subscribed_topic_regex: if version >= 1 { optional(request.subscribed_topic_regex.as_ref())? } else { None },
        server_assignor: optional(request.server_assignor.as_ref())?,
        owned: request.topic_partitions.as_ref().map(|topics| topics.iter().map(owned).collect()),
    })
}

fn owned(topic: &OwnedTopicPartitions) -> TopicPartitions {
    let mut partitions = topic.partitions.clone();
    partitions.sort_unstable();
    TopicPartitions { topic_id: topic_id(topic.topic_id).unwrap_or_default(), partitions }
}

fn assigned(topic: &TopicPartitions) -> wire_types::TopicPartitions {
    message!(wire_types::TopicPartitions { topic_id: wire_id(topic.topic_id), partitions: topic.partitions.clone() })
}
