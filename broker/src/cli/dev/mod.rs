//! `chronik dev`: a cluster on this machine, each broker a process of its own, in one terminal.

mod cluster;
mod keys;
mod layout;
mod probe;
mod process;
mod screen;
mod view;

use self::cluster::Cluster;
use self::keys::Key;
use self::layout::Layout;
use self::probe::Probed;
use self::process::Event;
use self::screen::Screen;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How long brokers may take to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Lines of brokers that wait to be shown; then the brokers wait.
const EVENTS: usize = 256;

/// Run a cluster on this machine, for development.
///
/// On a terminal a table shows the brokers, and keys kill, stop and start them. Elsewhere each change is a line.
#[derive(Debug, Args)]
pub struct Dev {
    /// How many brokers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    brokers: u8,
    /// Where they keep everything. The same folder brings the same cluster back.
    #[arg(long, value_name = "DIR", default_value = "chronik-data")]
    data_dir: PathBuf,
    /// Show what the brokers log, too.
    #[arg(long)]
    verbose: bool,
}

impl Dev {
    /// Runs the cluster until interrupted.
    pub fn run(self) -> anyhow::Result<()> {
        let layout = Layout::open(&self.data_dir, usize::from(self.brokers))?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(layout, self.verbose))
    }
}

async fn run(layout: Layout, verbose: bool) -> anyhow::Result<()> {
    let dir = layout.dir.clone();
    let (events, mut happened) = mpsc::channel(EVENTS);
    let (reports, mut probed) = watch::channel(Probed::default());
    let brokers = layout.brokers.clone();
    let mut cluster = Cluster::new(layout, events, Screen::open()?, verbose)?;
    let lived = tokio::select! {
        lived = live(&mut cluster, &mut happened, &mut probed) => lived,
        never = probe::run(&brokers, &reports) => match never {},
    };
    // Before anything is printed, an error too.
    cluster.leave_screen();
    lived?;
    if cluster.is_over() {
        anyhow::bail!("no broker is left; the same command on {} starts them again", dir.display());
    }
    cluster.say(&format!("Stopping; the data stays in {}", dir.display()))?;
    cluster.stop_all();
    let stopped = tokio::time::timeout(STOP_MAX, async {
        while cluster.is_running()
            && let Some(event) = happened.recv().await
        {
            cluster.happened(event)?;
        }
        anyhow::Ok(())
    });
    // Dropping the tasks kills the processes that they watch.
    stopped.await.map_err(|_| anyhow::anyhow!("a broker did not stop within {STOP_MAX:?} and was killed"))?
}

/// Until somebody ends it, or no broker is left and nobody is there to start one.
async fn live(
    cluster: &mut Cluster,
    happened: &mut mpsc::Receiver<Event>,
    probed: &mut watch::Receiver<Probed>,
) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut keys = cluster.has_keys().then(keys::pressed);
    cluster.start_all()?;
    while !cluster.is_over() {
        tokio::select! {
            Some(event) = happened.recv() => cluster.happened(event)?,
            Ok(()) = probed.changed() => {
                let probed = probed.borrow_and_update().clone();
                cluster.probed(probed)?;
            }
            Some(key) = next(&mut keys) => match key {
                Key::End => return Ok(()),
                key => cluster.pressed(key)?,
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
    Ok(())
}

/// The next key; never one where there is no terminal.
async fn next(keys: &mut Option<mpsc::UnboundedReceiver<Key>>) -> Option<Key> {
    match keys {
        Some(keys) => keys.recv().await,
        None => std::future::pending().await,
    }
}
