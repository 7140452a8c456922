//! `chronik completions` and `chronik man`: what shells and `man` know of the commands.

use super::Cli;
use clap::{Args, CommandFactory as _};
use std::path::PathBuf;

/// Print a completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell.
    shell: clap_complete::Shell,
}

impl Completions {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        clap_complete::generate(self.shell, &mut Cli::command(), "chronik", &mut std::io::stdout().lock());
        Ok(())
    }
}

/// Write man pages, one a command.
#[derive(Debug, Args)]
pub struct Man {
    /// Where to; made if it is not there.
    dir: PathBuf,
}

impl Man {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        clap_mangen::generate_to(Cli::command(), &self.dir)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_man_page() {
        let dir = tempfile::tempdir().unwrap();
        Man { dir: dir.path().to_owned() }.run().unwrap();
        for page in ["chronik.1", "chronik-topic-create.1", "chronik-consume.1", "chronik-group-reset.1"] {
            assert!(dir.path().join(page).is_file(), "{page}");
        }
    }
}
