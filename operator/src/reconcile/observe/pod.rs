//! How a pod is, in words for the person who looks at the cluster.

use super::{NodeState, Seen};
use crate::reconcile::build::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// A broker's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedPod {
    /// The broker's id.
    pub ordinal: i32,
    /// Which pod.
    pub seen: Seen,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// The node that it is on, once it is on one.
    pub node: Option<String>,
    /// How that node is; looked at only while the pod is not ready.
    pub node_state: NodeState,
    /// The revision of the template that it was made from.
    pub revision: Option<String>,
    /// How it is.
    pub state: PodState,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// Whether it does not serve, although it is to stay and has had time enough since it was made.
    pub overdue: bool,
}

/// How long a pod may take to serve. Its image is pulled and its volume is attached within minutes; and a process that
/// crashes again and again meanwhile does not serve either.
pub const START_MAX: SignedDuration = SignedDuration::from_mins(5);

impl ObservedPod {
    /// Whether it is on its way out.
    pub fn is_terminating(&self) -> bool {
        self.state == PodState::Waiting(TERMINATING.to_owned())
    }

    /// Whether what keeps it from running may be that its volume is lost: no node has it, or its process cannot read it. An
    /// image that cannot be pulled says nothing of it, nor does a configuration that is refused, or a node that is full.
    pub fn may_lack_its_volume(&self) -> bool {
        let PodState::Failing(why) = &self.state else { return false };
        match why.strip_prefix(UNSCHEDULABLE) {
            Some(message) => message.is_empty() || message.to_lowercase().contains("volume"),
            None => DISK_ERRORS.iter().any(|error| why.contains(error)),
        }
    }
}

/// The scheduler's word for a pod that fits on no node. It says why of each node.
const UNSCHEDULABLE: &str = "Unschedulable";

/// As a process writes what the kernel says of a disk: EIO, ENXIO, ENODEV, EROFS and EUCLEAN.
const DISK_ERRORS: [&str; 5] = ["(os error 5)", "(os error 6)", "(os error 19)", "(os error 30)", "(os error 117)"];

/// What is said of a pod that is on its way out.
const TERMINATING: &str = "terminating";

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

pub(super) fn config_maps(pod: &PodSpec) -> impl Iterator<Item = String> {
    pod.volumes.iter().flatten().filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
}

pub(super) fn observe(pod: &Pod, cluster: &str, now: Timestamp) -> Option<ObservedPod> {
    let name = pod.name_any();
    let ordinal = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    let revision = pod.labels().get("controller-revision-hash").cloned();
    let (state, made) = (state(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let stays = pod.metadata.deletion_timestamp.is_none();
    let overdue = stays && state != PodState::Ready && made.is_some_and(|made| now.duration_since(made) >= START_MAX);
    Some(ObservedPod {
        ordinal,
        seen: Seen::of(&pod.metadata),
        address: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        node_state: NodeState::Unknown,
        revision,
        state,
        made,
        overdue,
    })
}

fn state(pod: &Pod) -> PodState {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Waiting(TERMINATING.to_owned());
    }
    let Some(status) = &pod.status else { return PodState::Waiting("pending".to_owned()) };
    let condition = |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind);
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return PodState::Ready;
    }
    if let Some(scheduled) = condition("PodScheduled").filter(|c| c.status == "False") {
        let why = describe(scheduled.reason.as_deref(), scheduled.message.as_deref());
        // One that fits nowhere is for someone to look at; one that is held back, or that the scheduler has failed with and
        // tries again at once, as with a volume that is elsewhere, is not.
        let fits_nowhere = scheduled.reason.as_deref() == Some(UNSCHEDULABLE);
        return if fits_nowhere { PodState::Failing(why) } else { PodState::Waiting(why) };
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
        // It is started again by itself, and at once if it has not just been: what goes on crashing is a crash loop soon.
        let said = terminated.message.as_deref().map(last_line);
        return PodState::Waiting(describe(Some(&format!("exited with {}", terminated.exit_code)), said));
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
        let crashed = with_container(&json!({ "terminated": { "exitCode": 137 } }), &none);
        assert_eq!(state(&crashed), PodState::Waiting("exited with 137".to_owned()));
        let running = with_container(&json!({ "running": {} }), &none);
        assert_eq!(state(&running), PodState::Waiting("running, but not ready".to_owned()));
    }

    #[test]
    fn a_crash_loop_is_reported_with_the_last_words_of_the_process() {
        let last = json!({ "terminated": { "exitCode": 1, "message": "starting\nunknown key 'x'\n\n" } });
        let looping = with_container(&json!({ "waiting": { "reason": "CrashLoopBackOff" } }), &last);
        assert_eq!(state(&looping), PodState::Failing("CrashLoopBackOff: unknown key 'x'".to_owned()));
    }

    #[test]
    fn only_what_speaks_of_the_volume_is_a_sign_that_it_is_lost() {
        for (why, expected) in [
            ("Unschedulable", true),
            ("Unschedulable: 0/3 nodes are available: 3 node(s) had volume node affinity conflict", true),
            ("Unschedulable: 0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity", true),
            ("Unschedulable: 0/3 nodes are available: 3 Insufficient cpu", false),
            ("CrashLoopBackOff: chronik: cannot open /data: Input/output error (os error 5)", true),
            ("CrashLoopBackOff: chronik: cannot write /data/id: Read-only file system (os error 30)", true),
            ("CrashLoopBackOff: chronik: unknown key \"x\"", false),
            ("CrashLoopBackOff", false),
            ("ErrImagePull: no such image", false),
            ("CreateContainerConfigError: secret \"x\" not found", false),
        ] {
            let mut pod = observe(&pod(&json!({})), "demo", Timestamp::UNIX_EPOCH).unwrap();
            pod.state = PodState::Failing(why.to_owned());
            assert_eq!(pod.may_lack_its_volume(), expected, "{why}");
            pod.state = PodState::Waiting(why.to_owned());
            assert!(!pod.may_lack_its_volume(), "{why}");
        }
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_a_failure_but_one_that_is_held_back_or_tried_again_is_not() {
        let unscheduled = |reason: &str| {
            pod(&json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": reason }] }))
        };
        assert_eq!(state(&unscheduled("Unschedulable")), PodState::Failing("Unschedulable".to_owned()));
        for passes in ["SchedulingGated", "SchedulerError"] {
            assert_eq!(state(&unscheduled(passes)), PodState::Waiting(passes.to_owned()));
        }
    }

    #[test]
    fn a_pod_is_overdue_by_its_age_while_it_is_to_stay_and_does_not_serve() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        let gated =
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }] });
        for (status, leaving, seconds, expected) in [
            (&gated, false, 299, false),
            (&gated, false, 300, true),
            (&json!({}), false, 300, true),
            (&gated, true, 300, false),
            (&ready, false, 300, false),
        ] {
            let mut pod = pod(status);
            let time = |second| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(second);
            pod.metadata.creation_timestamp = Some(time(Timestamp::UNIX_EPOCH));
            pod.metadata.deletion_timestamp = leaving.then(|| time(Timestamp::UNIX_EPOCH));
            let now = Timestamp::from_second(seconds).unwrap();
            assert_eq!(observe(&pod, "demo", now).unwrap().overdue, expected, "{status} {leaving} {seconds}");
        }
    }
}
