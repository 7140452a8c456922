//! A group of Kafka's own consumers goes from the classic protocol to KIP-848 and back, one member at a time, while
//! records come: none may be skipped, and no committed offset may go back.

use super::java_tools::Tools;
use crate::harness::cluster::Cluster;
use crate::harness::kafka::Kafka;
use crate::harness::metadata::Metadata;
use crate::harness::process::Process;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
const PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const TOPIC: &str = "java-migration";
const PARTITIONS: i64 = 6;
const MEMBERS: usize = 3;
/// For what is over within seconds on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_mins(1);

/// A consumer in a process of its own, and what it says.
struct Reader {
    process: Process,
    log: PathBuf,
}

/// The way there, the way back, and what was read and committed meanwhile.
pub(super) fn run(report: &mut Report, cluster: &Cluster, kafka: &Kafka) {
    report.check_result("java: a group moves to KIP-848 and back, member by member", moves(cluster, kafka));
}

fn moves(cluster: &Cluster, kafka: &Kafka) -> Result<String> {
    let home = cluster.data_dir(0).with_file_name(TOPIC);
    fs::create_dir_all(&home)?;
    let tools = Tools { kafka, bootstrap: cluster.bootstrap() };
    Metadata::new(&tools.bootstrap)?.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    let sends = home.join("producer.log");
    let producer = Process::start("the producer", command(&tools, PRODUCER, &["--throughput", "500"])?, &sends)?;
    let mut logs = Vec::new();
    let mut start = |protocol: &str| -> Result<Reader> {
        let log = home.join(format!("consumer-{}.log", logs.len()));
        logs.push(log.clone());
        let arguments = ["--group-id", TOPIC, "--reset-policy", "earliest", "--group-protocol", protocol];
        Ok(Reader { process: Process::start(TOPIC, command(&tools, CONSUMER, &arguments)?, &log)?, log })
    };
    let mut members: Vec<_> = (0..MEMBERS).map(|_| start("classic")).collect::<Result<_>>()?;
    wait_for_all(&members)?;
    for (protocol, kind) in [("consumer", "Consumer"), ("classic", "Classic")] {
        for _ in 0..MEMBERS {
            members.push(start(protocol)?);
            wait_for_all(&members).with_context(|| format!("with one more of the protocol {protocol}"))?;
            let status = members.remove(0).process.stop(PATIENCE)?;
            // A JVM that SIGTERM ends says so, after the consumer in it was closed.
            ensure!(status.success() || status.code() == Some(143), "a consumer ended with {status}");
            wait_for_all(&members).with_context(|| format!("with one less, moving to {protocol}"))?;
        }
        let text = tools.call(GROUPS, &["--bootstrap-server", "BOOTSTRAP", "--list"], b"")?.succeeded()?.text();
        let line = text.lines().find(|line| line.starts_with(TOPIC)).unwrap_or_default();
        ensure!(line.split_whitespace().nth(1) == Some(kind), "not a group of kind {kind}: {line}");
    }
    producer.stop(PATIENCE)?;
    let sent = acknowledged(&events(&sends)?)?;
    let all = || logs.iter().map(|log| events(log)).collect::<Result<Vec<_>>>();
    let read = wait::until("all records to be read", PATIENCE, || {
        let read = offsets_read(&all()?.concat());
        let different: usize = read.values().map(|offsets| offsets.iter().collect::<BTreeSet<_>>().len()).sum();
        Ok((different >= sent).then_some(read))
    })?;
    for member in members {
        member.process.stop(PATIENCE)?;
    }
    let commits = commits_in_order(&all()?.concat())?;
    let more: usize = read.values().map(Vec::len).sum::<usize>() - sent;
    for (partition, offsets) in &read {
        let different: BTreeSet<_> = offsets.iter().copied().collect();
        let last = different.last().copied().unwrap_or_default();
        ensure!(different.len() as i64 == last + 1, "of partition {partition} some up to {last} are skipped");
    }
    Ok(format!("{sent} records, {more} read twice; {commits} commits, none goes back"))
}

fn command(tools: &Tools<'_>, class: &str, arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = tools.kafka.program(class, "128m")?;
    command.args(["--bootstrap-server", &tools.bootstrap, "--topic", TOPIC]).args(arguments);
    Ok(command)
}

/// Each member is to have partitions, and together all of them, each once.
fn wait_for_all(members: &[Reader]) -> Result<()> {
    let mut had = Vec::new();
    wait::until("each member to have partitions", PATIENCE, || {
        had = members.iter().map(|m| Ok(assigned(&events(&m.log)?))).collect::<Result<Vec<_>>>()?;
        let all: BTreeSet<_> = had.iter().flatten().collect();
        let count: usize = had.iter().map(BTreeSet::len).sum();
        let full = all.len() as i64 == PARTITIONS && count as i64 == PARTITIONS;
        Ok((full && had.iter().all(|some| !some.is_empty())).then_some(()))
    })
    .with_context(|| format!("they have {had:?}"))
}

/// What a tool said so far, a line of JSON each. The last line may be half written.
fn events(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn partitions(event: &Value) -> impl Iterator<Item = (i64, &Value)> {
    let list = event["partitions"].as_array().or_else(|| event["offsets"].as_array());
    list.into_iter().flatten().filter_map(|entry| Some((entry["partition"].as_i64()?, entry)))
}

fn assigned(events: &[Value]) -> BTreeSet<i64> {
    let mut has = BTreeSet::new();
    for event in events {
        match event["name"].as_str() {
            Some("partitions_assigned") => has.extend(partitions(event).map(|(partition, _)| partition)),
            Some("partitions_revoked") => partitions(event).for_each(|(partition, _)| {
                has.remove(&partition);
            }),
            _ => {}
        }
    }
    has
}

fn acknowledged(events: &[Value]) -> Result<usize> {
    let end = events.iter().find(|event| event["name"] == "tool_data").context("the producer's last word")?;
    let (sent, acked) = (end["sent"].as_u64(), end["acked"].as_u64());
    ensure!(sent == acked && acked > Some(0), "of {sent:?} records {acked:?} were acknowledged");
    Ok(acked.unwrap_or_default() as usize)
}

/// By partition. A batch that was polled is consecutive, as the topic lacks no offsets.
fn offsets_read(events: &[Value]) -> BTreeMap<i64, Vec<i64>> {
    let mut read: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["name"] == "records_consumed") {
        for (partition, polled) in partitions(event) {
            if let (Some(first), Some(last)) = (polled["minOffset"].as_i64(), polled["maxOffset"].as_i64()) {
                read.entry(partition).or_default().extend(first..=last);
            }
        }
    }
    read
}

/// How many commits there were, none of which was of less than an earlier one.
fn commits_in_order(events: &[Value]) -> Result<usize> {
    let mut commits: Vec<_> =
        events.iter().filter(|e| e["name"] == "offsets_committed" && e["success"] == true).collect();
    commits.sort_by_key(|event| event["timestamp"].as_i64());
    let mut committed: BTreeMap<i64, i64> = BTreeMap::new();
    for event in &commits {
        for (partition, commit) in partitions(event) {
            let offset = commit["offset"].as_i64().context("a committed offset")?;
            let before = committed.insert(partition, offset).unwrap_or_default();
            ensure!(before <= offset, "partition {partition}: {offset} was committed after {before}");
        }
    }
    Ok(commits.len())
}
