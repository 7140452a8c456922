//! What there is of a cluster: its StatefulSet and its pods, as the API server has them now.

use super::build::{CLUSTER_LABEL, CONTAINER};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The image in the pods' template, if there is a StatefulSet.
    pub image: Option<String>,
    /// The revision that new pods get, once Kubernetes has computed it for the template as it is.
    pub update_revision: Option<String>,
    /// The pods that exist, by ordinal.
    pub pods: Vec<ObservedPod>,
    /// Every ConfigMap that a pod, or the pods' template, refers to.
    pub config_maps: BTreeSet<String>,
}

/// A broker's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedPod {
    /// The broker's id.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// The revision of the template that it was made from.
    pub revision: Option<String>,
    /// How it is.
    pub state: PodState,
}

/// How a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It serves clients.
    Ready,
    /// Not yet, or not any more, for a reason that time alone may cure.
    Waiting(String),
    /// Not, for a reason that someone has to look at.
    Failing(String),
}

/// Reads the cluster of that name.
pub async fn dereference(client: &Client, namespace: &str, name: &str) -> Result<Observed, kube::Error> {
    let stateful_set = Api::<StatefulSet>::namespaced(client.clone(), namespace).get_opt(name).await?;
    let selector = ListParams::default().labels(&format!("{CLUSTER_LABEL}={name}"));
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&selector).await?;
    Ok(observe(stateful_set.as_ref(), &pods.items, name))
}

fn observe(stateful_set: Option<&StatefulSet>, pods: &[Pod], name: &str) -> Observed {
    let template = stateful_set.and_then(|s| s.spec.as_ref()).and_then(|spec| spec.template.spec.as_ref());
    let container = template.and_then(|template| template.containers.iter().find(|c| c.name == CONTAINER));
    // Before Kubernetes has seen a changed template, its revision is that of the one before.
    let settled = stateful_set
        .filter(|s| s.status.as_ref().and_then(|status| status.observed_generation) == s.metadata.generation);
    let config_maps = pods.iter().filter_map(|pod| pod.spec.as_ref()).chain(template).flat_map(config_maps).collect();
    let mut pods = pods.iter().filter_map(|pod| observe_pod(pod, name)).collect::<Vec<_>>();
    pods.sort_by_key(|pod| pod.ordinal);
    Observed {
        image: container.and_then(|container| container.image.clone()),
        update_revision: settled.and_then(|s| s.status.as_ref()?.update_revision.clone()),
        pods,
        config_maps,
    }
}

fn config_maps(pod: &PodSpec) -> impl Iterator<Item = String> {
    pod.volumes.iter().flatten().filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
}

fn observe_pod(pod: &Pod, cluster: &str) -> Option<ObservedPod> {
    let name = pod.name_any();
    let ordinal = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    let revision = pod.labels().get("controller-revision-hash").cloned();
    Some(ObservedPod { ordinal, name, revision, state: state(pod) })
}

fn state(pod: &Pod) -> PodState {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Waiting("terminating".to_owned());
    }
    let Some(status) = &pod.status else { return PodState::Waiting("pending".to_owned()) };
    let condition = |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind);
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return PodState::Ready;
    }
    if let Some(scheduled) = condition("PodScheduled").filter(|c| c.status == "False") {
        let why = describe(scheduled.reason.as_deref(), scheduled.message.as_deref());
        let gated = scheduled.reason.as_deref() == Some("SchedulingGated");
        return if gated { PodState::Waiting(why) } else { PodState::Failing(why) };
    }
    match status.container_statuses.iter().flatten().find(|c| c.name == CONTAINER) {
        Some(container) => container_state(container),
        None => {
            PodState::Waiting(describe(status.reason.as_deref().or(status.phase.as_deref()), status.message.as_deref()))
        }
    }
}

/// The reasons that pass by themselves; any other is for someone to look at.
const PASSING: &[&str] = &["ContainerCreating", "PodInitializing"];

fn container_state(container: &ContainerStatus) -> PodState {
    let Some(current) = &container.state else { return PodState::Waiting("pending".to_owned()) };
    if let Some(waiting) = &current.waiting {
        let reason = waiting.reason.as_deref();
        if reason.is_none_or(|reason| PASSING.contains(&reason)) {
            return PodState::Waiting(describe(reason, None));
        }
        // What a process said last is more use than that it is waited for.
        let said = container.last_state.as_ref().and_then(|last| last.terminated.as_ref()?.message.as_deref());
        return PodState::Failing(describe(reason, said.map(last_line).or(waiting.message.as_deref())));
    }
    if let Some(terminated) = &current.terminated {
        let said = terminated.message.as_deref().map(last_line);
        return PodState::Failing(describe(Some(&format!("exited with {}", terminated.exit_code)), said));
    }
    PodState::Waiting("running, but not ready".to_owned())
}

fn describe(reason: Option<&str>, message: Option<&str>) -> String {
    match (reason, message.filter(|m| !m.is_empty())) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => "pending".to_owned(),
    }
}

/// The last line that says something, cut to what fits into a status.
fn last_line(log: &str) -> &str {
    let line = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        let metadata = json!({ "name": "demo-1", "labels": { "controller-revision-hash": "r1" } });
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    fn with_container(state: &Value, last: &Value) -> Pod {
        let container = json!({ "name": "chronik", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                                "state": state, "lastState": last });
        pod(&json!({ "containerStatuses": [container] }))
    }

    #[test]
    fn a_pod_is_ready_when_kubernetes_says_so() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        assert_eq!(state(&pod(&ready)), PodState::Ready);
    }

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_a_failure() {
        let none = json!({});
        let waiting = |reason: &str| with_container(&json!({ "waiting": { "reason": reason } }), &none);
        assert_eq!(state(&waiting("ContainerCreating")), PodState::Waiting("ContainerCreating".to_owned()));
        assert_eq!(state(&waiting("ErrImagePull")), PodState::Failing("ErrImagePull".to_owned()));
        let running = with_container(&json!({ "running": {} }), &none);
        assert_eq!(state(&running), PodState::Waiting("running, but not ready".to_owned()));
    }

    #[test]
    fn a_crash_loop_is_told_with_the_last_words_of_the_process() {
        let last = json!({ "terminated": { "exitCode": 1, "message": "starting\nunknown key 'x'\n\n" } });
        let looping = with_container(&json!({ "waiting": { "reason": "CrashLoopBackOff" } }), &last);
        assert_eq!(state(&looping), PodState::Failing("CrashLoopBackOff: unknown key 'x'".to_owned()));
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_a_failure_but_one_that_is_held_back_is_not() {
        let unscheduled = |reason: &str| {
            pod(&json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": reason }] }))
        };
        assert_eq!(state(&unscheduled("Unschedulable")), PodState::Failing("Unschedulable".to_owned()));
        assert_eq!(state(&unscheduled("SchedulingGated")), PodState::Waiting("SchedulingGated".to_owned()));
    }

    #[test]
    fn pods_of_other_names_are_not_taken_for_brokers() {
        let named = |name: &str| Pod {
            metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Pod::default()
        };
        let pods = [named("demo-1"), named("demo-0"), named("demo-x"), named("other-0"), named("demo")];
        let found = observe(None, &pods, "demo").pods.into_iter().map(|pod| pod.ordinal).collect::<Vec<_>>();
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
        let found = observe(Some(&set), &[pod], "demo").config_maps;
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
            observe(Some(&set), &[], "demo").update_revision
        };
        assert_eq!(revision(1), None);
        assert_eq!(revision(2), Some("r2".to_owned()));
    }
}
