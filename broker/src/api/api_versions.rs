//! ApiVersions: what is served. The first thing that a client asks.

use super::Handlers;
use super::update_features::METADATA_VERSION;
use chronik_core::cluster::{MetadataVersion, SupportedVersions};
use chronik_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, ServedVersions, StrBytes, SupportedFeatureKey,
    cluster_id_text, message,
};
use chronik_wire::{ErrorCode, Header, RequestKind, SERVED};

/// From this version on clients say what software they are (KIP-511).
const NAMES_SOFTWARE: i16 = 3;

pub(super) fn handle(handlers: &Handlers, header: Header, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if header.version >= NAMES_SOFTWARE && !names.into_iter().all(|name| is_software_name(name)) {
        return message!(ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST.0 });
    }
    let error = if is_misrouted(handlers, request) { ErrorCode::REBOOTSTRAP_REQUIRED } else { ErrorCode::NONE };
    let image = handlers.controller.image();
    let (lowest, highest) = (SupportedVersions::HERE.min, SupportedVersions::HERE.max);
    let supported = message!(SupportedFeatureKey {
        name: StrBytes::from(METADATA_VERSION),
        min_version: level(lowest),
        max_version: level(highest),
    });
    let mut response =
        message!(ApiVersionsResponse { error_code: error.0, api_keys: served(), supported_features: vec![supported] });
    if image.cluster_id.is_none() {
        return response;
    }
    let now = level(image.metadata_version);
    let finalized = message!(FinalizedFeatureKey {
        name: StrBytes::from(METADATA_VERSION),
        max_version_level: now,
        min_version_level: now,
    });
    response.finalized_features_epoch = i64::try_from(image.offset.0).unwrap_or(i64::MAX);
    response.finalized_features = vec![finalized];
    response
}

/// A feature's level, as Kafka numbers them.
fn level(version: MetadataVersion) -> i16 {
    i16::try_from(version.0).unwrap_or(i16::MAX)
}

/// Whether Kafka takes it for the name or the version of a client's software: ASCII letters and digits, and between
/// them hyphens and dots too.
fn is_software_name(name: &str) -> bool {
    let ends = name.chars().next().zip(name.chars().last());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
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
