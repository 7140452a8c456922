//! Clients in JavaScript: what their package-lock.json pins, installed beside a copy of the script.

use super::{leash, process, repository, target};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The script `main.js` of this folder of `tests/clients`, with its packages beside it.
pub fn script(folder: &str) -> Result<PathBuf> {
    let source = repository().join("tests/clients").join(folder);
    let home = target().join("clients").join(folder);
    fs::create_dir_all(&home)?;
    let lock = fs::read(source.join("package-lock.json"))?;
    for entry in fs::read_dir(&source)? {
        let file = entry?.path();
        fs::copy(&file, home.join(file.file_name().context("a file's name")?))?;
    }
    let done = home.join("packages.installed");
    if fs::read(&done).ok().as_ref() != Some(&lock) {
        let install = || {
            let mut command = leash::command(Path::new("npm"))?;
            command.args(["ci", "--no-audit", "--no-fund", "--prefix"]).arg(&home);
            Ok(command)
        };
        process::run_patiently("npm ci", install, &home.join("npm.log"), Duration::from_mins(5))?;
        fs::write(&done, lock)?;
    }
    Ok(home.join("main.js"))
}
