//! A cluster that is deleted leaves its data: made again with fewer brokers than volumes it is refused, as they would be
//! left behind; made again as it was, it has the same data. One whose volumes are its own takes them with it.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use serde_json::Value;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("made-again"));
    kubectl.create_namespace()?;
    client::start(&kubectl, "client", &["idle"])?;
    let apply = |replicas: u32| {
        kubectl.apply(&format!(
            "{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: demo}}, \
             spec: {{replicas: {replicas}, storage: {{size: 1Gi}}}}}}"
        ))
    };
    apply(5)?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    let bootstrap = brokers.bootstrap();
    let words = ["--bootstrap", &bootstrap, "--count", "2000"];
    client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    timeline.say("2000 records on five brokers");
    kubectl.run(&["delete", "chronikcluster", "demo"])?;
    kubectl.wait(&["--for=delete", "pod", "--selector=chronik.io/cluster=demo"])?;
    kubectl.wait(&["--for=delete", "statefulset/demo"])?;
    apply(3)?;
    let message = until("the condition VolumesLeftBehind", || {
        let (_, reason, message) = brokers.condition("Degraded")?;
        Ok((reason == "VolumesLeftBehind").then_some(message))
    })?;
    ensure!(message.contains("data-demo-3, data-demo-4"), "{message}");
    let sets = kubectl.json(&["get", "statefulsets"])?;
    ensure!(sets["items"].as_array().is_some_and(Vec::is_empty), "brokers were made all the same");
    timeline.say("made again with three brokers it is refused, with the volumes' names");
    kubectl.run(&["delete", "chronikcluster", "demo"])?;
    apply(5)?;
    brokers.wait_ready()?;
    client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    timeline.say("made again with five, it has the same 2000 records");
    let claims = || {
        let claims = kubectl.json(&["get", "pvc", "--selector=chronik.io/cluster=demo"])?;
        Ok::<_, anyhow::Error>(claims["items"].as_array().cloned().unwrap_or_default())
    };
    brokers.patch(r#"{"storage":{"deletionPolicy":"Delete"}}"#)?;
    until("volumes that go with their cluster", || {
        let owned = |claim: &Value| claim["metadata"]["ownerReferences"][0]["kind"] == "ChronikCluster";
        let claims = claims()?;
        Ok((claims.len() == 5 && claims.iter().all(owned)).then_some(()))
    })?;
    kubectl.run(&["delete", "chronikcluster", "demo"])?;
    until("no volume of it", || Ok(claims()?.is_empty().then_some(())))?;
    timeline.say("deleted with the policy Delete, it took its volumes with it");
    environment.discard(&kubectl)
}
