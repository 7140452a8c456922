//! DescribeGroups: classic groups.

use super::errors::Code as _;
use super::groups::{GROUP_OPERATIONS, NOT_ASKED, Sender, TOGETHER, answer_of, group_id, nullable, refusal, wire};
use super::{Handlers, each_once};
use chronik_core::groups::response::DescribedGroup as Described;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, StrBytes, message,
};
use futures::stream::{self, StreamExt as _};

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    sender: &Sender,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let version = header.version;
    let operations = if version >= 3 && request.include_authorized_operations { GROUP_OPERATIONS } else { NOT_ASKED };
    let groups = stream::iter(each_once(request.groups, Clone::clone))
        .map(|id| async move {
            let described = match group_id(&id) {
                Ok(group) => {
                    let asked = handlers.coordinators.ask(
                        &id,
                        &sender.client,
                        Request::DescribeGroup(group),
                        &sender.reservation,
                    );
                    answer_of!(asked.await, DescribeGroup).map_err(|error| (error, None)).flatten()
                }
                Err(error) => Err((error, None)),
            };
            let mut described = respond(version, id, described);
            if version >= 3 {
                described.authorized_operations = operations;
            }
            described
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(DescribeGroupsResponse { groups: groups })
}

fn respond(version: i16, id: StrBytes, described: Result<Described, (GroupError, Option<String>)>) -> DescribedGroup {
    let group = match described {
        Ok(group) => group,
        Err((GroupError::GroupIdNotFound, _)) if version < 6 => {
            return message!(DescribedGroup { group_id: id, group_state: StrBytes::from("Dead") });
        }
        Err((error, text)) => {
            let text = text.unwrap_or_else(|| refusal(error, &id));
            let mut refused = message!(DescribedGroup { group_id: id, error_code: error.code().0 });
            if version >= 6 {
                refused.error_message = Some(StrBytes::from(text));
                refused.group_state = StrBytes::from("Dead");
            }
            return refused;
        }
    };
    let members = group.members.into_iter().map(|m| {
        let mut member = message!(DescribedGroupMember {
            member_id: wire(&m.member_id),
            client_id: wire(&m.client_id),
            client_host: wire(&m.client_host),
            member_metadata: m.metadata,
            member_assignment: m.assignment,
        });
        if version >= 4 {
            member.group_instance_id = nullable(m.instance_id.as_ref());
        }
        member
    });
    message!(DescribedGroup {
        group_id: id,
        group_state: StrBytes::from(group.state),
        protocol_type: wire(&group.protocol_type),
        protocol_data: wire(&group.protocol),
        members: members.collect(),
    })
}
