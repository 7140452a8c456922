//! `chronik log`: what a broker's data directory holds, while the broker is stopped.

mod dump;
mod progress;
mod repair;
mod verify;

use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Look at the log in a stopped broker's data directory.
#[derive(Debug, Args)]
pub struct LogCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the batches of a data directory, or of one segment's file.
    Dump(dump::Dump),
    /// Check every checksum, and say what a start would do; fails if anything is not as it was written.
    Verify(verify::Verify),
    /// Read all, do what a start would do to the log, and more only where it is asked for; fails if anything is left.
    Repair(repair::Repair),
}

impl LogCommand {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Dump(dump) => dump.run(),
            What::Verify(verify) => verify.run(),
            What::Repair(repair) => repair.run(),
        }
    }
}

/// Where the log of a data directory is.
fn log_dir(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let log = data_dir.join(crate::node::LOG_DIR);
    anyhow::ensure!(log.is_dir(), "{} is no data directory: there is no {}", data_dir.display(), log.display());
    Ok(log)
}
