//! An image that cannot be pulled stops after one pod, with the reason in the status; the others serve on. Corrected, it
//! heals by itself.

use crate::brokers::Brokers;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("roll-bad-image"));
    kubectl.create_namespace()?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
         spec: {storage: {size: 1Gi}}}",
    )?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    let before = brokers.uids()?;
    let set_image = |image: &str| {
        let patch = format!(r#"{{"spec":{{"image":"{image}"}}}}"#);
        kubectl.run(&["patch", "chronikcluster", "demo", "--type=merge", "-p", &patch])
    };
    set_image("chronik:there-is-no-such-image")?;
    until("a plan that waits for the broker", || {
        let (_, failing, _) = brokers.condition("Degraded")?;
        let plan = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["plan"]["reason"].clone();
        Ok((failing == "BrokerFailing" && plan == "BrokerNotReady").then_some(()))
    })?;
    let now = brokers.uids()?;
    let replaced = now.iter().filter(|(pod, uid)| before.get(*pod) != Some(*uid)).count();
    ensure!(replaced == 1, "{replaced} pods were replaced: {now:?} after {before:?}");
    timeline.say("one pod cannot be started, and no other was touched");
    set_image(environment.image())?;
    until("three brokers that run as the spec says", || {
        let (ready, _, _) = brokers.condition("Ready")?;
        let (_, progress, _) = brokers.condition("Progressing")?;
        Ok((ready == "True" && progress == "UpToDate").then_some(()))
    })?;
    timeline.say("with the image corrected it healed by itself");
    environment.discard(&kubectl)
}
