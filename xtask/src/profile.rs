//! `cargo xtask profile`: where brokers under load spend their time.

use crate::build;
use crate::command;

/// Builds what is profiled and what loads it, and passes the arguments on.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let broker = build::profiled_broker()?;
    command::run(build::tests_binary()?.arg("profile").args(args).env("CHRONIK_BIN", broker))
}
