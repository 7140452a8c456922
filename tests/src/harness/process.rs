//! One running program: its pid, its log, what it uses, and its end.

use super::{leash, wait};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A child that is killed and waited for when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// Just before the process was asked for.
    pub started: Instant,
}

/// What the kernel says a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// What of it is the process's own, and not pages of files, which come and go as the kernel likes; in bytes.
    pub anonymous_bytes: u64,
    /// The most that resident memory ever was, in bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory with shared pages counted in proportion, in bytes.
    pub pss_bytes: u64,
    /// Time on a processor, in user and kernel mode.
    pub cpu: Duration,
}

impl Process {
    /// Starts a command made by [`leash::command`], with both outputs appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file =
            File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let started = Instant::now();
        let child = leash::spawn(command).with_context(|| format!("start {name}"))?;
        Ok(Self { child, name: name.to_owned(), started })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("a pid is never 0")?;
        kill_process(pid, signal).with_context(|| format!("send a signal to {}", self.name))
    }

    /// `kill -9`, and the end of it.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and says how it ended.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait::until(&format!("{} to stop", self.name), patience, || Ok(self.child.try_wait()?))
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until(&format!("{} to end", self.name), patience, || Ok(self.child.try_wait()?))
    }

    /// Whether it has ended without being asked to.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether every thread is stopped: a signal is sent before it has come to all of them.
    pub fn is_stopped(&self) -> Result<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            let (_, state) = stat.rsplit_once(") ").context("a task's state")?;
            if !state.starts_with('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.pid())
    }
}

/// Runs something that asks the network, three times at most, and each time for no longer than `patience`.
pub fn run_patiently(name: &str, command: impl Fn() -> Result<Command>, log: &Path, patience: Duration) -> Result<()> {
    const TRIES: usize = 3;
    let once = || -> Result<()> {
        let status = Process::start(name, command()?, log)?.wait(patience)?;
        ensure!(status.success(), "{name} ended with {status}; see {}", log.display());
        Ok(())
    };
    for _ in 1..TRIES {
        if once().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(5));
    }
    once()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process uses now, from `/proc`.
pub fn usage(pid: u32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may have spaces; user and system time are the
    // 12th and 13th after it, in ticks of which Linux reports a hundred a second on every architecture.
    let Some((_, fields)) = stat.rsplit_once(") ") else { bail!("/proc/{pid}/stat is not as proc(5) says") };
    let mut ticks = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0));
    let ticks = ticks.next().unwrap_or(0) + ticks.next().unwrap_or(0);
    Ok(Usage {
        rss_bytes: kilobytes(&status, "VmRSS:").context("no VmRSS: has the process ended?")?,
        anonymous_bytes: kilobytes(&status, "RssAnon:").context("no RssAnon: has the process ended?")?,
        peak_rss_bytes: kilobytes(&status, "VmHWM:").context("no VmHWM: has the process ended?")?,
        // Some kernels keep it to themselves.
        pss_bytes: kilobytes(&rollup, "Pss:").unwrap_or(0),
        cpu: Duration::from_millis(ticks * 10),
    })
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let number = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok());
    Some(number? * 1024)
}
