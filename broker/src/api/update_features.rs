//! UpdateFeatures: newer formats may be written (KIP-584, KIP-778). There is one feature, `metadata.version`.

use super::errors::Code as _;
use super::{Deadline, Handlers};
use chronik_core::cluster::{MetadataCommand, MetadataVersion};
use chronik_quorum::Declined;
use chronik_wire::messages::{
    FeatureUpdateKey, StrBytes, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse, message,
};
use chronik_wire::{ErrorCode, Header};
use std::collections::HashSet;
use std::time::Duration;

/// Kafka's name of the feature.
pub(super) const METADATA_VERSION: &str = "metadata.version";

/// The first version without results by feature: all are changed, or none.
const ALL_OR_NONE: i16 = 2;

type Done = Result<(), (ErrorCode, String)>;

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut names = HashSet::new();
    if !request.feature_updates.iter().all(|update| names.insert(update.feature.to_string())) {
        return answer(header, vec![], Err((ErrorCode::INVALID_REQUEST, "a feature is named twice".into())));
    }
    let deadline = Deadline::after(request.timeout_ms);
    let mut results = Vec::new();
    // All are found possible before the first is changed, where the answer is one for all.
    let first = if header.version >= ALL_OR_NONE { &[true, false][..] } else { &[false] };
    for only_validate in first {
        results.clear();
        for update in &request.feature_updates {
            let validate = *only_validate || request.validate_only;
            results.push((update.feature.clone(), one(handlers, update, validate, deadline.left()).await));
        }
        if results.iter().any(|(_, done)| done.is_err()) {
            break;
        }
    }
    let all = results.iter().find_map(|(_, done)| done.clone().err()).map_or(Ok(()), Err);
    answer(header, results, all)
}

async fn one(handlers: &Handlers, update: &FeatureUpdateKey, validate_only: bool, timeout: Duration) -> Done {
    let refused = |why: String| Err((ErrorCode::INVALID_UPDATE_VERSION, why));
    if &*update.feature != METADATA_VERSION {
        return refused(format!(
            "Invalid update version {} for feature {}. Broker {} does not support this feature.",
            update.max_version_level, &*update.feature, handlers.config.me.0
        ));
    }
    let Ok(level @ 1..) = u16::try_from(update.max_version_level) else {
        return refused(format!("{METADATA_VERSION} cannot be {}", update.max_version_level));
    };
    let command = MetadataCommand::SetMetadataVersion { version: MetadataVersion(level) };
    let with_message = |error: Declined| (error.code(), error.to_string());
    if validate_only {
        let mut image = handlers.controller.image();
        return image.apply(image.offset, &command).0.map(|_| ()).map_err(|refusal| with_message(refusal.into()));
    }
    handlers.controller.decide(command, timeout).await.map(|_| ()).map_err(with_message)
}

fn answer(header: Header, results: Vec<(StrBytes, Done)>, all: Done) -> UpdateFeaturesResponse {
    let split =
        |done: Done| done.map_or_else(|(e, text)| (e, Some(StrBytes::from(text))), |()| (ErrorCode::NONE, None));
    if header.version >= ALL_OR_NONE || results.is_empty() {
        let (error, text) = split(all);
        return message!(UpdateFeaturesResponse { error_code: error.0, error_message: text });
    }
    let results = results.into_iter().map(|(name, done)| {
        let (error, text) = split(done);
        message!(UpdatableFeatureResult { feature: name, error_code: error.0, error_message: text })
    });
    message!(UpdateFeaturesResponse { results: results.collect() })
}
