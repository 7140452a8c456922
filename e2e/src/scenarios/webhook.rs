//! Admission adds a container to every broker's pod, an item to a list of the StatefulSet that the operator writes, and
//! labels to its Services and `ConfigMap`s: the cluster is up to date all the same, nothing is written at rest, and a restart
//! goes through.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::scenarios::steady::{STEADY, stay, steady_versions};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs;

/// The label and the annotation that are added.
const MARK: &str = "example.com/mutated";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("webhook"));
    kubectl.create_namespace()?;
    kubectl.run(&["label", "namespace", kubectl.namespace(), "chronik.io/e2e=mutate"])?;
    environment.kubectl.apply(&fs::read_to_string(environment.root.join("e2e/mutate.yaml"))?)?;
    wait_mutated(&kubectl, "v1", "Pod", |made| made["spec"]["containers"][1].is_object())?;
    wait_mutated(&kubectl, "apps/v1", "StatefulSet", |made| has_variable(&made["spec"]["template"]))?;
    wait_mutated(&kubectl, "v1", "Service", has_label)?;
    timeline.say("what is written is changed by others as it is written");

    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let up_to_date = || until("UpToDate", || Ok((brokers.condition("Progressing")?.1 == "UpToDate").then_some(())));
    up_to_date()?;
    everything_is_mutated(&kubectl, &brokers)?;
    let before = steady_versions(&kubectl)?;
    stay(&kubectl, timeline, before)?;
    up_to_date()?;
    timeline.say(format!("up to date with what was added, and nothing written for {} s", STEADY.as_secs()));

    let bootstrap = brokers.bootstrap();
    let words = ["--bootstrap", &bootstrap, "--count", "2000"];
    client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    let before = brokers.uids()?;
    brokers.patch(r#"{"config":{"num.partitions":7}}"#)?;
    brokers.wait_rolled(&before)?;
    client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    timeline.say("a changed config was taken up, one broker away at most");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// Fails unless each of the cluster's objects has what is added to its kind.
fn everything_is_mutated(kubectl: &Kubectl, brokers: &Brokers<'_>) -> anyhow::Result<()> {
    for id in 0..3 {
        let pod = brokers.pod(id)?;
        let containers = pod["spec"]["containers"].as_array().context("no containers")?;
        ensure!(containers.len() == 2 && pod["metadata"]["annotations"][MARK] == "true", "nothing was added to {pod}");
    }
    let set = kubectl.json(&["get", "statefulset", "demo"])?;
    ensure!(has_variable(&set["spec"]["template"]), "nothing was added to {set}");
    let others = kubectl.json(&["get", "services,configmaps", "--selector=chronik.io/cluster=demo"])?;
    let others = others["items"].as_array().context("no objects")?;
    ensure!(!others.is_empty() && others.iter().all(has_label), "nothing was added to one of {others:?}");
    Ok(())
}

/// Waits until the API server changes an object of that kind as it is made; none is made.
fn wait_mutated(kubectl: &Kubectl, version: &str, kind: &str, done: fn(&Value) -> bool) -> anyhow::Result<()> {
    let pod = "securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, \
               containers: [{name: chronik, image: none, securityContext: {allowPrivilegeEscalation: false, \
               capabilities: {drop: [ALL]}}}]";
    let spec = match kind {
        "Pod" => pod.to_owned(),
        "Service" => "ports: [{port: 9092}]".to_owned(),
        _ => format!(
            "serviceName: none, selector: {{matchLabels: {{chronik.io/cluster: none}}}}, \
             template: {{metadata: {{labels: {{chronik.io/cluster: none}}}}, spec: {{{pod}}}}}"
        ),
    };
    let object = format!(
        "{{apiVersion: {version}, kind: {kind}, metadata: {{name: none, labels: {{chronik.io/cluster: none}}}}, \
         spec: {{{spec}}}}}"
    );
    until(&format!("a {kind} that is changed"), || {
        let made: Value = serde_json::from_str(&kubectl.try_create(&object)?)?;
        Ok(done(&made).then_some(()))
    })
}

/// Whether the broker of a template has the variable that is added.
fn has_variable(template: &Value) -> bool {
    let variables = template["spec"]["containers"][0]["env"].as_array();
    variables.is_some_and(|all| all.iter().any(|variable| variable["name"] == "MUTATED"))
}

fn has_label(object: &Value) -> bool {
    object["metadata"]["labels"][MARK] == "true"
}
