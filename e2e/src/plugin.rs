//! The plugin of kubectl.

use crate::command::output;
use crate::environment::Environment;
use crate::kubectl::Kubectl;
use std::path::PathBuf;
use std::process::Command;

/// `kubectl chronik`: the program of the image under another name, in a folder that kubectl looks for its plugins in.
pub(crate) struct Plugin {
    folder: PathBuf,
}

impl Plugin {
    /// Takes it out of the image under test, as docs/kubernetes.md says.
    pub(crate) fn of(environment: &Environment) -> anyhow::Result<Self> {
        let folder = environment.root.join("target/e2e/plugin");
        std::fs::create_dir_all(&folder)?;
        let container = output(Command::new("docker").args(["create", environment.image()]))?;
        let container = container.trim();
        let program = folder.join("kubectl-chronik");
        let copied = output(Command::new("docker").args(["cp", &format!("{container}:/chronik")]).arg(program));
        output(Command::new("docker").args(["rm", container]))?;
        copied?;
        Ok(Self { folder })
    }

    /// Runs `kubectl chronik` with these words in a namespace; returns what it printed.
    pub(crate) fn run(&self, kubectl: &Kubectl, words: &[&str]) -> anyhow::Result<String> {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.folder.clone()).chain(std::env::split_paths(&others));
        let mut command = Command::new("kubectl");
        command.env("PATH", std::env::join_paths(folders)?).env("KUBECONFIG", kubectl.config());
        // Behind its name, as kubectl itself takes no words before that; and before all else, as what comes behind `--` is
        // another program's.
        output(command.args(["chronik", "--namespace", kubectl.namespace()]).args(words))
    }
}
