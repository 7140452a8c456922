//! The command line, as people use it: a topic is made, written by a pipe, read, and looked at; each command is a
//! process of its own.

use super::{Settings, cli_edges};
use crate::harness::clients::{self, Outcome};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::process::Process;
use crate::harness::{leash, wait};
use crate::report::Report;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;

/// One broker, and one command after the other.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let Software::Chronik(program) = &settings.software else { bail!("this is Chronik's own command line") };
    let mut cluster = Cluster::new(&settings.software, 1, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let line = Line { program, bootstrap: cluster.bootstrap() };
    report.check_result("topic create", line.ok("topic create orders --partitions 2 --replicas 1", "", "orders"));
    report.check_result("topic list", line.ok("topic list", "", "orders"));
    report.check_result("topic list as JSON", line.ok("topic list --output json", "", "\"partitions\": 2"));
    report.check_result(
        "produce by a pipe",
        line.ok("produce orders --key-separator : --header a=b", "k1:v1\nk2:v2\n", ""),
    );
    let format = "consume orders --to-end --format %k=%v[%h]";
    report.check_result("consume with keys and headers", line.ok(format, "", "k1=v1[a=b]"));
    report.check_result("consume from the end", line.silent("consume orders --to-end --from end"));
    let in_group = "consume orders --to-end --group readers";
    report.check_result("consume in a group", line.ok(in_group, "", "v2"));
    report.check_result("what a group has read is not read again", {
        line.ok("produce orders", "v3\n", "")
            .and_then(|_| line.ok("consume orders --group readers --count 1", "", "v3"))
    });
    report.check_result("group list", line.ok("group list", "", "readers"));
    report.check_result("group describe", line.ok("group describe readers --output json", "", "\"lag\": 0"));
    report.check_result("group reset is a dry run", {
        let dry = line.ok("group reset readers --to beginning", "", "orders");
        dry.and_then(|_| line.ok("group describe readers --output json", "", "\"lag\": 0"))
    });
    report.check_result("group reset --execute", {
        let done = line.ok("group reset readers --to beginning --execute", "", "orders");
        done.and_then(|_| line.ok(in_group, "", "v1"))
    });
    report.check_result("group delete", line.ok("group delete readers", "", ""));
    report.check_result("config set and get", {
        let set = line.ok("config set topic orders max.message.bytes=12345", "", "");
        set.and_then(|_| line.ok("config get topic orders max.message.bytes", "", "12345"))
    });
    report.check_result("config unset", {
        let unset = line.ok("config unset topic orders max.message.bytes", "", "");
        unset.and_then(|_| line.ok("config get topic orders max.message.bytes", "", "default"))
    });
    report.check_result(
        "topic alter",
        line.ok("topic alter orders --partitions 3 --output json", "", "\"partition\": 2"),
    );
    report.check_result("topic delete-records", {
        let made = line.ok("topic create short --partitions 1", "", "short");
        let written = made.and_then(|_| line.ok("produce short", "a\nb\nc\n", ""));
        let deleted = "topic delete-records short-0 --before -1 --output json";
        written
            .and_then(|_| line.fails("topic delete-records short-0 --before 4", "beyond the last record"))
            .and_then(|_| line.ok(&format!("{deleted} --dry-run"), "", "\"log_start\": 2"))
            .and_then(|_| line.ok(deleted, "", "\"offsets_removed\": 2"))
            .and_then(|_| line.ok("consume short --to-end --format %o%v", "", "2c"))
    });
    report.check_result("topic elect", {
        let asked = line.ok("topic elect short-0 --unclean", "", "short");
        asked.and_then(|_| line.fails("topic elect short-7", "UNKNOWN_TOPIC_OR_PARTITION"))
    });
    report.check_result("features", features(&line));
    report.check_result("topic delete", line.ok("topic delete orders", "", ""));
    report.check_result("an error says what to do next", line.fails("topic describe nowhere", "chronik topic list"));
    report.check_result("completions", completions(program));
    cli_edges::online(&line, cluster.ports(0).kafka, report);
    report.check_result("serve --check", cli_edges::serve_check(program));
    report.check_result("the dashboard asks for what a broker shows", dashboard(&cluster));
    report.check_result("the broker lives", cluster.check_alive().map(|()| "yes".into()));
    let dir = cluster.data_dir(0);
    report.check_result("log verify leaves a running broker alone", {
        offline(program, "verify", &dir).and_then(|outcome| refused(&outcome, "in use by another process"))
    });
    cluster.stop(0)?;
    report.check_result("dev says what becomes of its brokers", dev(program));
    report.check_result(
        "log verify",
        offline(program, "verify", &dir)?.succeeded()?.says("partitions").map(|_| "whole".into()),
    );
    report.check_result("log dump", log_dump(program, &dir));
    for file in ["metadata/journal", "log/checkpoint"] {
        report.check_result(format!("log verify finds a flipped bit in {file}"), flipped_bit(program, &dir, file));
    }
    report.check_result("log repair reads all", cli_edges::log_repair(program, &dir));
    if report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

/// A cluster is as high as its brokers know, and no higher.
fn features(line: &Line<'_>) -> Result<String> {
    line.ok("features upgrade --dry-run", "", "metadata.version")?;
    let upgraded: Value = serde_json::from_str(&line.run("features upgrade --output json", "")?.succeeded()?.text())?;
    let feature = upgraded.get(0).context("a feature")?;
    ensure!(feature["level"].as_i64() > Some(0) && feature["level"] == feature["highest"], "it is {upgraded}");
    line.fails("features upgrade --to 99", "99")
}

/// A script for a shell.
fn completions(program: &Path) -> Result<String> {
    let mut command = leash::command(program)?;
    command.args(["completions", "bash"]);
    let outcome = clients::run(command, b"", PATIENCE)?.succeeded()?;
    outcome.says("_chronik()")?.says("--dry-run")?;
    Ok("for bash".into())
}

/// A broker's metrics have all names of the dashboard for Grafana, but for those of the operator.
fn dashboard(cluster: &Cluster) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chronik/files/dashboard.json");
    let (_, shown) = cluster.http(0, "/metrics")?;
    let has = |name: &str| shown.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let expressions = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut count = 0;
    for expression in expressions.filter_map(|target| target["expr"].as_str()) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let of_brokers = |word: &&str| word.starts_with("chronik_") && !word.starts_with("chronik_operator_");
        for name in words.filter(of_brokers).filter(|word| *word != "chronik_io_cluster") {
            let base = name.strip_suffix("_total").or_else(|| name.strip_suffix("_bucket")).unwrap_or(name);
            ensure!(has(base), "no {name} among the metrics of a broker");
            count += 1;
        }
    }
    ensure!(count > 10, "only {count} metrics are asked for");
    Ok(format!("{count} metrics"))
}

/// A command on a data directory.
pub(super) fn offline(program: &Path, what: &str, dir: &Path) -> Result<Outcome> {
    let mut command = leash::command(program)?;
    command.args(["log", what]).arg(dir);
    if what == "dump" {
        command.args(["--records", "--output", "json"]);
    }
    if what == "repair" {
        command.args(["--broker", "0"]);
    }
    clients::run(command, b"", PATIENCE)
}

pub(super) fn refused(outcome: &Outcome, says: &str) -> Result<String> {
    let all = outcome.text() + &outcome.err;
    ensure!(!outcome.success && all.contains(says), "it says {all:?}");
    Ok(says.to_owned())
}

/// What the group has committed is in the log of `__consumer_offsets`.
fn log_dump(program: &Path, dir: &Path) -> Result<String> {
    offline(program, "dump", dir)?.succeeded()?.says("\"base_offset\":")?.says("\"key\":")?;
    Ok("chronik log dump --records".into())
}

fn flipped_bit(program: &Path, dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    let flip = || -> Result<()> {
        let mut bytes = std::fs::read(&path)?;
        bytes[10] ^= 8;
        Ok(std::fs::write(&path, bytes)?)
    };
    flip()?;
    let found = offline(program, "verify", dir).and_then(|outcome| refused(&outcome, &format!("{file}: byte 0: ")));
    flip()?;
    found
}

/// `chronik dev` without a terminal: a line for each change.
fn dev(program: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut command = leash::command(program)?;
    command.args(["dev", "--brokers", "3", "--data-dir"]).arg(folder.path().join("data"));
    let dev = Process::start("dev", command, &log)?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let says = |what: &str| {
        let found = wait::until(what, PATIENCE, || Ok(said().contains(what).then_some(())));
        found.with_context(|| format!("it says {}", said()))
    };
    says("Ready. Kafka clients connect to ")?;
    says("broker 1: in sync")?;
    let said = said();
    let pid = said.lines().find_map(|line| line.strip_prefix("broker 1  pid ")?.split(' ').next()?.parse().ok());
    let pid = pid.and_then(Pid::from_raw).with_context(|| format!("no pid of broker 1 in {said}"))?;
    ensure!(!said.contains("[1] "), "it shows what brokers log: {said}");
    kill_process(pid, Signal::KILL)?;
    says("broker 1: killed")?;
    says("was killed by signal 9")?;
    let status = dev.stop(PATIENCE)?;
    ensure!(status.success(), "it ended with {status}");
    says("Stopping; the data stays in ")?;
    Ok("chronik dev".into())
}

/// Commands to one cluster.
pub(super) struct Line<'a> {
    program: &'a Path,
    bootstrap: String,
}

impl Line<'_> {
    pub(super) fn run(&self, words: &str, input: &str) -> Result<Outcome> {
        let mut command = leash::command(self.program)?;
        command.args(words.split(' ')).args(["--bootstrap", &self.bootstrap]);
        clients::run(command, input.as_bytes(), PATIENCE)
    }

    /// A command that succeeds, and says this.
    pub(super) fn ok(&self, words: &str, input: &str, says: &str) -> Result<String> {
        self.run(words, input)?.succeeded()?.says(says)?;
        Ok(format!("chronik {words}"))
    }

    /// A command that succeeds, and says nothing.
    fn silent(&self, words: &str) -> Result<String> {
        let said = self.run(words, "")?.succeeded()?.text();
        ensure!(said.is_empty(), "it says {said:?}");
        Ok(format!("chronik {words}"))
    }

    /// A command that fails, and says this about it.
    pub(super) fn fails(&self, words: &str, says: &str) -> Result<String> {
        let outcome = self.run(words, "")?;
        ensure!(!outcome.success, "it succeeds");
        ensure!(outcome.err.contains(says), "it says {:?}", outcome.err);
        Ok(format!("chronik {words}"))
    }
}
