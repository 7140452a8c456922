//! Bad specs are refused by the API server, with a message that says what is wrong; what it cannot tell, the status
//! does.

use crate::brokers::Brokers;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{bail, ensure};

/// Name, spec, and words of the message.
const REFUSED: &[(&str, &str, &str)] = &[
    ("1demo", "{storage: {size: 1Gi}}", "the name must be at most 40 characters"),
    (
        "a-name-that-is-far-too-long-for-the-names-of-its-pods",
        "{storage: {size: 1Gi}}",
        "the name must be at most 40 characters",
    ),
    ("demo", "{replicas: 3}", "spec.storage: Required value"),
    ("demo", "{storage: {size: 1Gig}}", "storage.size must be a quantity above zero, such as 10Gi"),
    ("demo", "{storage: {size: '0'}}", "storage.size must be a quantity above zero, such as 10Gi"),
    ("demo", "{replicas: 0, storage: {size: 1Gi}}", "should be greater than or equal to 1"),
    ("demo", "{replicas: 2, storage: {size: 1Gi}}", "replicas cannot be 2"),
    (
        "demo",
        "{replicas: 3, replication: {factor: 4}, storage: {size: 1Gi}}",
        "replication.factor must not be larger than replicas",
    ),
    (
        "demo",
        "{replication: {minInsync: 4}, storage: {size: 1Gi}}",
        "replication.minInsync must not be larger than the replication factor",
    ),
    ("demo", "{storage: {size: 1Gi}, config: {broker.id: 7}}", "broker ids are the ordinals of the pods"),
    ("demo", "{storage: {size: 1Gi}, config: {min.insync.replicas: 1}}", "use spec.replication.minInsync"),
    ("demo", "{storage: {size: 1Gi}, config: {num.partition: 7}}", "unknown broker property num.partition; known are"),
    ("demo", "{storage: {size: 1Gi}, config: {num.partitions: few}}", "num.partitions must be a whole number"),
    ("demo", "{storage: {size: 1Gi}, config: {num.partitions: 0}}", "num.partitions must be a whole number from 1"),
    ("demo", "{storage: {size: 1Gi}, config: {num.partitions: 3000000000}}", "must be a whole number from 1"),
    ("demo", "{storage: {size: 1Gi}, config: {max.connections: 0}}", "must be a whole number from 1"),
    (
        "demo",
        "{storage: {size: 1Gi}, config: {replica.lag.time.max.ms: 3 moons}}",
        "must be a duration such as 30000 or 30s",
    ),
    (
        "demo",
        "{storage: {size: 1Gi}, config: {replica.selector.class: org.example.Nearest}}",
        "replica.selector.class must be one of org.apache.kafka.common.replica.LeaderSelector",
    ),
    (
        "demo",
        "{storage: {size: 1Gi}, config: {group.coordinator.rebalance.protocols: streams}}",
        "must be some of classic, consumer",
    ),
    ("demo", "{storage: {size: 1Gi}, config: {log.retention.hours: 168}}", "use log.retention.ms, as in 168h"),
    ("demo", "{storage: {size: 1Gi}, resources: {limits: {cpu: lots}}}", "resources must be quantities"),
    (
        "demo",
        "{storage: {size: 1Gi}, autoRebalance: {throttle: fast}}",
        "autoRebalance.throttle must be a size such as",
    ),
    (
        "demo",
        "{storage: {size: 1Gi}, autoRebalance: {throttle: 0MiB}}",
        "autoRebalance.throttle must be a size such as",
    ),
    ("demo", "{storage: {size: 1Gi}, replica: 3}", "unknown field \"spec.replica\""),
];

/// Specs that the API server takes and the operator does not follow, and words of the condition's message.
const NOT_FOLLOWED: &[(&str, &str)] = &[
    ("{storage: {size: 1Gi}, config: {log.segment.bytes: 2GiB}}", "log.segment.bytes: \"2GiB\" is not between"),
    ("{storage: {size: 1Gi}, config: {message.max.bytes: 200MiB}}", "must exceed message.max.bytes"),
    ("{storage: {size: 1Gi}, config: {socket.request.max.bytes: 150MiB}}", "must not be less than socket.request"),
    (
        "{storage: {size: 1Gi}, config: {group.consumer.session.timeout.ms: 30s}}",
        "no more than group.consumer.session.timeout.ms, which is 30000 ms",
    ),
    ("{storage: {size: 1Gi}, config: {broker.session.timeout.ms: 200ms}}", "\"200ms\" is not between 300 and"),
];

/// Changes to a cluster of three brokers with 2Gi each.
const UNCHANGEABLE: &[(&str, &str)] = &[
    (r#"{"spec": {"replicas": 1}}"#, "replicas cannot be changed from or to 1"),
    (r#"{"spec": {"storage": {"storageClass": "other"}}}"#, "storage.storageClass cannot be changed"),
];

/// Changes that are taken, or are none.
const CHANGEABLE: &[&str] = &[
    r#"{"spec": {"storage": {"size": "2048Mi"}}}"#,
    r#"{"spec": {"storage": {"size": "3Gi"}}}"#,
    r#"{"spec": {"storage": {"size": "2Gi"}}}"#,
    r#"{"spec": {"paused": true, "pod": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}}}"#,
    r#"{"spec": {"config": {"num.partitions": 4}}}"#,
    r#"{"spec": {"replication": {"minInsync": 1}}}"#,
    r#"{"spec": {"resources": {"requests": {"memory": "64Mi"}}}}"#,
];

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("bad-specs"));
    kubectl.create_namespace()?;
    for (name, spec, words) in REFUSED {
        refused(&format!("{name} {spec}"), kubectl.apply(&resource(name, spec)), words)?;
    }
    timeline.say(format!("{} bad specs are refused", REFUSED.len()));
    for (number, (spec, words)) in NOT_FOLLOWED.iter().enumerate() {
        let name = format!("not-followed-{number}");
        kubectl.apply(&resource(&name, spec))?;
        let brokers = Brokers { kubectl: &kubectl, name: &name };
        let message = until("the condition InvalidSpec", || {
            let (status, reason, message) = brokers.condition("Degraded")?;
            Ok((status == "True" && reason == "InvalidSpec").then_some(message))
        })?;
        ensure!(message.contains(words), "{spec} is reported with {message:?}, not with {words:?}");
    }
    timeline.say(format!("{} specs that brokers would not start with are reported in the status", NOT_FOLLOWED.len()));
    // Nobody runs it: the rules are about the resource alone.
    kubectl.stop_pods()?;
    kubectl.apply(&resource("demo", "{replicas: 3, storage: {size: 2Gi}}"))?;
    for (patch, words) in UNCHANGEABLE {
        refused(patch, change(&kubectl, patch), words)?;
    }
    timeline.say(format!("{} changes that cannot be followed are refused", UNCHANGEABLE.len()));
    for patch in CHANGEABLE {
        change(&kubectl, patch)?;
    }
    timeline.say(format!("{} changes that can be followed are taken", CHANGEABLE.len()));
    environment.discard(&kubectl)
}

fn resource(name: &str, spec: &str) -> String {
    format!("{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: {name}}}, spec: {spec}}}")
}

fn change(kubectl: &Kubectl, patch: &str) -> anyhow::Result<String> {
    kubectl.run(&["patch", "chronikcluster", "demo", "--type=merge", "--patch", patch])
}

fn refused(what: &str, answer: anyhow::Result<String>, words: &str) -> anyhow::Result<()> {
    match answer {
        Ok(_) => bail!("{what} was not refused"),
        Err(error) => {
            let message = format!("{error:#}");
            ensure!(message.contains(words), "{what} was refused with {message:?}, not with {words:?}");
            Ok(())
        }
    }
}
