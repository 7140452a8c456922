//! The release of a former chart is upgraded to this one: a cluster that was made by the former definition keeps what its
//! spec said, is made, and may have what the former definition refused. `e2e/former-chart` is the chart of 23 November 2026,
//! from before there was a plan, a topic or a listener.

use crate::brokers::Brokers;
use crate::client;
use crate::command::output;
use crate::environment::{self, Environment, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::{timeout, until};
use anyhow::ensure;
use serde_json::Value;

/// Of every kind of field that there was.
const CLUSTER: &str = "
apiVersion: chronik.io/v1alpha1
kind: ChronikCluster
metadata: {name: demo}
spec:
  replicas: 3
  storage: {size: 1Gi, storageClass: standard}
  replication: {factor: 3, minInsync: 2}
  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 1Gi}}
  config:
    auto.create.topics.enable: 'true'
    log.segment.bytes: 64MiB
    max.connections: 1000
    num.partitions: 6
    replica.lag.time.max.ms: 10s
";

/// What the former definition does not know.
const OF_TODAY: &str = "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: today}, \
                        spec: {storage: {size: 1Gi}, listeners: [{name: nodes, type: NodePort}]}}";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("former-chart"));
    kubectl.create_namespace()?;
    let before = with_former(environment, &kubectl);
    // This is the upgrade; and others need the operator, and the definitions of today, whatever became of this one.
    environment.install_operator(timeline)?;
    if before.is_err() {
        restore_definitions(environment)?;
    }
    let before = before?;

    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    let now = spec(&kubectl)?;
    ensure!(keeps(&now, &before), "of {before} the spec is {now}");
    kubectl.apply(CLUSTER)?;
    timeline.say("upgraded: the cluster keeps its spec, and is ready");
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let words = ["--bootstrap", &bootstrap, "--count", "1000"];
    client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    let uids = brokers.uids()?;
    kubectl.try_create(OF_TODAY)?;
    brokers.patch(r#"{"config":{"log.retention.ms":"86400000"}}"#)?;
    until("a property that was not known before", || {
        let cluster = kubectl.json(&["get", "chronikcluster", "demo"])?;
        let mut managed = cluster["status"]["dynamicConfig"].as_array().into_iter().flatten();
        Ok(managed.any(|one| one["name"] == "log.retention.ms" && one["inForce"] == true).then_some(()))
    })?;
    ensure!(brokers.uids()? == uids, "brokers were restarted");
    timeline.say("what the former definition refused is taken");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// Puts the former chart in the place of this one, and makes a cluster by its definition. Its operator is not to be had any
/// more, and today's has no use for the rights of then: none runs. Returns the spec as it is kept.
fn with_former(environment: &Environment, kubectl: &Kubectl) -> anyhow::Result<Value> {
    let mut helm = environment.helm(&["upgrade", "chronik"]);
    // Without `--wait`: there is nothing to wait for but the end of the pods, and the upgrade must not fail once it is applied.
    helm.arg(environment.root.join("e2e/former-chart")).arg(timeout());
    helm.args(["--set", &format!("replicas=0,{}", environment.image_values()?)]);
    output(&mut helm)?;
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    operator.wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])?;
    until("the former definition to be in force", || {
        let refused = kubectl.try_create(OF_TODAY).err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(refused.contains("spec.listeners").then_some(()))
    })?;
    kubectl.apply(CLUSTER)?;
    spec(kubectl)
}

/// Puts the definitions of today in force. To helm an upgrade that failed never was: the next one compares the chart of today
/// with the one before, finds the same definitions in both, and leaves alone what is there.
fn restore_definitions(environment: &Environment) -> anyhow::Result<()> {
    let files = environment.root.join("charts/chronik/files");
    for name in ["chronikclusters.yaml", "chroniktopics.yaml", "chronikusers.yaml"] {
        let file = files.join(name).display().to_string();
        environment.kubectl.run(&["apply", "--server-side", "--force-conflicts", "--filename", &file])?;
    }
    Ok(())
}

fn spec(kubectl: &Kubectl) -> anyhow::Result<Value> {
    Ok(kubectl.json(&["get", "chronikcluster", "demo"])?["spec"].take())
}

/// Whether all that a value had is in another as it was.
fn keeps(now: &Value, before: &Value) -> bool {
    match before {
        Value::Object(fields) => fields.iter().all(|(name, value)| keeps(&now[name], value)),
        other => now == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_may_be_added_but_none_may_change_or_go() {
        let before = json!({ "storage": { "size": "1Gi" }, "list": [1] });
        let cases = [
            json!({ "storage": { "size": "1Gi", "more": 1 }, "list": [1], "also": {} }),
            json!({ "storage": { "size": "2Gi" }, "list": [1] }),
            json!({ "storage": {}, "list": [1] }),
            json!({ "storage": { "size": "1Gi" }, "list": [1, 2] }),
        ];
        assert_eq!(cases.map(|now| keeps(&now, &before)), [true, false, false, false]);
    }
}
