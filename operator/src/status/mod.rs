//! What is reported about a cluster: a pure function of its spec, of what was observed and of what was reported before.

pub mod plan;

use crate::brokers::Standing;
use crate::reconcile::build::bootstrap_address;
use crate::reconcile::observe::{GIVE_UP, Known, NodeState, Observed, ObservedPod, PodState, START_MAX};
use crate::reconcile::plan::{BROKER_STUCK, Refusal};
use chronik_crds::{
    BrokerStatus, ChronikCluster, ChronikClusterStatus, ControllerStatus, DynamicConfigStatus, Endpoints,
    ListenerStatus, PartitionsStatus, PlanStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

/// Every broker serves clients.
pub const READY: &str = "Ready";
/// Every partition has all its replicas in sync.
pub const IN_SYNC: &str = "InSync";
/// The cluster is not yet what the spec says.
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong.
pub const DEGRADED: &str = "Degraded";

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
    Refused(Refusal),
    /// The spec says that everything is to stay as it is.
    Paused,
    /// The objects could not all be written, and why. It will be tried again.
    Failed(String),
}

/// A condition without its times.
struct Finding {
    holds: Known<bool>,
    reason: &'static str,
    message: String,
}

/// What one reconcile came to.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// What was observed.
    pub observed: &'a Observed,
    /// How far it came.
    pub attempt: Attempt,
    /// What comes next.
    pub plan: Option<PlanStatus>,
    /// The image of a cluster whose spec names none, if that is known.
    pub image: Option<String>,
    /// The operator that looks after the cluster.
    pub operator: Option<String>,
    /// What brokers take up while they run; `None` where the spec does not say it.
    pub config: Option<Vec<DynamicConfigStatus>>,
    /// Where clients from outside connect; `None` where the spec does not say it.
    pub listeners: Option<Vec<ListenerStatus>>,
    /// Over how many brokers partitions are spread; `None` where that is as it was.
    pub balanced: Option<i32>,
    /// The brokers that the operator has cordoned; `None` where they are as they were.
    pub drained: Option<Vec<i32>>,
}

impl<'a> Outcome<'a> {
    /// What came to nothing beyond this: the rest is as it was.
    pub fn new(observed: &'a Observed, attempt: Attempt) -> Self {
        Self {
            observed,
            attempt,
            plan: None,
            image: None,
            operator: None,
            config: None,
            listeners: None,
            balanced: None,
            drained: None,
        }
    }
}

/// What to report now.
pub fn report(
    cluster: &ChronikCluster,
    before: &ChronikClusterStatus,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> ChronikClusterStatus {
    let (observed, attempt) = (outcome.observed, &outcome.attempt);
    let desired = cluster.spec.replicas;
    let mut brokers = (0..desired).map(|id| broker(cluster, before, observed, id, now)).collect::<Vec<_>>();
    let ready_replicas = brokers.iter().filter(|broker| broker.ready).count();
    let findings = [
        (READY, ready(&brokers)),
        (PROGRESSING, progressing(observed, &brokers, outcome)),
        (DEGRADED, degraded(cluster, observed, &brokers, attempt, before.formed, now)),
        (IN_SYNC, in_sync(observed)),
    ];
    // Of a spec that cannot be followed it is not certain how many brokers it asks for.
    let followed = !matches!(attempt, Attempt::Refused(_));
    let complete =
        followed && findings.iter().any(|(kind, finding)| *kind == READY && finding.holds == Known::Is(true));
    // Those that are to go count for nothing of this.
    let surplus = observed.pods.iter().map(|pod| pod.ordinal).filter(|id| *id >= desired);
    brokers.extend(surplus.map(|id| broker(cluster, before, observed, id, now)));
    let generation = cluster.metadata.generation;
    let facts = observed.facts.known();
    ChronikClusterStatus {
        conditions: findings.map(|(kind, finding)| condition(before, kind, finding, generation, now)).into(),
        observed_generation: generation,
        replicas: i32::try_from(observed.pods.len()).unwrap_or(i32::MAX),
        ready_replicas: i32::try_from(ready_replicas).unwrap_or(i32::MAX),
        formed: before.formed || complete,
        cluster_id: before.cluster_id.clone().or_else(|| {
            let said = facts.map(|facts| facts.cluster.clone());
            said.filter(|id| !id.is_empty())
        }),
        plan: outcome.plan.clone().map(|plan| plan::since(plan, before.plan.as_ref(), now)),
        operator: outcome.operator.clone(),
        image: outcome.image.clone().or_else(|| before.image.clone()),
        metadata_version: facts.and_then(|facts| level(facts.metadata_version)),
        available_metadata_version: facts.and_then(|facts| level(facts.newer_metadata_version?)),
        dynamic_config: outcome.config.clone().unwrap_or_else(|| before.dynamic_config.clone()),
        balanced_brokers: outcome.balanced.or(before.balanced_brokers),
        drained_brokers: outcome.drained.clone().unwrap_or_else(|| before.drained_brokers.clone()),
        partitions: facts.map(|facts| PartitionsStatus {
            total: facts.partitions.into(),
            under_replicated: facts.under_replicated.into(),
            offline: facts.offline.into(),
        }),
        controller: facts.map(|facts| ControllerStatus {
            leader: facts.controller,
            voters: facts.brokers.iter().filter(|(_, broker)| broker.voter).map(|(id, _)| *id).collect(),
        }),
        brokers,
        endpoints: Some(Endpoints {
            bootstrap: bootstrap_address(&cluster.name_any(), &cluster.namespace().unwrap_or_default()),
            listeners: outcome.listeners.clone().unwrap_or_else(|| {
                before.endpoints.as_ref().map(|before| before.listeners.clone()).unwrap_or_default()
            }),
        }),
    }
}

/// A level of `metadata.version`, if it is said.
fn level(said: u32) -> Option<i32> {
    i32::try_from(said).ok().filter(|level| *level > 0)
}

/// What to report where the cluster's objects could not be read: of what was reported before, nothing is known to be so
/// still.
pub fn unobserved(
    before: &ChronikClusterStatus,
    why: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> ChronikClusterStatus {
    let mut after = before.clone();
    for kind in [READY, IN_SYNC, DEGRADED] {
        let holds = if kind == DEGRADED { Known::Is(true) } else { Known::Unknown(why.to_owned()) };
        let finding = Finding { holds, reason: "ObserveFailed", message: why.to_owned() };
        let condition = condition(before, kind, finding, generation, now);
        match after.conditions.iter_mut().find(|old| old.type_ == kind) {
            Some(old) => *old = condition,
            None => after.conditions.push(condition),
        }
    }
    after
}

/// The conditions that have changed, for which events are published. What a new cluster is not yet is no news.
pub fn changes<'a>(
    before: &'a ChronikClusterStatus,
    after: &'a ChronikClusterStatus,
) -> impl Iterator<Item = &'a Condition> {
    after.conditions.iter().filter(|new| {
        let old = before.conditions.iter().find(|old| old.type_ == new.type_);
        old.map_or(new.status == "True", |old| (&old.status, &old.reason) != (&new.status, &new.reason))
    })
}

/// The brokers of which nothing was known to be damaged before, and is now.
pub fn newly_damaged<'a>(
    before: &'a ChronikClusterStatus,
    after: &'a ChronikClusterStatus,
) -> impl Iterator<Item = &'a BrokerStatus> {
    let was_damaged = move |id: i32| before.brokers.iter().any(|broker| broker.id == id && is_damaged(broker));
    after.brokers.iter().filter(move |broker| is_damaged(broker) && !was_damaged(broker.id))
}

fn is_damaged(broker: &BrokerStatus) -> bool {
    broker.damaged.is_some_and(|count| count > 0)
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
        return Finding { holds: Known::Is(true), reason: "AllBrokersReady", message };
    }
    let message = format!("{ready} of {} brokers serve clients; {}", brokers.len(), unready(brokers));
    Finding { holds: Known::Is(false), reason: "BrokersNotReady", message }
}

fn in_sync(observed: &Observed) -> Finding {
    let facts = match &observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => {
            return Finding { holds: Known::Unknown(why.clone()), reason: "Unknown", message: why.clone() };
        }
    };
    if facts.under_replicated == 0 && facts.offline == 0 {
        let message = format!("all {} partitions have all their replicas in sync", facts.partitions);
        return Finding { holds: Known::Is(true), reason: "AllInSync", message };
    }
    let message = format!(
        "of {} partitions {} are under-replicated, and {} have no leader",
        facts.partitions, facts.under_replicated, facts.offline
    );
    Finding { holds: Known::Is(false), reason: "UnderReplicated", message }
}

fn progressing(observed: &Observed, brokers: &[BrokerStatus], outcome: &Outcome<'_>) -> Finding {
    let found = |holds, reason, message: &str| Finding { holds: Known::Is(holds), reason, message: message.to_owned() };
    match &outcome.attempt {
        Attempt::Refused(refusal) => return found(false, refusal.reason, &refusal.message),
        Attempt::Paused => return found(false, "Paused", "spec.paused is true: nothing is changed"),
        Attempt::Failed(why) => return found(true, "Applying", why),
        Attempt::Written => return found(true, "Applying", "the brokers' objects have just been written"),
        Attempt::Applied => {}
    }
    let Some(revision) = observed.update_revision() else {
        return found(true, "Applying", "the brokers' objects are being made");
    };
    let outdated = |pod: &&ObservedPod| pod.revision.as_ref().is_some_and(|of_pod| of_pod != revision);
    let outdated = observed.pods.iter().filter(outdated).map(|pod| pod.seen.name.as_str()).collect::<Vec<_>>();
    let next = outcome.plan.as_ref().map(|plan| format!("{}: {}", plan.action, plan.message)).unwrap_or_default();
    if !outdated.is_empty() {
        let message = format!("{} started before the last change; {next}", outdated.join(", "));
        return found(true, "Restarting", &message);
    }
    if outcome.plan.is_some() {
        return found(true, "Changing", &next);
    }
    let waiting = unready(brokers);
    if !waiting.is_empty() {
        return found(true, "Starting", &waiting);
    }
    found(false, "UpToDate", "every broker runs as the spec says")
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
        Attempt::Refused(Refusal { reason, message }) => {
            return Finding { holds: Known::Is(true), reason, message: message.clone() };
        }
        Attempt::Failed(why) => return Finding { holds: Known::Is(true), reason: "ApplyFailed", message: why.clone() },
        Attempt::Applied | Attempt::Written | Attempt::Paused => {}
    }
    let failing = by_reason(observed.pods.iter().filter_map(failure));
    // A broker that is away with its peers' permit is no fault, nor is one that has yet to join.
    let facts = observed.facts.known();
    let planned = facts.and_then(|facts| facts.permit.as_ref()).map(|permit| permit.broker);
    let joined =
        |id: i32| facts.is_none_or(|facts| facts.brokers.get(&id).is_some_and(|broker| broker.incarnation.is_some()));
    let unplanned = brokers.iter().filter(|broker| Some(broker.id) != planned && joined(broker.id));
    let unplanned = unplanned.cloned().collect::<Vec<_>>();
    let waiting = unready(&unplanned);
    let missing = brokers.iter().filter(|broker| is_overdue(broker, now)).map(|broker| broker.pod.as_str());
    let missing = missing.collect::<Vec<_>>().join(", ");
    if !missing.is_empty() {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let message = format!(
            "{missing}: no pod for {} minutes; why none can be made is said by: kubectl describe statefulset {name} -n \
             {namespace}",
            MISSING_MAX.as_secs() / 60
        );
        Finding { holds: Known::Is(true), reason: "BrokerMissing", message }
    } else if let Some((reason, message)) = lost_node(cluster, observed) {
        Finding { holds: Known::Is(true), reason, message }
    } else if !failing.is_empty() {
        // The node may be gone by now, with all that was said of it.
        let lacking = observed.pods.iter().filter(|pod| pod.may_lack_its_volume());
        let lost = lacking.map(|pod| {
            let name = &pod.seen.name;
            format!("; if the volume of {name} is lost: {}", give_up(cluster, name))
        });
        let message = failing + &lost.collect::<Vec<_>>().concat();
        Finding { holds: Known::Is(true), reason: "BrokerFailing", message }
    } else if let Some(volume) = observed.leaving_volume() {
        let (claim, pod) = (&volume.seen.name, format!("{}-{}", cluster.name_any(), volume.ordinal));
        let namespace = cluster.namespace().unwrap_or_default();
        let message = if observed.pods.len() == 1 {
            format!(
                "{claim} is being deleted, and goes with its pod: it is the only copy of everything. No broker is restarted; \
                 copy the data away before the pod goes"
            )
        } else {
            format!(
                "{claim} is being deleted, and goes with its pod: no broker is restarted and no node drained. While all \
                 others are in sync, end that with: kubectl delete pod {pod} -n {namespace}; the broker begins with an \
                 empty volume, and catches up, but for partitions of which it has the only replica: these are lost"
            )
        };
        Finding { holds: Known::Is(true), reason: "VolumeLeaving", message }
    } else if formed && !waiting.is_empty() {
        Finding { holds: Known::Is(true), reason: "BrokerDown", message: waiting + &unreadable_nodes(observed) }
    } else if let Some(message) = overdue(cluster, observed, planned) {
        Finding { holds: Known::Is(true), reason: BROKER_STUCK, message }
    } else {
        Finding { holds: Known::Is(false), reason: "AsExpected", message: "nothing is known to be wrong".to_owned() }
    }
}

/// The brokers that have had time enough to come up and have not, whether they have ever joined or not.
fn overdue(cluster: &ChronikCluster, observed: &Observed, planned: Option<i32>) -> Option<String> {
    let expected = |pod: &&ObservedPod| pod.ordinal < cluster.spec.replicas && Some(pod.ordinal) != planned;
    let overdue = observed.pods.iter().filter(|pod| pod.overdue).filter(expected).collect::<Vec<_>>();
    let first = &overdue.first()?.seen.name;
    let pods = overdue.iter().filter_map(|pod| match &pod.state {
        PodState::Waiting(why) | PodState::Failing(why) => Some((pod.seen.name.as_str(), why.as_str())),
        PodState::Ready => None,
    });
    Some(format!(
        "{}, for more than {} minutes; what holds it up is said by: kubectl describe pod {first} -n {}",
        by_reason(pods),
        START_MAX.as_mins(),
        cluster.namespace().unwrap_or_default()
    ))
}

/// Of brokers that do not serve, the nodes that the operator could not look at.
fn unreadable_nodes(observed: &Observed) -> String {
    let down = observed.pods.iter().filter(|pod| pod.state != PodState::Ready && pod.node_state == NodeState::Unknown);
    let said = down.filter_map(|pod| {
        let node = pod.node.as_deref()?;
        Some(format!("; {} is on node {node}, which could not be looked at", pod.seen.name))
    });
    said.collect()
}

/// A broker whose node is gone, or does not report: what somebody has to do about it.
fn lost_node(cluster: &ChronikCluster, observed: &Observed) -> Option<(&'static str, String)> {
    observed.pods.iter().find_map(|pod| {
        let (name, node) = (&pod.seen.name, pod.node.as_deref()?);
        let (reason, message) = match pod.node_state {
            NodeState::Gone => {
                let message = format!(
                    "{name} was on node {node}, which does not exist any more; if its volume was there, and is lost: {}",
                    give_up(cluster, name)
                );
                ("NodeGone", message)
            }
            NodeState::NotReady => {
                let message = format!(
                    "{name} is on node {node}, which does not report; its partitions are led by others meanwhile. If the \
                     node does not come back: kubectl taint node {node} node.kubernetes.io/out-of-service=:NoExecute"
                );
                ("NodeNotReady", message)
            }
            NodeState::OutOfService => {
                ("NodeOutOfService", format!("{name} is on node {node}, which was declared out of service"))
            }
            NodeState::Ready | NodeState::Unknown => return None,
        };
        Some((reason, message))
    })
}

/// How somebody says that the volume of this pod is lost.
fn give_up(cluster: &ChronikCluster, pod: &str) -> String {
    format!("kubectl annotate pvc data-{pod} -n {} {GIVE_UP}=true", cluster.namespace().unwrap_or_default())
}

fn is_overdue(broker: &BrokerStatus, now: Timestamp) -> bool {
    let missing = broker.missing_since.as_ref().map(|since| now.as_second() - since.0.as_second());
    missing.is_some_and(|seconds| seconds >= MISSING_MAX.as_secs() as i64)
}

fn failure(pod: &ObservedPod) -> Option<(&str, &str)> {
    match &pod.state {
        PodState::Failing(why) => Some((&pod.seen.name, why)),
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
    let known = observed.facts.known().and_then(|facts| facts.brokers.get(&id));
    let last = before.brokers.iter().find(|broker| broker.id == id);
    let as_known = BrokerStatus {
        id,
        pod: name,
        fenced: known.map(|broker| broker.standing == Standing::Fenced),
        in_sync: known.map(|broker| broker.standing == Standing::InSync),
        cordoned: known.map(|broker| broker.cordoned),
        leaders: known.map(|broker| broker.leaders.into()),
        replicas: known.map(|broker| broker.replicas.into()),
        // What a disk has lost it lacks as well while nobody hears of it.
        damaged: known.and_then(|broker| broker.damaged).map(i64::from).or_else(|| last.and_then(|last| last.damaged)),
        ..BrokerStatus::default()
    };
    let Some(pod) = observed.pods.iter().find(|pod| pod.ordinal == id) else {
        let since = last.and_then(|last| last.missing_since.clone());
        return BrokerStatus {
            reason: Some("no pod".to_owned()),
            missing_since: Some(since.unwrap_or_else(|| whole_seconds(now))),
            ..as_known
        };
    };
    let reason = match &pod.state {
        PodState::Ready => None,
        PodState::Waiting(why) | PodState::Failing(why) => Some(match known.and_then(|broker| broker.starting) {
            Some(percent) => format!("{why}: {percent} % of its log read"),
            None => why.clone(),
        }),
    };
    BrokerStatus { ready: reason.is_none(), revision: pod.revision.clone(), reason, ..as_known }
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
    let status = match finding.holds {
        Known::Is(true) => "True",
        Known::Is(false) => "False",
        Known::Unknown(_) => "Unknown",
    };
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
mod tests;
