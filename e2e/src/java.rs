//! The image of a Java client: `e2e/java`, its jars, and as much of a JDK of this machine as it needs.

use crate::command::output;
use crate::environment::Environment;
use crate::timeline::Timeline;
use crate::wait::try_again;
use anyhow::Context;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image's name.
pub(crate) const IMAGE: &str = "chronik-e2e-java:dev";

/// What Kafka's client uses of Java.
const MODULES: &str =
    "java.base,java.logging,java.management,java.naming,java.security.jgss,java.security.sasl,jdk.unsupported";

/// Builds the image. It needs a JDK of 17 or later, with its modules, and Maven.
pub(crate) fn build(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let source = environment.root.join("e2e/java");
    let folder = environment.root.join("target/e2e/java");
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let (app, jre) = (root.join("app"), root.join("jre"));
    fs::create_dir_all(&app)?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-U", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"]);
    maven.arg(source.join("pom.xml")).arg(format!("-DoutputDirectory={}", app.display()));
    try_again(|_| true, || output(&mut maven))?;
    let mut compiler = Command::new("javac");
    compiler.arg("-cp").arg(app.join("*")).arg("-d").arg(&app).arg(source.join("Stay.java"));
    output(&mut compiler)?;
    let mut link = Command::new("jlink");
    link.args(["--add-modules", MODULES, "--strip-java-debug-attributes", "--no-header-files", "--no-man-pages"]);
    output(link.arg("--output").arg(&jre))?;
    copy_libraries(&jre, &root)?;
    fs::copy(source.join("Dockerfile"), folder.join("Dockerfile"))?;
    let mut docker = Command::new("docker");
    docker.env("DOCKER_BUILDKIT", "0").args(["build", "--tag", IMAGE]).arg(&folder);
    output(&mut docker)?;
    timeline.say(format!("{IMAGE} built"));
    Ok(())
}

/// Those of this machine that the runtime is linked with, to where it looks for them.
fn copy_libraries(jre: &Path, root: &Path) -> anyhow::Result<()> {
    let mut programs = vec![jre.join("bin/java"), jre.join("lib/server/libjvm.so")];
    for entry in fs::read_dir(jre.join("lib"))? {
        let path = entry?.path();
        programs.extend(path.extension().is_some_and(|kind| kind == "so").then_some(path));
    }
    let said = output(Command::new("ldd").args(&programs))?;
    for library in libraries(&said).into_iter().filter(|library| !library.starts_with(jre)) {
        let to = root.join(library.strip_prefix("/").context("not where a loader looks")?);
        fs::create_dir_all(to.parent().context("it is in a folder")?)?;
        fs::copy(&library, &to).with_context(|| library.display().to_string())?;
    }
    Ok(())
}

/// The files that `ldd` names.
fn libraries(said: &str) -> BTreeSet<PathBuf> {
    let found = said.lines().filter_map(|line| {
        let named = line.split_once("=> ").map_or(line, |(_, path)| path);
        // Without an address it is the program's own name, or none that was found.
        Some(named.trim().split_once(" (0x")?.0)
    });
    found.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_where_the_loader_finds_them_and_so_is_the_loader() {
        let said = "/jre/bin/java:\n\tlinux-vdso.so.1 (0x00007ffc)\n\tlibjli.so => /jre/bin/../lib/libjli.so (0x00007f1)\n\t\
                    libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)\n\t\
                    libno.so => not found\n";
        let expected = ["/jre/bin/../lib/libjli.so", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(said), expected.map(PathBuf::from).into());
    }
}
