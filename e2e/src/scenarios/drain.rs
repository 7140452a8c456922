//! Nodes are drained under load. The budget lets one broker go; the drain of a second node waits until the first broker
//! is back, and goes through then. What was acknowledged to an idempotent producer is there once and in order.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use anyhow::{Context, ensure};

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("drain"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let load = Load { kubectl: &kubectl, bootstrap: &bootstrap, topic: "load" };
    load.start()?;
    load.wait_in_sync("client", "0,1,2")?;
    let drained = drain_one_after_the_other(&kubectl, &brokers, timeline);
    // Other scenarios need every node, whatever became of this one.
    for node in brokers.workers()? {
        kubectl.run(&["uncordon", &node])?;
    }
    drained?;
    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

fn drain_one_after_the_other(kubectl: &Kubectl, brokers: &Brokers<'_>, timeline: &Timeline) -> anyhow::Result<()> {
    let node = |id: usize| -> anyhow::Result<String> {
        Ok(brokers.pod(id)?["spec"]["nodeName"].as_str().context("on no node")?.to_owned())
    };
    let (first, second) = (node(0)?, node(1)?);
    ensure!(first != second, "two brokers are on {first}");
    let uid = brokers.pod(0)?["metadata"]["uid"].clone();
    brokers.wait_budget(1)?;
    drain(kubectl, &first, "60s")?;
    timeline.say("the first node is drained");
    // Its volume is on that node, so that the broker cannot start anywhere else.
    let refused = drain(kubectl, &second, "5s").err().context("two brokers were let go")?.to_string();
    ensure!(refused.contains("disruption budget"), "not the budget's doing: {refused}");
    timeline.say("the second node is not, while the first broker is away");
    kubectl.run(&["uncordon", &first])?;
    brokers.wait_ready_again(0, &uid)?;
    drain(kubectl, &second, "120s")?;
    kubectl.run(&["uncordon", &second])?;
    brokers.wait_ready()?;
    timeline.say("the second node was drained once the first broker was back in sync");
    Ok(())
}

/// Evicts the brokers on a node, which takes no pods until it is uncordoned.
fn drain(kubectl: &Kubectl, node: &str, timeout: &str) -> anyhow::Result<()> {
    let selector = "--pod-selector=chronik.io/cluster=demo";
    kubectl.run(&["drain", node, "--ignore-daemonsets", selector, &format!("--timeout={timeout}")]).map(|_| ())
}
