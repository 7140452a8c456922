//! LeaveGroup: one member leaves, or several are removed (KIP-345).

use super::groups::{answer_of, code, group_id, member};
use super::{Handlers, Reply, RequestContext, answer};
use crate::partitions::Reservation;
use chronik_core::groups::request::MemberRef;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse, StrBytes, message,
};

/// The first version that names several members.
const SEVERAL: i16 = 3;

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &LeaveGroupRequest,
    reservation: &Reservation,
) -> Reply {
    let version = header.version;
    let asked = wanted(version, request)
        .map(|wanted| handlers.coordinators.ask(&request.group_id, context.client(), wanted, reservation));
    let members: Vec<_> = request.members.iter().map(named).collect();
    answer((&handlers.errors, header), async move {
        let left = match asked {
            Ok(asked) => answer_of!(asked.await, LeaveGroup).flatten(),
            Err(error) => Err(error),
        };
        match left {
            Err(error) => message!(LeaveGroupResponse { error_code: code::<()>(&Err(error)) }),
            Ok(left) if version < SEVERAL => {
                message!(LeaveGroupResponse { error_code: left.first().map_or(0, code) })
            }
            Ok(left) => {
                let members = members.into_iter().zip(left).map(|(mut member, left)| {
                    member.error_code = code(&left);
                    member
                });
                message!(LeaveGroupResponse { members: members.collect() })
            }
        }
    })
}

fn wanted(version: i16, request: &LeaveGroupRequest) -> Result<Request, GroupError> {
    let members: Vec<MemberRef> = if version < SEVERAL {
        vec![member(&request.member_id, None)?]
    } else {
        let named = request.members.iter().map(|m| member(&m.member_id, m.group_instance_id.as_ref()));
        named.collect::<Result<_, _>>()?
    };
    Ok(Request::LeaveGroup { group: group_id(&request.group_id)?, members })
}

/// A member as the answer names it.
fn named(member: &MemberIdentity) -> MemberResponse {
    message!(MemberResponse {
        member_id: StrBytes::from(&*member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(StrBytes::from),
    })
}
