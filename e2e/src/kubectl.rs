//! The API server, through kubectl.

use crate::command;
use crate::wait::{timeout, try_again, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How kubectl tells that the API server could not be reached, or could not answer.
const OUT_OF_REACH: &[&str] = &[
    "connection to the server",
    "connect to the server",
    "connection refused",
    "connection reset",
    "connection lost",
    "TLS handshake timeout",
    "Client.Timeout exceeded",
    "unexpected EOF",
    "\": EOF",
    "etcdserver: ",
    // Just after its start it has no schemas yet, and does not know who may do everything.
    "failed to download openapi",
    "User \"kubernetes-admin\" cannot",
];

/// A namespace of the cluster under test.
#[derive(Clone)]
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), namespace: "default".to_owned() }
    }

    pub(crate) fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The file with the addresses and rights.
    pub(crate) fn config(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run_with_input(args, "")
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(args);
        let verb = args.first().copied().unwrap_or_default();
        // The others have one request for as long as they take.
        if !matches!(verb, "delete" | "exec" | "rollout" | "wait") {
            command.arg("--request-timeout=1m");
        }
        // What a pod runs may have produced records, and what is deleted twice may be what came after it.
        let repeatable = !matches!(verb, "delete" | "exec");
        let out_of_reach = |error: &anyhow::Error| {
            let message = error.to_string();
            repeatable && OUT_OF_REACH.iter().any(|words| message.contains(words))
        };
        try_again(out_of_reach, || command::output_with_input(&mut command, input))
    }

    pub(crate) fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&[args, &["--output", "json"]].concat())?)?)
    }

    pub(crate) fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        // What begins with a brace would be taken for JSON.
        self.run_with_input(&["apply", "--filename", "-"], &format!("---\n{yaml}"))
    }

    /// What the API server would make of an object, as JSON; nothing is made.
    pub(crate) fn try_create(&self, yaml: &str) -> anyhow::Result<String> {
        let args = ["create", "--dry-run=server", "--output", "json", "--filename", "-"];
        self.run_with_input(&args, &format!("---\n{yaml}"))
    }

    /// Waits for a condition of objects.
    pub(crate) fn wait(&self, words: &[&str]) -> anyhow::Result<()> {
        self.run(&[&["wait", &timeout()], words].concat()).map(|_| ())
    }

    /// Waits until a deployment's pods are the new ones, and ready.
    pub(crate) fn wait_rolled_out(&self, deployment: &str) -> anyhow::Result<()> {
        self.run(&["rollout", "status", &format!("deployment/{deployment}"), &timeout()]).map(|_| ())
    }

    /// Replaces a deployment's pods, and waits for the new ones.
    pub(crate) fn restart(&self, deployment: &str) -> anyhow::Result<()> {
        self.run(&["rollout", "restart", &format!("deployment/{deployment}")])?;
        self.wait_rolled_out(deployment)
    }

    pub(crate) fn create_namespace(&self) -> anyhow::Result<()> {
        // Pods that do not keep to the restricted standard are refused.
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: \
             {{pod-security.kubernetes.io/enforce: restricted}}}}}}",
            self.namespace
        ))?;
        // Pods are refused as long as there is no account for them.
        until("the namespace's account", || self.run(&["get", "serviceaccount", "default"]).map(Some)).map(|_| ())
    }

    /// Lets no pod run any more: those that are there are deleted, without waiting for them, and no others are made.
    pub(crate) fn stop_pods(&self) -> anyhow::Result<()> {
        self.apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: no-pods}, spec: {hard: {pods: 0}}}")?;
        self.run(&["delete", "pods", "--all", "--wait=false"]).map(|_| ())
    }

    pub(crate) fn wait_deleted(&self) -> anyhow::Result<()> {
        self.wait(&["--for=delete", "namespace", &self.namespace])
    }

    /// Without waiting for it to be gone.
    pub(crate) fn delete_namespace(&self) -> anyhow::Result<()> {
        self.run(&["delete", "namespace", &self.namespace, "--wait=false"]).map(|_| ())
    }
}
