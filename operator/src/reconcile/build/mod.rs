//! The objects that a cluster should have, each from the spec alone: the same spec always gives the same objects, so
//! that a new operator, or the same one restarted, changes nothing.

mod broker_config;
mod config_map;
mod disruption_budget;
mod network_policy;
mod pod_template;
mod service_account;
mod services;
mod stateful_set;

use super::validate::Cluster;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use serde::Serialize;
use std::collections::BTreeMap;

pub use broker_config::hash;
pub use config_map::is_broker_config;
pub use pod_template::{CONTAINER, RESTART};
pub use services::{LISTENER_LABEL, bootstrap_address, broker_of_service, external_service, listener_property_name};
pub use stateful_set::{TEMPLATE_FORM, TEMPLATE_OF};

/// The label that all objects of a cluster carry, with its name.
pub const CLUSTER_LABEL: &str = "chronik.io/cluster";

/// The ports that a broker listens on, by name.
pub mod port {
    /// Kafka clients.
    pub const KAFKA: i32 = 9092;
    /// Followers.
    pub const REPLICATION: i32 = 9192;
    /// The controller quorum.
    pub const CONTROLLER: i32 = 9292;
    /// Probes and metrics.
    pub const HTTP: i32 = 9392;
    /// The admin API: peers and the operator.
    pub const ADMIN: i32 = 9492;
    /// All of them, with their names.
    pub const ALL: [(&str, i32); 5] =
        [("kafka", KAFKA), ("replication", REPLICATION), ("controller", CONTROLLER), ("http", HTTP), ("admin", ADMIN)];
    /// Those of a broker's own Service, with their names.
    pub const OF_BROKER: [(&str, i32); 3] = [ALL[0], ALL[1], ALL[2]];
}

/// An object that should exist as it is here.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its kind.
    pub resource: ApiResource,
    /// Its content: the fields that the operator owns, and no others.
    pub object: DynamicObject,
}

impl Desired {
    /// Whether it says how many brokers a drain of nodes may take away.
    pub fn is_budget(&self) -> bool {
        self.resource.kind == "PodDisruptionBudget"
    }

    /// Whether it makes pods.
    pub fn makes_pods(&self) -> bool {
        self.resource.kind == "StatefulSet"
    }
}

/// What of the objects depends on what there is, and not on the spec alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// How many pods there are to be now.
    pub replicas: i32,
    /// The size of new volumes.
    pub volume_size: Quantity,
    /// How many brokers a drain of nodes may take away now.
    pub max_unavailable: i32,
}

impl Frame {
    /// That of a cluster that is as its spec says, and well.
    pub fn of(cluster: &Cluster) -> Self {
        Self { replicas: cluster.replicas, volume_size: cluster.storage_size.clone(), max_unavailable: 1 }
    }
}

/// All objects of a cluster, in the order in which they are needed: what pods refer to comes before the pods.
pub fn build(cluster: &Cluster, frame: &Frame) -> Result<Vec<Desired>, serde_json::Error> {
    let broker_config = broker_config::render(cluster)?;
    // First what protects those that run: nothing that fails is to keep it from being written.
    let budget = budget(&Place::of(cluster), cluster.replicas, frame.max_unavailable)?;
    let mut objects = budget.into_iter().collect::<Vec<_>>();
    if cluster.pod.service_account_name.is_none() {
        objects.push(desired(&service_account::build(cluster))?);
    }
    objects.extend([
        desired(&config_map::build(cluster, &broker_config))?,
        desired(&services::brokers(cluster))?,
        desired(&services::bootstrap(cluster))?,
        desired(&network_policy::build(cluster))?,
    ]);
    for id in 0..frame.replicas {
        objects.push(desired(&services::broker(cluster, id))?);
        for listener in &cluster.listeners {
            objects.push(desired(&services::external(cluster, listener, id))?);
        }
    }
    objects.push(desired(&stateful_set::build(cluster, frame, &broker_config))?);
    Ok(objects)
}

/// What a drain of nodes may take of so many brokers; a single one has none.
pub fn budget(place: &Place<'_>, brokers: i32, max_unavailable: i32) -> Result<Option<Desired>, serde_json::Error> {
    disruption_budget::build(place, brokers, max_unavailable).as_ref().map(desired).transpose()
}

fn desired<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Desired, serde_json::Error> {
    Ok(Desired {
        resource: ApiResource::erase::<K>(&()),
        object: serde_json::from_value(serde_json::to_value(object)?)?,
    })
}

/// Whose an object is: what is known of a cluster also when its spec cannot be followed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The cluster's name.
    pub name: &'a str,
    /// Where it lives.
    pub namespace: &'a str,
    /// What its objects are owned by.
    pub owner: &'a OwnerReference,
}

impl<'a> Place<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        Self { name: &cluster.name, namespace: &cluster.namespace, owner: &cluster.owner }
    }
}

/// The metadata of an object of the cluster; `suffix` is added to the cluster's name.
fn metadata(cluster: &Cluster, suffix: &str) -> ObjectMeta {
    metadata_at(&Place::of(cluster), suffix)
}

fn metadata_at(place: &Place<'_>, suffix: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(format!("{}{suffix}", place.name)),
        namespace: Some(place.namespace.to_owned()),
        labels: Some(labels_of(place.name)),
        owner_references: Some(vec![place.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn labels(cluster: &Cluster) -> BTreeMap<String, String> {
    labels_of(&cluster.name)
}

fn labels_of(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "chronik"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/component", "broker"),
        ("app.kubernetes.io/managed-by", crate::MANAGER),
        (CLUSTER_LABEL, cluster),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// What selects the cluster's pods. It can never change: a StatefulSet's selector is immutable.
fn selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "chronik".to_owned()),
        (CLUSTER_LABEL.to_owned(), cluster.to_owned()),
    ])
}

/// What the headless Service's name adds to the cluster's.
const BROKERS_SUFFIX: &str = "-brokers";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::validate::validate;
    use chronik_crds::ChronikCluster;
    use std::path::Path;

    /// Every object of a cluster, as kept in `golden/`. `UPDATE_GOLDEN=1` writes them anew: the difference is what
    /// an upgrade of the operator would do to running clusters.
    fn assert_golden(name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let resource = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let cluster: ChronikCluster = serde_saphyr::from_str(&resource).unwrap();
        let valid = validate(&cluster, "chronik:default").unwrap();
        let objects = build(&valid, &Frame::of(&valid)).unwrap();
        let built = objects.iter().map(|desired| serde_saphyr::to_string(&desired.object).unwrap());
        let built = built.collect::<Vec<_>>().join("---\n");
        let path = folder.join(format!("{name}.objects.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &built).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == built, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
    }

    #[test]
    fn a_minimal_cluster_becomes_these_objects() {
        assert_golden("minimal");
    }

    #[test]
    fn a_cluster_with_every_field_set_becomes_these_objects() {
        assert_golden("full");
    }

    #[test]
    fn a_single_broker_has_no_disruption_budget() {
        assert_golden("single");
    }
    /// The form of templates, and the hash of those that it makes of the clusters in `golden/`. A template that changes
    /// needs another form: without it, every release that changes one restarts every broker of every cluster.
    const FORM_MAKES: (&str, &str) = ("4", "f54f40e5bf313300");

    #[test]
    fn another_template_has_another_form() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let mut templates = String::new();
        for name in ["minimal", "full", "single"] {
            let resource = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
            let cluster: ChronikCluster = serde_saphyr::from_str(&resource).unwrap();
            let valid = validate(&cluster, "chronik:default").unwrap();
            let objects = build(&valid, &Frame::of(&valid)).unwrap();
            let set = objects.iter().find(|desired| desired.resource.kind == "StatefulSet").unwrap();
            templates += &set.object.data["spec"]["template"].to_string();
        }
        let made = (stateful_set::FORM, hash(&templates));
        assert_eq!((made.0, made.1.as_str()), FORM_MAKES, "raise FORM, keep_template's test, and this pair");
    }
}
