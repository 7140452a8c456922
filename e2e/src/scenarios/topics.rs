//! Topics and configs that brokers take up while they run: made what the resources say, put right when somebody else
//! changes them, and no broker is restarted for any of it.

use crate::brokers::Brokers;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;

const RESOURCES: &str = "
apiVersion: chronik.io/v1alpha1
kind: ChronikCluster
metadata: {name: demo}
spec: {storage: {size: 1Gi}, config: {log.retention.ms: 2d}}
---
apiVersion: chronik.io/v1alpha1
kind: ChronikTopic
metadata: {name: orders}
spec: {cluster: demo, partitions: 3, config: {retention.ms: 86400000}}
---
apiVersion: chronik.io/v1alpha1
kind: ChronikTopic
metadata: {name: passing}
spec: {cluster: demo, topicName: Passing_1, deletionPolicy: Delete}
---
apiVersion: chronik.io/v1alpha1
kind: ChronikUser
metadata: {name: alice}
spec: {cluster: demo, authentication: {type: tls}}
";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("topics"));
    kubectl.create_namespace()?;
    kubectl.apply(RESOURCES)?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    kubectl.wait(&["--for=condition=Ready", "chroniktopic/orders", "chroniktopic/passing"])?;
    ensure!(partitions(&brokers, "orders")? == 3, "not three partitions");
    kubectl.wait(&["--for=jsonpath={.status.conditions[0].reason}=NotSupported", "chronikuser/alice"])?;
    kubectl.wait(&["--for=jsonpath={.status.dynamicConfig[0].inForce}=true", "chronikcluster/demo"])?;
    timeline.say("topics and the brokers' configs are as specified, and the user is refused");

    let before = brokers.uids()?;
    kubectl.run(&["patch", "chroniktopic", "orders", "--type=merge", "-p", r#"{"spec":{"partitions":6}}"#])?;
    until("six partitions", || Ok((partitions(&brokers, "orders")? == 6).then_some(())))?;
    let fewer = kubectl.run(&["patch", "chroniktopic", "orders", "--type=merge", "-p", r#"{"spec":{"partitions":2}}"#]);
    ensure!(fewer.is_err_and(|error| error.to_string().contains("cannot become fewer")), "it may shrink");
    timeline.say("it has six partitions, and cannot have fewer again");

    brokers.chronik(&["config", "set", "topic", "orders", "retention.ms=5"])?;
    // In place of the minute after which it is looked at by itself.
    kubectl.run(&["annotate", "chroniktopic", "orders", "look=again"])?;
    until("the topic's own retention", || Ok((config(&brokers, "topic", "orders")? == "86400000").then_some(())))?;
    let change = r#"{"spec":{"config":{"log.retention.ms":"3d"}}}"#;
    kubectl.run(&["patch", "chronikcluster", "demo", "--type=merge", "-p", change])?;
    until("the brokers' retention", || Ok((config(&brokers, "cluster", "default")? == "259200000").then_some(())))?;
    kubectl.wait(&["--for=jsonpath={.status.dynamicConfig[0].inForce}=true", "chronikcluster/demo"])?;
    ensure!(brokers.condition("Progressing")?.1 == "UpToDate", "something is under way");
    ensure!(brokers.uids()? == before, "a broker was restarted");
    timeline.say("what was changed by hand was put right, and a config was changed without a restart");

    kubectl.run(&["delete", "chroniktopic", "orders", "passing"])?;
    let left = names(&brokers)?;
    ensure!(left == ["orders"], "of the topics {left:?} are left");
    timeline.say("of two resources that were deleted, one took its topic with it, as it says");

    let operator = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}");
    let foreign = kubectl.run(&["delete", "configmap", "kube-root-ca.crt", "--dry-run=server", &operator]);
    let refused = foreign.is_err_and(|error| error.to_string().contains("chronik.io/cluster"));
    ensure!(refused, "the operator may delete objects of others");
    timeline.say("the operator may not delete what is not its own");
    environment.discard(&kubectl)
}

fn partitions(brokers: &Brokers, topic: &str) -> anyhow::Result<usize> {
    let rows = brokers.chronik(&["topic", "describe", topic])?;
    rows.as_array().map(Vec::len).with_context(|| format!("no rows: {rows}"))
}

fn names(brokers: &Brokers) -> anyhow::Result<Vec<String>> {
    let rows = brokers.chronik(&["topic", "list"])?;
    let name = |row: &Value| row["topic"].as_str().map(str::to_owned);
    Ok(rows.as_array().into_iter().flatten().filter_map(name).collect())
}

/// The retention of a topic, or of all brokers.
fn config(brokers: &Brokers, kind: &str, name: &str) -> anyhow::Result<String> {
    let key = if kind == "topic" { "retention.ms" } else { "log.retention.ms" };
    let rows = brokers.chronik(&["config", "get", kind, name, key])?;
    Ok(rows[0]["value"].as_str().unwrap_or_default().to_owned())
}
