//! The Kafka client, in a pod or beside the Kubernetes cluster.

use crate::command::output;
use crate::environment::{CLIENT_IMAGE, Environment};
use crate::kubectl::Kubectl;
use crate::wait::{timeout, until};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::process::Command;

/// Starts a pod that runs the client with these words.
pub(crate) fn start(kubectl: &Kubectl, pod: &str, words: &[&str]) -> anyhow::Result<()> {
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
      image: {CLIENT_IMAGE}
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
    let said = kubectl.run(&[&["exec", pod, "--", "/client"], words, &[&timeout()]].concat())?;
    Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
}

/// What the client has said so far, a JSON object a line.
pub(crate) fn said(kubectl: &Kubectl, pod: &str) -> anyhow::Result<Vec<Value>> {
    let log = kubectl.run(&["logs", pod])?;
    Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Runs a command of the client on the machine that the kind nodes run on, and returns what it said last.
pub(crate) fn outside(environment: &Environment, words: &[&str]) -> anyhow::Result<Value> {
    let said = output(Command::new(environment.client_binary()).args(words).arg(timeout()))?;
    Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
}

/// An idempotent producer that writes to a topic at a steady rate, in a pod of the topic's name.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) kubectl: &'a Kubectl,
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
}

impl Load<'_> {
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let words = ["load", "--rate", "200", "--bootstrap", self.bootstrap, "--topic", self.topic, "--timeout", "1h"];
        start(self.kubectl, self.topic, &words)
    }

    /// Ends it. Fails unless every request was acknowledged, and the topic has every record once and in order, as a client
    /// in another pod sees it. Returns how many records there are, and the milliseconds that the slowest took.
    pub(crate) fn stop(&self, client: &str) -> anyhow::Result<(u64, u64)> {
        exec(self.kubectl, self.topic, &["stop"])?;
        self.kubectl.wait(&["--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{}", self.topic)])?;
        let said = said(self.kubectl, self.topic)?.pop().context("the producer said nothing")?;
        ensure!(said["failed"] == 0, "requests failed: {said}");
        let number = |field: &str| said[field].as_u64().with_context(|| format!("no {field}: {said}"));
        let (count, slowest) = (number("count")?, number("slowest_ms")?);
        let topic = ["--bootstrap", self.bootstrap, "--topic", self.topic];
        exec(self.kubectl, client, &[&["consume"], &topic[..], &["--count", &count.to_string()]].concat())?;
        Ok((count, slowest))
    }

    /// Waits until every partition of the topic has these brokers, by commas, in sync and no others.
    pub(crate) fn wait_in_sync(&self, client: &str, brokers: &str) -> anyhow::Result<()> {
        let words = ["in-sync", "--bootstrap", self.bootstrap, "--topic", self.topic, "--brokers", brokers];
        until("the topic in sync", || exec(self.kubectl, client, &words).map(Some)).map(|_| ())
    }
}
