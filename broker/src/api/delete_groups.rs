//! DeleteGroups: groups without members.

use super::groups::{answer_of, code, group_id};
use super::{Handlers, Reply, RequestContext, answer};
use crate::partitions::Hold;
use chronik_core::groups::Request;
use chronik_wire::Header;
use chronik_wire::messages::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, StrBytes, message};
use futures::future::join_all;

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: &DeleteGroupsRequest,
    hold: &Hold,
) -> Reply {
    let results: Vec<_> = request
        .groups_names
        .iter()
        .map(|id| {
            let asked = group_id(id)
                .map(|group| handlers.coordinators.ask(id, context.client(), Request::DeleteGroup(group), hold));
            let id = StrBytes::from(&**id);
            async move {
                let deleted = match asked {
                    Ok(asked) => answer_of!(asked.await, DeleteGroup).flatten(),
                    Err(error) => Err(error),
                };
                message!(DeletableGroupResult { group_id: id, error_code: code(&deleted) })
            }
        })
        .collect();
    answer(header, async move { message!(DeleteGroupsResponse { results: join_all(results).await }) })
}
