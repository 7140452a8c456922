//! ListGroups: the groups that this broker coordinates.

use super::errors::Code as _;
use super::groups::{answer_of, wire};
use super::{Handlers, Reply, RequestContext, answer, each_once};
use crate::partitions::Reservation;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::messages::{ListGroupsRequest, ListGroupsResponse, ListedGroup, StrBytes, message};
use chronik_wire::{ErrorCode, Header};

/// Words of a filter at most: more than there are states and types, and each group of each shard is compared with them.
const MOST: usize = 64;

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &ListGroupsRequest,
    reservation: &Reservation,
) -> Reply {
    let words = |words: &[StrBytes]| each_once(words.iter().map(ToString::to_string).collect(), String::clone);
    let (states, types) = (words(&request.states_filter), words(&request.types_filter));
    if states.len().max(types.len()) > MOST {
        let refused = message!(ListGroupsResponse { error_code: ErrorCode::INVALID_REQUEST.0 });
        return answer((&handlers.errors, header), std::future::ready(refused));
    }
    let wanted = Request::ListGroups { states, types };
    let asked = handlers.coordinators.ask_all(context.client(), &wanted, reservation);
    let version = header.version;
    answer((&handlers.errors, header), async move {
        let mut response = ListGroupsResponse::default();
        for answer in asked.await {
            match answer_of!(answer, ListGroups).flatten() {
                Ok(groups) => response.groups.extend(groups.into_iter().map(|g| {
                    let mut listed =
                        message!(ListedGroup { group_id: wire(&g.group), protocol_type: wire(&g.protocol_type) });
                    if version >= 4 {
                        listed.group_state = StrBytes::from(g.state);
                    }
                    if version >= 5 {
                        listed.group_type = StrBytes::from(g.group_type);
                    }
                    listed
                })),
                // Its groups are listed where they have gone.
                Err(GroupError::NotCoordinator) => {}
                Err(error) => response.error_code = error.code().0,
            }
        }
        response
    })
}
