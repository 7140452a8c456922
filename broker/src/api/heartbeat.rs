//! Heartbeat: a member of a classic group is there.

use super::groups::{answer_of, code, group_id, member};
use super::{Handlers, Reply, RequestContext, answer};
use crate::partitions::Reservation;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{HeartbeatRequest, HeartbeatResponse, message};

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &HeartbeatRequest,
    reservation: &Reservation,
) -> Reply {
    let asked = wanted(request)
        .map(|wanted| handlers.coordinators.ask(&request.group_id, context.client(), wanted, reservation));
    answer((&handlers.errors, header), async move {
        let alive = match asked {
            Ok(asked) => answer_of!(asked.await, Heartbeat).flatten(),
            Err(error) => Err(error),
        };
        // As Kafka: members that are told of a load leave their session, or look for another coordinator.
        let alive =
            alive.or_else(|error| if error == GroupError::CoordinatorLoadInProgress { Ok(()) } else { Err(error) });
        message!(HeartbeatResponse { error_code: code(&alive) })
    })
}

fn wanted(request: &HeartbeatRequest) -> Result<Request, GroupError> {
    Ok(Request::Heartbeat {
        group: group_id(&request.group_id)?,
        member: member(&request.member_id, request.group_instance_id.as_ref())?,
        generation: request.generation_id,
    })
}
