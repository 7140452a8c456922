//! An operator of one namespace, with rights there and nowhere else: it makes a cluster, and leaves that of another namespace
//! alone, which the operator of all namespaces makes afterwards.

use crate::brokers::Brokers;
use crate::client;
use crate::command::output;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::{timeout, until};
use anyhow::ensure;

const RELEASE: &str = "scoped";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let name = environment::namespace("one-namespace");
    let (here, elsewhere) =
        (environment.kubectl.within(&name), environment.kubectl.within(&format!("{name}-elsewhere")));
    here.create_namespace()?;
    elsewhere.create_namespace()?;
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    let scale =
        |replicas: u32| operator.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);
    scale(0)?;
    let alone = operator
        .wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])
        .and_then(|()| with_one_namespace(environment, timeline, &here, &elsewhere));
    let mut uninstall = environment.helm_within(here.namespace(), &["uninstall", RELEASE, "--ignore-not-found"]);
    let removed = output(uninstall.arg(timeout()));
    // Other scenarios need it, whatever became of this one.
    scale(1)?;
    alone?;
    removed?;
    operator.wait_rolled_out(OPERATOR)?;
    elsewhere.wait(&["--for=condition=Ready", "chronikcluster/apart"])?;
    timeline.say("the operator of all namespaces has made the other one");
    environment.discard(&here)?;
    environment.discard(&elsewhere)
}

fn with_one_namespace(
    environment: &Environment,
    timeline: &Timeline,
    here: &Kubectl,
    elsewhere: &Kubectl,
) -> anyhow::Result<()> {
    elsewhere.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: apart}, \
         spec: {replicas: 1, storage: {size: 1Gi}}}",
    )?;
    // What is the whole Kubernetes cluster's belongs to the other release.
    let values = format!("scope=namespace,crds.install=false,aggregatedRoles=false,{}", environment.image_values()?);
    let mut install = environment.helm_within(here.namespace(), &["install", RELEASE]);
    install.arg(environment.root.join("charts/chronik")).args(["--wait", &timeout(), "--set", &values]);
    output(&mut install)?;
    timeline.say("an operator of one namespace is installed");

    let brokers = Brokers::make(here, "")?;
    let bootstrap = brokers.bootstrap();
    client::start(here, "client", &["idle"])?;
    client::exec(here, "client", &["produce-first", "--bootstrap", &bootstrap, "--topic", "first"])?;
    // It reaches the brokers' admin ports as well.
    until("the brokers' facts", || Ok((brokers.condition("InSync")?.0 == "True").then_some(())))?;
    brokers.never_restarted()?;
    timeline.say("its cluster is ready, and a first record acknowledged");

    let apart = elsewhere.json(&["get", "chronikcluster", "apart"])?;
    let objects = elsewhere.json(&["get", "statefulsets,pods,services"])?;
    ensure!(apart["status"]["conditions"].is_null(), "another namespace's cluster was looked at: {}", apart["status"]);
    ensure!(objects["items"].as_array().is_some_and(Vec::is_empty), "objects in another namespace: {objects}");
    timeline.say("a cluster of another namespace was left alone");
    Ok(())
}
