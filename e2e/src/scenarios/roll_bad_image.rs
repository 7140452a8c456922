//! An image that cannot be pulled stops after one pod, with the reason in the status; the others serve on, and take what
//! is written. Corrected, it heals by itself; and one that is taken out of the spec again is not kept, as it never ran.
//! What was acknowledged to an idempotent producer is there once and in order, and a consumer group has seen it.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use anyhow::ensure;
use std::collections::BTreeMap;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("roll-bad-image"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
    client::follow(&load, "follow")?;
    let named = format!("\"{}\"", environment.image());
    for (image, how) in [("null", "taken out again"), (named.as_str(), "corrected")] {
        let before = brokers.uids()?;
        brokers.patch(r#"{"image":"chronik:there-is-no-such-image"}"#)?;
        stops_after_one_pod(&kubectl, &brokers, &before)?;
        timeline.say("one pod cannot be started, and no other was touched");
        brokers.patch(&format!(r#"{{"image":{image}}}"#))?;
        brokers.watch_while(2, "three brokers that run as the spec says", || {
            let (ready, _, _) = brokers.condition("Ready")?;
            let (_, progress, _) = brokers.condition("Progressing")?;
            Ok((ready == "True" && progress == "UpToDate").then_some(()))
        })?;
        load.wait_in_sync("client", "0,1,2")?;
        timeline.say(format!("with the image {how} it healed by itself"));
    }
    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    client::wait_seen(&kubectl, "follow", count)?;
    timeline.say("the consumer group has seen every one");
    environment.discard(&kubectl)
}

/// Waits until one pod cannot be started; two brokers serve all the while, and no other pod is replaced.
fn stops_after_one_pod(
    kubectl: &Kubectl,
    brokers: &Brokers<'_>,
    before: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    brokers.watch_while(2, "a plan that waits for the broker", || {
        let (_, failing, _) = brokers.condition("Degraded")?;
        let plan = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["plan"]["reason"].clone();
        Ok((failing == "BrokerFailing" && plan == "BrokerNotReady").then_some(()))
    })?;
    let now = brokers.uids()?;
    let replaced = now.iter().filter(|(pod, uid)| before.get(*pod) != Some(*uid)).count();
    ensure!(replaced == 1, "{replaced} pods were replaced: {now:?} after {before:?}");
    Ok(())
}
