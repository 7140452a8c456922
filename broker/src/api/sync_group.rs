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

/// The first version in which a member has to say what it takes the group's protocol for (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &SyncGroupRequest,
    reservation: &Reservation,
) -> Reply {
    let asked = wanted(header.version, request).map(|wanted| {
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
            if header.version >= NAMES_PROTOCOL {
                response.protocol_type = nullable(synced.protocol_type.as_ref());
                response.protocol_name = nullable(synced.protocol_name.as_ref());
            }
        }
        response
    })
}

fn wanted(version: i16, request: &SyncGroupRequest) -> Result<SyncGroup, GroupError> {
    if version >= NAMES_PROTOCOL && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(GroupError::InconsistentGroupProtocol);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_wire::messages::StrBytes;

    #[test]
    fn a_member_that_does_not_say_its_protocol_is_refused_where_the_version_asks_for_it() {
        let name = |name: &'static str| Some(StrBytes::from(name));
        for (version, protocol_type, protocol_name, taken) in [
            (4, None, None, true),
            (5, None, None, false),
            (5, name("consumer"), None, false),
            (5, None, name("range"), false),
            (5, name("consumer"), name("range"), true),
        ] {
            let request = message!(SyncGroupRequest {
                group_id: StrBytes::from("g"),
                protocol_type: protocol_type,
                protocol_name: protocol_name,
            });
            let refused = wanted(version, &request).err();
            assert_eq!(refused, (!taken).then_some(GroupError::InconsistentGroupProtocol), "{request:?}");
        }
    }
}
