//! `cargo xtask mutants`: the product's rules broken one at a time, in a copy of the sources, to show that the tests
//! notice. A mutant is a patch in `tests/sim/mutants`: what it breaks in a sentence, what has to catch it, and the change.

use crate::command::{run, workspace};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds that are tried in search of one that notices.
const SEEDS: u64 = 200;

/// Break the product's rules one at a time, in a copy of the sources, and say which fault survives the tests.
#[derive(Debug, Default, Args)]
pub(crate) struct Mutants {
    /// Only the mutants whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// One deliberate fault.
#[derive(Debug)]
struct Mutant {
    name: String,
    patch: PathBuf,
    /// In a sentence.
    breaks: String,
    caught_by: Catcher,
}

/// What has to notice a mutant.
#[derive(Debug, PartialEq, Eq)]
enum Catcher {
    /// A test of core's, by its whole name.
    Test(String),
    /// An invariant of the simulator, at one of [`SEEDS`] seeds from this one on.
    Simulation { invariant: String, from: u64 },
}

impl Catcher {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match *text.split_whitespace().collect::<Vec<_>>() {
            ["test", name] => Ok(Self::Test(name.into())),
            ["simulation", invariant] => Ok(Self::Simulation { invariant: invariant.into(), from: 0 }),
            ["simulation", invariant, "from", "seed", from] => {
                Ok(Self::Simulation { invariant: invariant.into(), from: from.parse()? })
            }
            _ => bail!("'{text}' is neither 'test NAME' nor 'simulation INVARIANT [from seed N]'"),
        }
    }
}

impl Mutant {
    fn read(patch: PathBuf) -> anyhow::Result<Self> {
        let text = fs::read_to_string(&patch)?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let breaks = text.lines().next().unwrap_or_default().to_owned();
        let caught_by = text.lines().find_map(|line| line.strip_prefix("Caught by: "));
        let caught_by = Catcher::parse(caught_by.with_context(|| format!("{name} has no line 'Caught by: '"))?)?;
        Ok(Self { name, patch, breaks, caught_by })
    }

    fn all() -> anyhow::Result<Vec<Self>> {
        let folder = workspace().join("tests/sim/mutants");
        let mut patches = fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        patches.sort();
        patches.into_iter().map(Self::read).collect()
    }

    /// A command that applies the patch to the sources in `folder`.
    fn apply(&self, folder: &Path) -> Command {
        let mut git = Command::new("git");
        git.arg("apply").arg("--whitespace=nowarn").current_dir(folder);
        // The folder is patched as it is, whether or not it lies in somebody's repository.
        git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
        git.arg(&self.patch);
        git
    }

    /// Builds the sources that it is in, and whether what has to catch it does.
    fn is_caught(&self, sources: &Path) -> anyhow::Result<bool> {
        match &self.caught_by {
            Catcher::Test(name) => {
                let test = || cargo_in(sources, &["test", "--quiet", "--package", "chronik-core", "--lib"]);
                run(test().arg("--no-run"))?;
                Ok(!test().args(["--", "--exact", name]).output()?.status.success())
            }
            Catcher::Simulation { invariant, from } => {
                run(&mut cargo_in(sources, &["build", "--quiet", "--package", "chronik-sim"]))?;
                let seeds = format!("{from}..{}", from + SEEDS);
                let mut search = cargo_in(sources, &["run", "--quiet", "--package", "chronik-sim", "--"]);
                Ok(search.args(["--seeds", &seeds, "--expect", invariant]).output()?.status.success())
            }
        }
    }
}

/// Cargo in the copy, whose builds have a place of their own.
fn cargo_in(sources: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(sources);
    // What a fault leaves unused is no error.
    command.env("CARGO_TARGET_DIR", workspace().join("target/mutants/target")).env("RUSTFLAGS", "--cap-lints=allow");
    command
}

/// Makes `to` the same as the sources in `from`. A file that is the same already is not touched, so that cargo builds
/// nothing again for it.
pub(crate) fn copy_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, source, copy) = (entry.file_name(), entry.path(), to.join(entry.file_name()));
        if name.to_string_lossy().starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_sources(&source, &copy)?;
            continue;
        }
        let wanted = fs::read(&source).with_context(|| source.display().to_string())?;
        let same = match fs::read(&copy) {
            Ok(there) => there == wanted,
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => return Err(e).with_context(|| copy.display().to_string()),
        };
        if !same {
            fs::write(&copy, wanted)?;
        }
    }
    Ok(())
}

impl Mutants {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let sources = workspace().join("target/mutants/sources");
        let (mut tried, mut survivors) = (0, Vec::new());
        for mutant in Mutant::all()?.into_iter().filter(|m| self.only.as_deref().is_none_or(|n| m.name.contains(n))) {
            copy_sources(&workspace(), &sources)?;
            run(&mut mutant.apply(&sources)).with_context(|| mutant.name.clone())?;
            let caught = mutant.is_caught(&sources).with_context(|| mutant.name.clone())?;
            tried += 1;
            println!("{} {:<40} {:?}", if caught { "caught  " } else { "SURVIVES" }, mutant.name, mutant.caught_by);
            if !caught {
                survivors.push(format!("{}: {}", mutant.name, mutant.breaks));
            }
        }
        ensure!(tried > 0, "no mutant has such a name");
        ensure!(survivors.is_empty(), "{} of {tried} mutants survive:\n{}", survivors.len(), survivors.join("\n"));
        println!("{tried} mutants, all caught");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_applies() {
        let mutants = Mutant::all().expect("the mutants");
        assert!(mutants.len() > 20, "only {} mutants", mutants.len());
        for mutant in mutants {
            let checked = mutant.apply(&workspace()).arg("--check").output().expect("git");
            assert!(checked.status.success(), "{}: {}", mutant.name, String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn every_test_that_a_mutant_names_is_there() {
        for mutant in Mutant::all().expect("the mutants") {
            let Catcher::Test(name) = &mutant.caught_by else { continue };
            let (module, function) = name.rsplit_once("::").expect("a test has a module");
            let file = workspace().join("broker/core/src").join(module.replace("::", "/")).with_extension("rs");
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            assert!(text.contains(&format!("fn {function}()")), "{}: no {function} in {}", mutant.name, file.display());
        }
    }

    #[test]
    fn a_mutant_says_what_has_to_catch_it() {
        let simulation = |invariant: &str, from| Catcher::Simulation { invariant: invariant.into(), from };
        assert_eq!(Catcher::parse("test a::b").expect("a test"), Catcher::Test("a::b".into()));
        assert_eq!(Catcher::parse("simulation Converges").expect("an invariant"), simulation("Converges", 0));
        assert_eq!(Catcher::parse("simulation Converges from seed 7").expect("both"), simulation("Converges", 7));
        assert!(Catcher::parse("luck").is_err());
    }
}
