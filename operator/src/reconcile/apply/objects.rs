//! The writes that make what there is into what there should be, and none when it is so already.

use super::{WRITE_MAX, in_time};
use crate::MANAGER;
use crate::api_error;
use crate::quantity;
use crate::reconcile::build::{self, CLUSTER_LABEL, Desired};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was as it should be.
    Unchanged,
    /// It did not exist.
    Created,
    /// It was changed.
    Updated,
    /// It was not needed any more.
    Deleted,
    /// It is not what the decision about it was made on any more.
    Overtaken,
}

/// Why an object could not be made as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not answer, or refused.
    #[error("{kind} {name}: {}", api_error::words(source))]
    Api {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// The API server did not answer in time: it is not known whether the object was written.
    #[error("{kind} {name}: the API server has not answered within {} s", WRITE_MAX.as_secs())]
    Late {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// An object of that name is on its way out.
    #[error("{kind} {name} is being deleted; it is made anew once it is gone")]
    Leaving {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// An object of that name is not the cluster's.
    #[error("{kind} {name} exists already and does not belong to this cluster")]
    Foreign {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
}

/// The annotation with the hash of what was applied last: a field that is no longer wanted shows in nothing else.
const HASH: &str = "chronik.io/applied-hash";

/// Makes one object as it should be. One that names a version is written over that version alone.
pub(crate) async fn apply(client: &Client, namespace: &str, desired: &Desired) -> Result<Outcome, ApplyError> {
    in_time(&desired.resource.kind, &desired.object.name_any(), write(client, namespace, desired)).await
}

async fn write(client: &Client, namespace: &str, desired: &Desired) -> Result<Outcome, ApplyError> {
    let (name, kind) = (desired.object.name_any(), desired.resource.kind.clone());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &desired.resource);
    let failed = |source| ApplyError::Api { kind: kind.clone(), name: name.clone(), source };
    let mut object = hashed(desired);
    let seen = desired.object.resource_version();
    let live = api.get_opt(&name).await.map_err(failed)?;
    match &live {
        // One that an earlier cluster of the same name left behind goes away too.
        Some(live) if live.metadata.deletion_timestamp.is_some() => return Err(ApplyError::Leaving { kind, name }),
        Some(live) if !belongs(&object, live) => return Err(ApplyError::Foreign { kind, name }),
        Some(live) if is_applied(&object, live) => return Ok(Outcome::Unchanged),
        Some(live) if seen.is_some() && seen != live.resource_version() => return Ok(Outcome::Overtaken),
        // What was looked at is what is written, or nothing is.
        Some(live) => {
            object.metadata.uid.clone_from(&live.metadata.uid);
            object.metadata.resource_version.clone_from(&live.metadata.resource_version);
        }
        None => {}
    }
    let manager = PatchParams::apply(MANAGER).force();
    let written = match api.patch(&name, &manager, &Patch::Apply(&object)).await {
        // It has changed since it was read just now: that is no fault of anybody's. Who refuses it with the same code for
        // another reason is heard.
        Err(kube::Error::Api(status)) if (seen.is_some() || live.is_some()) && status.is_conflict() => {
            return Ok(Outcome::Overtaken);
        }
        written => written.map_err(failed)?,
    };
    Ok(match live {
        None => Outcome::Created,
        // What somebody else adds to every write of it is no difference.
        Some(live) if live.metadata.resource_version == written.metadata.resource_version => Outcome::Unchanged,
        Some(_) => Outcome::Updated,
    })
}

fn hashed(desired: &Desired) -> DynamicObject {
    let mut object = desired.object.clone();
    // Neither is any part of what it should be.
    (object.metadata.uid, object.metadata.resource_version) = (None, None);
    let text = serde_json::json!([object.metadata, object.data]).to_string();
    object.annotations_mut().insert(HASH.to_owned(), build::hash(&text));
    object
}

/// Whether the live object has the same controlling owner; or none, as a resource leaves them that was deleted without
/// its objects, if it carries the labels that the operator gives.
fn belongs(desired: &DynamicObject, live: &DynamicObject) -> bool {
    let owner = |object: &DynamicObject| {
        object.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
    };
    let same = |label: &str| live.labels().get(label) == desired.labels().get(label);
    let is_own = owner(live).map_or_else(|| same("app.kubernetes.io/managed-by"), |uid| Some(uid) == owner(desired));
    is_own && same(CLUSTER_LABEL)
}

fn is_applied(desired: &DynamicObject, live: &DynamicObject) -> bool {
    let metadata =
        |object: &DynamicObject| serde_json::json!({ "labels": object.labels(), "annotations": object.annotations() });
    includes(&metadata(live), &metadata(desired)) && includes(&live.data, &desired.data)
}

/// Whether all that is wanted is there. What is there beyond it is the API server's defaults, or others' business.
fn includes(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Null, Value::Object(fields)) => fields.is_empty(),
        (Value::Null, Value::Array(items)) => items.is_empty(),
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| includes(live.get(name).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| includes(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || quantity::equal(live, wanted),
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let wanted = json!({ "spec": { "ports": [{ "port": 9092 }], "resources": {}, "cpu": "1000m" } });
        let live = json!({ "spec": { "ports": [{ "port": 9092, "protocol": "TCP" }], "cpu": "1", "type": "ClusterIP" },
                           "status": {} });
        assert!(includes(&live, &wanted));
    }

    #[test]
    fn a_changed_or_missing_value_and_another_item_are_differences() {
        let wanted = json!({ "spec": { "ports": [{ "port": 9092 }], "replicas": 3 } });
        for live in [
            json!({ "spec": { "ports": [{ "port": 9093 }], "replicas": 3 } }),
            json!({ "spec": { "ports": [{ "port": 9092 }] } }),
            json!({ "spec": { "ports": [{ "port": 9092 }, { "port": 1 }], "replicas": 3 } }),
            json!({ "spec": { "ports": [], "replicas": 3 } }),
        ] {
            assert!(!includes(&live, &wanted), "{live}");
        }
    }

    #[test]
    fn an_object_belongs_to_the_cluster_that_controls_it_or_that_left_it_behind() {
        let object = |owner: Option<&str>, manager: &str| -> DynamicObject {
            let owner = owner
                .map(|uid| json!({ "apiVersion": "v1", "kind": "K", "name": "demo", "uid": uid, "controller": true }));
            serde_json::from_value(json!({ "metadata": {
                "name": "demo", "labels": { CLUSTER_LABEL: "demo", "app.kubernetes.io/managed-by": manager },
                "ownerReferences": owner.into_iter().collect::<Vec<_>>()
            } }))
            .unwrap()
        };
        let desired = object(Some("a"), MANAGER);
        assert!(belongs(&desired, &object(Some("a"), MANAGER)));
        assert!(!belongs(&desired, &object(Some("b"), MANAGER)));
        assert!(belongs(&desired, &object(None, MANAGER)));
        assert!(!belongs(&desired, &object(None, "Helm")));
        let unlabelled = serde_json::from_value(json!({ "metadata": { "name": "demo" } })).unwrap();
        assert!(!belongs(&desired, &unlabelled));
    }
}
