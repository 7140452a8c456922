//! Unmodified clients against a running cluster: kcat, and those of Python, Go, JavaScript and Java with Kafka's own
//! tools. None of them knows anything but the address.

use super::Settings;
use super::{java_groups, java_migration, java_tools};
use crate::harness::clients::{self as programs, Outcome, run as run_program};
use crate::harness::cluster::{Cluster, Software};
use crate::harness::kafka::Kafka;
use crate::harness::metadata::Metadata;
use crate::harness::{go, javascript, leash, repository};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long one client program may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// Whose day it is.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which clients [default: all]
    #[arg(value_enum)]
    clients: Vec<Client>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    /// kafka-python and confluent-kafka
    Python,
    /// kcat
    Kcat,
    /// Kafka's own tools for topics and records
    Java,
    /// Kafka's own tools for groups, logs and configs
    JavaGroups,
    /// franz-go
    Go,
    /// kafkajs
    Javascript,
}

/// Each of them, one after the other, on one cluster.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    // With the defaults, three and five seconds for each new group would be most of the time.
    let properties = [
        ("group.initial.rebalance.delay.ms", "300"),
        ("group.consumer.min.heartbeat.interval.ms", "1000"),
        ("group.consumer.heartbeat.interval.ms", "1000"),
    ];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    let is_chronik = matches!(settings.software, Software::Chronik(_));
    let wanted = |client| options.clients.is_empty() || options.clients.contains(&client);
    if wanted(Client::Python) {
        match programs::python() {
            Ok(python) => {
                python_script(report, &cluster, &python, "kafka-python", "kafka_python.py");
                python_script(report, &cluster, &python, "confluent-kafka", "confluent.py");
            }
            Err(e) => report.could_not_run(format!("Python's clients: {e:#}")),
        }
    }
    if wanted(Client::Kcat) {
        match programs::kcat() {
            Ok(kcat) => {
                run_kcat(report, &cluster, &kcat)?;
                if is_chronik {
                    report.check_result("kcat: no transactions", no_transactions(|| kcat_transaction(&cluster, &kcat)));
                }
            }
            Err(e) => report.could_not_run(format!("kcat: {e:#}")),
        }
    }
    if wanted(Client::Go) {
        match go::program("franz-go") {
            Ok(program) => checks(report, &cluster, "franz-go", leash::command(&program)?),
            Err(e) => report.could_not_run(format!("franz-go: {e:#}")),
        }
    }
    if wanted(Client::Javascript) {
        match javascript::script("kafkajs") {
            Ok(script) => {
                let mut command = leash::command(Path::new("node"))?;
                command.arg(script);
                checks(report, &cluster, "kafkajs", command);
            }
            Err(e) => report.could_not_run(format!("kafkajs: {e:#}")),
        }
    }
    if wanted(Client::Java) || wanted(Client::JavaGroups) {
        match Kafka::fetch() {
            Ok(kafka) => {
                if wanted(Client::Java) {
                    java_tools::run(report, &cluster, &kafka);
                    let source = repository().join("tests/clients/java/Recreated.java");
                    checks(report, &cluster, "java", kafka.program(&source.display().to_string(), "256m")?);
                    if is_chronik {
                        let outcome = no_transactions(|| java_tools::transaction(&cluster, &kafka));
                        report.check_result("java: no transactions", outcome);
                    }
                }
                if wanted(Client::JavaGroups) {
                    java_groups::run(report, &cluster, &kafka);
                    java_migration::run(report, &cluster, &kafka);
                }
            }
            Err(e) => report.could_not_run(format!("Java's tools: {e:#}")),
        }
    }
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

/// A script of Python's that prints a line for each of its checks.
pub(super) fn python_script(report: &mut Report, cluster: &Cluster, python: &Path, client: &str, name: &str) {
    match programs::script(python, name) {
        Ok(command) => checks(report, cluster, client, command),
        Err(e) => report.could_not_run(format!("{client}: {e:#}")),
    }
}

/// A program that prints a line for each of its checks; the address is its last argument.
pub(super) fn checks(report: &mut Report, cluster: &Cluster, client: &str, mut command: Command) {
    command.arg(cluster.bootstrap());
    let outcome = run_program(command, b"", Duration::from_mins(5));
    match outcome {
        Ok(outcome) => {
            let (mut checks, mut ended) = (0, false);
            for line in outcome.text().lines() {
                if let Some(name) = line.strip_prefix("pass ") {
                    report.check(format!("{client}: {name}"), true, "as it should");
                } else if let Some(line) = line.strip_prefix("FAIL ") {
                    let (name, why) = line.split_once(": ").unwrap_or((line, ""));
                    report.check(format!("{client}: {name}"), false, why);
                }
                checks += usize::from(line.starts_with("pass ") || line.starts_with("FAIL "));
                ended |= line == "end";
            }
            let last_words = if ended { format!("{checks} checks") } else { outcome.err_tail() };
            report.check(format!("{client}: the script runs to its end"), ended && checks > 0, last_words);
        }
        Err(e) => {
            report.check(format!("{client}: the script runs to its end"), false, format!("{e:#}"));
        }
    }
}

fn run_kcat(report: &mut Report, cluster: &Cluster, kcat: &Path) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let metadata = Metadata::new(&bootstrap)?;
    let call = |arguments: &[&str], input: &[u8]| -> Result<Outcome> {
        let mut command = leash::command(kcat)?;
        command.args(["-b", &bootstrap]).args(arguments);
        run_program(command, input, PATIENCE)
    };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("kcat-{codec}");
        let lines = numbered_lines(200);
        let round_trip = metadata.create_topic(&topic, 1, 3, &[]).and_then(|()| {
            let acks = ["-X", "acks=all", "-X", "enable.idempotence=true"];
            call(&[&["-P", "-t", &topic, "-p", "0", "-z", codec], &acks[..]].concat(), lines.as_bytes())?
                .succeeded()?;
            let read = call(&["-C", "-e", "-q", "-t", &topic, "-p", "0", "-o", "beginning"], b"")?.succeeded()?;
            ensure!(read.out == lines.as_bytes(), "{} bytes written, {} read", lines.len(), read.out.len());
            Ok("200 lines there and back".into())
        });
        report.check_result(format!("kcat: compression {codec}"), round_trip);
    }
    let listed = call(&["-L"], b"").and_then(Outcome::succeeded).and_then(|o| o.says(" 3 brokers:"));
    report.check_result("kcat: -L", listed.map(|_| "three brokers".into()));
    let keyed = metadata.create_topic("kcat-keys", 1, 3, &[]).and_then(|()| {
        call(&["-P", "-t", "kcat-keys", "-p", "0", "-K", ":", "-H", "name=value"], b"key:value\n")?.succeeded()?;
        let format = ["-C", "-e", "-q", "-t", "kcat-keys", "-p", "0", "-o", "beginning", "-f", "%o %k %s %h\n"];
        let said = call(&format, b"")?.succeeded()?.says("0 key value name=value")?;
        Ok(said.text().trim().to_owned())
    });
    report.check_result("kcat: keys and headers", keyed);
    let query = call(&["-Q", "-t", "kcat-keys:0:-1"], b"").and_then(Outcome::succeeded);
    report.check_result(
        "kcat: -Q by timestamp",
        query.and_then(|o| o.says("kcat-keys [0] offset 1\n")).map(|o| o.text().trim().to_owned()),
    );
    let last = call(&["-C", "-e", "-q", "-t", "kcat-none", "-p", "0", "-o", "-1", "-c", "1"], b"");
    report.check_result(
        "kcat: the last record",
        last.and_then(|o| o.succeeded()?.says("line 199")).map(|_| "line 199".into()),
    );
    let made =
        call(&["-P", "-t", "kcat-auto-created"], b"made by writing\n").and_then(Outcome::succeeded).and_then(|_| {
            let arguments = ["-C", "-e", "-q", "-t", "kcat-auto-created", "-o", "beginning"];
            call(&arguments, b"")?.succeeded()?.says("made by writing").context("read it back")
        });
    report.check_result("kcat: a topic made by writing to it", made.map(|_| "written and read".into()));
    Ok(())
}

fn kcat_transaction(cluster: &Cluster, kcat: &Path) -> Result<Outcome> {
    let mut command = leash::command(kcat)?;
    command.args(["-b", &cluster.bootstrap(), "-P", "-t", "kcat-transactions", "-X", "transactional.id=kcat"]);
    run_program(command, b"never written\n", PATIENCE)
}

/// A transactional producer fails at once, and shows its user why: none of them is to ask for a coordinator for a minute,
/// or to speak of a missing authorization alone.
fn no_transactions(produce: impl FnOnce() -> Result<Outcome>) -> Result<String> {
    const AT_ONCE: Duration = Duration::from_secs(20);
    let begin = Instant::now();
    let outcome = produce()?;
    let (took, said) = (begin.elapsed(), outcome.text() + &outcome.err);
    ensure!(!outcome.success, "it succeeds: {said}");
    ensure!(said.contains("transactions are not supported by this cluster yet"), "it says {said}");
    ensure!(took < AT_ONCE, "it takes {took:?}");
    Ok(format!("said after {:.1} s", took.as_secs_f64()))
}

/// Lines that compress, each different.
pub(super) fn numbered_lines(count: usize) -> String {
    let lines: Vec<_> = (0..count).map(|n| format!("line {n} {}\n", "x".repeat(100))).collect();
    lines.concat()
}
