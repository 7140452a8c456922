//! UnregisterBroker: a broker that is gone for good, and has no replicas, is forgotten (KIP-631).

use super::Handlers;
use super::errors::Code as _;
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::BrokerId;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{StrBytes, UnregisterBrokerRequest, UnregisterBrokerResponse, message};
use std::time::Duration;

/// How long the controller may take: the request does not say. Less than clients wait.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn handle(handlers: &Handlers, request: &UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let command = MetadataCommand::UnregisterBroker { id: BrokerId(request.broker_id) };
    let (error, text) = match handlers.controller.decide(command, TIMEOUT).await {
        Ok(_) => (ErrorCode::NONE, None),
        Err(error) => (error.code(), Some(StrBytes::from(error.to_string()))),
    };
    message!(UnregisterBrokerResponse { error_code: error.0, error_message: text })
}
