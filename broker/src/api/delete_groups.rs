//! DeleteGroups: groups without members.

use super::Handlers;
use super::groups::{Sender, TOGETHER, answer_of, code, group_id};
use chronik_core::groups::Request;
use chronik_wire::messages::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, message};
use futures::stream::{self, StreamExt as _};

pub(super) async fn handle(handlers: &Handlers, sender: &Sender, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = stream::iter(request.groups_names)
        .map(|id| async move {
            let deleted = match group_id(&id) {
                Ok(group) => {
                    let wanted = Request::DeleteGroup(group);
                    let asked = handlers.coordinators.ask(&id, &sender.client, wanted, &sender.reservation);
                    answer_of!(asked.await, DeleteGroup).flatten()
                }
                Err(error) => Err(error),
            };
            message!(DeletableGroupResult { group_id: id, error_code: code(&deleted) })
        })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(DeleteGroupsResponse { results: results })
}
