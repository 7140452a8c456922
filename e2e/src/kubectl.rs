//! The API server, through kubectl.

use crate::command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

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

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        command::output(&mut self.command(args))
    }

    pub(crate) fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&[args, &["--output", "json"]].concat())?)?)
    }

    pub(crate) fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        // What begins with a brace would be taken for JSON.
        command::output_with_input(&mut self.command(&["apply", "--filename", "-"]), &format!("---\n{yaml}"))
    }

    /// What the API server would make of an object, as JSON; nothing is made.
    pub(crate) fn try_create(&self, yaml: &str) -> anyhow::Result<String> {
        let args = ["create", "--dry-run=server", "--output", "json", "--filename", "-"];
        command::output_with_input(&mut self.command(&args), &format!("---\n{yaml}"))
    }

    pub(crate) fn create_namespace(&self) -> anyhow::Result<()> {
        // Pods that do not hold to the restricted standard are refused.
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: \
             {{pod-security.kubernetes.io/enforce: restricted}}}}}}",
            self.namespace
        ))?;
        Ok(())
    }

    pub(crate) fn wait_deleted(&self) -> anyhow::Result<()> {
        self.run(&["wait", "--for=delete", "namespace", &self.namespace, "--timeout=120s"]).map(|_| ())
    }

    /// Without waiting for it to be gone.
    pub(crate) fn delete_namespace(&self) -> anyhow::Result<()> {
        self.run(&["delete", "namespace", &self.namespace, "--wait=false"]).map(|_| ())
    }
}
