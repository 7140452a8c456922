//! Nodes are drained under load. The budget lets one broker go; the drain of a second node waits until the first broker
//! is back, and, while it serves but is kept from catching up, until it is in sync; it goes through then. What was
//! acknowledged to an idempotent producer is there once and in order.

use crate::brokers::Brokers;
use crate::client::Load;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};

/// Of the topic that is written to.
const PARTITIONS: usize = 6;
/// Bytes a second that a broker gets which catches up.
const RATE: &str = "follower.replication.throttled.rate";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("drain"));
    let brokers = Brokers::make(&kubectl, &format!("config: {{num.partitions: {PARTITIONS}}}"))?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
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

/// Three brokers serve and one of them is behind: a budget that knew of pods alone would let one go.
fn waits_for_who_is_behind(brokers: &Brokers<'_>, node: &str) -> anyhow::Result<()> {
    let all_serve = || {
        until("three brokers that serve, one of them behind", || {
            Ok((brokers.ready()? == 3 && brokers.condition("InSync")?.0 == "False").then_some(()))
        })
    };
    all_serve()?;
    let allowed = brokers.may_be_evicted()?;
    ensure!(allowed == 0, "{allowed} brokers may be evicted while one is behind");
    let refused =
        brokers.drain_node(node, "10s").err().context("a broker was let go while one was behind")?.to_string();
    ensure!(refused.contains("disruption budget"), "not the budget's doing: {refused}");
    // It is behind all the time: nothing else than that is the reason.
    all_serve()
}

fn drain_one_after_the_other(kubectl: &Kubectl, brokers: &Brokers<'_>, timeline: &Timeline) -> anyhow::Result<()> {
    let (first, second) = (brokers.node(0)?, brokers.node(1)?);
    ensure!(first != second, "two brokers are on {first}");
    let uid = brokers.pod(0)?["metadata"]["uid"].clone();
    brokers.wait_budget(1)?;
    brokers.drain_node(&first, "60s")?;
    timeline.say("the first node is drained");
    // Its volume is on that node, so that the broker cannot start anywhere else.
    let refused = brokers.drain_node(&second, "10s").err().context("two brokers were let go")?.to_string();
    ensure!(refused.contains("disruption budget"), "not the budget's doing: {refused}");
    timeline.say("the second node is not, while the first broker is away");
    // It comes back, and gets nothing of what it lacks.
    let behind = (0..PARTITIONS).map(|partition| format!("{partition}:0")).collect::<Vec<_>>().join(",");
    let listed = format!("follower.replication.throttled.replicas={behind}");
    brokers.chronik_at(2, &["config", "set", "topic", "load", &listed])?;
    brokers.chronik_at(2, &["config", "set", "cluster", "default", &format!("{RATE}=0")])?;
    kubectl.run(&["uncordon", &first])?;
    brokers.wait_ready_again(0, &uid)?;
    waits_for_who_is_behind(brokers, &second)?;
    timeline.say("nor while all three serve and the first broker has yet to catch up");
    kubectl.run(&["uncordon", &second])?;
    brokers.chronik_at(2, &["config", "unset", "cluster", "default", RATE])?;
    brokers.drain_node(&second, "120s")?;
    kubectl.run(&["uncordon", &second])?;
    brokers.wait_ready()?;
    timeline.say("the second node was drained once the first broker was back in sync");
    Ok(())
}
