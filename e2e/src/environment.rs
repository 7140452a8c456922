//! The kind cluster that the scenarios run on: made, given the images and the operator, and removed.

use crate::command::output;
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::{timeout, try_again};
use anyhow::Context;
use jiff::Timestamp;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The operator's namespace.
pub(crate) const OPERATOR_NAMESPACE: &str = "chronik-system";
/// The operator's deployment.
pub(crate) const OPERATOR: &str = "chronik-operator";
/// The image of the scenarios' Kafka client.
pub(crate) const CLIENT_IMAGE: &str = "chronik-e2e-client:dev";
/// Used when it is there already; else kind's own default is, for which it asks a registry.
const NODE_IMAGE: &str = "kindest/node:v1.34.4";

/// When this process first named a namespace, in seconds.
static RUN: LazyLock<i64> = LazyLock::new(|| Timestamp::now().as_second());

/// What the names of a scenario's namespaces begin with. A cluster that is kept may have those of earlier runs.
pub(crate) fn namespace(scenario: &str) -> String {
    format!("e2e-{scenario}-{:x}", *RUN)
}

/// How the start orders are run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct StartOrders {
    /// Fail where the median of an order of starts is longer than a second, or one in twenty starts at once longer than
    /// two, and not only where most take longer than ten; and where a write under load takes longer than a second while
    /// brokers are replaced one at a time: for a machine that does nothing else
    #[arg(long)]
    pub(crate) strict: bool,

    /// How often all brokers are started at once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}

/// What scenarios work with.
pub(crate) struct Environment {
    pub(crate) kubectl: Kubectl,
    pub(crate) root: PathBuf,
    pub(crate) start_orders: StartOrders,
    /// Whether the kind cluster outlives the scenarios.
    pub(crate) keep: bool,
    name: String,
    kubeconfig: PathBuf,
    image: String,
}

impl Environment {
    pub(crate) fn new(name: &str, image: &str, keep: bool, start_orders: StartOrders) -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("the crate is in the workspace")?.to_owned();
        let folder = root.join("target/e2e");
        fs::create_dir_all(&folder)?;
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        Ok(Self {
            kubectl: Kubectl::new(&kubeconfig),
            root,
            start_orders,
            keep,
            name: name.to_owned(),
            kubeconfig,
            image: image.to_owned(),
        })
    }

    /// The image of broker and operator.
    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    /// Where a scenario's logs and objects go when it fails.
    pub(crate) fn evidence(&self, scenario: &str) -> PathBuf {
        self.root.join("target/e2e").join(scenario)
    }

    /// The client as a program of this machine.
    pub(crate) fn client_binary(&self) -> PathBuf {
        self.root.join("target/e2e/client/client")
    }

    /// Removes a namespace that a scenario is done with; where it goes with its cluster soon, its pods alone, which would
    /// keep the machine from what comes: kube-proxy 1.34 in its nftables mode may fail for a while when Services are
    /// deleted, on deleting what is not there, and does nothing else meanwhile. Does not wait for it to be gone.
    pub(crate) fn discard(&self, namespace: &Kubectl) -> anyhow::Result<()> {
        if self.keep { namespace.delete_namespace() } else { namespace.stop_pods() }
    }

    /// Whether the kind cluster is there already.
    pub(crate) fn exists(&self) -> anyhow::Result<bool> {
        let clusters = output(Command::new("kind").args(["get", "clusters"]))?;
        Ok(clusters.lines().any(|line| line == self.name))
    }

    pub(crate) fn create(&self, timeline: &Timeline) -> anyhow::Result<()> {
        let mut command = Command::new("kind");
        allow_watches();
        command.args(["create", "cluster", "--name", &self.name, "--wait", "180s"]);
        command.arg("--config").arg(self.root.join("e2e/kind.yaml"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        if output(Command::new("docker").args(["image", "inspect", NODE_IMAGE])).is_ok() {
            command.args(["--image", NODE_IMAGE]);
        }
        if let Err(error) = output(&mut command) {
            timeline.say(format!("{error:#}; trying again"));
            self.delete()?;
            output(&mut command)?;
        }
        timeline.say("kind cluster created");
        Ok(())
    }

    pub(crate) fn delete(&self) -> anyhow::Result<()> {
        let mut kind = Command::new("kind");
        kind.args(["delete", "cluster", "--name", &self.name]);
        try_again(|_| true, || output(&mut kind)).map(|_| ())
    }

    /// The image under test, built anew.
    pub(crate) fn build_image(&self, timeline: &Timeline) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        output(Command::new(cargo).current_dir(&self.root).args(["xtask", "image", "--tag", &self.image]))?;
        timeline.say(format!("{} built", self.image));
        Ok(())
    }

    /// The client's image: a static binary and nothing else.
    pub(crate) fn build_client(&self, timeline: &Timeline) -> anyhow::Result<()> {
        let context = self.root.join("target/e2e/client");
        fs::create_dir_all(&context)?;
        let source = self.root.join("e2e/client");
        let mut modules = Command::new("go");
        modules.current_dir(&source).args(["mod", "download"]);
        try_again(|_| true, || output(&mut modules))?;
        let mut go = Command::new("go");
        go.current_dir(source).env("CGO_ENABLED", "0").env("GOARCH", go_architecture());
        go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
        output(go.arg(context.join("client")).arg("."))?;
        fs::copy(self.root.join("e2e/client/Dockerfile"), context.join("Dockerfile"))?;
        let mut docker = Command::new("docker");
        docker.env("DOCKER_BUILDKIT", "0").args(["build", "--tag", CLIENT_IMAGE]).arg(&context);
        output(&mut docker)?;
        timeline.say(format!("{CLIENT_IMAGE} built"));
        Ok(())
    }

    /// kind waits for the control plane alone, and three brokers are to find three nodes.
    pub(crate) fn wait_nodes(&self) -> anyhow::Result<()> {
        self.kubectl.wait(&["--for=condition=Ready", "nodes", "--all"])
    }

    /// The node of the API server.
    pub(crate) fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    pub(crate) fn load_images(&self, timeline: &Timeline) -> anyhow::Result<()> {
        self.load(&[&self.image, CLIENT_IMAGE])?;
        timeline.say("images loaded");
        Ok(())
    }

    /// Gives images of this machine to every node.
    pub(crate) fn load(&self, images: &[&str]) -> anyhow::Result<()> {
        let mut kind = Command::new("kind");
        output(kind.args(["load", "docker-image", "--name", &self.name]).args(images)).map(|_| ())
    }

    /// Gives the image under test another tag on every node, and returns the whole name.
    pub(crate) fn tag_image(&self, tag: &str) -> anyhow::Result<String> {
        let (repository, _) = self.image.rsplit_once(':').context("the image has a tag")?;
        let name = format!("{repository}:{tag}");
        output(Command::new("docker").args(["tag", &self.image, &name]))?;
        let loaded = self.load(&[&name]);
        // The image itself stays, as it has its own tag.
        output(Command::new("docker").args(["rmi", &name]))?;
        loaded.map(|()| name)
    }

    /// helm, for the operator's release.
    pub(crate) fn helm(&self, words: &[&str]) -> Command {
        self.helm_within(OPERATOR_NAMESPACE, words)
    }

    /// helm, for a release in another namespace.
    pub(crate) fn helm_within(&self, namespace: &str, words: &[&str]) -> Command {
        let mut helm = Command::new("helm");
        helm.arg("--kubeconfig").arg(&self.kubeconfig).args(words).args(["--namespace", namespace]);
        helm
    }

    /// The chart's values that name the image under test.
    pub(crate) fn image_values(&self) -> anyhow::Result<String> {
        let (repository, tag) = self.image.rsplit_once(':').context("the image has a tag")?;
        Ok(format!("image.repository={repository},image.tag={tag}"))
    }

    /// A line of shell, as somebody types it who works with this kind cluster and has the repository's root before them.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(&self.root);
        shell.env("KUBECONFIG", &self.kubeconfig).env("KIND_CLUSTER_NAME", &self.name);
        shell
    }

    pub(crate) fn install_operator(&self, timeline: &Timeline) -> anyhow::Result<()> {
        let mut helm = self.helm(&["upgrade", "--install", "chronik"]);
        helm.arg(self.root.join("charts/chronik"));
        helm.args(["--create-namespace", "--wait", &timeout()]);
        helm.args(["--set", &self.image_values()?]);
        output(&mut helm)?;
        // A cluster that was kept may have loaded another image under the same tag since.
        self.kubectl.within(OPERATOR_NAMESPACE).restart(OPERATOR)?;
        timeline.say("operator installed");
        Ok(())
    }
}

/// Stops every process of a kind node, as a machine that hangs, or lets them go on.
pub(crate) fn pause(node: &str, paused: bool) -> anyhow::Result<()> {
    output(Command::new("docker").args([if paused { "pause" } else { "unpause" }, node])).map(|_| ())
}

fn go_architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Each node's kubelet and kube-proxy watch files, and all nodes share the host's limit: Debian's 128 is not enough for
/// two clusters. Who may not raise it has to do with what there is.
fn allow_watches() {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    const ENOUGH: u32 = 1024;
    let limit = fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if limit.is_some_and(|limit| limit < ENOUGH) {
        let _ = fs::write(LIMIT, ENOUGH.to_string());
    }
}
