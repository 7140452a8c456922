//! A ConfigMap of a former configuration goes once nothing refers to it any more.

use crate::reconcile::build::{Desired, is_broker_config};
use crate::reconcile::observe::{Observed, ObservedConfigMap, Seen};
use crate::reconcile::validate::Cluster;
use kube::ResourceExt;

/// The `ConfigMaps` to delete.
///
/// None is deleted before the StatefulSet's controller has seen the template as it was observed: until then it may make a
/// pod from the one before, which would wait for its ConfigMap for ever.
pub(super) fn config_maps(cluster: &Cluster, observed: &Observed, wanted: &[Desired]) -> Vec<Seen> {
    if observed.update_revision().is_none() {
        return Vec::new();
    }
    let garbage = observed.config_maps.iter().filter(|map| is_garbage(map, cluster, observed, wanted));
    garbage.map(|map| map.seen.clone()).collect()
}

fn is_garbage(map: &ObservedConfigMap, cluster: &Cluster, observed: &Observed, wanted: &[Desired]) -> bool {
    let name = &map.seen.name;
    let is_wanted =
        wanted.iter().any(|wanted| wanted.resource.kind == "ConfigMap" && wanted.object.name_any() == *name);
    let owned = map.owner.as_ref() == Some(&cluster.owner.uid);
    owned && !map.leaving && is_broker_config(&cluster.name, name) && !is_wanted && !observed.referred.contains(name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, observed};
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ApiResource;
    use serde_json::json;

    #[test]
    fn what_nothing_refers_to_is_garbage_if_it_is_the_clusters_own() {
        let wanted = Desired {
            resource: ApiResource::erase::<ConfigMap>(&()),
            object: serde_json::from_value(json!({ "metadata": { "name": "demo-config-3" } })).unwrap(),
        };
        for (name, owner, garbage) in [
            ("demo-config-1", "u", true),
            ("demo-config-1", "another's", false),
            ("demo-other", "u", false),
            ("demo-config-2", "u", false),
            ("demo-config-3", "u", false),
        ] {
            let mut observed = observed();
            observed.referred = ["demo-config-2".to_owned()].into();
            observed.config_maps = vec![ObservedConfigMap {
                seen: Seen { name: name.to_owned(), ..Seen::default() },
                owner: Some(owner.to_owned()),
                leaving: false,
            }];
            let found = config_maps(&cluster(), &observed, std::slice::from_ref(&wanted));
            assert_eq!(!found.is_empty(), garbage, "{name} of {owner}");
        }
    }

    #[test]
    fn nothing_goes_before_the_present_template_is_known_to_be_followed() {
        let mut observed = observed();
        observed.config_maps = vec![ObservedConfigMap {
            seen: Seen { name: "demo-config-1".to_owned(), ..Seen::default() },
            owner: Some("u".to_owned()),
            leaving: false,
        }];
        assert_eq!(config_maps(&cluster(), &observed, &[]).len(), 1);
        observed.set.as_mut().unwrap().update_revision = None;
        assert_eq!(config_maps(&cluster(), &observed, &[]).len(), 0);
    }
}
