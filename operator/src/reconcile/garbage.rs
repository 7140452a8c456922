//! A ConfigMap of a former configuration is deleted once nothing refers to it any more.

use super::apply::ApplyError;
use super::build::{CLUSTER_LABEL, Desired, is_broker_config};
use super::dereference::Observed;
use super::validate::Cluster;
use crate::MANAGER;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client, Resource, ResourceExt};

/// Deletes those of the cluster, and returns their names.
///
/// Nothing is deleted before the StatefulSet's controller has seen the template as it was observed: until then it may
/// make a pod from the one before, which would wait for its ConfigMap for ever.
pub async fn collect(
    client: &Client,
    cluster: &Cluster,
    observed: &Observed,
    wanted: &[Desired],
) -> Result<Vec<String>, ApplyError> {
    let failed =
        |name: &str, source| ApplyError::Api { kind: ConfigMap::kind(&()).into_owned(), name: name.to_owned(), source };
    if observed.update_revision.is_none() {
        return Ok(Vec::new());
    }
    let api = Api::<ConfigMap>::namespaced(client.clone(), &cluster.namespace);
    let labels = format!("{CLUSTER_LABEL}={},app.kubernetes.io/managed-by={MANAGER}", cluster.name);
    let stored = api.list(&ListParams::default().labels(&labels)).await.map_err(|e| failed(&cluster.name, e))?;
    let mut deleted = Vec::new();
    for map in stored.items.iter().filter(|map| is_garbage(map, &cluster.name, &cluster.owner.uid, observed, wanted)) {
        let name = map.name_any();
        let as_seen = Preconditions { uid: map.uid(), resource_version: map.resource_version() };
        match api.delete(&name, &DeleteParams::default().preconditions(as_seen)).await {
            Ok(_) => deleted.push(name),
            // It is gone, or was changed since it was read: there is another time.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => return Err(failed(&name, error)),
        }
    }
    Ok(deleted)
}

fn is_garbage(map: &ConfigMap, cluster: &str, uid: &str, observed: &Observed, wanted: &[Desired]) -> bool {
    let kind = ApiResource::erase::<ConfigMap>(&()).kind;
    let name = map.name_any();
    let is_wanted = wanted.iter().any(|wanted| wanted.resource.kind == kind && wanted.object.name_any() == name);
    let owned = map.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid);
    let unused = is_broker_config(cluster, &name) && !is_wanted && !observed.config_maps.contains(&name);
    owned && map.metadata.deletion_timestamp.is_none() && unused
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(name: &str, owner: &str) -> ConfigMap {
        let owner = json!({ "apiVersion": "v1", "kind": "K", "name": "demo", "uid": owner, "controller": true });
        serde_json::from_value(json!({ "metadata": { "name": name, "ownerReferences": [owner] } })).unwrap()
    }

    #[test]
    fn what_nothing_refers_to_is_garbage_if_it_is_the_clusters_own() {
        let wanted = Desired {
            resource: ApiResource::erase::<ConfigMap>(&()),
            object: serde_json::from_value(json!({ "metadata": { "name": "demo-config-3" } })).unwrap(),
        };
        let observed = Observed { config_maps: ["demo-config-2".to_owned()].into(), ..Observed::default() };
        for (cluster, name, owner, garbage) in [
            ("demo", "demo-config-1", "mine", true),
            ("demo", "demo-config-1", "another's", false),
            ("demo", "demo-other", "mine", false),
            ("demo-config", "demo-config-other", "mine", false),
            ("demo", "demo-config-2", "mine", false),
            ("demo", "demo-config-3", "mine", false),
        ] {
            let found = is_garbage(&map(name, owner), cluster, "mine", &observed, std::slice::from_ref(&wanted));
            assert_eq!(found, garbage, "{name} of {owner}");
        }
    }
}
