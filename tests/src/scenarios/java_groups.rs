//! Kafka's own tools for groups, for the records in a log and for configs, in the order in which an operator may use
//! them on one topic.

use super::java_tools::{CONFIGS, CONSUMER, OFFSETS, TOPICS, Tools};
use crate::harness::clients::Outcome;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::kafka::Kafka;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const ALL_GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
const CONSUMER_PERF: &str = "org.apache.kafka.tools.ConsumerPerformance";

const TOPIC: &str = "java-groups";
const RECORDS: i64 = 1000;
const SERVER: [&str; 2] = ["--bootstrap-server", "BOOTSTRAP"];

/// Every tool, each with a line of its own.
pub(super) fn run(report: &mut Report, cluster: &Cluster, kafka: &Kafka) {
    let tools = &Tools { kafka, bootstrap: cluster.bootstrap() };
    let says =
        |class: &str, arguments: &[&str], what: &str| tools.says(class, &[&SERVER[..], arguments].concat(), what);
    let create = ["--create", "--topic", TOPIC, "--partitions", "2", "--replication-factor", "3"];
    report.check_result("java: kafka-topics --create", says(TOPICS, &create, "Created topic java-groups"));
    report.check_result("java: kafka-verifiable-producer", verifiable_producer(tools));
    for protocol in ["classic", "consumer"] {
        report.check_result(
            format!("java: kafka-verifiable-consumer, group.protocol={protocol}"),
            verifiable_consumer(tools, protocol),
        );
    }
    for (kind, what) in
        [("OffsetsMessageFormatter", "\"offset\":"), ("GroupMetadataMessageFormatter", "\"generation\":")]
    {
        report.check_result(format!("java: kafka-console-consumer, {kind}"), coordinators_records(tools, kind, what));
    }
    let perf = ["--topic", TOPIC, "--messages", "1000", "--hide-header", "--timeout", "30000"];
    report.check_result("java: kafka-consumer-perf-test", says(CONSUMER_PERF, &perf, ", 1000, "));
    report.check_result("java: kafka-consumer-groups --list", says(GROUPS, &["--list"], "java-classic"));
    report.check_result("java: kafka-groups --list tells the protocols apart", protocols(tools));
    for (flag, what) in [("--state", "Empty"), ("--members", "has no active members")] {
        let describe = ["--describe", "--group", "java-consumer", flag];
        report.check_result(
            format!("java: kafka-consumer-groups --describe {flag}"),
            says_anywhere(tools, GROUPS, &describe, what),
        );
    }
    report.check_result("java: kafka-consumer-groups --describe shows no lag", lag(tools, "java-classic", 0));
    let reset = ["--reset-offsets", "--group", "java-classic", "--all-topics", "--to-earliest"];
    report.check_result("java: kafka-consumer-groups --reset-offsets --dry-run", {
        says(GROUPS, &[&reset[..], &["--dry-run"]].concat(), TOPIC).and_then(|_| lag(tools, "java-classic", 0))
    });
    report.check_result("java: kafka-consumer-groups --reset-offsets --execute", {
        says(GROUPS, &[&reset[..], &["--execute"]].concat(), TOPIC).and_then(|_| lag(tools, "java-classic", RECORDS))
    });
    let one = ["--reset-offsets", "--group", "java-classic", "--topic", "java-groups:0", "--shift-by", "100"];
    report.check_result("java: kafka-consumer-groups --reset-offsets of one partition by 100", {
        says(GROUPS, &[&one[..], &["--execute"]].concat(), TOPIC)
            .and_then(|_| lag(tools, "java-classic", RECORDS - 100))
    });
    report.check_result("java: a console consumer reads on from there", console_group(tools, RECORDS - 100));
    let forget = ["--delete-offsets", "--group", "java-consumer", "--topic", "java-groups:1"];
    report.check_result("java: kafka-consumer-groups --delete-offsets", says(GROUPS, &forget, "Successful"));
    let delete = ["--delete", "--group", "java-classic", "--group", "java-consumer"];
    report.check_result("java: kafka-consumer-groups --delete", says(GROUPS, &delete, "was successful"));
    report.check_result("java: kafka-log-dirs --describe", log_dirs(tools, cluster.size()));
    report.check_result("java: kafka-delete-records", delete_records(tools, cluster));
    let grow = tools.call(TOPICS, &[&SERVER[..], &["--alter", "--topic", TOPIC, "--partitions", "5"]].concat(), b"");
    report.check_result("java: kafka-topics --alter --partitions", {
        grow.and_then(Outcome::succeeded)
            .and_then(|_| says(TOPICS, &["--describe", "--topic", TOPIC], "PartitionCount: 5"))
    });
    configs(report, tools);
}

fn verifiable_producer(tools: &Tools<'_>) -> Result<String> {
    let arguments = ["--topic", TOPIC, "--max-messages", "1000", "--acks", "-1", "--repeating-keys", "100"];
    tools.says(VERIFIABLE_PRODUCER, &[&SERVER[..], &arguments].concat(), "\"acked\":1000")
}

/// It says what it consumed, batch by batch, as JSON; with this many, it ends.
fn verifiable_consumer(tools: &Tools<'_>, protocol: &str) -> Result<String> {
    let group = format!("java-{protocol}");
    let mut arguments = vec!["--topic", TOPIC, "--group-id", &group, "--max-messages", "1000", "--verbose"];
    arguments.extend(["--reset-policy", "earliest", "--group-protocol", protocol]);
    let text = tools.call(VERIFIABLE_CONSUMER, &[&SERVER[..], &arguments].concat(), b"")?.succeeded()?.text();
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |name: &'static str| events.iter().filter(move |event| event["name"] == name);
    let mut read: Vec<_> =
        of("record_data").map(|event| (event["partition"].as_i64(), event["offset"].as_i64())).collect();
    ensure!(read.len() as i64 == RECORDS, "{} records", read.len());
    read.sort_unstable();
    read.dedup();
    ensure!(read.len() as i64 == RECORDS, "{} different records", read.len());
    let committed = of("offsets_committed").filter(|event| event["success"] == true).count();
    ensure!(committed > 0, "nothing was committed");
    Ok(format!("{RECORDS} records, each once; {committed} commits"))
}

/// The records of the coordinators' own topic, as Kafka's tool reads them: one line of JSON each.
fn coordinators_records(tools: &Tools<'_>, kind: &str, what: &str) -> Result<String> {
    let formatter = format!("org.apache.kafka.tools.consumer.{kind}");
    let mut arguments = vec!["--topic", "__consumer_offsets", "--from-beginning", "--formatter", &formatter];
    arguments.extend(["--timeout-ms", "5000"]);
    // The tool may need the time that it reads for to get ready at all.
    wait::until("the coordinators' records", PATIENCE, || {
        let text = tools.call(CONSUMER, &[&SERVER[..], &arguments].concat(), b"")?.text();
        // One after the other, with nothing between them.
        let records = serde_json::Deserializer::from_str(&text).into_iter().map_while(Result::ok);
        let records: Vec<Value> = records.collect();
        let of_group = |record: &&Value| record["key"]["data"]["group"] == "java-classic";
        let found: Vec<_> = records.iter().filter(of_group).map(Value::to_string).collect();
        let read = found.iter().any(|record| record.contains(what));
        ensure!(read, "no record of java-classic with {what} among {} records: {text}", records.len());
        Ok(Some(format!("{} records of java-classic", found.len())))
    })
}

fn says_anywhere(tools: &Tools<'_>, class: &str, arguments: &[&str], what: &str) -> Result<String> {
    let outcome = tools.call(class, &[&SERVER[..], arguments].concat(), b"")?.succeeded()?;
    let all = format!("{}{}", outcome.text(), outcome.err);
    ensure!(all.contains(what), "expected {what:?} in: {all}");
    Ok(what.to_owned())
}

fn protocols(tools: &Tools<'_>) -> Result<String> {
    let text = tools.call(ALL_GROUPS, &[&SERVER[..], &["--list"]].concat(), b"")?.succeeded()?.text();
    for (group, kind) in [("java-classic", "Classic"), ("java-consumer", "Consumer")] {
        let line =
            text.lines().find(|line| line.starts_with(group)).with_context(|| format!("no {group} in {text}"))?;
        ensure!(line.split_whitespace().nth(1) == Some(kind), "{line}");
    }
    Ok("Classic and Consumer".into())
}

/// The sum of the column `LAG`.
fn lag(tools: &Tools<'_>, group: &str, wanted: i64) -> Result<String> {
    let text = tools.call(GROUPS, &[&SERVER[..], &["--describe", "--group", group]].concat(), b"")?.succeeded()?.text();
    let rows = || text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let column = rows().find_map(|row| row.iter().position(|cell| *cell == "LAG")).context("a column LAG")?;
    let lags =
        rows().filter(|row| row.get(1) == Some(&TOPIC)).map(|row| Ok(row.get(column).context("a lag")?.parse()?));
    let lags: Vec<i64> = lags.collect::<Result<_>>()?;
    ensure!(lags.len() == 2 && lags.iter().sum::<i64>() == wanted, "lags of {lags:?}, not {wanted} in all: {text}");
    Ok(format!("{wanted} in all"))
}

fn console_group(tools: &Tools<'_>, wanted: i64) -> Result<String> {
    let mut arguments = SERVER.to_vec();
    // One more than there are: it ends by its timeout, and would have read on.
    let more = (wanted + 1).to_string();
    arguments.extend(["--topic", TOPIC, "--group", "java-classic", "--max-messages", &more, "--timeout-ms", "10000"]);
    let read = tools.call(CONSUMER, &arguments, b"")?.text().lines().count() as i64;
    ensure!(read == wanted, "{read} records, not {wanted}");
    lag(tools, "java-classic", 0)?;
    Ok(format!("{wanted} records, and no lag"))
}

/// Each broker has its replicas of both partitions, with bytes in them.
fn log_dirs(tools: &Tools<'_>, brokers: usize) -> Result<String> {
    let outcome = tools.call(LOG_DIRS, &[&SERVER[..], &["--describe", "--topic-list", TOPIC]].concat(), b"")?;
    let text = outcome.succeeded()?.text();
    let json = text.lines().find(|line| line.starts_with('{')).with_context(|| format!("no JSON in: {text}"))?;
    let described: Value = serde_json::from_str(json)?;
    let of = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let dirs = of(&described, "brokers").into_iter().flat_map(|broker| of(&broker, "logDirs"));
    let replicas: Vec<Value> = dirs.flat_map(|dir| of(&dir, "partitions")).collect();
    let sizes: Vec<_> = replicas.iter().filter_map(|replica| replica["size"].as_u64()).collect();
    ensure!(sizes.len() == 2 * brokers && !sizes.contains(&0), "sizes of {sizes:?}: {json}");
    Ok(format!("{} replicas, {} bytes", sizes.len(), sizes.iter().sum::<u64>()))
}

fn delete_records(tools: &Tools<'_>, cluster: &Cluster) -> Result<String> {
    let file = cluster.data_dir(0).with_file_name("delete-records.json");
    let wanted = r#"{"version": 1, "partitions": [{"topic": "java-groups", "partition": 0, "offset": 10}]}"#;
    fs::write(&file, wanted)?;
    let file = file.display().to_string();
    let arguments = [&SERVER[..], &["--offset-json-file", &file]].concat();
    tools.says(DELETE_RECORDS, &arguments, "partition: java-groups-0\tlow_watermark: 10")?;
    let earliest = [&SERVER[..], &["--topic-partitions", "java-groups:0", "--time", "earliest"]].concat();
    tools.says(OFFSETS, &earliest, "java-groups:0:10")
}

/// Configs of a topic, of a broker and of all brokers: set, seen, and unset.
fn configs(report: &mut Report, tools: &Tools<'_>) {
    let entities: [(&str, &[&str], &str); 3] = [
        ("a topic", &["--entity-type", "topics", "--entity-name", TOPIC], "retention.ms=86400000"),
        ("a broker", &["--entity-type", "brokers", "--entity-name", "1"], "message.max.bytes=2000000"),
        ("all brokers", &["--entity-type", "brokers", "--entity-default"], "message.max.bytes=3000000"),
    ];
    for (name, entity, config) in entities {
        let call = |arguments: &[&str]| -> Result<String> {
            let outcome = tools.call(CONFIGS, &[&SERVER[..], entity, arguments].concat(), b"")?.succeeded()?;
            Ok(outcome.text())
        };
        let key = config.split('=').next().unwrap_or_default();
        let outcome = call(&["--alter", "--add-config", config]).and_then(|_| {
            let described = call(&["--describe"])?;
            ensure!(described.contains(config), "described after it was set: {described}");
            call(&["--alter", "--delete-config", key])?;
            let described = call(&["--describe"])?;
            ensure!(!described.contains(config), "described after it was unset: {described}");
            Ok("set, described, unset".into())
        });
        report.check_result(format!("java: kafka-configs of {name}"), outcome);
    }
}
