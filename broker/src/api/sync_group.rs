//! SyncGroup: waits for the leader's assignment.

use super::groups::{answer_of, code, group_id, member, nullable, optional};
use super::{Handlers, Reply, RequestContext, answer};
use crate::coordinators::limited;
use crate::partitions::Reservation;
use bytes::Bytes;
use chronik_core::groups::request::SyncGroup;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{SyncGroupRequest, SyncGroupResponse, message};

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &SyncGroupRequest,
    reservation: &Reservation,
) -> Reply {
    let asked = wanted(request).map(|wanted| {
        handlers.coordinators.ask(&request.group_id, context.client(), Request::SyncGroup(wanted), reservation)
    });
    answer((&handlers.errors, header), async move {
        let synced = match asked {
            Ok(asked) => answer_of!(asked.await, SyncGroup).flatten(),
            Err(error) => Err(error),
        };
        let mut response = message!(SyncGroupResponse { error_code: code(&synced) });
        if let Ok(synced) = synced {
            response.assignment = synced.assignment;
            if header.version >= 5 {
                response.protocol_type = nullable(synced.protocol_type.as_ref());
                response.protocol_name = nullable(synced.protocol_name.as_ref());
            }
        }
        response
    })
}

fn wanted(request: &SyncGroupRequest) -> Result<SyncGroup, GroupError> {
    Ok(SyncGroup {
        group: group_id(&request.group_id)?,
        member: member(&request.member_id, request.group_instance_id.as_ref())?,
        generation: request.generation_id,
        protocol_type: optional(request.protocol_type.as_ref())?,
        protocol_name: optional(request.protocol_name.as_ref())?,
        assignments: request
            .assignments
            .iter()
            .map(|a| Ok((limited(&a.member_id)?, Bytes::copy_from_slice(&a.assignment))))
            .collect::<Result<_, GroupError>>()?,
    })
}
