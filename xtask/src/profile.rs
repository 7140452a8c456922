//! `cargo xtask profile`: where brokers under load spend their time.

use crate::build;
use crate::command::{self, cargo, workspace};
use std::process::Command;

/// Builds what is profiled and what loads it, and passes the arguments on.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let broker = build::profiled_broker()?;
    command::run(&mut cargo(&["build", "--release", "--package", "chronik-tests"]))?;
    let mut tests = Command::new(workspace().join("target/release/chronik-tests"));
    command::run(tests.arg("profile").args(args).current_dir(workspace()).env("CHRONIK_BIN", broker))
}
