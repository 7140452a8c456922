//! The Kafka client, in a pod or beside the Kubernetes cluster.

use crate::command::output;
use crate::environment::{CLIENT_IMAGE, Environment};
use crate::kubectl::Kubectl;
use crate::wait::{timeout, until};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What the clients of a scenario saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Records that were read back, each there once and in order; those that were read twice count twice.
    pub(crate) checked: u64,
    /// The milliseconds that the slowest write took, of those under a steady load; none if there was no load.
    pub(crate) slowest_ms: Option<u64>,
}

impl Figures {
    /// Adds what a client said.
    fn add(&mut self, said: &Value) {
        if said["event"] == "consumed" {
            self.checked += said["count"].as_u64().unwrap_or_default();
        }
        self.slowest_ms = self.slowest_ms.max(said["slowest_ms"].as_u64());
    }
}

/// Since they were last taken. Scenarios run one after another.
static FIGURES: Mutex<Figures> = Mutex::new(Figures { checked: 0, slowest_ms: None });

/// What the clients have seen since this was last asked.
pub(crate) fn take_figures() -> Figures {
    std::mem::take(&mut *FIGURES.lock().unwrap_or_else(PoisonError::into_inner))
}

fn note(said: &Value) {
    FIGURES.lock().unwrap_or_else(PoisonError::into_inner).add(said);
}

/// Starts a pod that runs the client with these words.
pub(crate) fn start(kubectl: &Kubectl, pod: &str, words: &[&str]) -> anyhow::Result<()> {
    start_image(kubectl, pod, CLIENT_IMAGE, words)
}

/// The same of another client.
pub(crate) fn start_image(kubectl: &Kubectl, pod: &str, image: &str, words: &[&str]) -> anyhow::Result<()> {
    let words = serde_json::to_string(words)?;
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {pod}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: client
      image: {image}
      imagePullPolicy: Never
      args: {words}
      securityContext:
        {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    ))?;
    kubectl.wait(&["--for=jsonpath={.status.phase}=Running", &format!("pod/{pod}")])
}

/// Runs a command of the client in a pod that idles, and returns what it said last.
pub(crate) fn exec(kubectl: &Kubectl, pod: &str, words: &[&str]) -> anyhow::Result<Value> {
    last(&kubectl.run(&[&["exec", pod, "--", "/client"], words, &[&timeout()]].concat())?)
}

/// Starts a pod that reads what a load writes as a consumer group.
pub(crate) fn follow(load: &Load<'_>, pod: &str) -> anyhow::Result<()> {
    let words = ["follow", "--bootstrap", load.bootstrap, "--topic", load.topic, "--timeout", "1h"];
    start(load.kubectl, pod, &words)?;
    until("records that come through", || Ok((seen(load.kubectl, pod)? > 500).then_some(())))
}

/// Waits until the group in that pod has seen so many records, each another one: all that there are.
pub(crate) fn wait_seen(kubectl: &Kubectl, pod: &str, count: u64) -> anyhow::Result<()> {
    until("a group that has seen all", || Ok((seen(kubectl, pod)? == count).then_some(())))
}

/// How many records the group has seen by now.
fn seen(kubectl: &Kubectl, pod: &str) -> anyhow::Result<u64> {
    Ok(printed(kubectl, pod)?.iter().rev().find_map(|line| line["seen"].as_u64()).unwrap_or(0))
}

/// What the client has printed so far, a JSON object a line.
pub(crate) fn printed(kubectl: &Kubectl, pod: &str) -> anyhow::Result<Vec<Value>> {
    let log = kubectl.run(&["logs", pod])?;
    Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Runs a command of the client on the machine that the kind nodes run on, and returns what it said last.
pub(crate) fn outside(environment: &Environment, words: &[&str]) -> anyhow::Result<Value> {
    last(&output(Command::new(environment.client_binary()).args(words).arg(timeout()))?)
}

fn last(said: &str) -> anyhow::Result<Value> {
    let said = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    note(&said);
    Ok(said)
}

/// The milliseconds that a write may take.
const WRITE_MAX_MS: u64 = 1_000;

fn is_in_time(slowest_ms: u64, strict: bool) -> bool {
    slowest_ms <= WRITE_MAX_MS || !strict
}

/// An idempotent producer that writes to a topic at a steady rate, in a pod of the topic's name.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) kubectl: &'a Kubectl,
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
}

impl<'a> Load<'a> {
    /// Begins to write to the topic `load` of three brokers, beside a client by the name of `client`; all three are in sync.
    pub(crate) fn begin(kubectl: &'a Kubectl, bootstrap: &'a str) -> anyhow::Result<Self> {
        start(kubectl, "client", &["idle"])?;
        let load = Load { kubectl, bootstrap, topic: "load" };
        load.start()?;
        load.wait_in_sync("client", "0,1,2")?;
        Ok(load)
    }

    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let words = ["load", "--rate", "200", "--bootstrap", self.bootstrap, "--topic", self.topic, "--timeout", "1h"];
        start(self.kubectl, self.topic, &words)
    }

    /// Ends it. Fails unless every request was acknowledged, and the topic has every record once and in order, as a client
    /// in another pod sees it. Returns how many records there are, and the milliseconds that the slowest took.
    pub(crate) fn stop(&self, client: &str) -> anyhow::Result<(u64, u64)> {
        exec(self.kubectl, self.topic, &["stop"])?;
        self.kubectl.wait(&["--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{}", self.topic)])?;
        let mut lines = printed(self.kubectl, self.topic)?;
        let said = lines.pop().context("the producer said nothing")?;
        note(&said);
        let first = lines.iter().find(|line| line["event"] == "record failed").unwrap_or(&Value::Null);
        ensure!(said["failed"] == 0, "requests failed: {said}, the first so: {first}");
        let number = |field: &str| said[field].as_u64().with_context(|| format!("no {field}: {said}"));
        let (count, slowest) = (number("count")?, number("slowest_ms")?);
        let topic = ["--bootstrap", self.bootstrap, "--topic", self.topic];
        exec(self.kubectl, client, &[&["consume"], &topic[..], &["--count", &count.to_string()]].concat())?;
        Ok((count, slowest))
    }

    /// The same where no write may take longer than a second: while brokers are replaced one at a time, or are not touched.
    /// It fails of that only on a machine that does nothing else.
    pub(crate) fn stop_in_time(&self, client: &str, environment: &Environment) -> anyhow::Result<(u64, u64)> {
        let (count, slowest) = self.stop(client)?;
        ensure!(is_in_time(slowest, environment.start_orders.strict), "a record took {slowest} ms");
        Ok((count, slowest))
    }

    /// Waits until every partition of the topic has these brokers, by commas, in sync and no others.
    pub(crate) fn wait_in_sync(&self, client: &str, brokers: &str) -> anyhow::Result<()> {
        let words = ["in-sync", "--bootstrap", self.bootstrap, "--topic", self.topic, "--brokers", brokers];
        until("the topic in sync", || exec(self.kubectl, client, &words).map(Some)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_write_of_more_than_a_second_is_too_slow_on_a_machine_that_does_nothing_else() {
        let cases = [(1_000, true), (1_001, true), (1_001, false)].map(|(slowest, strict)| is_in_time(slowest, strict));
        assert_eq!(cases, [true, false, true]);
    }

    #[test]
    fn the_figures_are_the_records_read_back_and_the_slowest_write() {
        let mut figures = Figures::default();
        figures.add(&json!({ "event": "consumed", "count": 3 }));
        figures.add(&json!({ "event": "produced", "count": 5 }));
        assert_eq!(figures, Figures { checked: 3, slowest_ms: None });
        for slowest in [20, 7] {
            figures.add(&json!({ "event": "loaded", "count": 9, "slowest_ms": slowest }));
            figures.add(&json!({ "event": "consumed", "count": 9 }));
        }
        assert_eq!(figures, Figures { checked: 21, slowest_ms: Some(20) });
    }
}
