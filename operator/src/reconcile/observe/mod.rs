//! Everything that a decision may need, read once: the StatefulSet, the pods with their nodes, the volumes, the former
//! configurations, and what the brokers say.
//!
//! What could not be read is [`Known::Unknown`], which is never taken for "none"; where nothing can be decided without
//! it, the reconcile fails and is tried again.

mod node;
pub mod outside;
mod pod;
mod volume;

pub use node::NodeState;
pub use outside::{ObservedNode, ObservedService, Outside};
pub use pod::{ObservedPod, PodState, START_MAX};
pub use volume::{GIVE_UP, ObservedVolume, REMOVED};

use super::build::{CLUSTER_LABEL, TEMPLATE_FORM, TEMPLATE_OF};
use crate::MANAGER;
use crate::brokers::{Answer, Brokers, Contact, Facts, Unanswered};
use crate::kafka::{Configs, Kafka};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long brokers are given for an answer that is not about how they are.
pub(super) const QUESTION: Duration = Duration::from_secs(5);

/// What may be unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It could not be found out, and why.
    Unknown(String),
    /// It is so.
    Is(T),
}

impl<T> Known<T> {
    /// What is known; `None` if it is unknown.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// An object as it was seen: who acts on it acts on no other one of its name, and on no later state of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The version of it that was read.
    pub resource_version: String,
}

impl Seen {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// What was observed of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Its StatefulSet, if there is one.
    pub set: Option<ObservedSet>,
    /// The pods that exist, by ordinal.
    pub pods: Vec<ObservedPod>,
    /// The volumes that exist, by ordinal, whether a pod has them or not.
    pub volumes: Vec<ObservedVolume>,
    /// The `ConfigMaps` that carry its label.
    pub config_maps: Vec<ObservedConfigMap>,
    /// The names of those that a pod, or the pods' template, refers to.
    pub referred: BTreeSet<String>,
    /// What the brokers say.
    pub facts: Known<Facts>,
    /// What all brokers were given while they ran; asked for only where the operator has a part in it.
    pub config: Known<Configs>,
    /// The names of what the operator has given them, as its status says.
    pub managed_config: BTreeSet<String>,
    /// What brokers' places are found out of; looked at only where the spec asks for listeners or racks.
    pub outside: Outside,
    /// Whether there were listeners before, as the status says.
    pub had_listeners: bool,
    /// Over how many brokers partitions were spread last, as the status says; 0 while it is under way.
    pub balanced: Option<i32>,
    /// The brokers that the operator itself has cordoned, for them to go, as the status says.
    pub drained: Vec<i32>,
    /// Whether all brokers were ready once, as the status says.
    pub formed: bool,
    /// The cluster's identity, as the status says.
    pub cluster: Option<String>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            set: None,
            pods: Vec::new(),
            volumes: Vec::new(),
            config_maps: Vec::new(),
            referred: BTreeSet::new(),
            facts: Known::Unknown("no broker runs".to_owned()),
            config: Known::Unknown("no broker is ready".to_owned()),
            managed_config: BTreeSet::new(),
            outside: Outside::default(),
            had_listeners: false,
            balanced: None,
            drained: Vec::new(),
            formed: true,
            cluster: None,
        }
    }
}

impl Observed {
    /// The revision that new pods get, once Kubernetes has computed it for the template as it is.
    pub fn update_revision(&self) -> Option<&str> {
        self.set.as_ref()?.update_revision.as_deref()
    }

    /// Whether a broker serves that was made from the present template, and that from what has this hash. Of the image in
    /// there nothing follows: a webhook may put another one in its place.
    pub fn has_run(&self, template_of: &str) -> bool {
        let of_template = self.set.as_ref().is_some_and(|set| set.template_of.as_deref() == Some(template_of));
        let of_pod = |pod: &&ObservedPod| pod.revision.is_some() && pod.revision.as_deref() == self.update_revision();
        of_template && self.pods.iter().filter(of_pod).any(|pod| pod.state == PodState::Ready)
    }

    /// A volume whose claim is being deleted, and is kept by nothing but a pod that is to stay.
    pub fn leaving_volume(&self) -> Option<&ObservedVolume> {
        let kept = |volume: &&ObservedVolume| {
            self.pods.iter().any(|pod| pod.ordinal == volume.ordinal && !pod.is_terminating())
        };
        self.volumes.iter().filter(|volume| volume.leaving).find(kept)
    }
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedSet {
    /// Which one.
    pub seen: Seen,
    /// How many pods it is to have.
    pub replicas: i32,
    /// The image in the pods' template.
    pub image: Option<String>,
    /// The size that it gives to new volumes.
    pub volume_size: Option<Quantity>,
    /// The revision that new pods get, once Kubernetes has computed it for the template as it is.
    pub update_revision: Option<String>,
    /// The pods' template.
    pub template: Value,
    /// What of the spec that template was built from, as a hash.
    pub template_of: Option<String>,
    /// The form that it was built in.
    pub template_form: Option<String>,
    /// Whether it is on its way out.
    pub leaving: bool,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedConfigMap {
    /// Which one.
    pub seen: Seen,
    /// The uid of its controlling owner.
    pub owner: Option<String>,
    /// Whether it is on its way out.
    pub leaving: bool,
}

/// Before a read is repeated.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads the objects of the cluster of that name. What brokers say, and what lies around them, is asked for beside each other
/// when it is known which pods there are.
pub async fn objects(client: &Client, namespace: &str, name: &str) -> Result<Observed, kube::Error> {
    let selector = ListParams::default().labels(&format!("{CLUSTER_LABEL}={name}"));
    let managed =
        ListParams::default().labels(&format!("{CLUSTER_LABEL}={name},app.kubernetes.io/managed-by={MANAGER}"));
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let volumes = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let read = async || {
        futures::try_join!(
            sets.get_opt(name),
            pods.list(&selector),
            volumes.list(&selector),
            config_maps.list(&managed)
        )
    };
    let (set, pods, volumes, config_maps) = match read().await {
        // It was asked too much, or changes its leader. What is not known closes drains, and is written: not for a moment's sake.
        Err(kube::Error::Api(status)) if matches!(status.code, 429 | 503 | 504) => {
            tokio::time::sleep(AGAIN).await;
            read().await?
        }
        read => read?,
    };
    let mut observed = assemble(set.as_ref(), &pods.items, &volumes.items, &config_maps.items, name);
    let looked_at = observed.pods.iter_mut().map(async |pod| {
        if pod.state != PodState::Ready
            && let Some(node) = &pod.node
        {
            pod.node_state = node::observe(client, node).await;
        }
    });
    futures::future::join_all(looked_at).await;
    Ok(observed)
}

/// What the brokers of these pods say. What is said of another cluster than the one that is known, as by a broker that has
/// got the address of one of these, is nothing that may be acted upon.
pub async fn facts(
    brokers: &dyn Brokers,
    (namespace, name): (&str, &str),
    pods: &[ObservedPod],
    cluster: Option<&str>,
) -> Known<Facts> {
    let Some(contact) = Contact::of(namespace, name, pods) else { return Known::Unknown("no broker runs".to_owned()) };
    match brokers.facts(contact).await {
        Ok(facts) => match cluster {
            Some(known) if !facts.cluster.is_empty() && facts.cluster != known => Known::Unknown(format!(
                "brokers answer for the cluster {}, and this is {known} (status.clusterId)",
                facts.cluster
            )),
            _ => Known::Is(facts),
        },
        Err(error) => Known::Unknown(error.to_string()),
    }
}

/// What all brokers were given while they ran, as one that is ready says.
pub async fn config(
    kafka: &dyn Kafka,
    (namespace, name): (&str, &str),
    pods: &[ObservedPod],
    cluster: Option<&str>,
) -> Known<Configs> {
    let ready = pods.iter().filter(|pod| pod.state == PodState::Ready).cloned().collect::<Vec<_>>();
    let Some(contact) = Contact::of(namespace, name, &ready) else {
        return Known::Unknown("no broker is ready".to_owned());
    };
    in_time(kafka.cluster_configs(contact.of_cluster(cluster)))
        .await
        .map_or_else(|error| Known::Unknown(error.to_string()), Known::Is)
}

/// What brokers answer that are not asked how they are: it is not worth more time than this, as what else there is to say,
/// and to do, waits for it.
pub(super) async fn in_time<T>(answer: Answer<T>) -> Result<T, Unanswered> {
    let late = |_| Unanswered::Unsure(format!("no broker answers within {} s", QUESTION.as_secs()));
    tokio::time::timeout(QUESTION, answer).await.map_err(late)?
}

/// The brokers of a cluster that are ready; `None` if none is. One that has just started knows less than there is.
pub async fn ready_contact(
    client: &Client,
    (namespace, name): (&str, &str),
    cluster: Option<&str>,
) -> Result<Option<Contact>, kube::Error> {
    let selector = ListParams::default().labels(&format!("{CLUSTER_LABEL}={name}"));
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&selector).await?.items;
    let pods = pods
        .iter()
        .filter_map(|pod| pod::observe(pod, name, Timestamp::now()))
        .filter(|pod| pod.state == PodState::Ready);
    let contact = Contact::of(namespace, name, &pods.collect::<Vec<_>>());
    Ok(contact.map(|contact| contact.of_cluster(cluster)))
}

fn assemble(
    set: Option<&StatefulSet>,
    pods: &[Pod],
    volumes: &[PersistentVolumeClaim],
    config_maps: &[ConfigMap],
    name: &str,
) -> Observed {
    let now = Timestamp::now();
    let template = set.and_then(|s| s.spec.as_ref()).and_then(|spec| spec.template.spec.as_ref());
    let referred = pods.iter().filter_map(|pod| pod.spec.as_ref()).chain(template).flat_map(pod::config_maps).collect();
    let mut pods = pods.iter().filter_map(|pod| pod::observe(pod, name, now)).collect::<Vec<_>>();
    pods.sort_by_key(|pod| pod.ordinal);
    let mut volumes = volumes.iter().filter_map(|claim| volume::observe(claim, name, now)).collect::<Vec<_>>();
    volumes.sort_by_key(|volume| volume.ordinal);
    Observed {
        set: set.map(observe_set),
        pods,
        volumes,
        config_maps: config_maps.iter().map(observe_config_map).collect(),
        referred,
        ..Observed::default()
    }
}

fn observe_set(set: &StatefulSet) -> ObservedSet {
    let spec = set.spec.as_ref();
    let container = spec
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|pod| pod.containers.iter().find(|c| c.name == super::build::CONTAINER));
    let claim = spec.and_then(|spec| spec.volume_claim_templates.as_ref()?.first()?.spec.as_ref());
    // Before Kubernetes has seen a changed template, its revision is that of the one before.
    let status = set.status.as_ref().filter(|status| status.observed_generation == set.metadata.generation);
    ObservedSet {
        seen: Seen::of(&set.metadata),
        replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        image: container.and_then(|container| container.image.clone()),
        volume_size: claim.and_then(|claim| claim.resources.as_ref()?.requests.as_ref()?.get("storage").cloned()),
        update_revision: status.and_then(|status| status.update_revision.clone()),
        template: spec.and_then(|spec| serde_json::to_value(&spec.template).ok()).unwrap_or_default(),
        template_of: set.annotations().get(TEMPLATE_OF).cloned(),
        template_form: set.annotations().get(TEMPLATE_FORM).cloned(),
        leaving: set.metadata.deletion_timestamp.is_some(),
    }
}

fn observe_config_map(map: &ConfigMap) -> ObservedConfigMap {
    let owner = map.owner_references().iter().find(|owner| owner.controller == Some(true));
    ObservedConfigMap {
        seen: Seen::of(&map.metadata),
        owner: owner.map(|owner| owner.uid.clone()),
        leaving: map.metadata.deletion_timestamp.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_of_other_names_are_not_taken_for_brokers() {
        let named = |name: &str| Pod {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Pod::default()
        };
        let pods = [named("demo-1"), named("demo-0"), named("demo-x"), named("other-0"), named("demo")];
        let found = assemble(None, &pods, &[], &[], "demo").pods.into_iter().map(|pod| pod.ordinal).collect::<Vec<_>>();
        assert_eq!(found, [0, 1]);
    }

    #[test]
    fn a_config_map_is_referred_to_by_the_template_and_by_pods_of_an_older_one() {
        let spec = |name: &str| {
            let volumes = json!([{ "name": "data" }, { "name": "config", "configMap": { "name": name } }]);
            json!({ "containers": [], "volumes": volumes })
        };
        let set: StatefulSet = serde_json::from_value(json!({ "spec": {
            "selector": {}, "serviceName": "demo", "template": { "spec": spec("new") }
        } }))
        .unwrap();
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": { "name": "demo-0" }, "spec": spec("old") })).unwrap();
        let found = assemble(Some(&set), &[pod], &[], &[], "demo").referred;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["new", "old"]);
    }

    #[test]
    fn a_revision_counts_only_once_it_is_that_of_the_present_template() {
        let revision = |generation: i64| {
            let set: StatefulSet = serde_json::from_value(json!({
                "metadata": { "generation": 2 },
                "status": { "replicas": 0, "observedGeneration": generation, "updateRevision": "r2" }
            }))
            .unwrap();
            assemble(Some(&set), &[], &[], &[], "demo").update_revision().map(str::to_owned)
        };
        assert_eq!(revision(1), None);
        assert_eq!(revision(2), Some("r2".to_owned()));
    }
}
