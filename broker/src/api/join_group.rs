//! JoinGroup: waits until the group's next generation begins.

use super::groups::{answer_of, code, group_id, member, nullable, wire};
use super::{Handlers, Reply, RequestContext, answer};
use crate::coordinators::limited;
use crate::partitions::Reservation;
use bytes::Bytes;
use chronik_core::groups::request::JoinGroup;
use chronik_core::groups::response::JoinedGroup;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember, StrBytes, message};

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &JoinGroupRequest,
    reservation: &Reservation,
) -> Reply {
    let version = header.version;
    let asked = wanted(version, request).map(|wanted| {
        handlers.coordinators.ask(&request.group_id, context.client(), Request::JoinGroup(wanted), reservation)
    });
    let member_id = StrBytes::from(&*request.member_id);
    answer((&handlers.errors, header), async move {
        let joined = match asked {
            Ok(asked) => answer_of!(asked.await, JoinGroup),
            Err(error) => Err(error),
        };
        respond(version, joined, member_id)
    })
}

fn wanted(version: i16, request: &JoinGroupRequest) -> Result<JoinGroup, GroupError> {
    let protocols = request.protocols.iter();
    Ok(JoinGroup {
        group: group_id(&request.group_id)?,
        member: member(&request.member_id, request.group_instance_id.as_ref())?,
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: limited(&request.protocol_type)?,
        protocols: protocols
            .map(|p| Ok((limited(&p.name)?, Bytes::copy_from_slice(&p.metadata))))
            .collect::<Result<_, GroupError>>()?,
        reason: request.reason.as_deref().map(Into::into),
    })
}

fn respond(version: i16, joined: Result<JoinedGroup, GroupError>, member_id: StrBytes) -> JoinGroupResponse {
    // Null came with version 7.
    let or_null = |name: Option<StrBytes>| if version >= 7 { name } else { Some(name.unwrap_or_default()) };
    let error_code = code(&joined);
    let Ok(joined) = joined else {
        return message!(JoinGroupResponse {
            error_code: error_code,
            generation_id: -1,
            protocol_name: or_null(None),
            member_id: member_id,
        });
    };
    let members = joined.members.into_iter().map(|m| {
        let mut member = message!(JoinGroupResponseMember { member_id: wire(&m.member_id), metadata: m.metadata });
        if version >= 5 {
            member.group_instance_id = nullable(m.instance_id.as_ref());
        }
        member
    });
    let mut response = message!(JoinGroupResponse {
        error_code: joined.error.map_or(0, |error| code::<()>(&Err(error))),
        generation_id: joined.generation,
        protocol_name: or_null(nullable(joined.protocol_name.as_ref())),
        leader: wire(&joined.leader),
        member_id: wire(&joined.member_id),
        members: members.collect(),
    });
    if version >= 7 {
        response.protocol_type = nullable(joined.protocol_type.as_ref());
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}
