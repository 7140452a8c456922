//! The operator's process: flags, logs, leader election, and an orderly end.

use anyhow::Context;
use chronik_operator::http::{self, Health};
use chronik_operator::leader::Candidate;
use chronik_operator::metrics::Metrics;
use chronik_operator::reconcile::Reconciler;
use chronik_operator::{MANAGER, controller};
use clap::{Parser, ValueEnum};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use std::io::IsTerminal;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Turns each `ChronikCluster` into a running cluster of brokers.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Look at this namespace alone; without it, at all of them
    #[arg(long)]
    namespace: Option<String>,

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

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    start_logs(&args);
    let metrics = Metrics::default();
    let health = Health::new(metrics.clone());
    let listener = http::listen(args.http).await.with_context(|| format!("cannot listen on {}", args.http))?;
    tokio::spawn(http::serve(listener, health.clone()));
    let client = Client::try_default().await.context("no way to the API server")?;
    let identity = match &args.identity {
        Some(identity) => identity.clone(),
        None => std::fs::read_to_string("/etc/hostname").context("no --identity, and no host name")?.trim().to_owned(),
    };
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity.clone()) };
    let reconciler = Reconciler {
        client: client.clone(),
        events: Recorder::new(client.clone(), reporter),
        default_image: args.default_image.clone(),
        metrics: metrics.clone(),
    };
    let stop = stop_signal()?;
    let candidate = args
        .lease_namespace
        .as_deref()
        .map(|namespace| Candidate::new(client.clone(), namespace, &args.lease_name, &identity));
    let lease = match candidate {
        Some(candidate) => {
            let since = tokio::select! {
                since = candidate.acquire(|| health.set_ready()) => since,
                () = stopped(stop.clone()) => return Ok(()),
            };
            Some((candidate, since))
        }
        None => None,
    };
    metrics.leading(true);
    health.set_ready();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = args.namespace.as_deref().unwrap_or("all"),
        "operator started"
    );
    lead(reconciler, args.namespace.as_deref(), lease, stop).await
}

/// Acts until told to stop, or until another instance may act: then the process ends at once, whatever it was doing.
async fn lead(
    reconciler: Reconciler,
    namespace: Option<&str>,
    lease: Option<(Candidate, Instant)>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let lost = async {
        match &lease {
            Some((candidate, since)) => candidate.keep(*since).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = controller::run(reconciler.clone(), namespace, stopped(stop)) => {}
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
