//! `kubectl chronik`: what a cluster does and waits for, and what a person asks of it. kubectl itself does the requests, so
//! that its configuration, its context and its rights count.

mod show;

use crate::process;
use chronik_crds::{ChronikCluster, ChronikTopic};
use clap::{Parser, Subcommand};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::process::{Command, ExitCode, Stdio};

/// The program's name, by which kubectl finds it.
pub const NAME: &str = "kubectl-chronik";

/// Shows clusters, and asks things of them.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl chronik", version)]
pub struct Args {
    /// The namespace [default: the context's]
    #[arg(long, short, global = true)]
    namespace: Option<String>,

    /// The context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a cluster's brokers, what is done next and what it waits for; all clusters if none is named
    Status {
        /// The cluster
        cluster: Option<String>,
    },
    /// Show the topics that resources ask for, and whether they are as specified
    Topics {
        /// The cluster
        cluster: String,
    },
    /// Restart all brokers, one at a time, each when all others are in sync
    Roll {
        /// The cluster
        cluster: String,
    },
    /// Leave a cluster as it is, but for its status and what a drain of nodes may take away
    Pause {
        /// The cluster
        cluster: String,
    },
    /// Go on with a cluster that was paused
    Resume {
        /// The cluster
        cluster: String,
    },
    /// Place nothing new on a broker
    Cordon {
        /// The cluster
        cluster: String,
        /// The broker's id
        broker: i32,
    },
    /// Place new replicas on a broker again
    Uncordon {
        /// The cluster
        cluster: String,
        /// The broker's id
        broker: i32,
    },
    /// Show what brokers log
    Logs {
        /// The cluster
        cluster: String,
        /// This broker alone
        broker: Option<i32>,
        /// Go on with what is logged from now on
        #[arg(long, short)]
        follow: bool,
        /// What was logged since, as in `10m`
        #[arg(long)]
        since: Option<String>,
    },
    /// Run the broker's command line in a broker's pod, as in `kubectl chronik shell demo -- topic list`
    ///
    /// Without words, a shell is started beside a broker: its image has none.
    Shell {
        /// The cluster
        cluster: String,
        /// What to run
        #[arg(last = true)]
        words: Vec<String>,
        /// The image of the shell
        #[arg(long, default_value = "busybox:stable")]
        image: String,
    },
}

/// Whether this process was started as the plugin.
pub fn is_asked_for() -> bool {
    process::name().is_some_and(|name| name == NAME)
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let args = Args::parse();
    match args.run() {
        Ok(success) => ExitCode::from(u8::from(!success)),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(&self) -> anyhow::Result<bool> {
        match &self.action {
            Action::Status { cluster: Some(cluster) } => {
                print!("{}", show::cluster(&self.get::<ChronikCluster>("chronikcluster", cluster)?));
                Ok(true)
            }
            Action::Topics { cluster } => {
                let found: Value = self.json(&["get", "chroniktopics"])?;
                let topics = found["items"].as_array().cloned().unwrap_or_default();
                let readable =
                    topics.into_iter().filter_map(|topic| serde_json::from_value::<ChronikTopic>(topic).ok());
                let of_it = readable.filter(|topic| topic.spec.cluster == *cluster).collect::<Vec<_>>();
                print!("{}", show::topics(&of_it));
                Ok(true)
            }
            Action::Cordon { cluster, .. } | Action::Uncordon { cluster, .. } | Action::Shell { cluster, .. } => {
                let found = self.get::<ChronikCluster>("chronikcluster", cluster)?;
                let pod = show::ready_pod(&found).ok_or_else(|| anyhow::anyhow!("no broker of {cluster} is ready"))?;
                self.kubectl(&self.action.words(&pod, Timestamp::now()))
            }
            action => self.kubectl(&action.words("", Timestamp::now())),
        }
    }

    fn get<K: DeserializeOwned>(&self, kind: &str, name: &str) -> anyhow::Result<K> {
        self.json(&["get", kind, name])
    }

    fn json<T: DeserializeOwned>(&self, words: &[&str]) -> anyhow::Result<T> {
        let mut command = self.command();
        let said = command.args(words).args(["--output", "json"]).stderr(Stdio::inherit()).output()?;
        anyhow::ensure!(said.status.success(), "kubectl {} failed", words.join(" "));
        Ok(serde_json::from_slice(&said.stdout)?)
    }

    fn kubectl(&self, words: &[String]) -> anyhow::Result<bool> {
        Ok(self.command().args(words).status()?.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command
    }
}

impl Action {
    /// What kubectl is asked for. `pod` is a broker that is ready, where one is needed.
    fn words(&self, pod: &str, now: Timestamp) -> Vec<String> {
        let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let chronik = |words: &[String]| {
            [of(&["exec", pod, "--container", "chronik", "--", "/chronik"]), words.to_vec()].concat()
        };
        match self {
            Self::Status { .. } => of(&["get", "chronikclusters"]),
            Self::Topics { .. } => of(&["get", "chroniktopics"]),
            Self::Roll { cluster } => {
                let restart = format!("{}={now}", crate::reconcile::build::RESTART);
                of(&["annotate", "chronikcluster", cluster, &restart, "--overwrite"])
            }
            Self::Pause { cluster } | Self::Resume { cluster } => {
                let paused = matches!(self, Self::Pause { .. });
                let patch = format!(r#"{{"spec":{{"paused":{paused}}}}}"#);
                of(&["patch", "chronikcluster", cluster, "--type=merge", "--patch", &patch])
            }
            Self::Cordon { broker, .. } => chronik(&of(&["broker", "cordon", &broker.to_string()])),
            Self::Uncordon { broker, .. } => chronik(&of(&["broker", "uncordon", &broker.to_string()])),
            Self::Logs { cluster, broker, follow, since } => {
                let mut words = if let Some(broker) = broker {
                    of(&["logs", &format!("{cluster}-{broker}"), "--container", "chronik"])
                } else {
                    let selector = format!("{}={cluster}", crate::reconcile::build::CLUSTER_LABEL);
                    // As many as a cluster may have; otherwise the last ten lines of five of them are shown.
                    of(&["logs", "--selector", &selector, "--prefix", "--max-log-requests=99", "--tail=-1"])
                };
                words.extend(follow.then(|| "--follow".to_owned()));
                words.extend(since.iter().map(|since| format!("--since={since}")));
                words
            }
            Self::Shell { words, .. } if !words.is_empty() => chronik(words),
            Self::Shell { image, .. } => {
                let image = format!("--image={image}");
                of(&["debug", pod, "--stdin", "--tty", "--target=chronik", "--profile=restricted", &image])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        let args = Args::parse_from(std::iter::once(NAME).chain(line.split(' ')));
        args.action.words("demo-1", Timestamp::UNIX_EPOCH).join(" ")
    }

    #[test]
    fn what_is_asked_for_is_asked_of_kubectl() {
        for (line, expected) in [
            ("status", "get chronikclusters"),
            ("roll demo", "annotate chronikcluster demo chronik.io/restart=1970-01-01T00:00:00Z --overwrite"),
            ("pause demo", r#"patch chronikcluster demo --type=merge --patch {"spec":{"paused":true}}"#),
            ("resume demo", r#"patch chronikcluster demo --type=merge --patch {"spec":{"paused":false}}"#),
            ("cordon demo 2", "exec demo-1 --container chronik -- /chronik broker cordon 2"),
            ("uncordon demo 2", "exec demo-1 --container chronik -- /chronik broker uncordon 2"),
            ("logs demo 0 -f", "logs demo-0 --container chronik --follow"),
            (
                "logs demo --since 5m",
                "logs --selector chronik.io/cluster=demo --prefix --max-log-requests=99 --tail=-1 --since=5m",
            ),
            ("shell demo -- topic list", "exec demo-1 --container chronik -- /chronik topic list"),
            ("shell demo", "debug demo-1 --stdin --tty --target=chronik --profile=restricted --image=busybox:stable"),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }
}
