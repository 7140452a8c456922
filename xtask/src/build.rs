//! What is built beside the ordinary cargo builds: static binaries.

use crate::command::{cargo, run, workspace};
use clap::ValueEnum;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A processor that there are images for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Processor {
    Amd64,
    Arm64,
}

impl Processor {
    /// This machine's.
    pub(crate) fn own() -> Self {
        if env::consts::ARCH == "aarch64" { Self::Arm64 } else { Self::Amd64 }
    }

    /// As container images and Go call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    pub(crate) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.architecture())
    }

    /// The C compiler for this processor.
    pub(crate) fn compiler(self) -> String {
        if self == Self::own() { "cc".to_owned() } else { self.tool("gcc") }
    }

    /// A tool's name for this processor: with a prefix, if it is not this machine's.
    pub(crate) fn tool(self, name: &str) -> String {
        if self == Self::own() { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.architecture()) }
    }
}

/// Builds the broker statically linked and the one program of the image, with the tests' own program, and says where they
/// are. All in one go: a build of its own for each would build what they share again, for other features.
pub(crate) fn static_binaries() -> anyhow::Result<PathBuf> {
    let mut build = static_build(&workspace(), &workspace().join("target"), Processor::own());
    run(build.args(["--package", "chronik-broker", "--package", "chronik-image", "--package", "chronik-tests"]))?;
    Ok(release(&workspace().join("target"), Processor::own()))
}

/// Where static binaries are.
pub(crate) fn release(target: &Path, processor: Processor) -> PathBuf {
    target.join(processor.target()).join("release")
}

/// A static build of the sources in a folder, of packages that are to be added. It has the same bytes wherever the folder
/// and cargo's own are.
pub(crate) fn static_build(sources: &Path, target: &Path, processor: Processor) -> Command {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        // A panic ends the process, and what is stripped has no names for a trace.
        "-Cforce-unwind-tables=no".to_owned(),
        remap(sources, "."),
    ];
    flags.extend(cargo_home.map(|home| remap(&home, "/cargo")));
    let mut build = cargo(&["build", "--locked", "--release"]);
    // A target of its own keeps the flags away from build scripts and macros, which cannot be static.
    build.current_dir(sources).args(["--target", &processor.target()]).arg("--target-dir").arg(target);
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if processor != Processor::own() {
        let target = processor.target().to_uppercase().replace('-', "_");
        build.env(format!("CARGO_TARGET_{target}_LINKER"), processor.compiler());
    }
    build
}

/// Builds the broker as it is released, but with frame pointers, by which stacks are found at any moment.
pub(crate) fn profiled_broker() -> anyhow::Result<PathBuf> {
    let target = Processor::own().target();
    run(cargo(&["build", "--profile", "profiling", "--package", "chronik-broker", "--target", &target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C force-frame-pointers=yes"))?;
    Ok(workspace().join("target").join(target).join("profiling/chronik"))
}

/// The tests' own program, built as released, and told of the broker that it starts. It is built once: what is run after
/// that is what was built, whatever became of the sources.
pub(crate) fn tests_binary() -> anyhow::Result<Command> {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    let binaries = if let Some(built) = BINARIES.get() {
        built
    } else {
        let built = static_binaries()?;
        BINARIES.get_or_init(|| built)
    };
    let mut command = Command::new(binaries.join("chronik-tests"));
    command.current_dir(workspace()).env("CHRONIK_BIN", binaries.join("chronik"));
    Ok(command)
}
