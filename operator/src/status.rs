//! What is reported about a cluster: a pure function of its spec, of what was observed and of what was reported before.

use crate::reconcile::build::bootstrap_address;
use crate::reconcile::dereference::{Observed, ObservedPod, PodState};
use chronik_crds::{BrokerStatus, ChronikCluster, ChronikClusterStatus, Endpoints};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

/// Every broker serves clients.
pub const READY: &str = "Ready";
/// The cluster is not yet what the spec says.
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong.
pub const DEGRADED: &str = "Degraded";

/// The metric in which brokers say how many of the partitions that they lead lack an in-sync replica.
pub const UNDER_REPLICATED: &str = "chronik_partition_under_replicated";
/// A broker without a pod for so long has one that cannot be made.
const MISSING_MAX: Duration = Duration::from_mins(2);

/// How far a reconcile came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Every object is as the spec says, and was when the cluster was observed.
    Applied,
    /// Every object is as the spec says, some only since the cluster was observed.
    Written,
    /// The spec cannot be followed, and why. The objects are as they were.
    Refused(String),
    /// The objects could not all be written, and why. It will be tried again.
    Failed(String),
}

/// A condition without its times.
struct Finding {
    holds: bool,
    reason: &'static str,
    message: String,
}

/// What to report now.
pub fn report(
    cluster: &ChronikCluster,
    before: &ChronikClusterStatus,
    observed: &Observed,
    attempt: &Attempt,
    now: Timestamp,
) -> ChronikClusterStatus {
    let desired = cluster.spec.replicas;
    let brokers = (0..desired).map(|id| broker(cluster, before, observed, id, now)).collect::<Vec<_>>();
    let ready_replicas = brokers.iter().filter(|broker| broker.ready).count();
    let findings = [
        (READY, ready(&brokers)),
        (PROGRESSING, progressing(observed, &brokers, attempt)),
        (DEGRADED, degraded(cluster, observed, &brokers, attempt, before.formed, now)),
    ];
    // Of a spec that cannot be followed it is not certain how many brokers it asks for.
    let followed = !matches!(attempt, Attempt::Refused(_));
    let complete = followed && findings.iter().any(|(kind, finding)| *kind == READY && finding.holds);
    let generation = cluster.metadata.generation;
    ChronikClusterStatus {
        conditions: findings.map(|(kind, finding)| condition(before, kind, finding, generation, now)).into(),
        observed_generation: generation,
        replicas: i32::try_from(observed.pods.len()).unwrap_or(i32::MAX),
        ready_replicas: i32::try_from(ready_replicas).unwrap_or(i32::MAX),
        formed: before.formed || complete,
        brokers,
        endpoints: Some(Endpoints {
            bootstrap: bootstrap_address(&cluster.name_any(), &cluster.namespace().unwrap_or_default()),
        }),
    }
}

/// The conditions that are not what they were: those that a person is told of. What a new cluster is not yet is no news.
pub fn changes<'a>(
    before: &'a ChronikClusterStatus,
    after: &'a ChronikClusterStatus,
) -> impl Iterator<Item = &'a Condition> {
    after.conditions.iter().filter(|new| {
        let old = before.conditions.iter().find(|old| old.type_ == new.type_);
        old.map_or(new.status == "True", |old| (&old.status, &old.reason) != (&new.status, &new.reason))
    })
}

/// How soon the passing of time alone may change what is reported.
pub fn changes_after(status: &ChronikClusterStatus) -> Option<Duration> {
    status.brokers.iter().any(|broker| broker.missing_since.is_some()).then_some(MISSING_MAX)
}

/// Whether a condition says that something is wrong.
pub fn is_trouble(condition: &Condition) -> bool {
    condition.type_ == DEGRADED && condition.status == "True"
}

fn ready(brokers: &[BrokerStatus]) -> Finding {
    let ready = brokers.iter().filter(|broker| broker.ready).count();
    if ready == brokers.len() && ready > 0 {
        let message = format!("all {ready} brokers serve clients");
        return Finding { holds: true, reason: "AllBrokersReady", message };
    }
    let message = format!("{ready} of {} brokers serve clients; {}", brokers.len(), unready(brokers));
    Finding { holds: false, reason: "BrokersNotReady", message }
}

fn progressing(observed: &Observed, brokers: &[BrokerStatus], attempt: &Attempt) -> Finding {
    match attempt {
        Attempt::Refused(why) => return Finding { holds: false, reason: "InvalidSpec", message: why.clone() },
        Attempt::Failed(why) => return Finding { holds: true, reason: "Applying", message: why.clone() },
        Attempt::Written => {
            let message = "the brokers' objects have just been written".to_owned();
            return Finding { holds: true, reason: "Applying", message };
        }
        Attempt::Applied => {}
    }
    let Some(revision) = &observed.update_revision else {
        return Finding { holds: true, reason: "Applying", message: "the brokers' objects are being made".to_owned() };
    };
    let outdated = observed.pods.iter().filter(|pod| pod.revision.as_ref().is_some_and(|of_pod| of_pod != revision));
    let outdated = outdated.map(|pod| pod.name.as_str()).collect::<Vec<_>>();
    if !outdated.is_empty() {
        let message = format!(
            "{} started before the last change; for them to take it up, delete these pods one at a time, each \
             after the one before is ready again and {UNDER_REPLICATED} is 0 on every broker",
            outdated.join(", ")
        );
        return Finding { holds: true, reason: "RestartPending", message };
    }
    let waiting = unready(brokers);
    if !waiting.is_empty() {
        return Finding { holds: true, reason: "Starting", message: waiting };
    }
    Finding { holds: false, reason: "UpToDate", message: "every broker runs as the spec says".to_owned() }
}

fn degraded(
    cluster: &ChronikCluster,
    observed: &Observed,
    brokers: &[BrokerStatus],
    attempt: &Attempt,
    formed: bool,
    now: Timestamp,
) -> Finding {
    match attempt {
        Attempt::Refused(why) => return Finding { holds: true, reason: "InvalidSpec", message: why.clone() },
        Attempt::Failed(why) => return Finding { holds: true, reason: "ApplyFailed", message: why.clone() },
        Attempt::Applied | Attempt::Written => {}
    }
    let failing = by_reason(observed.pods.iter().filter_map(failure));
    let waiting = unready(brokers);
    let missing = brokers.iter().filter(|broker| is_overdue(broker, now)).map(|broker| broker.pod.as_str());
    let missing = missing.collect::<Vec<_>>().join(", ");
    if !missing.is_empty() {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let message = format!(
            "{missing}: no pod for {} minutes; why none can be made is said by: kubectl describe statefulset {name} -n \
             {namespace}",
            MISSING_MAX.as_secs() / 60
        );
        Finding { holds: true, reason: "BrokerMissing", message }
    } else if !failing.is_empty() {
        Finding { holds: true, reason: "BrokerFailing", message: failing }
    } else if formed && !waiting.is_empty() {
        Finding { holds: true, reason: "BrokerDown", message: waiting }
    } else {
        Finding { holds: false, reason: "AsExpected", message: "nothing is known to be wrong".to_owned() }
    }
}

fn is_overdue(broker: &BrokerStatus, now: Timestamp) -> bool {
    let missing = broker.missing_since.as_ref().map(|since| now.as_second() - since.0.as_second());
    missing.is_some_and(|seconds| seconds >= MISSING_MAX.as_secs() as i64)
}

fn failure(pod: &ObservedPod) -> Option<(&str, &str)> {
    match &pod.state {
        PodState::Failing(why) => Some((&pod.name, why)),
        PodState::Ready | PodState::Waiting(_) => None,
    }
}

/// The brokers that do not serve clients, each with the gist of why; empty if all do.
fn unready(brokers: &[BrokerStatus]) -> String {
    by_reason(brokers.iter().filter(|broker| !broker.ready).map(|broker| {
        let reason = broker.reason.as_deref().unwrap_or("unknown");
        (broker.pod.as_str(), reason.split_once(": ").map_or(reason, |(gist, _)| gist))
    }))
}

/// Pods and reasons in words, those with the same reason together.
fn by_reason<'a>(pods: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (pod, reason) in pods {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, pods)) => pods.push(pod),
            None => reasons.push((reason, vec![pod])),
        }
    }
    reasons.iter().map(|(reason, pods)| format!("{}: {reason}", pods.join(", "))).collect::<Vec<_>>().join("; ")
}

fn broker(
    cluster: &ChronikCluster,
    before: &ChronikClusterStatus,
    observed: &Observed,
    id: i32,
    now: Timestamp,
) -> BrokerStatus {
    let name = format!("{}-{id}", cluster.name_any());
    let Some(pod) = observed.pods.iter().find(|pod| pod.ordinal == id) else {
        let known = before.brokers.iter().find(|broker| broker.id == id).and_then(|b| b.missing_since.clone());
        return BrokerStatus {
            id,
            pod: name,
            ready: false,
            revision: None,
            reason: Some("no pod".to_owned()),
            missing_since: Some(known.unwrap_or_else(|| whole_seconds(now))),
        };
    };
    let reason = match &pod.state {
        PodState::Ready => None,
        PodState::Waiting(why) | PodState::Failing(why) => Some(why.clone()),
    };
    BrokerStatus { id, pod: name, ready: reason.is_none(), revision: pod.revision.clone(), reason, missing_since: None }
}

/// Kubernetes keeps whole seconds: with more, what was written would never equal what is read.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn condition(
    before: &ChronikClusterStatus,
    kind: &str,
    finding: Finding,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if finding.holds { "True" } else { "False" };
    let unchanged = before.conditions.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message,
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(|| whole_seconds(now), |old| old.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_000;

    fn cluster() -> ChronikCluster {
        serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
            "metadata": { "name": "demo", "namespace": "default", "generation": 4 },
            "spec": { "replicas": 3, "storage": { "size": "1Gi" } }
        }))
        .unwrap()
    }

    fn observed(states: &[PodState]) -> Observed {
        let pod = |(ordinal, state): (i32, &PodState)| ObservedPod {
            ordinal,
            name: format!("demo-{ordinal}"),
            revision: Some("r1".to_owned()),
            state: state.clone(),
        };
        let pods = (0..).zip(states).map(pod).collect();
        Observed {
            image: Some("chronik:1".to_owned()),
            update_revision: Some("r1".to_owned()),
            pods,
            ..Observed::default()
        }
    }

    fn at(before: &ChronikClusterStatus, observed: &Observed, attempt: &Attempt, second: i64) -> ChronikClusterStatus {
        report(&cluster(), before, observed, attempt, Timestamp::from_second(second).unwrap())
    }

    fn first(observed: &Observed, attempt: &Attempt) -> ChronikClusterStatus {
        at(&ChronikClusterStatus::default(), observed, attempt, NOW)
    }

    fn conditions(status: &ChronikClusterStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    fn waiting(why: &str) -> PodState {
        PodState::Waiting(why.to_owned())
    }

    #[test]
    fn a_cluster_is_ready_when_every_broker_is() {
        let status = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied);
        let expected = ["Ready=True AllBrokersReady", "Progressing=False UpToDate", "Degraded=False AsExpected"];
        assert_eq!(conditions(&status), expected);
        assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (3, 3, Some(4)));
        assert_eq!(status.endpoints.unwrap().bootstrap, "demo-bootstrap.default.svc:9092");
    }

    #[test]
    fn a_new_cluster_starts_and_that_is_no_fault() {
        let status = first(&observed(&[PodState::Ready, waiting("ContainerCreating")]), &Attempt::Applied);
        let expected = ["Ready=False BrokersNotReady", "Progressing=True Starting", "Degraded=False AsExpected"];
        assert_eq!(conditions(&status), expected);
        assert_eq!(
            status.conditions[0].message,
            "1 of 3 brokers serve clients; demo-1: ContainerCreating; demo-2: no pod"
        );
    }

    #[test]
    fn a_broker_that_goes_away_from_a_complete_cluster_is_a_fault_until_it_is_back() {
        let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
        let two = observed(&[PodState::Ready, PodState::Ready, waiting("terminating")]);
        let complete = first(&all, &Attempt::Applied);
        let down = at(&complete, &two, &Attempt::Applied, NOW + 1);
        assert!(conditions(&down).contains(&"Degraded=True BrokerDown".to_owned()));
        let still = at(&down, &two, &Attempt::Applied, NOW + 2);
        assert_eq!(still, down);
        let back = at(&still, &all, &Attempt::Applied, NOW + 3);
        assert!(conditions(&back).contains(&"Degraded=False AsExpected".to_owned()));
    }

    #[test]
    fn a_broker_that_failed_before_it_was_only_waited_for_is_a_fault_until_it_is_back() {
        let two_and = |state| observed(&[PodState::Ready, PodState::Ready, state]);
        let mut status = first(&two_and(PodState::Ready), &Attempt::Applied);
        assert!(status.formed);
        for (state, degraded) in [
            (PodState::Failing("CrashLoopBackOff".to_owned()), "Degraded=True BrokerFailing"),
            (waiting("running, but not ready"), "Degraded=True BrokerDown"),
            (PodState::Ready, "Degraded=False AsExpected"),
        ] {
            status = at(&status, &two_and(state), &Attempt::Applied, NOW + 1);
            assert_eq!(conditions(&status)[2], degraded);
        }
    }

    #[test]
    fn a_failing_pod_is_a_fault_from_the_start() {
        let looping = PodState::Failing("CrashLoopBackOff: disk full".to_owned());
        let status = first(&observed(&[PodState::Ready, PodState::Ready, looping]), &Attempt::Applied);
        assert_eq!(status.conditions[2].reason, "BrokerFailing");
        assert_eq!(status.conditions[2].message, "demo-2: CrashLoopBackOff: disk full");
    }

    #[test]
    fn brokers_with_the_same_fault_share_a_line_and_only_the_fault_goes_into_details() {
        let pull = || PodState::Failing("ErrImagePull: no such host".to_owned());
        let status = first(&observed(&[pull(), PodState::Ready, pull()]), &Attempt::Applied);
        assert_eq!(status.conditions[0].message, "1 of 3 brokers serve clients; demo-0, demo-2: ErrImagePull");
        assert_eq!(status.conditions[2].message, "demo-0, demo-2: ErrImagePull: no such host");
    }

    #[test]
    fn a_pod_that_is_not_made_for_minutes_is_a_fault_that_says_where_to_look() {
        let two = observed(&[PodState::Ready, PodState::Ready]);
        let start = first(&two, &Attempt::Applied);
        assert_eq!(
            (conditions(&start)[2].as_str(), changes_after(&start)),
            ("Degraded=False AsExpected", Some(MISSING_MAX))
        );
        let soon = at(&start, &two, &Attempt::Applied, NOW + 119);
        assert_eq!(soon, start);
        let late = at(&soon, &two, &Attempt::Applied, NOW + 120);
        assert_eq!(conditions(&late)[2], "Degraded=True BrokerMissing");
        let message = &late.conditions[2].message;
        assert!(message.starts_with("demo-2: no pod for 2 minutes"), "{message}");
        assert!(message.ends_with("kubectl describe statefulset demo -n default"), "{message}");
        let made = observed(&[PodState::Ready, PodState::Ready, waiting("ContainerCreating")]);
        let made = at(&late, &made, &Attempt::Applied, NOW + 121);
        assert_eq!((conditions(&made)[2].as_str(), changes_after(&made)), ("Degraded=False AsExpected", None));
    }

    #[test]
    fn pods_of_an_older_template_are_named_and_left_alone() {
        let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
        observed.update_revision = Some("r2".to_owned());
        observed.pods[1].revision = Some("r2".to_owned());
        let status = first(&observed, &Attempt::Applied);
        let expected = ["Ready=True AllBrokersReady", "Progressing=True RestartPending", "Degraded=False AsExpected"];
        assert_eq!(conditions(&status), expected);
        let message = &status.conditions[1].message;
        assert!(message.starts_with("demo-0, demo-2 started before the last change"), "{message}");
        // A ready broker may have yet to catch up.
        assert!(message.ends_with("and chronik_partition_under_replicated is 0 on every broker"), "{message}");
    }

    #[test]
    fn a_spec_that_cannot_be_followed_says_nothing_against_the_brokers_that_run() {
        let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
        let status = first(&all, &Attempt::Refused("replicas: 0".to_owned()));
        let expected = ["Ready=True AllBrokersReady", "Progressing=False InvalidSpec", "Degraded=True InvalidSpec"];
        assert_eq!(conditions(&status), expected);
    }

    #[test]
    fn objects_that_cannot_be_written_are_a_fault_that_is_worked_on() {
        let status = first(&observed(&[]), &Attempt::Failed("Service demo: no".to_owned()));
        let expected = ["Ready=False BrokersNotReady", "Progressing=True Applying", "Degraded=True ApplyFailed"];
        assert_eq!(conditions(&status), expected);
    }

    #[test]
    fn what_was_observed_before_objects_were_written_does_not_show_that_they_are_followed() {
        let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
        let status = first(&all, &Attempt::Written);
        let expected = ["Ready=True AllBrokersReady", "Progressing=True Applying", "Degraded=False AsExpected"];
        assert_eq!(conditions(&status), expected);
    }

    #[test]
    fn of_a_new_cluster_only_what_holds_is_news() {
        let status = first(&observed(&[]), &Attempt::Applied);
        let news = ChronikClusterStatus::default();
        assert_eq!(changes(&news, &status).map(|c| c.type_.as_str()).collect::<Vec<_>>(), [PROGRESSING]);
    }

    #[test]
    fn nothing_new_gives_the_same_report_and_a_change_gives_only_its_own_condition_a_new_time() {
        let some = observed(&[PodState::Ready, waiting("ContainerCreating"), PodState::Ready]);
        let before = first(&some, &Attempt::Applied);
        assert_eq!(at(&before, &some, &Attempt::Applied, NOW + 60), before);
        let after =
            at(&before, &observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied, NOW + 60);
        let changed = changes(&before, &after).map(|c| c.type_.as_str()).collect::<Vec<_>>();
        assert_eq!(changed, [READY, PROGRESSING]);
        let times = after.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect::<Vec<_>>();
        assert_eq!(times, [NOW + 60, NOW + 60, NOW]);
    }
}
