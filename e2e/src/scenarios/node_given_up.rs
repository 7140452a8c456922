//! A node that stops for good under load, with the operator on it if it can be: it is named, declared out of service by
//! Kubernetes' taint, and the volume that is bound to it is given up by annotation. The broker begins anew on another node and
//! catches up. Then the node is there again after all, with the process that was given up, which nobody believes.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};

const TAINT: &str = "node.kubernetes.io/out-of-service";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("node-given-up"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    let lost = brokers.beside_operator()?;
    let node = brokers.pod(lost)?["spec"]["nodeName"].as_str().context("on no node")?.to_owned();
    let bootstrap = brokers.addresses();
    // What the scenario looks with is to outlive the node.
    kubectl.run(&["cordon", &node])?;
    let load = Load { kubectl: &kubectl, bootstrap: &bootstrap, topic: "load" };
    let started = client::start(&kubectl, "client", &["idle"]).and_then(|()| load.start());
    kubectl.run(&["uncordon", &node])?;
    started?;
    load.wait_in_sync("client", "0,1,2")?;
    environment::pause(&node, true)?;
    let given_up = give_up(&kubectl, &brokers, lost, timeline);
    // Other scenarios need every node, whatever became of this one.
    environment::pause(&node, false)?;
    let taken_back = kubectl.run(&["taint", "node", &node, &format!("{TAINT}-")]);
    kubectl.wait(&["--for=condition=Ready", &format!("node/{node}")])?;
    given_up.and(taken_back)?;
    timeline.say("the node is there again");
    load.wait_in_sync("client", "0,1,2")?;
    brokers.wait_ready()?;
    ensure!(brokers.pod(lost)?["spec"]["nodeName"] != *node, "the broker is back on the node that was given up");
    let (count, slowest) = load.stop("client")?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    environment.discard(&kubectl)
}

fn give_up(kubectl: &Kubectl, brokers: &Brokers<'_>, id: usize, timeline: &Timeline) -> anyhow::Result<()> {
    let pod = brokers.pod(id)?;
    let node = pod["spec"]["nodeName"].as_str().context("on no node")?;
    let claim = format!("data-demo-{id}");
    let said = |wanted: &str| {
        until(&format!("the condition {wanted}"), || {
            let (status, reason, message) = brokers.condition("Degraded")?;
            Ok((status == "True" && reason == wanted).then_some(message))
        })
    };
    let message = said("NodeNotReady")?;
    timeline.say(&message);
    ensure!(message.contains(&format!("kubectl taint node {node} {TAINT}=:NoExecute")), "what to do is not said");
    let volume = || Ok::<_, anyhow::Error>(kubectl.json(&["get", "pvc", &claim])?["metadata"]["uid"].clone());
    let lost = volume()?;
    kubectl.run(&["taint", "node", node, &format!("{TAINT}=:NoExecute")])?;
    kubectl.run(&["annotate", "pvc", &claim, "chronik.io/give-up=true"])?;
    brokers.wait_ready_again(id, &pod["metadata"]["uid"])?;
    ensure!(volume()? != lost, "the broker has the volume that was given up");
    until("the Event GiveUpVolume", || {
        let events = kubectl.json(&["get", "events", "--field-selector=reason=GiveUpVolume"])?;
        Ok(events["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(()))
    })?;
    timeline.say("declared out of service, and its volume given up: the broker begins anew on another node");
    client::exec(
        kubectl,
        "client",
        &["in-sync", "--bootstrap", &brokers.addresses(), "--topic", "load", "--brokers", "0,1,2"],
    )
    .map(|_| ())
}
