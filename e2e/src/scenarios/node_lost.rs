//! A node that stops, with the operator on it if it can be: the cluster goes on, another node gets the operator, the resource
//! names the node, and says how to declare it out of service. Six minutes later it is there again, and so is its broker, with
//! its data. A client that had sent something to the broker hears nothing of it, not even that the connection is over, and
//! waits until its own time is up.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use std::thread::sleep;
use std::time::Duration;

/// Longer than Kubernetes waits (five minutes) until it deletes the pods of such a node.
const STOPPED: Duration = Duration::from_mins(6);

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("node-lost"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    let node = brokers.pod(brokers.beside_operator()?)?["spec"]["nodeName"].as_str().context("on no node")?.to_owned();
    let bootstrap = brokers.addresses();
    // Pods without a volume are put elsewhere for as long as the node takes none.
    kubectl.run(&["cordon", &node])?;
    let load = Load { kubectl: &kubectl, bootstrap: &bootstrap, topic: "load" };
    let started = client::start(&kubectl, "client", &["idle"]).and_then(|()| load.start());
    kubectl.run(&["uncordon", &node])?;
    started?;
    load.wait_in_sync("client", "0,1,2")?;
    environment::pause(&node, true)?;
    timeline.say(format!("{node} is stopped"));
    let said = until("the condition NodeNotReady", || {
        let (status, reason, message) = brokers.condition("Degraded")?;
        Ok((status == "True" && reason == "NodeNotReady").then_some(message))
    });
    if let Ok(message) = &said {
        timeline.say(message);
        sleep(STOPPED);
    }
    // Whatever became of this scenario.
    environment::pause(&node, false)?;
    ensure!(said?.contains(&node), "the node is not named");
    kubectl.wait(&["--for=condition=Ready", &format!("node/{node}")])?;
    brokers.wait_ready()?;
    load.wait_in_sync("client", "0,1,2")?;
    timeline.say("the node and its broker are back, and in sync");
    let (count, slowest) = load.stop("client")?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    environment.discard(&kubectl)
}
