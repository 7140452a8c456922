//! Two operators that look at the same namespace. A cluster is the first one's: the second leaves it alone, and says so,
//! also while the first is gone. When somebody gives it the cluster, by the command that it says, it looks after it, no broker
//! is restarted, and the first one leaves it alone when it comes back.

use crate::brokers::Brokers;
use crate::command::output;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::{timeout, until};
use anyhow::{Context, ensure};
use serde_json::Value;

const RELEASE: &str = "second";
/// That release's Deployment, and its Lease.
const SECOND: &str = "second-chronik-operator";
const PODS: &str = "--selector=app.kubernetes.io/name=chronik-operator";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let name = environment::namespace("two-operators");
    let kubectl = environment.kubectl.within(&name);
    let second = environment.kubectl.within(&format!("{name}-second"));
    let first = environment.kubectl.within(OPERATOR_NAMESPACE);
    let brokers = Brokers::make(&kubectl, "")?;
    let before = brokers.uids()?;
    second.create_namespace()?;
    let scale =
        |replicas: u32| first.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);

    let [mine, other] = [format!("{OPERATOR_NAMESPACE}/{OPERATOR}"), format!("{}/{SECOND}", second.namespace())];
    let given = left_alone(environment, timeline, &brokers, &second, &mine).and_then(|note| {
        scale(0)?;
        first.wait(&["--for=delete", "pod", PODS])?;
        handed_over(environment, timeline, &brokers, &second, &note)
    });
    // Others need it, whatever became of this one.
    let scaled = scale(1);
    let back = given.and_then(|()| {
        scaled?;
        first.wait_rolled_out(OPERATOR)?;
        stands_off(&brokers, &mine, &other)?;
        ensure!(holder(&brokers)? == *other, "the first operator has taken the cluster back");
        timeline.say("the first one is back, and leaves the cluster to the second");
        Ok(())
    });
    let mut uninstall = environment.helm_within(second.namespace(), &["uninstall", RELEASE, "--ignore-not-found"]);
    let removed = output(uninstall.arg(timeout()));
    back?;
    removed?;
    first.wait_rolled_out(OPERATOR)?;
    ensure!(brokers.uids()? == before, "brokers were restarted");
    brokers.never_restarted()?;
    environment.discard(&second)?;
    environment.discard(&kubectl)
}

/// Installs a second operator, which is to leave the cluster to `first`. Returns what it says of that.
fn left_alone(
    environment: &Environment,
    timeline: &Timeline,
    brokers: &Brokers<'_>,
    second: &Kubectl,
    first: &str,
) -> anyhow::Result<String> {
    ensure!(holder(brokers)? == *first, "the cluster is not the first operator's");
    // What is the whole Kubernetes cluster's belongs to the other release.
    let values = format!(
        "scope=namespace,namespaces={{{}}},crds.install=false,aggregatedRoles=false,{}",
        brokers.kubectl.namespace(),
        environment.image_values()?
    );
    let mut install = environment.helm_within(second.namespace(), &["install", RELEASE]);
    install.arg(environment.root.join("charts/chronik")).args(["--wait", &timeout(), "--set", &values]);
    output(&mut install)?;
    let note = stands_off(brokers, &format!("{}/{SECOND}", second.namespace()), first)?;
    timeline.say("a second operator leaves the cluster to the first one, and says so");
    Ok(note)
}

/// While the first operator is gone: the second leaves the cluster alone until it is given it, as its `note` says.
fn handed_over(
    environment: &Environment,
    timeline: &Timeline,
    brokers: &Brokers<'_>,
    second: &Kubectl,
    note: &str,
) -> anyhow::Result<()> {
    let former = holder(brokers)?;
    let change = |retention: &str| brokers.patch(&format!(r#"{{"config":{{"log.retention.ms":"{retention}"}}}}"#));
    change("86400000")?;
    // The first look that ends now may have begun before that change; the second has not. Each follows a change of its own, or
    // it might have ended before it was waited for, and no other would come.
    for retention in ["86400001", "86400002"] {
        let before = looks(second)?;
        change(retention)?;
        until("another look of the second operator", || Ok((looks(second)? > before).then_some(())))?;
    }
    ensure!(!is_followed(brokers)? && holder(brokers)? == former, "the second operator acts on another one's cluster");
    timeline.say("the first one is gone, and the second leaves the cluster alone all the same");

    let (_, command) = note.split_once("to change that: ").context("it does not say how it gets the cluster")?;
    output(&mut environment.shell(command))?;
    let other = format!("{}/{SECOND}", second.namespace());
    // It reaches the brokers' admin ports as well.
    until("the second operator to look after the cluster", || {
        let up_to_date = is_followed(brokers)? && brokers.condition("Progressing")?.1 == "UpToDate";
        Ok((up_to_date && holder(brokers)? == *other && brokers.condition("InSync")?.0 == "True").then_some(()))
    })?;
    timeline.say("somebody gave it the cluster, and it has taken up the change");
    Ok(())
}

/// Waits until an operator says that it leaves the cluster to another one; returns what it says.
fn stands_off(brokers: &Brokers<'_>, who: &str, holder: &str) -> anyhow::Result<String> {
    let wanted = format!("{who} leaves it to {holder};");
    until(&wanted, || {
        let events = brokers.kubectl.json(&["get", "events", "--field-selector=reason=OtherOperator"])?;
        let mut notes = events["items"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
        Ok(notes.find(|note| note.starts_with(&wanted)).map(str::to_owned))
    })
}

/// The operator whose cluster it is.
fn holder(brokers: &Brokers<'_>) -> anyhow::Result<Value> {
    Ok(brokers.kubectl.json(&["get", "chronikcluster", brokers.name])?["status"]["operator"].take())
}

/// Whether an operator has acted on the spec as it is now.
fn is_followed(brokers: &Brokers<'_>) -> anyhow::Result<bool> {
    let cluster = brokers.kubectl.json(&["get", "chronikcluster", brokers.name])?;
    Ok(cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"])
}

/// How often an operator has looked at something.
fn looks(operator: &Kubectl) -> anyhow::Result<u64> {
    let pods = operator.json(&["get", "pods", PODS])?;
    let pod = pods["items"][0]["metadata"]["name"].as_str().context("no operator")?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics", operator.namespace());
    let metrics = operator.run(&["get", "--raw", &path])?;
    let success = "chronik_operator_reconciles_total{result=\"success\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(success));
    Ok(count.context("it counts no reconciles")?.parse()?)
}
