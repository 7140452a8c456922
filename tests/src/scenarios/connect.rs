//! Kafka Connect in distributed mode: two workers, which share a group of the protocol type `connect` and keep their
//! connectors, offsets and states in three internal topics. A file goes through a topic into another file, and one of
//! the workers is killed meanwhile.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::kafka::Kafka;
use crate::harness::process::Process;
use crate::harness::{ports, wait};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LINES: usize = 500;
/// A Java virtual machine that looks for its plugins, beside three brokers.
const STARTS: Duration = Duration::from_mins(2);

/// A worker of Connect.
struct Worker {
    process: Process,
    port: u16,
}

/// Lines go through; a worker is killed; lines go through.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let kafka = match Kafka::fetch() {
        Ok(kafka) => kafka,
        Err(e) => {
            report.could_not_run(format!("Kafka Connect: {e:#}"));
            return Ok(());
        }
    };
    let mut cluster = Cluster::of_three(&settings.software, &[("group.initial.rebalance.delay.ms", "500")])?;
    let home = cluster.data_dir(0).with_file_name("connect");
    fs::create_dir_all(&home)?;
    let outcome = through(report, &cluster, &kafka, &home);
    report.check_result("the day of Connect runs to its end", outcome.map(|()| "yes".into()));
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

fn through(report: &mut Report, cluster: &Cluster, kafka: &Kafka, home: &Path) -> Result<()> {
    let first = Worker::start(cluster, kafka, home, "first")?;
    let second = Worker::start(cluster, kafka, home, "second")?;
    for worker in [&first, &second] {
        worker.answers()?;
    }
    report.check("two workers have made their topics and answer", true, "yes");
    let (source, sink) = (home.join("source.txt"), home.join("sink.txt"));
    append(&source, 0..LINES)?;
    first.connector("source", "FileStreamSource", "topic", &source)?;
    first.connector("sink", "FileStreamSink", "topics", &sink)?;
    report.check_result("every line of a file goes through a topic into a file", arrived(&sink, LINES));
    first.process.kill()?;
    append(&source, LINES..2 * LINES)?;
    report.check_result("after kill -9 of a worker the other one goes on with both", arrived(&sink, 2 * LINES));
    report.check_result("the connectors are known to the other one", {
        second.ask("GET", "/connectors", "").map(|answer| answer.lines().last().unwrap_or_default().to_owned())
    });
    for name in ["source", "sink"] {
        second.ask("DELETE", &format!("/connectors/{name}"), "")?;
    }
    report.check_result("connectors are deleted", {
        wait::until("no connectors", PATIENCE, || {
            let answer = second.ask("GET", "/connectors", "")?;
            Ok(answer.ends_with("[]").then(|| "none is left".into()))
        })
    });
    Ok(())
}

fn append(file: &Path, lines: std::ops::Range<usize>) -> Result<()> {
    let text: Vec<_> = lines.map(|n| format!("line {n}\n")).collect();
    Ok(File::options().create(true).append(true).open(file)?.write_all(text.concat().as_bytes())?)
}

/// All are there, in whatever order and as often as "at least once" allows, and nothing else.
fn arrived(sink: &Path, lines: usize) -> Result<String> {
    let wanted: BTreeSet<_> = (0..lines).map(|n| format!("line {n}")).collect();
    wait::until("the lines in the sink", STARTS, || {
        let text = fs::read_to_string(sink).unwrap_or_default();
        // Its last line may be half written.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let found: BTreeSet<_> = whole.lines().map(str::to_owned).collect();
        ensure!(found.is_subset(&wanted), "something that nobody wrote: {:?}", found.difference(&wanted).next());
        ensure!(found.len() == lines, "{} lines of {lines}", found.len());
        let again = whole.lines().count() - lines;
        Ok(Some(format!("{lines} lines, {again} of them again")))
    })
}

impl Worker {
    fn start(cluster: &Cluster, kafka: &Kafka, home: &Path, name: &str) -> Result<Self> {
        let port = ports::free()?;
        let properties: PathBuf = home.join(format!("{name}.properties"));
        let mut text = format!("bootstrap.servers={}\nlisteners=http://127.0.0.1:{port}\n", cluster.bootstrap());
        for kind in ["key", "value"] {
            let _ = writeln!(text, "{kind}.converter=org.apache.kafka.connect.storage.StringConverter");
        }
        for topic in ["config", "offset", "status"] {
            let _ = writeln!(text, "{topic}.storage.topic=connect-{topic}\n{topic}.storage.replication.factor=3");
        }
        text.push_str("group.id=connect\noffset.storage.partitions=5\noffset.flush.interval.ms=500\n");
        text.push_str("plugin.discovery=service_load\nsession.timeout.ms=6000\nheartbeat.interval.ms=1000\n");
        text.push_str("scheduled.rebalance.max.delay.ms=1000\n");
        fs::write(&properties, text)?;
        let mut command = kafka.program("org.apache.kafka.connect.cli.ConnectDistributed", "256m")?;
        command.arg(&properties);
        let log = home.join(format!("{name}.log"));
        Ok(Self { process: Process::start(&format!("the {name} worker"), command, &log)?, port })
    }

    /// It answers about connectors when it has read its topics and is a member of the group.
    fn answers(&self) -> Result<()> {
        wait::until("the worker to answer", STARTS, || self.ask("GET", "/connectors", "").map(Some)).map(|_| ())
    }

    fn connector(&self, name: &str, class: &str, topic_key: &str, file: &Path) -> Result<()> {
        let file = file.display();
        let config = format!(
            r#"{{"connector.class": "{class}", "tasks.max": "1", "file": "{file}", "{topic_key}": "connect-lines"}}"#
        );
        // While the group rebalances it answers 409.
        wait::until(&format!("connector {name}"), PATIENCE, || {
            self.ask("PUT", &format!("/connectors/{name}/config"), &config).map(Some)
        })
        .map(|_| ())
    }

    /// The answer with its head, if the status is one of success.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status code")?;
        ensure!((200..300).contains(&code), "{answer}");
        Ok(answer)
    }
}
