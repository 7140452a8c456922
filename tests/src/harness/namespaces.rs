//! Namespaces of the kernel's that this process has to itself, and that end with it, so that nothing is left to clean up.

use anyhow::{Context as _, Error, Result};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Says which namespaces this process has to itself.
const OWN: &str = "CHRONIK_TESTS_NAMESPACES";

/// Runs this program again, with the same arguments, in namespaces of its own, by unshare's names for them; returns when it
/// is there.
pub fn enter(kinds: &[&str]) -> Result<()> {
    let wanted = kinds.join(" ");
    if std::env::var_os(OWN).is_some_and(|own| own == *wanted) {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(kinds).args(["--map-root-user", "--propagation", "private"]).arg(std::env::current_exe()?);
    // Who is not root has no folder for root's programs in its path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    Err(Error::from(command.args(std::env::args_os().skip(1)).env(OWN, wanted).exec())).context("run unshare")
}
