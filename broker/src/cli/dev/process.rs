//! A broker's process: how it is started, what it says, and how it ends.

use super::layout::Planned;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

/// A process that runs.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// A broker stops when its standard input ends: so also when this process is killed.
    leash: Option<ChildStdin>,
    kill: Option<oneshot::Sender<()>>,
}

/// What happens to brokers.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker logged a line.
    Said(i32, String),
    /// Its process has ended.
    Ended(Ended),
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) broker: i32,
    pub(super) pid: u32,
    pub(super) status: std::io::Result<ExitStatus>,
}

impl Process {
    /// Starts a broker, which says to `events` what happens to it.
    pub(super) fn start(program: &Path, broker: &Planned, events: mpsc::Sender<Event>) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&broker.file)
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for this process alone, which then stops the brokers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let (kill, killed) = oneshot::channel();
        let process = Self { pid, leash: child.stdin.take(), kill: Some(kill) };
        tokio::spawn(watch(child, broker.id, pid, killed, events));
        Ok(process)
    }

    /// Has it stop as after SIGTERM.
    pub(super) fn stop(&mut self) {
        self.leash = None;
    }

    /// Has it end at once, as in a crash.
    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // Whoever does not listen any more watches a process that has ended.
            let _ = kill.send(());
        }
    }
}

/// Passes on what a broker says, until it ends.
async fn watch(mut child: Child, broker: i32, pid: u32, killed: oneshot::Receiver<()>, events: mpsc::Sender<Event>) {
    let stderr = child.stderr.take();
    let said = async {
        let Some(stderr) = stderr else { return };
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = events.send(Event::Said(broker, line)).await;
        }
    };
    let ended = async {
        tokio::select! {
            status = child.wait() => return status,
            Ok(()) = killed => {}
        }
        child.start_kill()?;
        child.wait().await
    };
    let ((), status) = tokio::join!(said, ended);
    let _ = events.send(Event::Ended(Ended { broker, pid, status })).await;
}

impl Ended {
    /// How it ended, for a person.
    pub(super) fn how(&self) -> String {
        match &self.status {
            Ok(status) => match status.signal() {
                Some(signal) => format!("was killed by signal {signal}"),
                None => format!("ended with {status}"),
            },
            Err(error) => format!("cannot be watched: {error}"),
        }
    }

    pub(super) fn by_signal(&self) -> bool {
        self.status.as_ref().is_ok_and(|status| status.signal().is_some())
    }

    pub(super) fn well(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}
