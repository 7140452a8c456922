//! The release of the operator is upgraded, uninstalled and installed again under load: the brokers of the clusters that
//! there are go on as they were, with the image that they have; a new cluster gets the new one.

use crate::brokers::Brokers;
use crate::client::Load;
use crate::command::output;
use crate::environment::{self, Environment, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::{timeout, until};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs;
use std::process::Command;

const NEXT: &str = "99.0.0";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("release"));
    let brokers = Brokers::make(&kubectl, "")?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
    let before = brokers.uids()?;
    let gone = upgrade(environment, &kubectl, timeline).and_then(|()| uninstall(environment, &brokers, timeline));
    // Others need the operator, whatever became of this one.
    environment.install_operator(timeline)?;
    gone?;
    take_up_a_change(&brokers, "log.retention.ms", "86400000")?;
    ensure!(brokers.uids()? == before, "pods were replaced");
    ensure!(image(&kubectl, "demo")? == environment.image(), "the brokers are to run another image");
    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("installed again; {count} records, each there once; the slowest took {slowest} ms"));
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// A later version of the chart, with an image of another name.
fn upgrade(environment: &Environment, kubectl: &Kubectl, timeline: &Timeline) -> anyhow::Result<()> {
    let next = environment.tag_image(NEXT)?;
    let (repository, _) = next.rsplit_once(':').context("the image has a tag")?;
    let folder = environment.root.join("target/e2e/next-chart");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    output(Command::new("cp").arg("-R").arg(environment.root.join("charts/chronik")).arg(&folder))?;
    let about = fs::read_to_string(folder.join("Chart.yaml"))?;
    let later = |line: &str| match line.split_once(": ") {
        Some((field @ ("version" | "appVersion"), _)) => format!("{field}: {NEXT}\n"),
        _ => format!("{line}\n"),
    };
    fs::write(folder.join("Chart.yaml"), about.lines().map(later).collect::<String>())?;
    let mut helm = environment.helm(&["upgrade", "chronik"]);
    helm.arg(&folder).args(["--wait", &timeout(), "--set", &format!("image.repository={repository}")]);
    output(&mut helm)?;
    let brokers = Brokers { kubectl, name: "demo" };
    take_up_a_change(&brokers, "log.retention.ms", "86400001")?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: fresh}, \
         spec: {replicas: 1, storage: {size: 1Gi}}}",
    )?;
    kubectl.wait(&["--for=condition=Ready", "chronikcluster/fresh"])?;
    ensure!(image(kubectl, "fresh")? == next, "a new cluster has the old image");
    ensure!(image(kubectl, "demo")? == environment.image(), "the brokers that there were are to run another image");
    timeline.say("upgraded: a new cluster has the new image, and the brokers that there were theirs");
    Ok(())
}

fn uninstall(environment: &Environment, brokers: &Brokers<'_>, timeline: &Timeline) -> anyhow::Result<()> {
    output(environment.helm(&["uninstall", "chronik"]).args(["--wait", &timeout()]))?;
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    operator.wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])?;
    let clusters = brokers.kubectl.json(&["get", "chronikclusters"])?;
    ensure!(clusters["items"].as_array().map(Vec::len) == Some(2), "resources went with the operator: {clusters}");
    brokers.kubectl.run(&["delete", "chronikcluster", "fresh"])?;
    timeline.say("uninstalled: the definitions and the clusters are still there");
    Ok(())
}

/// Nothing restarts for it, and the status tells when it has been taken up.
fn take_up_a_change(brokers: &Brokers<'_>, property: &str, value: &str) -> anyhow::Result<()> {
    brokers.patch(&format!(r#"{{"config":{{"{property}":"{value}"}}}}"#))?;
    until("a change that the operator took up", || {
        let cluster = brokers.kubectl.json(&["get", "chronikcluster", brokers.name])?;
        let taken = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        Ok((taken && brokers.condition("Progressing")?.1 == "UpToDate").then_some(()))
    })
}

/// The image of a cluster's brokers.
fn image(kubectl: &Kubectl, cluster: &str) -> anyhow::Result<Value> {
    let set = kubectl.json(&["get", "statefulset", cluster])?;
    Ok(set["spec"]["template"]["spec"]["containers"][0]["image"].clone())
}
