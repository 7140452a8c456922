//! Brokers that start say where they are, and the operator lists them until Kubernetes does. Nobody else is listed: an
//! announcement without a broker's token, or from elsewhere, is refused. Without an operator brokers start all the same.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;

const AUDIENCE: &str = "--audience=chronik-operator";
/// How often brokers may start without being listed for what they announce.
const STARTS: usize = 5;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("announcements"));
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    kubectl.create_namespace()?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
         spec: {storage: {size: 1Gi}}}",
    )?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    // Kubernetes may have been faster with some. Where it was with all, they start again.
    let mut pods = announced(&operator, kubectl.namespace())?;
    for _ in 1..STARTS {
        if pods.is_empty() {
            brokers.replace_pods()?;
            pods = announced(&operator, kubectl.namespace())?;
        }
    }
    ensure!(!pods.is_empty(), "no broker was listed for what it announced, in {STARTS} starts of three");
    until("what was announced to be withdrawn", || Ok(slices(&kubectl)?.is_empty().then_some(())))?;
    timeline.say(format!("{} of three brokers were listed for what they announced, and are not now", pods.len()));

    ["client", "other"].iter().try_for_each(|pod| client::start(&kubectl, pod, &["idle"]))?;
    forged(&kubectl)?;
    ensure!(slices(&kubectl)?.is_empty(), "something forged is listed: {:?}", slices(&kubectl)?);
    timeline.say("announcements are refused without a token of a broker, and where Kubernetes knows better");
    listed(&kubectl)?;
    timeline.say("a pod without an address is listed for the first that it announces, as long as it is there");

    let scale =
        |replicas: u32| operator.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);
    let without = || {
        scale(0)?;
        operator.wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])?;
        brokers.replace_pods()
    };
    let started = without();
    scale(1)?;
    started?;
    brokers.never_restarted()?;
    operator.wait_rolled_out(OPERATOR)?;
    timeline.say("without an operator three deleted pods became ready again");
    environment.discard(&kubectl)
}

/// The pods of a namespace that the operator says it listed.
fn announced(operator: &Kubectl, namespace: &str) -> anyhow::Result<BTreeSet<String>> {
    let log = operator.run(&["logs", &format!("deployment/{OPERATOR}"), "--tail=-1"])?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let announced =
        lines.filter(|line| line["message"] == "a broker has announced itself" && line["namespace"] == namespace);
    Ok(announced.filter_map(|line| Some(line["pod"].as_str()?.to_owned())).collect())
}

/// The operator's EndpointSlices: the Service, the address and the pod's uid of each.
pub(super) fn slices(kubectl: &Kubectl) -> anyhow::Result<BTreeSet<[String; 3]>> {
    let ours = "--selector=endpointslice.kubernetes.io/managed-by=chronik-operator";
    let slices = kubectl.json(&["get", "endpointslices", ours])?;
    let facts = |slice: &Value| {
        let (labels, endpoint) = (&slice["metadata"]["labels"], &slice["endpoints"][0]);
        [&labels["kubernetes.io/service-name"], &endpoint["addresses"][0], &endpoint["targetRef"]["uid"]]
            .map(|value| value.as_str().unwrap_or_default().to_owned())
    };
    Ok(slices["items"].as_array().into_iter().flatten().map(facts).collect())
}

/// Announces from a client's pod; returns the answer.
fn announce(kubectl: &Kubectl, from: &str, words: &[&str]) -> anyhow::Result<Value> {
    let url = format!("--url=http://{OPERATOR}.{OPERATOR_NAMESPACE}.svc:8081");
    client::exec(kubectl, from, &[&["announce", &url], words].concat())
}

fn refused(what: &str, answer: &Value, status: u16, why: &str) -> anyhow::Result<()> {
    let said = answer["said"].as_str().unwrap_or_default();
    ensure!(answer["status"] == status && said.contains(why), "{what}: {answer} and not {status}, {why:?}");
    Ok(())
}

/// A word that gives the client a token.
fn token(kubectl: &Kubectl, words: &[&str]) -> anyhow::Result<String> {
    Ok(format!("--token={}", kubectl.run(&[&["create", "token"], words].concat())?.trim()))
}

fn bound(kubectl: &Kubectl, account: &str, pod: &str) -> anyhow::Result<String> {
    token(kubectl, &[account, AUDIENCE, "--bound-object-kind=Pod", "--bound-object-name", pod])
}

/// Announces what is not so, from a client's pod.
fn forged(kubectl: &Kubectl) -> anyhow::Result<()> {
    let refused = |what: &str, words: &[&str], status: u16, why: &str| {
        refused(what, &announce(kubectl, "client", words)?, status, why)
    };
    let brokers = bound(kubectl, "demo", "demo-0")?;
    refused("no address", &["--address=nowhere", &brokers], 400, "not an announcement")?;
    refused("another's address", &["--address=192.0.2.1", &brokers], 403, "announces 192.0.2.1")?;
    refused("no token", &[], 401, "the token is not valid")?;
    refused("no real token", &["--token=x"], 401, "the token is not valid")?;
    refused("a token for the API server", &[&token(kubectl, &["demo"])?], 401, "the token is not valid")?;
    refused("a token of no pod", &[&token(kubectl, &["demo", AUDIENCE])?], 403, "not bound to a pod")?;
    refused("a token of a client's pod", &[&bound(kubectl, "default", "client")?], 403, "is not a broker")?;
    refused("a broker's token, from elsewhere", &[&brokers], 403, "as Kubernetes has told already")
}

/// A pod that waits for a volume has a node and gets no address: clients' pods announce theirs for it.
fn listed(kubectl: &Kubectl) -> anyhow::Result<()> {
    let address = |pod: &str| kubectl.run(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"]);
    let (client, other) = (address("client")?, address("other")?);
    let uid = make_stuck(kubectl)?;
    let token = bound(kubectl, "default", "stuck-0")?;
    let without = announce(kubectl, "client", &[&token])?;
    refused("a pod that no Service selects", &without, 403, "is not a broker")?;
    for name in ["stuck-broker-0", "stuck-brokers"] {
        kubectl.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{publishNotReadyAddresses: true, \
             selector: {{chronik.io/cluster: stuck}}, ports: [{{name: kafka, port: 9092}}]}}}}"
        ))?;
    }
    let expected = |address: &str, uid: &str| {
        BTreeSet::from(["stuck-broker-0", "stuck-brokers"].map(|service| [service, address, uid].map(str::to_owned)))
    };
    let accepted = |from: &str, token: &str, address: &str, uid: &str| {
        let answer = announce(kubectl, from, &[token])?;
        let listed = slices(kubectl)?;
        ensure!(answer["status"] == 200, "{answer}");
        ensure!(listed == expected(address, uid), "{listed:?} is listed");
        Ok(())
    };
    accepted("client", &token, &client, &uid)?;
    accepted("client", &token, &client, &uid)?;
    let replayed = announce(kubectl, "other", &[&token])?;
    refused("another address of the same pod", &replayed, 403, "has announced another address")?;
    ensure!(slices(kubectl)? == expected(&client, &uid), "{:?} is listed", slices(kubectl)?);
    kubectl.run(&["delete", "pod", "stuck-0", "--now"])?;
    let uid = make_stuck(kubectl)?;
    accepted("other", &bound(kubectl, "default", "stuck-0")?, &other, &uid)?;
    kubectl.run(&["delete", "pod", "stuck-0", "--now"])?;
    until("what a pod announced to go with it", || Ok(slices(kubectl)?.is_empty().then_some(())))
}

/// Makes the pod and waits until it has a node. Returns its uid. Its container mounts the volume: the kubelet does not
/// wait for one that nothing mounts, and the pod would have its address within a second.
fn make_stuck(kubectl: &Kubectl) -> anyhow::Result<String> {
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: stuck-0, labels: {chronik.io/cluster: stuck}}, \
         spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, \
         volumes: [{name: absent, secret: {secretName: absent}}], \
         containers: [{name: stuck, image: stuck, volumeMounts: [{name: absent, mountPath: /absent}], \
         securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}",
    )?;
    until("the pod to have a node", || {
        let pod = kubectl.json(&["get", "pod", "stuck-0"])?;
        let uid = pod["metadata"]["uid"].as_str().filter(|_| pod["spec"]["nodeName"].is_string());
        Ok(uid.map(str::to_owned))
    })
}
