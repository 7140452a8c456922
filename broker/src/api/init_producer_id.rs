//! InitProducerId: an id for an idempotent producer.

use super::Handlers;
use chronik_core::ids::ProducerId;
use chronik_quorum::{ControllerError, ControllerHandle};
use chronik_wire::ErrorCode;
use chronik_wire::messages::{InitProducerIdRequest, InitProducerIdResponse, message};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long to wait for a new block of ids.
const NEW_BLOCK: Duration = Duration::from_secs(2);

/// The ids that this broker may still give away. One request at a time asks for a new block.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    async fn next(&self, controller: &ControllerHandle) -> Result<ProducerId, ControllerError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let new = controller.producer_ids(NEW_BLOCK).await?;
            *block = new.start.0..new.end.0;
        }
        block.next().map(ProducerId).ok_or(ControllerError::Unavailable)
    }
}

pub(super) async fn handle(handlers: &Handlers, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let id = match &request.transactional_id {
        Some(id) if id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
        // No transactions: clients take this error as final, where COORDINATOR_NOT_AVAILABLE would have them ask
        // for a minute.
        Some(_) => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        // An id that the client has had is of no use without a transaction: a new one fences nobody. What Kafka
        // says while it has no block is what clients wait at.
        None => {
            let next = handlers.producer_ids.next(&handlers.controller).await;
            next.map_err(|_| ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        }
    };
    match id {
        Ok(id) => message!(InitProducerIdResponse { producer_id: id.0, producer_epoch: 0 }),
        Err(error) => message!(InitProducerIdResponse { error_code: error.0, producer_id: -1, producer_epoch: -1 }),
    }
}
