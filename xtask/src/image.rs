//! The container image: one static program, and the list of what it is made of. The same sources give the same bytes, so
//! that anybody can check what an image was made from.

use crate::build::{Processor, release, static_binaries, static_build};
use crate::command::{output, run, workspace};
use crate::mutants::copy_sources;
use crate::sbom;
use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package of the program.
const PACKAGE: &str = "chronik-image";
/// Its name in the image, and the other name that it goes by.
const PROGRAM: &str = "chronik";
const OPERATOR: &str = "chronik-operator";
/// What the image is to have at most.
const LIMIT: u64 = 30_000_000;
/// When everything in the image was made: it says what, not when.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Build the container image into `target/image/ARCH`, and give it to Docker if it is for this machine's processor.
#[derive(Debug, Args)]
pub(crate) struct Image {
    /// The image's name.
    #[arg(long, default_value = "chronik:dev")]
    tag: String,
    /// The processor that it is for. Another one than this machine's takes its C compiler (Debian:
    /// gcc-aarch64-linux-gnu, gcc-x86-64-linux-gnu) and its Rust target.
    #[arg(long, value_enum, default_value_t = Processor::own())]
    arch: Processor,
    /// Build it again from a copy of the sources in another folder, from nothing, and fail unless both are the same.
    #[arg(long)]
    twice: bool,
}

impl Image {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let image = build(&self.tag, self.arch)?;
        if self.twice {
            let folder = workspace().join("target/again");
            let sources = folder.join("sources");
            copy_sources(&workspace(), &sources)?;
            let binaries = folder.join("target");
            if binaries.exists() {
                fs::remove_dir_all(&binaries)?;
            }
            let again = pack(&self.tag, self.arch, &program(&sources, &binaries, self.arch)?, &folder.join("image"))?;
            ensure!(fs::read(&image)? == fs::read(&again)?, "{} is not {}", again.display(), image.display());
            println!("built again, in another folder, it is the same byte for byte");
        }
        if self.arch == Processor::own() {
            run(Command::new("docker").args(["load", "--input"]).arg(image))
        } else {
            Ok(())
        }
    }
}

/// Builds the image and gives it to Docker.
pub(crate) fn load(tag: &str) -> anyhow::Result<()> {
    Image { tag: tag.to_owned(), arch: Processor::own(), twice: false }.run()
}

/// Builds the image twice, in two folders, and fails unless both are the same.
pub(crate) fn twice(tag: &str) -> anyhow::Result<()> {
    Image { tag: tag.to_owned(), arch: Processor::own(), twice: true }.run()
}

fn build(tag: &str, processor: Processor) -> anyhow::Result<PathBuf> {
    // What the tests run is built in one go with what is shipped.
    let program = if processor == Processor::own() {
        static_binaries()?.join(PACKAGE)
    } else {
        program(&workspace(), &workspace().join("target"), processor)?
    };
    pack(tag, processor, &program, &workspace().join("target/image").join(processor.name()))
}

/// Builds the program from the sources in a folder.
fn program(sources: &Path, target: &Path, processor: Processor) -> anyhow::Result<PathBuf> {
    let mut build = static_build(sources, target, processor);
    if processor == Processor::own() {
        // As `static_binaries` does: the features of what is shared come from all of them.
        build.args(["--package", "chronik-broker", "--package", "chronik-tests"]);
    }
    run(build.args(["--package", PACKAGE]))?;
    Ok(release(target, processor).join(PACKAGE))
}

/// Makes an archive of an image, as `docker load` takes it, of the program. Returns where it is.
fn pack(tag: &str, processor: Processor, program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    let packed = root.join(PROGRAM);
    fs::copy(program, &packed).with_context(|| format!("no {}", program.display()))?;
    run(Command::new(processor.tool("strip")).arg(&packed))?;
    if processor == Processor::own() {
        // One that is linked against a C library that is too old ends before it has begun.
        output(Command::new(&packed).arg("--version"))?;
    }
    symlink(PROGRAM, root.join(OPERATOR))?;
    let listed = format!("{:#}\n", sbom::of(PACKAGE, processor)?);
    fs::write(root.join("sbom.cdx.json"), &listed)?;
    let size = fs::metadata(&packed)?.len() + listed.len() as u64;
    println!("{tag} for {}: {:.1} MB", processor.name(), size as f64 / 1e6);
    ensure!(size <= LIMIT, "that is more than the {} MB that an image may have", LIMIT / 1_000_000);

    let layer = folder.join("layer.tar");
    tar(&layer, &root, &[PROGRAM, OPERATOR, "sbom.cdx.json"])?;
    let digest = output(Command::new("sha256sum").arg(&layer))?;
    let digest = digest.split_whitespace().next().context("no digest")?;
    fs::write(folder.join("config.json"), config(processor, digest).to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let image = folder.join("image.tar");
    tar(&image, folder, &["manifest.json", "config.json", "layer.tar"])?;
    Ok(image)
}

fn config(processor: Processor, layer: &str) -> Value {
    json!({
        "architecture": processor.name(),
        "os": "linux",
        "created": EPOCH,
        "config": { "User": "65532:65532", "Entrypoint": [format!("/{PROGRAM}")], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created": EPOCH, "created_by": "cargo xtask image" }],
    })
}

/// An archive that says nothing of when and by whom it was made.
fn tar(archive: &Path, folder: &Path, names: &[&str]) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--format=ustar", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=go=rX,u+rw,a-s"]);
    run(tar.arg("--create").arg("--file").arg(archive).arg("--directory").arg(folder).args(names))
}
