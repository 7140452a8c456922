//! What is built beside the ordinary cargo builds: static binaries, and the image made of them.

use crate::command::{cargo, run, workspace};
use anyhow::Context;
use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const STATIC: &str = "-C target-feature=+crt-static";
const RELEASED: [&str; 2] = ["chronik", "chronik-operator"];

fn target() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

/// Where the static binaries are.
fn static_dir() -> PathBuf {
    workspace().join("target").join(target()).join("release")
}

/// Builds the broker and the operator statically linked, as they are in the image, with the tests' own program, and says
/// where they are. All in one go: a build of its own for each would build what they share again, for other features.
pub(crate) fn static_binaries() -> anyhow::Result<PathBuf> {
    // A target of its own keeps the flag away from build scripts and macros, which cannot be static.
    let packages = ["--package", "chronik-broker", "--package", "chronik-operator", "--package", "chronik-tests"];
    run(cargo(&["build", "--release"]).args(packages).args(["--target", &target()]).env("RUSTFLAGS", STATIC))?;
    Ok(static_dir())
}

/// Builds the broker as it is released, but with frame pointers, by which stacks are found at any moment.
pub(crate) fn profiled_broker() -> anyhow::Result<PathBuf> {
    run(cargo(&["build", "--profile", "profiling", "--package", "chronik-broker", "--target", &target()])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C force-frame-pointers=yes"))?;
    Ok(workspace().join("target").join(target()).join("profiling/chronik"))
}

/// The tests' own program, built as released, and told of the broker that it starts.
pub(crate) fn tests_binary() -> anyhow::Result<Command> {
    let binaries = static_binaries()?;
    let mut command = Command::new(binaries.join("chronik-tests"));
    command.current_dir(workspace()).env("CHRONIK_BIN", binaries.join("chronik"));
    Ok(command)
}

/// Builds the image from nothing but the two binaries.
pub(crate) fn image(tag: &str) -> anyhow::Result<()> {
    let binaries = static_binaries()?;
    let context = workspace().join("target/image");
    fs::create_dir_all(&context)?;
    for name in RELEASED {
        let copy = context.join(name);
        fs::copy(binaries.join(name), &copy).with_context(|| format!("no {name} in {}", binaries.display()))?;
        run(Command::new("strip").arg(&copy))?;
    }
    fs::copy(workspace().join("e2e/image/Dockerfile"), context.join("Dockerfile"))?;
    run(Command::new("docker").args(["build", "--tag", tag]).arg(&context).env("DOCKER_BUILDKIT", "0"))
}
