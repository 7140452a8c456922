//! Two more brokers come, and go again, under load. They get their share of what there is, with a throttle that goes away
//! when they have; they are emptied before they go, and their volumes stay. While a topic has more replicas
//! than brokers would be left, none goes. What was acknowledged to idempotent producers is there once and in order.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// The brokers that come and go.
const NEW: [u64; 2] = [3, 4];

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("scale"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let first = Load { kubectl: &kubectl, bootstrap: &brokers.bootstrap(), topic: "first" };
    first.start()?;
    until("replicas of the first topic", || Ok(replicas(&brokers)?.values().all(|count| *count > 0).then_some(())))?;
    timeline.say("a producer writes to three brokers");

    let uids = brokers.uids()?;
    let begun = timeline.seconds();
    brokers.patch(r#"{"replicas":5}"#)?;
    brokers.watch_while(3, "five brokers", || {
        let ready = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["readyReplicas"] == 5;
        let registered = || Ok::<_, anyhow::Error>(replicas(&brokers)?.keys().copied().eq(0..5));
        let spread = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["balancedBrokers"] == 5;
        Ok((ready && spread && registered()? && up_to_date(&brokers)?).then_some(()))
    })?;
    brokers.wait_ready()?;
    timeline
        .say(format!("two more brokers have joined, and have their share, after {:.1} s", timeline.seconds() - begun));
    let shares = replicas(&brokers)?;
    // As evenly as it comes out, and none is on its way: six partitions of the topic, and whatever else there is.
    let (most, least) = (shares.values().max(), shares.values().min());
    ensure!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "not spread evenly: {shares:?}");
    let configs = brokers.chronik(&["config", "get", "topic", "first"])?;
    let is_throttled = |row: &&Value| row["config"].as_str().is_some_and(|name| name.ends_with("throttled.replicas"));
    let mut throttles = configs.as_array().into_iter().flatten().filter(is_throttled);
    ensure!(
        throttles.all(|row| row["value"].as_str().unwrap_or_default().is_empty()),
        "the throttle is left: {configs}"
    );
    let second = Load { topic: "second", ..first };
    second.start()?;
    let grown = |id: &u64| Ok::<_, anyhow::Error>(replicas(&brokers)?.get(id) > shares.get(id));
    until("more replicas on the new brokers", || Ok((grown(&NEW[0])? && grown(&NEW[1])?).then_some(())))?;
    timeline.say("another producer writes to a topic that is on them too");

    brokers.chronik(&["topic", "create", "wide", "--partitions", "1", "--replicas", "4"])?;
    brokers.patch(r#"{"replicas":3}"#)?;
    let message = until("the condition ReplicationFactorInUse", || {
        let (status, reason, message) = brokers.condition("Degraded")?;
        Ok((status == "True" && reason == "ReplicationFactorInUse").then_some(message))
    })?;
    ensure!(message.contains("wide"), "the topic is not named: {message}");
    ensure!(pods(&kubectl)? == 5, "a broker goes all the same");
    timeline.say(format!("refused: {message}"));

    brokers.chronik(&["topic", "delete", "wide"])?;
    let begun = timeline.seconds();
    // In place of the time after which it is looked at by itself.
    kubectl.run(&["annotate", "chronikcluster", "demo", "look=again"])?;
    brokers.watch_while(3, "three brokers", || {
        let gone = pods(&kubectl)? == 3 && replicas(&brokers)?.keys().copied().eq(0..3);
        Ok((gone && up_to_date(&brokers)?).then_some(()))
    })?;
    brokers.wait_ready()?;
    timeline.say(format!("the two are gone, after {:.1} s", timeline.seconds() - begun));
    for reason in ["SpreadPartitions", "DrainBroker", "RemoveBroker"] {
        until(reason, || {
            let events = kubectl.json(&["get", "events", &format!("--field-selector=reason={reason}")])?;
            Ok(events["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(()))
        })?;
    }
    for id in NEW {
        let claim = kubectl.json(&["get", "pvc", &format!("data-demo-{id}")])?;
        ensure!(claim["metadata"]["annotations"]["chronik.io/removed"].is_string(), "not marked: {claim}");
        ensure!(claim["metadata"]["deletionTimestamp"].is_null(), "the volume goes too");
    }
    timeline.say("they were emptied first, and their volumes are kept, marked as not missed");
    ensure!(brokers.uids()? == uids, "one of the first three was replaced");

    for load in [first, second] {
        let (count, slowest) = load.stop_in_time("client", environment)?;
        load.wait_in_sync("client", "0,1,2")?;
        timeline.say(format!(
            "{count} records of topic {}, each there once and in order; the slowest was acknowledged after {slowest} ms",
            load.topic
        ));
    }
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// How many pods the StatefulSet is to have.
fn pods(kubectl: &Kubectl) -> anyhow::Result<u64> {
    let set = kubectl.json(&["get", "statefulset", "demo"])?;
    set["spec"]["replicas"].as_u64().context("no replicas")
}

/// How many replicas each registered broker holds.
fn replicas(brokers: &Brokers<'_>) -> anyhow::Result<BTreeMap<u64, u64>> {
    let rows = brokers.chronik(&["broker", "list"])?;
    let row = |row: &Value| Some((row["broker"].as_u64()?, row["replicas"].as_u64()?));
    Ok(rows.as_array().into_iter().flatten().filter_map(row).collect())
}

fn up_to_date(brokers: &Brokers<'_>) -> anyhow::Result<bool> {
    Ok(brokers.condition("Progressing")?.1 == "UpToDate")
}
