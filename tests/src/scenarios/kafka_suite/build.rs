//! `tests/kafka-suite` made ready: its jars from Maven, its classes, and the names of all tests.

use crate::harness::process::{self, Process};
use crate::harness::{leash, repository, target};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const RUNNER: &str = "io.chronik.kafkasuite.Runner";

/// The built suite.
pub(super) struct Suite {
    class_path: String,
    /// `Class#method`, sorted.
    pub(super) tests: Vec<String>,
}

/// Where its sources are.
pub(super) fn sources() -> PathBuf {
    repository().join("tests/kafka-suite")
}

/// Where everything goes that it makes.
pub(super) fn folder() -> PathBuf {
    target().join("kafka-suite")
}

impl Suite {
    /// Builds it, unless it is built from the very same sources.
    pub(super) fn build() -> Result<Self> {
        let (class_path_file, tests_file) = (folder().join("class-path"), folder().join("tests"));
        let done = folder().join("built-from");
        let mut sources_now = Vec::new();
        read_all(&sources().join("src"), &mut sources_now)?;
        sources_now.extend(fs::read(sources().join("pom.xml"))?);
        if fs::read(&done).ok().as_ref() != Some(&sources_now) {
            let _ = fs::remove_file(&done);
            fs::create_dir_all(folder())?;
            maven(&class_path_file)?;
            let mut list = java(&class_path(&class_path_file)?)?;
            list.arg(RUNNER).arg("list").arg(&tests_file);
            let log = folder().join("list.log");
            let status = Process::start("the list of tests", list, &log)?.wait(Duration::from_mins(5))?;
            ensure!(status.success(), "the tests cannot be listed; see {}", log.display());
            fs::write(&done, sources_now)?;
        }
        let tests = fs::read_to_string(&tests_file)?.lines().map(str::to_owned).collect();
        Ok(Self { class_path: class_path(&class_path_file)?, tests })
    }

    /// A test JVM, to which its settings and arguments are to be added.
    pub(super) fn jvm(&self, settings: &[(&str, String)]) -> Result<Command> {
        let mut command = java(&self.class_path)?;
        command.args(settings.iter().map(|(key, value)| format!("-Dsuite.{key}={value}"))).args([RUNNER, "run"]);
        Ok(command)
    }
}

fn maven(class_path_file: &Path) -> Result<()> {
    let command = || {
        let mut command = leash::command(Path::new("mvn"))?;
        command.args(["-q", "-B", "-U", "clean", "compile", "dependency:build-classpath", "-f"]);
        command.arg(sources().join("pom.xml")).arg(format!("-Dmdep.outputFile={}", class_path_file.display()));
        Ok(command)
    };
    process::run_patiently("mvn", command, &folder().join("mvn.log"), Duration::from_mins(15))
}

fn class_path(file: &Path) -> Result<String> {
    let jars = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    Ok(format!("{}:{}", folder().join("maven/classes").display(), jars.trim()))
}

/// Small JVMs that are about to end soon: what costs time is to warm them up.
fn java(class_path: &str) -> Result<Command> {
    let mut command = leash::command(Path::new("java"))?;
    command.args(["-Xmx600m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-Dlog4j2.configurationFile=suite-log4j2.xml", "-cp", class_path]);
    Ok(command)
}

fn read_all(folder: &Path, into: &mut Vec<u8>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_all(&path, into)?;
        } else {
            into.extend(path.display().to_string().as_bytes());
            into.extend(fs::read(&path)?);
        }
    }
    Ok(())
}
