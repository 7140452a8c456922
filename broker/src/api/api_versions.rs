//! ApiVersions: what is served. The first thing that a client asks.

use super::Handlers;
use chronik_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, ServedVersions, cluster_id_text, message};
use chronik_wire::{ErrorCode, RequestKind, SERVED};

pub(super) fn handle(handlers: &Handlers, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let error = if is_misrouted(handlers, request) { ErrorCode::REBOOTSTRAP_REQUIRED } else { ErrorCode::NONE };
    message!(ApiVersionsResponse { error_code: error.0, api_keys: served() })
}

/// The answer to a version that is not known.
pub(super) fn unsupported() -> ApiVersionsResponse {
    message!(ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION.0, api_keys: served() })
}

/// Whether the client meant another broker or cluster (KIP-1242): an address may have been given to us after it
/// was somebody else's.
fn is_misrouted(handlers: &Handlers, request: &ApiVersionsRequest) -> bool {
    let other_cluster = match (&request.cluster_id, handlers.controller.image().cluster_id) {
        (Some(meant), Some(ours)) => **meant != *cluster_id_text(ours),
        _ => false,
    };
    other_cluster || (request.node_id >= 0 && request.node_id != handlers.config.me.0)
}

fn served() -> Vec<ServedVersions> {
    SERVED
        .iter()
        .map(|served| {
            // Versions 0 to 2 of Produce are listed and not served: librdkafka takes a broker without them for one
            // that has no Produce it can use (KAFKA-18659).
            let min = if served.api == RequestKind::Produce { 0 } else { served.min };
            message!(ServedVersions { api_key: served.api as i16, min_version: min, max_version: served.max })
        })
        .collect()
}
