//! Children that cannot outlive this process, however it ends.
//!
//! The kernel is asked to kill a child when the *thread* that started it ends (`PR_SET_PDEATHSIG`). A process can
//! ask that of itself alone, so each child starts as this same program under the name [`SUBCOMMAND`], which asks
//! and then becomes the wanted program, keeping its pid; and one thread that never ends starts them all.

use anyhow::{Context, Result};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::{io, process, thread};

/// The hidden subcommand that the binary hands to [`become_program`].
pub const SUBCOMMAND: &str = "leash";

/// A command that runs `program` on the leash; arguments are added to it as to any other.
pub fn command(program: &Path) -> Result<Command> {
    // Not the path of this program: a build may have put another one there meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).arg(process::id().to_string()).arg(program);
    Ok(command)
}

/// Starts what [`command`] made.
pub fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever asked may have given up, in which case the child ends with its handle.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, outcome) = channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner.send((command, answer)).map_err(|e| gone(e.to_string()))?;
    outcome.recv().map_err(|e| gone(e.to_string()))?
}

/// What the subcommand does with `PARENT PROGRAM ARGUMENT…`: returns only when it failed.
pub fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let parent = arguments.next().context("the parent's pid")?;
    let program = arguments.next().context("a program")?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("ask to be killed with the parent")?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    anyhow::ensure!(now.as_deref() == parent.to_str(), "the parent ended before its child began");
    let mut command = Command::new(&program);
    // Cargo adds what it has built to it, in which an installed program would find another librdkafka than its own.
    command.args(arguments).env_remove("LD_LIBRARY_PATH");
    Err(command.exec()).with_context(|| format!("run {}", program.display()))
}
