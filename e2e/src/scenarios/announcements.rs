//! Brokers that start say where they are, and the operator lists them until Kubernetes does. Nobody else is listed: an
//! announcement without a broker's token, or from elsewhere, is refused. Without an operator brokers start all the same.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
const AUDIENCE: &str = "--audience=chronik-operator";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&super::namespace("announcements"));
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    kubectl.create_namespace()?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
         spec: {storage: {size: 1Gi}}}",
    )?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready(PATIENCE)?;
    let announced = announced(&operator, kubectl.namespace())?;
    ensure!(announced.len() == 3, "only these were announced: {announced:?}");
    ensure!(announced.values().any(|listed| *listed), "Kubernetes was faster with all: {announced:?}");
    until("what was announced to be withdrawn", PATIENCE, || Ok(slices(&kubectl)?.is_empty().then_some(())))?;
    timeline.say("three brokers announced themselves, and are listed by Kubernetes alone now");

    client::start(&kubectl, "client", &["idle"])?;
    forged(&kubectl)?;
    ensure!(slices(&kubectl)?.is_empty(), "something forged is listed: {:?}", slices(&kubectl)?);
    timeline.say("announcements are refused without a token of a broker, and where Kubernetes knows better");

    let scale =
        |replicas: u32| operator.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);
    scale(0)?;
    operator.run(&["wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])?;
    let started = brokers.delete_pods(&[0, 1, 2]).and_then(|()| brokers.wait_pods(PATIENCE)).and_then(|()| {
        let all = "--selector=chronik.io/cluster=demo";
        kubectl.run(&["wait", "--for=condition=Ready", "pod", all, "--timeout=60s"])
    });
    scale(1)?;
    started?;
    brokers.never_restarted()?;
    operator.run(&["rollout", "status", &format!("deployment/{OPERATOR}"), "--timeout=60s"])?;
    timeline.say("without an operator three deleted pods became ready again");
    environment.discard(&kubectl)
}

/// The pods of a namespace that announced themselves, and whether they were listed for it.
fn announced(operator: &Kubectl, namespace: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let log = operator.run(&["logs", &format!("deployment/{OPERATOR}"), "--tail=-1"])?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let announced =
        lines.filter(|line| line["message"] == "a broker has announced itself" && line["namespace"] == namespace);
    Ok(announced.filter_map(|line| Some((line["pod"].as_str()?.to_owned(), line["listed"].as_bool()?))).collect())
}

/// The names of the operator's EndpointSlices.
fn slices(kubectl: &Kubectl) -> anyhow::Result<Vec<String>> {
    let ours = "--selector=endpointslice.kubernetes.io/managed-by=chronik-operator";
    let slices = kubectl.json(&["get", "endpointslices", ours])?;
    let names = slices["items"].as_array().into_iter().flatten().filter_map(|slice| slice["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Announces from a client's pod.
fn forged(kubectl: &Kubectl) -> anyhow::Result<()> {
    let url = format!("http://{OPERATOR}.{OPERATOR_NAMESPACE}.svc:8081");
    let refused = |what: &str, words: &[&str], status: u16, why: &str| {
        let answer = client::exec(kubectl, "client", &[&["announce", "--url", &url], words].concat())?;
        let said = answer["said"].as_str().unwrap_or_default();
        ensure!(answer["status"] == status && said.contains(why), "{what}: {answer} and not {status}, {why:?}");
        Ok::<_, anyhow::Error>(())
    };
    let token = |words: &[&str]| {
        let token = kubectl.run(&[&["create", "token"], words].concat())?;
        Ok::<_, anyhow::Error>(format!("--token={}", token.trim()))
    };
    let bound = |account, pod| token(&[account, AUDIENCE, "--bound-object-kind=Pod", "--bound-object-name", pod]);
    let brokers = bound("demo", "demo-0")?;
    refused("no address", &["--address=nowhere", &brokers], 400, "not an announcement")?;
    refused("another's address", &["--address=192.0.2.1", &brokers], 403, "announces 192.0.2.1")?;
    refused("no token", &[], 401, "the token is not valid")?;
    refused("no real token", &["--token=x"], 401, "the token is not valid")?;
    refused("a token for the API server", &[&token(&["demo"])?], 401, "the token is not valid")?;
    refused("a token of no pod", &[&token(&["demo", AUDIENCE])?], 403, "not bound to a pod")?;
    refused("a token of a client's pod", &[&bound("default", "client")?], 403, "is not a broker")?;
    refused("a broker's token, from elsewhere", &[&brokers], 403, "as Kubernetes has told already")
}
