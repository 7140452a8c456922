//! `chronik dev`: a cluster on this machine, each broker a process of its own, in one terminal.

mod layout;
mod ready;

use self::layout::{Layout, Planned};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long brokers may take to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Run a cluster on this machine, for development.
#[derive(Debug, Args)]
pub struct Dev {
    /// How many brokers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    brokers: u8,
    /// Where they keep everything. The same folder brings the same cluster back.
    #[arg(long, value_name = "DIR", default_value = "chronik-data")]
    data_dir: PathBuf,
}

impl Dev {
    /// Runs the cluster until interrupted.
    pub fn run(self) -> anyhow::Result<()> {
        let layout = Layout::open(&self.data_dir, usize::from(self.brokers))?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(layout))
    }
}

/// A broker process that ended.
struct Ended {
    broker: Planned,
    pid: u32,
    status: std::io::Result<ExitStatus>,
}

async fn run(layout: Layout) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut running = JoinSet::new();
    let mut leashes = Vec::new();
    for broker in &layout.brokers {
        let mut child = start(&program, broker)?;
        // A broker stops when its standard input ends: so also when this process is killed.
        leashes.push(child.stdin.take());
        let pid = child.id().unwrap_or_default();
        println!("broker {}  pid {pid}  {}  {}", broker.id, broker.address(), broker.file.display());
        running.spawn(watch(child, broker.clone(), pid));
    }
    let mut greeted = Box::pin(ready::all(&layout.brokers));
    let mut waiting = true;
    loop {
        tokio::select! {
            () = &mut greeted, if waiting => {
                waiting = false;
                greet(&layout);
            }
            Some(ended) = running.join_next() => {
                if let Ok(ended) = ended {
                    tell_end(&program, &ended);
                }
                if running.is_empty() {
                    anyhow::bail!("no broker is left; the same command on {} starts them again", layout.dir.display());
                }
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    println!("Stopping; the data stays in {}", layout.dir.display());
    drop(leashes);
    let stopped = tokio::time::timeout(STOP_MAX, async { while running.join_next().await.is_some() {} }).await;
    if stopped.is_err() {
        // Dropping the tasks kills the processes that they watch.
        anyhow::bail!("a broker did not stop within {STOP_MAX:?} and was killed");
    }
    Ok(())
}

fn start(program: &Path, broker: &Planned) -> anyhow::Result<Child> {
    Ok(Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(&broker.file)
        .arg("--until-stdin-ends")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal is for this process alone, which then stops the brokers.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?)
}

/// Passes on what a broker says, until it ends.
async fn watch(mut child: Child, broker: Planned, pid: u32) -> Ended {
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            println!("[{}] {}", broker.id, without_date(&line));
        }
    }
    let status = child.wait().await;
    Ended { broker, pid, status }
}

/// A terminal shows lines as they come: the time of day is enough.
fn without_date(line: &str) -> &str {
    match line.split_once('T') {
        Some((date, rest)) if date.len() == 10 && date.starts_with("20") => rest,
        _ => line,
    }
}

fn tell_end(program: &Path, ended: &Ended) {
    use std::os::unix::process::ExitStatusExt;
    let how = match &ended.status {
        Ok(status) => match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("ended with {status}"),
        },
        Err(error) => format!("cannot be watched: {error}"),
    };
    println!("broker {} (pid {}) {how}. To bring it back, in another terminal:", ended.broker.id, ended.pid);
    println!("    {} serve --config {}", program.display(), ended.broker.file.display());
}

fn greet(layout: &Layout) {
    let all: Vec<String> = layout.brokers.iter().map(Planned::address).collect();
    let (all, first) = (all.join(","), layout.brokers[0].address());
    println!();
    println!("Ready. Kafka clients connect to {all}");
    println!("    echo hello | kcat -b {first} -t greetings -P -X acks=all");
    println!("    kcat -b {first} -t greetings -C -e");
    println!("Ctrl-C stops the brokers; the data stays in {}", layout.dir.display());
    println!();
}
