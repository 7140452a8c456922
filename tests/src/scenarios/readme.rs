//! README's first page, word by word: its commands in the order in which they stand there, in a folder of their own, up to
//! a group that goes on where it was. `chronik` stands for cargo, and the address is the one that `dev` names, as the one in
//! README may be taken.

use super::Settings;
use crate::harness::clients::{self, Outcome};
use crate::harness::cluster::{PATIENCE, Software};
use crate::harness::process::Process;
use crate::harness::{leash, wait};
use crate::report::Report;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The heading of the section.
const SECTION: &str = "## Try it\n";
/// How README runs Chronik's own command.
const CARGO: &str = "cargo run --release --";
/// Where README has clients connect.
const ADDRESS: &str = "127.0.0.1:9092";

/// The first page of a stranger's day.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let Software::Chronik(program) = &settings.software else { bail!("README is about Chronik") };
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))?;
    let page = Page::of(&readme)?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("dev.log");
    let mut command = leash::command(program)?;
    command.args(page.dev.split_whitespace()).current_dir(folder.path());
    let dev = Process::start("dev", command, &log)?;
    let address = wait::until("dev to be ready", PATIENCE, || {
        Ok(content(&log).split_once("Kafka clients connect to ").and_then(|(_, all)| first(all)))
    });
    let address = address.with_context(|| format!("dev says {}", content(&log)))?;
    report.check(format!("chronik {}", page.dev), true, &address);
    let shell = Shell { program, address, folder: folder.path().to_owned() };
    match clients::kcat() {
        Ok(_) => use_it(&page, &shell, report)?,
        Err(error) => report.could_not_run(format!("kcat: {error:#}")),
    }
    let status = dev.stop(PATIENCE)?;
    report.check("dev ends on a signal", status.success(), status);
    report.check("the data is in chronik-data", folder.path().join("chronik-data").is_dir(), "as README says");
    Ok(())
}

/// What a stranger does with the cluster.
fn use_it(page: &Page, shell: &Shell<'_>, report: &mut Report) -> Result<()> {
    let (group, others) = page.clients.split_last().context("no commands of clients")?;
    let write = others.first().context("no command that writes")?;
    ensure!(group.contains(" -G "), "README's first page ends with {group}, which is no group");
    for command in others {
        let hello = if command.contains(" -C ") { "hello" } else { "" };
        report.check_result(command, shell.run(command).and_then(|outcome| outcome.says(hello)).map(|_| "done".into()));
    }
    let own = format!("{CARGO} {} --bootstrap {ADDRESS}", page.own);
    report.check_result(&page.own, shell.run(&own).and_then(|outcome| outcome.says("hello")).map(|_| "hello".into()));
    report.check_result(group, shell.group(group, "first.log").and_then(|read| once(&read)));
    report.check_result("what is written while the group is away is all that it reads then", {
        shell.run(write).and_then(|_| shell.group(group, "second.log")).and_then(|read| once(&read))
    });
    Ok(())
}

fn content(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// The first of addresses with commas between, when the line is there to its end.
fn first(line: &str) -> Option<String> {
    Some(line.split_once('\n')?.0.split(',').next()?.to_owned())
}

/// What a group reads that was written once and is read for the first time.
fn once(read: &str) -> Result<String> {
    let records = read.lines().filter(|line| *line == "hello").count();
    ensure!(records == 1, "{records} records and not one: {read}");
    Ok("one record".into())
}

/// The commands of the page.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// The arguments with which Chronik starts.
    dev: String,
    /// What clients do, a line each.
    clients: Vec<String>,
    /// The arguments with which Chronik's own command does the same.
    own: String,
}

impl Page {
    fn of(readme: &str) -> Result<Self> {
        let section = readme.split_once(SECTION).context("README has no first page")?.1;
        let section = section.split("\n## ").next().unwrap_or(section);
        let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut lines = blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(str::to_owned);
        let dev = lines.next().and_then(|line| Some(line.strip_prefix(CARGO)?.trim().to_owned()));
        let clients: Vec<String> = lines.collect();
        let own = section.split('`').filter_map(|text| text.strip_prefix(CARGO)).map(str::trim).next();
        Ok(Self {
            dev: dev.context("README does not begin with Chronik")?,
            clients,
            own: own.context("README does not say how Chronik's own command is run")?.to_owned(),
        })
    }
}

/// Where commands are run.
struct Shell<'a> {
    program: &'a Path,
    address: String,
    folder: PathBuf,
}

impl Shell<'_> {
    fn command(&self, line: &str) -> Result<Command> {
        let line = line.replace(CARGO, &self.program.display().to_string()).replace(ADDRESS, &self.address);
        let mut command = leash::command(Path::new("/bin/sh"))?;
        command.args(["-c", &line]).current_dir(&self.folder);
        Ok(command)
    }

    fn run(&self, line: &str) -> Result<Outcome> {
        clients::run(self.command(line)?, b"", PATIENCE)?.succeeded()
    }

    /// What a member of the group says until it has read all and is ended with Ctrl-C.
    fn group(&self, line: &str, log: &str) -> Result<String> {
        let log = self.folder.join(log);
        // The shell gives its place to the client, which is to get the signal.
        let member = Process::start("a member", self.command(&format!("exec {line}"))?, &log)?;
        let read = wait::until("the group to read all", PATIENCE, || {
            Ok(content(&log).contains("Reached end of topic").then_some(()))
        });
        read.with_context(|| format!("it says {}", content(&log)))?;
        member.signal(Signal::INT)?;
        member.wait(PATIENCE)?;
        Ok(content(&log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_stands_in_its_section() {
        let readme = "```sh\nno\n```\n## Try it\n\n```sh\ncargo run --release -- dev --brokers 3\n```\n`chronik x`, or\n\
                      `cargo run --release -- consume a`.\n```sh\necho a | kcat\nkcat -C\n```\n```sh\nkcat -G a\n```\n\n\
                      ## Next\n```sh\nno\n```\n";
        let page = Page::of(readme).unwrap();
        assert_eq!((page.dev.as_str(), page.own.as_str()), ("dev --brokers 3", "consume a"));
        assert_eq!(page.clients, ["echo a | kcat", "kcat -C", "kcat -G a"]);
    }
}
