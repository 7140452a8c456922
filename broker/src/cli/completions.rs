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
        self.write(&mut std::io::stdout().lock());
        Ok(())
    }

    fn write(&self, to: &mut impl std::io::Write) {
        clap_complete::generate(self.shell, &mut Cli::command(), "chronik", to);
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
    use clap::ValueEnum as _;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_commands_and_options() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            Completions { shell: *shell }.write(&mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["consume", "describe", "dry-run", "bootstrap"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
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
