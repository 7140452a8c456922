//! FindCoordinator: there are no groups yet, so there is no coordinator; clients ask again until there is one.
//!
//! There are no transactions either, and a transactional producer that asks again for a minute learns nothing. It
//! gets an error that all clients take as final.

use chronik_wire::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes, message};
use chronik_wire::{ErrorCode, Header};

/// The key type of transactional ids.
const TRANSACTION: i8 = 1;

pub(super) fn handle(header: Header, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (error, text) = match request.key_type {
        TRANSACTION => (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not supported"),
        _ => (ErrorCode::COORDINATOR_NOT_AVAILABLE, "consumer groups are not supported"),
    };
    let text = Some(StrBytes::from(text));
    if header.version < 4 {
        let mut response = message!(FindCoordinatorResponse { error_code: error.0, node_id: -1, port: -1 });
        if header.version >= 1 {
            response.error_message = text;
        }
        return response;
    }
    let coordinators = request
        .coordinator_keys
        .into_iter()
        .map(|key| {
            message!(Coordinator { key: key, node_id: -1, port: -1, error_code: error.0, error_message: text.clone() })
        })
        .collect();
    message!(FindCoordinatorResponse { coordinators: coordinators })
}
