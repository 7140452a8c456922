//! A broker whose volume is lost comes back empty, is not believed, and catches up from the others.
//! Its cluster has most of what can be said about pods, which each of them gets.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use anyhow::ensure;
use serde_json::{Value, json};

/// Nobody gives way to them here.
const PRIORITY: &str = "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: e2e-brokers}, \
                        value: 1000, preemptionPolicy: Never}";
const POD: &str = "pod: {labels: {team: shop}, annotations: {note: kept}, priorityClassName: e2e-brokers, \
                   tolerations: [{key: dedicated, operator: Exists}], logLevel: debug, \
                   topologySpread: [{topologyKey: kubernetes.io/hostname}]}";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("lost-volume"));
    kubectl.apply(PRIORITY)?;
    let brokers = Brokers::make(&kubectl, POD)?;
    for id in 0..3 {
        has_options(&brokers.pod(id)?)?;
    }
    timeline.say("every pod is as spec.pod says");
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let words = ["--bootstrap", &bootstrap, "--count", "2000"];
    client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    let claim = || kubectl.json(&["get", "pvc", "data-demo-2"]).map(|claim| claim["metadata"]["uid"].clone());
    let (lost, pod) = (claim()?, brokers.pod(2)?["metadata"]["uid"].clone());
    // The claim goes when its pod does.
    kubectl.run(&["delete", "pvc", "data-demo-2", "--wait=false"])?;
    brokers.delete_pods(&[2])?;
    brokers.wait_ready_again(2, &pod)?;
    ensure!(claim()? != lost, "the broker has its old volume");
    client::exec(&kubectl, "client", &["in-sync", "--bootstrap", &bootstrap, "--brokers", "0,1,2"])?;
    timeline.say("a broker came back with an empty volume, and caught up");
    // What it caught up with is all that is left of these.
    brokers.delete_pods(&[0, 1])?;
    brokers.wait_ready()?;
    client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    timeline.say("2000 records, each there once");
    environment.discard(&kubectl)
}

/// Fails unless Kubernetes has what the resource says of pods.
fn has_options(pod: &Value) -> anyhow::Result<()> {
    let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
    let env = json!({ "name": "CHRONIK_LOG", "value": "debug" });
    let tolerates = |one: &Value| one["key"] == "dedicated" && one["operator"] == "Exists";
    for (what, holds) in [
        ("label", metadata["labels"]["team"] == "shop"),
        ("annotation", metadata["annotations"]["note"] == "kept"),
        ("priority", spec["priority"] == 1000),
        ("toleration", any(&spec["tolerations"], tolerates)),
        ("spread", spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"),
        ("level of logs", any(&spec["containers"][0]["env"], |one| *one == env)),
    ] {
        ensure!(holds, "no {what}: {pod}");
    }
    Ok(())
}

fn any(list: &Value, wanted: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(wanted))
}
