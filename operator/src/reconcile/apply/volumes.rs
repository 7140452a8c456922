//! Changes of volumes' claims.

use super::ApplyError;
use crate::MANAGER;
use crate::reconcile::observe::REMOVED;
use crate::reconcile::plan::VolumeChange;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Changes a claim as it was seen.
pub(crate) async fn change(client: &Client, namespace: &str, change: &VolumeChange) -> Result<(), ApplyError> {
    let name = &change.claim.name;
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patched = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace)
        .patch(name, &parameters, &Patch::Merge(patch(change, Timestamp::now())))
        .await;
    let failed = |source| ApplyError::Api { kind: "PersistentVolumeClaim".to_owned(), name: name.clone(), source };
    patched.map(|_| ()).map_err(failed)
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
        body["metadata"]["annotations"] = json!({ REMOVED: since });
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
        let none = VolumeChange { claim, size: None, owners: None, removed: None };
        let grown = VolumeChange { size: Some(Quantity("2Gi".to_owned())), ..none.clone() };
        let metadata = json!({ "uid": "u", "resourceVersion": "7" });
        let spec = json!({ "resources": { "requests": { "storage": "2Gi" } } });
        assert_eq!(patch(&grown, Timestamp::UNIX_EPOCH), json!({ "metadata": metadata, "spec": spec }));
        let marked = patch(&VolumeChange { removed: Some(true), ..none.clone() }, Timestamp::UNIX_EPOCH);
        assert_eq!(marked["metadata"]["annotations"][REMOVED], "1970-01-01T00:00:00Z");
        let unmarked = patch(&VolumeChange { removed: Some(false), ..none }, Timestamp::UNIX_EPOCH);
        assert_eq!(unmarked["metadata"]["annotations"], json!({ REMOVED: null }));
    }
}
