//! Changes of volumes' claims.

use super::{ApplyError, in_time};
use crate::MANAGER;
use crate::api_error;
use crate::reconcile::observe::{GIVE_UP, REMOVED};
use crate::reconcile::plan::VolumeChange;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// What is changed.
const KIND: &str = "PersistentVolumeClaim";

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It was made.
    Done,
    /// The claim is another one by now, or gone: the next plan is another one.
    Overtaken,
    /// The volume does not grow, in the API server's words. What else there was to change is changed.
    DoesNotGrow(String),
}

/// Changes a claim as it was seen.
pub(crate) async fn change(client: &Client, namespace: &str, change: &VolumeChange) -> Result<Changed, ApplyError> {
    in_time(KIND, &change.claim.name, try_to(client, namespace, change)).await
}

async fn try_to(client: &Client, namespace: &str, change: &VolumeChange) -> Result<Changed, ApplyError> {
    let refused = match write(client, namespace, change).await {
        Ok(()) => return Ok(Changed::Done),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            return Ok(Changed::Overtaken);
        }
        Err(error @ kube::Error::Api(_)) if change.size.is_some() && is_refusal(&error) => api_error::words(&error),
        Err(source) => return Err(failed(change, source)),
    };
    let rest = VolumeChange { size: None, ..change.clone() };
    if rest.owners.is_some() || rest.removed.is_some() || rest.kept {
        write(client, namespace, &rest).await.map_err(|source| failed(change, source))?;
    }
    Ok(Changed::DoesNotGrow(refused))
}

/// Whether the same would be answered with the same words again.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}

fn failed(change: &VolumeChange, source: kube::Error) -> ApplyError {
    ApplyError::Api { kind: KIND.to_owned(), name: change.claim.name.clone(), source }
}

async fn write(client: &Client, namespace: &str, change: &VolumeChange) -> Result<(), kube::Error> {
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let body = Patch::Merge(patch(change, Timestamp::now()));
    claims.patch(&change.claim.name, &parameters, &body).await.map(|_| ())
}

fn patch(change: &VolumeChange, now: Timestamp) -> Value {
    let seen = &change.claim;
    let mut body = json!({ "metadata": { "uid": seen.uid, "resourceVersion": seen.resource_version } });
    if let Some(size) = &change.size {
        body["spec"] = json!({ "resources": { "requests": { "storage": size } } });
    }
    if let Some(owners) = &change.owners {
        body["metadata"]["ownerReferences"] = json!(owners);
    }
    if let Some(removed) = change.removed {
        let since = removed.then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        body["metadata"]["annotations"][REMOVED] = json!(since);
    }
    if change.kept {
        body["metadata"]["annotations"][GIVE_UP] = Value::Null;
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::observe::Seen;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn a_patch_names_what_was_seen_and_says_what_changes_alone() {
        let claim = Seen { name: "data-demo-0".to_owned(), uid: "u".to_owned(), resource_version: "7".to_owned() };
        let none = VolumeChange { claim, size: None, owners: None, removed: None, kept: false };
        let grown = VolumeChange { size: Some(Quantity("2Gi".to_owned())), ..none.clone() };
        let metadata = json!({ "uid": "u", "resourceVersion": "7" });
        let spec = json!({ "resources": { "requests": { "storage": "2Gi" } } });
        assert_eq!(patch(&grown, Timestamp::UNIX_EPOCH), json!({ "metadata": metadata, "spec": spec }));
        let marked = patch(&VolumeChange { removed: Some(true), ..none.clone() }, Timestamp::UNIX_EPOCH);
        assert_eq!(marked["metadata"]["annotations"][REMOVED], "1970-01-01T00:00:00Z");
        let unmarked = patch(&VolumeChange { removed: Some(false), ..none.clone() }, Timestamp::UNIX_EPOCH);
        assert_eq!(unmarked["metadata"]["annotations"], json!({ REMOVED: null }));
        let kept = patch(&VolumeChange { kept: true, ..none }, Timestamp::UNIX_EPOCH);
        assert_eq!(kept["metadata"]["annotations"], json!({ GIVE_UP: null }));
    }
}
