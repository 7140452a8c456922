//! `kubectl chronik`, each command against a running cluster. A restart that is asked for while the cluster is paused is
//! done when it is not paused any more.

use crate::brokers::Brokers;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::plugin::Plugin;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;

/// One of the cluster, and one of another that there is not.
const TOPICS: &str = "
apiVersion: chronik.io/v1alpha1
kind: ChronikTopic
metadata: {name: orders}
spec: {cluster: demo, partitions: 3}
---
apiVersion: chronik.io/v1alpha1
kind: ChronikTopic
metadata: {name: elsewhere}
spec: {cluster: another, partitions: 1}
";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("plugin"));
    let brokers = Brokers::make(&kubectl, "")?;
    kubectl.apply(TOPICS)?;
    kubectl.wait(&["--for=condition=Ready", "chroniktopic/orders"])?;
    let plugin = Plugin::of(environment)?;
    let chronik = |words: &[&str]| plugin.run(&kubectl, words);

    shows(&chronik(&["status"])?, &["demo"])?;
    shows(&chronik(&["status", "demo"])?, &["demo: 3 of 3 brokers ready", "demo-0", "demo-1", "demo-2", "InSync"])?;
    ensure!(chronik(&["status", "another"]).is_err(), "a cluster that there is not has a status");
    let topics = chronik(&["topics", "demo"])?;
    shows(&topics, &["orders", "AsSpecified"])?;
    ensure!(!topics.contains("elsewhere"), "topics of another cluster are shown: {topics}");
    timeline.say("status and topics are shown");

    shows(&chronik(&["logs", "demo", "--since", "10m"])?, &["[pod/demo-0/", "[pod/demo-1/", "[pod/demo-2/"])?;
    let of_one = chronik(&["logs", "demo", "1"])?;
    let first = of_one.lines().next().context("broker 1 has logged nothing")?;
    let line: Value = serde_json::from_str(first)?;
    ensure!(line["timestamp"].is_string(), "not a broker's line: {first}");
    shows(&chronik(&["shell", "demo", "--", "topic", "list"])?, &["orders"])?;
    timeline.say("what brokers log is shown, and their command line runs in a pod");

    let listed = || chronik(&["shell", "demo", "--", "broker", "list"]);
    chronik(&["cordon", "demo", "2"])?;
    until("a broker that is cordoned", || Ok(listed()?.contains("cordoned").then_some(())))?;
    chronik(&["uncordon", "demo", "2"])?;
    until("a broker that is not cordoned", || Ok((!listed()?.contains("cordoned")).then_some(())))?;
    timeline.say("a broker was cordoned, and uncordoned");

    let before = brokers.uids()?;
    chronik(&["pause", "demo"])?;
    chronik(&["roll", "demo"])?;
    // Whoever has looked at the first of these has seen the request too, and has done what it does about that when it looks at
    // the second.
    for retention in ["86400000", "86400001"] {
        brokers.patch(&format!(r#"{{"config":{{"log.retention.ms":"{retention}"}}}}"#))?;
        wait_looked_at(&kubectl, &brokers)?;
    }
    shows(&chronik(&["status", "demo"])?, &["next: nothing, as spec.paused is true"])?;
    ensure!(brokers.uids()? == before, "brokers of a cluster that is paused were restarted");
    chronik(&["resume", "demo"])?;
    brokers.wait_rolled(&before)?;
    timeline.say("a restart that was asked for while the cluster was paused was done when it was resumed");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// Fails unless all of this is in what was printed.
fn shows(printed: &str, wanted: &[&str]) -> anyhow::Result<()> {
    for words in wanted {
        ensure!(printed.contains(words), "no {words:?} in: {printed}");
    }
    Ok(())
}

/// Waits until the operator has looked at the spec as it is now, and left it.
fn wait_looked_at(kubectl: &Kubectl, brokers: &Brokers<'_>) -> anyhow::Result<()> {
    until("a look at a cluster that is paused", || {
        let cluster = kubectl.json(&["get", "chronikcluster", brokers.name])?;
        let looked_at = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        Ok((looked_at && brokers.condition("Progressing")?.1 == "Paused").then_some(()))
    })
}
