//! A hundred clusters that an operator finds when it starts: it makes everything that they need, then writes nothing
//! more, in bounded memory. No pods are made for them: the machine is to be the operator's.

use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::scenarios::steady;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fmt::Write;
use std::thread::sleep;
use std::time::Duration;

const CLUSTERS: usize = 100;
/// How long they may take (on a machine that does nothing else), and the operator's memory with them, in bytes.
const SECONDS: f64 = 30.0;
const MEMORY: u64 = 40 << 20;
/// How long nothing is written for.
const STEADY: Duration = Duration::from_secs(20);

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("many"));
    kubectl.create_namespace()?;
    kubectl.stop_pods()?;
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    let scale =
        |replicas: u32| operator.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);
    scale(0)?;
    let made =
        operator.wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"]).and_then(|()| {
            let mut yaml = String::new();
            for id in 0..CLUSTERS {
                writeln!(
                    yaml,
                    "---\n{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: c{id}}}, \
                     spec: {{storage: {{size: 1Gi}}}}}}"
                )?;
            }
            kubectl.apply(&yaml)?;
            timeline.say(format!("{CLUSTERS} clusters, and no operator"));
            Ok(())
        });
    // Other scenarios need it, whatever became of this one.
    scale(1)?;
    made?;
    operator.wait_rolled_out(OPERATOR)?;
    let begun = timeline.seconds();
    until("a StatefulSet and a status of every cluster", || {
        let sets = kubectl.json(&["get", "statefulsets"])?["items"].as_array().map_or(0, Vec::len);
        let clusters = kubectl.json(&["get", "chronikclusters"])?;
        let said = |cluster: &&Value| cluster["status"]["conditions"].is_array();
        let said = clusters["items"].as_array().into_iter().flatten().filter(said).count();
        Ok((sets == CLUSTERS && said == CLUSTERS).then_some(()))
    })?;
    let took = timeline.seconds() - begun;
    timeline.say(format!("all have their objects and a status, {took:.1} s after the operator was ready"));
    ensure!(took <= SECONDS || !environment.start_orders.strict, "that is more than {SECONDS} s");
    let before = steady::steady_versions(&kubectl)?;
    sleep(STEADY);
    steady::unchanged(&before, &steady::versions(&kubectl)?)?;
    let memory = memory(&operator)?;
    timeline.say(format!(
        "{} objects, none written for {} s; the operator has {:.1} MB",
        before.len(),
        STEADY.as_secs(),
        memory as f64 / 1e6
    ));
    ensure!(memory <= MEMORY, "that is more than {} MB", MEMORY >> 20);
    environment.discard(&kubectl)
}

/// The operator's memory, as its node's kubelet counts it, in bytes.
fn memory(operator: &Kubectl) -> anyhow::Result<u64> {
    let pods = operator.json(&["get", "pods", "--selector=app.kubernetes.io/name=chronik-operator"])?;
    let pod = &pods["items"][0];
    let (name, node) = (&pod["metadata"]["name"], pod["spec"]["nodeName"].as_str().context("the operator is nowhere")?);
    until("the operator's memory", || {
        let summary = operator.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")])?;
        let summary: Value = serde_json::from_str(&summary)?;
        let mut pods = summary["pods"].as_array().into_iter().flatten();
        Ok(pods.find(|pod| pod["podRef"]["name"] == *name).and_then(|pod| pod["memory"]["workingSetBytes"].as_u64()))
    })
}
