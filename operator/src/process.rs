//! The operator's process: flags, logs, leader election, and an orderly end.

use crate::brokers::Admin;
use crate::events::Events;
use crate::http::{self, Health};
use crate::kafka;
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::pulse::{Pulse, STANDBY_STUCK_AFTER};
use crate::reconcile::Reconciler;
use crate::topics::{self, TopicReconciler};
use crate::{MANAGER, controller, plugin, users};
use anyhow::Context;
use clap::{Parser, ValueEnum};
use futures::future::join_all;
use kube::{Client, Config};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Longer than a watch lasts, which the API server ends after five minutes at the latest.
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// The name of the loop of an instance that stands by.
const STANDBY: &str = "standby";

/// Turns each `ChronikCluster` into a running cluster of brokers.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Look at this namespace alone, or at these; without it, at all of them
    #[arg(long, value_delimiter = ',')]
    namespace: Vec<String>,

    /// The image for clusters that do not name theirs
    #[arg(long, default_value = concat!("chronik:", env!("CARGO_PKG_VERSION")))]
    default_image: String,

    /// The namespace of the lease by which one instance of several is chosen; without it, this one acts at once
    #[arg(long)]
    lease_namespace: Option<String>,

    /// The name of that lease
    #[arg(long, default_value = MANAGER)]
    lease_name: String,

    /// What to call this instance; it must differ from every other one [default: the host's name]
    #[arg(long)]
    identity: Option<String>,

    /// Where to serve /livez, /readyz and /metrics
    #[arg(long, default_value = "[::]:8080")]
    http: SocketAddr,

    /// How to write logs
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,

    /// What to log, as in `info` or `chronik_operator=debug,info`
    #[arg(long, default_value = "info,kube_runtime=error")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Whether this process was started under the operator's name, or as the plugin of kubectl.
pub fn is_asked_for() -> bool {
    plugin::is_asked_for() || name().is_some_and(|name| name == MANAGER)
}

/// The name that this process was started under.
pub(crate) fn name() -> Option<OsString> {
    Path::new(&std::env::args_os().next()?).file_stem().map(OsStr::to_owned)
}

/// The whole of the program: the operator, or under its name the plugin of kubectl.
pub fn main() -> ExitCode {
    if plugin::is_asked_for() {
        return plugin::run();
    }
    match operate(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn operate(args: &Args) -> anyhow::Result<()> {
    start_logs(args);
    let metrics = Metrics::default();
    let pulse = Pulse::default();
    let health = Health::new(metrics.clone(), pulse.clone());
    let listener = http::listen(args.http).await.with_context(|| format!("cannot listen on {}", args.http))?;
    tokio::spawn(http::serve(listener, health.clone()));
    let client = connect().await.context("no way to the API server")?;
    let identity = match &args.identity {
        Some(identity) => identity.clone(),
        None => std::fs::read_to_string("/etc/hostname").context("no --identity, and no host name")?.trim().to_owned(),
    };
    let reconciler = Reconciler {
        client: client.clone(),
        brokers: Arc::new(Admin::default()),
        kafka: Arc::new(kafka::Client::default()),
        events: Events::new(client.clone(), &identity),
        default_image: args.default_image.clone(),
        operator: args.lease_namespace.as_ref().map(|namespace| format!("{namespace}/{}", args.lease_name)),
        metrics: metrics.clone(),
    };
    let stop = stop_signal()?;
    let candidate = args
        .lease_namespace
        .as_deref()
        .map(|namespace| Candidate::new(client.clone(), namespace, &args.lease_name, &identity));
    let lease = match candidate {
        Some(candidate) => {
            let looked = |answered| {
                pulse.beat(STANDBY, std::time::Instant::now(), Some(STANDBY_STUCK_AFTER));
                if answered {
                    health.set_ready();
                }
            };
            let since = tokio::select! {
                since = candidate.acquire(looked) => since,
                () = stopped(stop.clone()) => return Ok(()),
            };
            Some((candidate, since))
        }
        None => None,
    };
    metrics.leading(true);
    if let Some(operator) = &reconciler.operator {
        metrics.acts_as(operator);
    }
    // What is expected from now on is the reconciles' to say.
    pulse.beat(STANDBY, std::time::Instant::now(), None);
    health.set_ready();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = ?args.namespace,
        "operator started"
    );
    lead(reconciler, &args.namespace, pulse, lease, stop).await
}

/// Acts until it is stopped, or until another instance may act: then the process ends at once, whatever it was doing.
async fn lead(
    reconciler: Reconciler,
    namespaces: &[String],
    pulse: Pulse,
    lease: Option<(Candidate, Instant)>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let lost = async {
        match &lease {
            Some((candidate, since)) => candidate.keep(*since).await,
            None => std::future::pending().await,
        }
    };
    let topics = TopicReconciler {
        client: reconciler.client.clone(),
        kafka: Arc::clone(&reconciler.kafka),
        events: reconciler.events.clone(),
        operator: reconciler.operator.clone(),
        metrics: reconciler.metrics.clone(),
    };
    let run = async |namespace| {
        tokio::join!(
            controller::run(reconciler.clone(), namespace, pulse.clone(), stopped(stop.clone())),
            topics::run(topics.clone(), namespace, stopped(stop.clone())),
            users::run(reconciler.client.clone(), namespace, stopped(stop.clone())),
        );
    };
    let loops = async {
        if namespaces.is_empty() {
            run(None).await;
        } else {
            join_all(namespaces.iter().map(|namespace| run(Some(namespace.as_str())))).await;
        }
    };
    tokio::select! {
        () = loops => {}
        why = lost => {
            error!(why, "not leading any more");
            anyhow::bail!("not leading any more: {why}");
        }
    }
    if let Some((candidate, _)) = &lease {
        candidate.release().await;
    }
    info!("operator stopped");
    Ok(())
}

/// A connection on which nothing comes for longer than a watch lasts is dead; one that is half open would be used for
/// ever. Nor is anything repeated beneath a reconcile, which would hide for long what the API server says: it is tried again
/// itself.
async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer().await?;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn start_logs(args: &Args) {
    let filter = EnvFilter::new(&args.log);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that no signal can come any more: then there is nothing to wait for.
    let _ = stop.wait_for(|stop| *stop).await;
}
