//! `chronik serve`: one broker, until SIGTERM or SIGINT.

use super::data_dir;
use crate::config::{Config, LogFormat};
use crate::node;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Threads for reads that must wait for the disk.
const BLOCKING_THREADS_MAX: usize = 16;

/// Run one broker.
#[derive(Debug, Args)]
pub struct Serve {
    /// The broker's configuration (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The host that clients and followers are told for this broker, in place of the one in the file. A pod gives its
    /// own address, which works as soon as they have heard of it. Clients are told another one ten seconds later where
    /// `CHRONIK_CLIENT_HOSTS` names one that outlives it, with `{id}` for the broker's number.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The rack that the broker is in, in place of `broker.rack` in the file, which is the same for all pods.
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Say whether the configuration is right and its `data_dir` can be used, and end without running anything.
    #[arg(long)]
    check: bool,
    /// Stop when standard input ends, as a child of `dev` does when its parent is gone.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Serve {
    /// Runs the broker.
    pub fn run(self) -> anyhow::Result<()> {
        let mut config = Config::load(&self.config, host_name)?;
        if let Some(host) = &self.advertise {
            config.advertise(host);
        }
        if let Some(rack) = &self.rack {
            config.set_rack(rack)?;
        }
        config.set_lasting_hosts(&std::env::var(HOSTS_VARIABLE).unwrap_or_default())?;
        if self.check {
            data_dir::check(&config.data_dir, config.id)?;
            let (file, n, voters) = (self.config.display(), config.members.len(), config.voters.len());
            writeln!(std::io::stdout().lock(), "{file} is right: broker {} of {n}, {voters} of which vote", config.id)?;
            return Ok(());
        }
        log_to_stderr(config.log_format);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("chronik")
            .build()?;
        let done = runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone(), self.until_stdin_ends)?);
            node::run(config, stop).await
        });
        // A read of standard input that never ends must not hold up the end of the process.
        runtime.shutdown_background();
        done
    }
}

fn host_name() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
}

/// The environment variable with the hosts that are advertised to clients for good, as in `demo-broker-{id}.shop.svc`.
/// No argument, as it comes with a pod's template, and a broker of a version that does not know it must start all the
/// same.
const HOSTS_VARIABLE: &str = "CHRONIK_CLIENT_HOSTS";

/// The environment variable that says what else to log, or what not to, as in `debug` or `chronik_quorum=debug`.
const LOG_VARIABLE: &str = "CHRONIK_LOG";

fn log_to_stderr(format: LogFormat) {
    let given = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let filter = EnvFilter::new(format!("info,openraft=off,h2=warn,hyper=warn,tonic=warn,tower=warn,{given}"));
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_target(false);
    // There is nowhere to report that a line could not be written: trying to would end the process.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

fn stop_on_signal(stop: CancellationToken, until_stdin_ends: bool) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let reason = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = stdin_ends(), if until_stdin_ends => "end of standard input",
        };
        stop.cancel();
        info!(reason, "Stopping");
    })
}

async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while stdin.read(&mut ignored).await.is_ok_and(|n| n > 0) {}
}
