//! ConsumerGroupDescribe (KIP-848): consumer groups.

use super::errors::Code as _;
use super::groups::{GROUP_OPERATIONS, NOT_ASKED, Sender, TOGETHER, answer_of, group_id, nullable, refusal, wire};
use super::{Handlers, each_once};
use chronik_core::cluster::Image;
use chronik_core::groups::record::TopicPartitions;
use chronik_core::groups::response::{DescribedConsumerGroup, DescribedConsumerMember};
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, StrBytes, consumer_group_describe as wire_types,
    message, wire_id,
};
use chronik_wire::{ErrorCode, Header};
use futures::stream::{self, StreamExt as _};

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    sender: &Sender,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { NOT_ASKED };
    let groups = stream::iter(each_once(request.group_ids, Clone::clone))
        .map(|id| async move {
            let described = match group_id(&id) {
                Ok(_) if !handlers.config.consumer_groups => {
                    return message!(wire_types::DescribedGroup {
                        group_id: id,
                        error_code: ErrorCode::UNSUPPORTED_VERSION.0,
                    });
                }
                Ok(group) => {
                    let wanted = Request::ConsumerGroupDescribe(group);
                    let asked = handlers.coordinators.ask(&id, &sender.client, wanted, &sender.reservation);
                    answer_of!(asked.await, ConsumerGroupDescribe).map_err(|error| (error, None)).flatten()
                }
                Err(error) => Err((error, None)),
            };
            let mut group = respond(header.version, &handlers.controller.image(), id, described);
            group.authorized_operations = operations;
            group
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(ConsumerGroupDescribeResponse { groups: groups })
}

fn respond(
    version: i16,
    image: &Image,
    id: StrBytes,
    described: Result<DescribedConsumerGroup, (GroupError, Option<String>)>,
) -> wire_types::DescribedGroup {
    match described {
        Ok(group) => message!(wire_types::DescribedGroup {
            group_id: id,
            group_state: StrBytes::from(group.state),
            group_epoch: group.group_epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: wire(&group.assignor),
            members: group.members.iter().map(|m| member(version, image, m)).collect(),
        }),
        Err((error, text)) => {
            let text = text.unwrap_or_else(|| refusal(error, &id));
            message!(wire_types::DescribedGroup {
                group_id: id,
                error_code: error.code().0,
                error_message: Some(StrBytes::from(text)),
            })
        }
    }
}

fn member(version: i16, image: &Image, member: &DescribedConsumerMember) -> wire_types::Member {
    let mut described = message!(wire_types::Member {
        member_id: wire(&member.member_id),
        instance_id: nullable(member.instance_id.as_ref()),
        rack_id: nullable(member.rack_id.as_ref()),
        member_epoch: member.member_epoch,
        client_id: wire(&member.client_id),
        client_host: wire(&member.client_host),
        subscribed_topic_names: member.subscribed_topic_names.iter().map(wire).collect(),
        subscribed_topic_regex: Some(member.subscribed_topic_regex.as_ref().map(wire).unwrap_or_default()),
        assignment: assignment(image, &member.assignment),
        target_assignment: assignment(image, &member.target_assignment),
    });
    if version >= 1 {
        described.member_type = i8::from(!member.classic);
    }
    described
}

/// Partitions with their topics' names. A topic that is deleted is left out, as it has none.
fn assignment(image: &Image, topics: &[TopicPartitions]) -> wire_types::Assignment {
    let topics = topics.iter().filter_map(|topic| {
        let found = image.topics.get(&topic.topic_id)?;
        Some(message!(wire_types::TopicPartitions {
            topic_id: wire_id(topic.topic_id),
            topic_name: wire(&found.name),
            partitions: topic.partitions.clone(),
        }))
    });
    message!(wire_types::Assignment { topic_partitions: topics.collect() })
}
