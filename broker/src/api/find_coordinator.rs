//! FindCoordinator: the broker that leads a group's partition of `__consumer_offsets`.
//!
//! There are no transactions yet, and a transactional producer that asks again for a minute learns nothing: see
//! [`no_transactions`].

use super::Handlers;
use super::errors::Code as _;
use super::listener::ListenerName;
use super::metadata::wait_for_missing_brokers;
use crate::coordinators::Coordinators;
use chronik_core::cluster::{Endpoint, Image};
use chronik_core::groups::GroupError;
use chronik_core::ids::BrokerId;
use chronik_wire::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes, message};
use chronik_wire::{ErrorCode, Header};

/// The key types of groups and of transactional ids.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

type Found = Result<(BrokerId, Endpoint), (ErrorCode, String)>;

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    listener: &ListenerName,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if header.version < 4 { std::slice::from_ref(&request.key) } else { &request.coordinator_keys[..] };
    if request.key_type == GROUP {
        let concerns = |image: &Image, broker| keys.iter().any(|key| Coordinators::leads(image, broker, key));
        // Who asks has often just lost the coordinator: a client that gets the same one again comes back much later.
        let _ =
            tokio::time::timeout(handlers.config.missing_broker_timeout, wait_for_missing_brokers(handlers, concerns))
                .await;
    }
    // Once for all keys: each would wait as long for what cannot be created now.
    let ready = if request.key_type == GROUP { handlers.coordinators.ensure_topic().await } else { Ok(()) };
    let find = |key: &str| match &ready {
        Ok(()) if request.key_type == TRANSACTION => Err(no_transactions(header.version)),
        Ok(()) => find(handlers, listener, request.key_type, key),
        Err(error) => Err((error.code(), error.to_string())),
    };
    if header.version < 4 {
        return one(header.version, find(&request.key));
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = find(&key);
        coordinators.push(match found {
            Ok((id, at)) => message!(Coordinator {
                key: key,
                node_id: id.0,
                host: StrBytes::from(&*at.host),
                port: i32::from(at.port),
                error_message: Some(StrBytes::default()),
            }),
            Err((error, text)) => message!(Coordinator {
                key: key,
                node_id: -1,
                port: -1,
                error_code: error.0,
                error_message: Some(StrBytes::from(text)),
            }),
        });
    }
    message!(FindCoordinatorResponse { coordinators: coordinators })
}

fn find(handlers: &Handlers, listener: &ListenerName, key_type: i8, key: &str) -> Found {
    match key_type {
        GROUP => {
            let failed = |error: GroupError| (error.code(), error.to_string());
            let id = handlers.coordinators.find(key).map_err(failed)?;
            let image = handlers.controller.image();
            let at = image.alive(id).and_then(|broker| listener.endpoint(&image, broker));
            Ok((id, at.ok_or_else(|| failed(GroupError::CoordinatorNotAvailable))?))
        }
        _ => Err((ErrorCode::INVALID_REQUEST, format!("keys of type {key_type} have no coordinator"))),
    }
}

/// The answer to who looks for a transaction coordinator, which is to end the search at once and to say why.
///
/// librdkafka, which speaks versions 0 to 2, takes one error for final, and shows the text with it. Java's producer, which
/// speaks later ones, does not show the text with that error: "Transactional Id authorization failed" would have somebody
/// look for ACLs. It takes any other error that it does not know here for final, and shows the text.
fn no_transactions(version: i16) -> (ErrorCode, String) {
    const LIBRDKAFKA: i16 = 2;
    let error = if version <= LIBRDKAFKA {
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    } else {
        ErrorCode::UNSUPPORTED_VERSION
    };
    let text = "transactions are not supported by this cluster yet: leave transactional.id out (an idempotent producer \
                needs none)";
    (error, text.into())
}

/// The answer to versions that ask for one key.
fn one(version: i16, found: Found) -> FindCoordinatorResponse {
    let (mut response, text) = match found {
        Ok((id, at)) => {
            let (host, port) = (StrBytes::from(&*at.host), i32::from(at.port));
            (message!(FindCoordinatorResponse { node_id: id.0, host: host, port: port }), String::new())
        }
        Err((error, text)) => (message!(FindCoordinatorResponse { error_code: error.0, node_id: -1, port: -1 }), text),
    };
    if version >= 1 {
        response.error_message = Some(StrBytes::from(text));
    }
    response
}
