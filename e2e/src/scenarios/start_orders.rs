//! Brokers' pods are held back by a scheduling gate and let go in every order, at once and 30 s apart, each time on
//! fresh volumes. A client pod tries to write all along. From the start of the second container (two of three brokers
//! are a majority, and enough for `min.insync.replicas`) to the first acknowledged `acks=all` write: 1 s at most.
//!
//! For the 30 s gaps the cluster's DNS is made to remember for 30 s that a name does not exist, as `CoreDNS` does out
//! of the box and as kubeadm has it not: the names of brokers that have yet to start are asked for all along, by their
//! peers and by the client. Without a gap this cannot be: a client that asked for every broker's name just before any
//! of them started would be told for 30 s that there is none, and no broker could help it.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::Environment;
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use std::fs;
use std::thread::{scope, sleep};
use std::time::Duration;

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
const LONG_GAP: Duration = Duration::from_secs(30);
/// Runs with a long gap wait side by side; the moments that count do not coincide.
const STAGGER: Duration = Duration::from_secs(8);
const LIMIT_MS: i64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(90);

struct Outcome {
    order: [usize; 3],
    gap: Duration,
    result: anyhow::Result<i64>,
}

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    environment.kubectl.apply(&fs::read_to_string(environment.root.join("e2e/hold.yaml"))?)?;
    let attempt = |order, gap| Outcome { order, gap, result: start(environment, timeline, order, gap) };
    let mut outcomes = ORDERS.map(|order| attempt(order, Duration::ZERO)).into_iter().collect::<Vec<_>>();
    remember_absent_names(&environment.kubectl.within("kube-system"))?;
    timeline.say("from here on the cluster's DNS remembers absent names for 30 s");
    scope(|threads| {
        let staggered = |(turn, order)| {
            threads.spawn(move || {
                sleep(STAGGER * turn);
                attempt(order, LONG_GAP)
            })
        };
        let running = (0..).zip(ORDERS).map(staggered).collect::<Vec<_>>();
        outcomes.extend(running.into_iter().filter_map(|thread| thread.join().ok()));
    });
    ensure!(outcomes.len() == 2 * ORDERS.len(), "a run has panicked");
    judge(timeline, &outcomes)
}

fn judge(timeline: &Timeline, outcomes: &[Outcome]) -> anyhow::Result<()> {
    timeline.say("order    gap   second container's start → first acks=all");
    let mut slow = Vec::new();
    for Outcome { order: [a, b, c], gap, result } in outcomes {
        let what = format!("{a} {b} {c}  {:>3} s", gap.as_secs());
        match result {
            Ok(ms) => timeline.say(format!("{what}  {ms:>6} ms")),
            Err(error) => timeline.say(format!("{what}  failed: {error:#}")),
        }
        if !matches!(result, Ok(ms) if *ms <= LIMIT_MS) {
            slow.push(what);
        }
    }
    ensure!(slow.is_empty(), "more than {LIMIT_MS} ms, or none at all: {}", slow.join(", "));
    Ok(())
}

/// One order: how many milliseconds it took.
fn start(environment: &Environment, timeline: &Timeline, order: [usize; 3], gap: Duration) -> anyhow::Result<i64> {
    let [first, second, third] = order;
    let name = format!("{}-{first}{second}{third}-{}", super::namespace("start-orders"), gap.as_secs());
    let kubectl = environment.kubectl.within(&name);
    kubectl.create_namespace()?;
    kubectl.run(&["label", "namespace", &name, "chronik.io/e2e=hold"])?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    let addresses = brokers.addresses();
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, spec: {storage: {size: 1Gi}}}",
    )?;
    client::start(&kubectl, "client", &["produce-first", "--bootstrap", &addresses, "--timeout", "5m"])?;
    brokers.wait_pods(PATIENCE)?;
    let needed = if gap.is_zero() {
        for id in order {
            release(&kubectl, id)?;
        }
        let mut starts = order.map(|id| started(&kubectl, id)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        starts.sort();
        starts[1]
    } else {
        release(&kubectl, first)?;
        started(&kubectl, first)?;
        sleep(gap);
        release(&kubectl, second)?;
        started(&kubectl, second)?
    };
    let acknowledged = acknowledged(&kubectl)?;
    let ms = acknowledged.as_millisecond() - needed.as_millisecond();
    timeline.say(format!("{name}: {ms} ms"));
    if ms > LIMIT_MS {
        explain(&kubectl, timeline)?;
    }
    if !gap.is_zero() {
        release(&kubectl, third)?;
    }
    brokers.wait_ready(PATIENCE)?;
    if ms <= LIMIT_MS {
        kubectl.delete_namespace()?;
    }
    Ok(ms)
}

fn release(kubectl: &Kubectl, id: usize) -> anyhow::Result<()> {
    let patch = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    kubectl.run(&["patch", "pod", &format!("demo-{id}"), "--type=json", "--patch", patch]).map(|_| ())
}

/// When the broker's process wrote its first line, by the clock of the host: Kubernetes tells a container's start in
/// whole seconds only.
fn started(kubectl: &Kubectl, id: usize) -> anyhow::Result<Timestamp> {
    until(&format!("demo-{id} to start"), PATIENCE, || {
        let log = kubectl.run(&["logs", &format!("demo-{id}"), "--timestamps", "--limit-bytes=200"])?;
        let time = log.split_whitespace().next().context("no line yet")?;
        Ok(Some(time.parse()?))
    })
}

/// When the client's first record was acknowledged.
fn acknowledged(kubectl: &Kubectl) -> anyhow::Result<Timestamp> {
    until("an acknowledged write", PATIENCE, || {
        let said = client::said(kubectl, "client")?;
        if let Some(failed) = said.iter().find(|line| line["event"] == "failed") {
            bail!("the client gave up: {failed}");
        }
        let acknowledged = said.iter().find(|line| line["event"] == "acknowledged");
        acknowledged.and_then(|line| line["at"].as_str()).map(|at| Ok(at.parse()?)).transpose()
    })
}

/// What the client met on its way.
fn explain(kubectl: &Kubectl, timeline: &Timeline) -> anyhow::Result<()> {
    for line in client::said(kubectl, "client")? {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        timeline.say(format!("  {} {} {} {}", text("at"), text("event"), text("broker"), text("result")));
    }
    Ok(())
}

/// Makes `CoreDNS` cache denials for the cluster's own names: with a plain `cache 30`.
fn remember_absent_names(kubectl: &Kubectl) -> anyhow::Result<()> {
    let config: Value = kubectl.json(&["get", "configmap", "coredns"])?;
    let corefile = config["data"]["Corefile"].as_str().context("CoreDNS has a Corefile")?;
    let mut lines = Vec::new();
    let mut inside = false;
    for line in corefile.lines() {
        let word = line.trim();
        if word.starts_with("cache ") && word.ends_with('{') {
            inside = true;
            lines.push("    cache 30");
        } else if inside {
            inside = word != "}";
        } else {
            lines.push(line);
        }
    }
    let plain = format!("{}\n", lines.join("\n"));
    ensure!(plain.contains("cache 30"), "no cache in the Corefile: {corefile}");
    let patch = serde_json::json!({ "data": { "Corefile": plain } }).to_string();
    kubectl.run(&["patch", "configmap", "coredns", "--type=merge", "--patch", &patch])?;
    kubectl.run(&["rollout", "restart", "deployment/coredns"])?;
    kubectl.run(&["rollout", "status", "deployment/coredns", "--timeout=90s"]).map(|_| ())
}
