//! Clients in Go: built from `tests/clients`, with the modules that their go.sum pins.

use super::{leash, process, repository, target};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Builds the program in this folder of `tests/clients`; Go itself knows what has changed since.
pub fn program(folder: &str) -> Result<PathBuf> {
    let built = target().join("clients").join(folder);
    std::fs::create_dir_all(target().join("clients"))?;
    let compile = || {
        let mut command = leash::command(Path::new("go"))?;
        command.arg("build").arg("-C").arg(repository().join("tests/clients").join(folder));
        command.arg("-o").arg(&built).arg(".");
        Ok(command)
    };
    let log = target().join("clients/go.log");
    process::run_patiently("go build", compile, &log, Duration::from_mins(5))?;
    Ok(built)
}
