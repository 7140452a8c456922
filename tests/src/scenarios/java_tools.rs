//! Kafka's own command line tools, as its start scripts would call them.

use super::clients::{PATIENCE, numbered_lines};
use crate::harness::clients::{Outcome, run as run_program};
use crate::harness::cluster::Cluster;
use crate::harness::kafka::Kafka;
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";

struct Tools<'a> {
    kafka: &'a Kafka,
    bootstrap: String,
}

impl Tools<'_> {
    fn call(&self, class: &str, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        let mut command = self.kafka.program(class, "256m")?;
        command.args(arguments.iter().map(|a| a.replace("BOOTSTRAP", &self.bootstrap)));
        run_program(command, input, PATIENCE)
    }

    fn says(&self, class: &str, arguments: &[&str], what: &str) -> Result<String> {
        let text = self.call(class, arguments, b"")?.succeeded()?.says(what)?.text();
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_default();
        Ok(line.chars().take(120).collect())
    }
}

/// Every tool, each with a line of its own.
pub(super) fn run(report: &mut Report, cluster: &Cluster, kafka: &Kafka) {
    let tools = Tools { kafka, bootstrap: cluster.bootstrap() };
    let server = ["--bootstrap-server", "BOOTSTRAP"];
    let with = |rest: &[&'static str]| [&server[..], rest].concat();
    let mut says = |name: &str, class: &str, arguments: &[&'static str], what: &str| {
        report.check_result(format!("java: {name}"), tools.says(class, &with(arguments), what));
    };
    let create = ["--create", "--topic", "java-topic", "--partitions", "3", "--replication-factor", "3"];
    says("kafka-topics --create", TOPICS, &create, "Created topic java-topic");
    says("kafka-topics --list", TOPICS, &["--list"], "java-topic");
    says("kafka-topics --describe", TOPICS, &["--describe", "--topic", "java-topic"], "ReplicationFactor: 3");
    says("kafka-get-offsets of an empty topic", OFFSETS, &["--topic", "java-topic"], "java-topic:0:0");
    let topic = ["--describe", "--all", "--entity-type", "topics", "--entity-name", "java-topic"];
    says("kafka-configs --describe of a topic", CONFIGS, &topic, "retention.ms=");
    let broker = ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "0"];
    says("kafka-configs --describe of a broker", CONFIGS, &broker, "min.insync.replicas=");
    says("kafka-broker-api-versions", API_VERSIONS, &[], "Produce(0): 0 to 1");
    let id = tools.says(CLUSTER, &["cluster-id", "--bootstrap-server", "BOOTSTRAP"], "Cluster ID: ");
    report.check_result("java: kafka-cluster cluster-id", id);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        report.check_result(format!("java: console producer and consumer, {codec}"), round_trip(&tools, codec));
    }
    report.check_result("java: console consumer prints keys and headers", keys(&tools));
    let perf = [
        "--topic",
        "java-perf",
        "--num-records",
        "50000",
        "--record-size",
        "1000",
        "--throughput",
        "-1",
        "--producer-props",
        "bootstrap.servers=BOOTSTRAP",
        "acks=all",
    ];
    report.check_result("java: kafka-producer-perf-test", tools.says(PRODUCER_PERF, &perf, "50000 records sent"));
    report.check_result("java: kafka-get-offsets after it", offsets(&tools, "java-perf", 50_000));
    let mut says = |name: &str, arguments: &[&'static str], what: &str| {
        report.check_result(format!("java: {name}"), tools.says(TOPICS, &with(arguments), what));
    };
    says("kafka-topics --delete", &["--delete", "--topic", "java-topic"], "");
    let gone = tools.call(TOPICS, &with(&["--describe", "--topic", "java-topic"]), b"");
    report.check_result("java: a deleted topic is gone", gone.and_then(|o| does_not_exist(&o)));
}

fn does_not_exist(outcome: &Outcome) -> Result<String> {
    let all = format!("{}{}", outcome.text(), outcome.err);
    if outcome.success || !all.contains("does not exist") {
        bail!("described after it was deleted: {all}");
    }
    Ok("does not exist".into())
}

fn round_trip(tools: &Tools<'_>, codec: &str) -> Result<String> {
    let topic = format!("java-{codec}");
    let lines = numbered_lines(100);
    let producer = ["--bootstrap-server", "BOOTSTRAP", "--topic", &topic, "--compression-codec", codec];
    tools.call(PRODUCER, &producer, lines.as_bytes())?.succeeded().context("produce")?;
    let consumer = [
        "--bootstrap-server",
        "BOOTSTRAP",
        "--topic",
        &topic,
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "100",
        "--timeout-ms",
        "30000",
    ];
    let read = tools.call(CONSUMER, &consumer, b"")?.succeeded().context("consume")?;
    ensure!(read.out == lines.as_bytes(), "{} bytes written, {} read", lines.len(), read.out.len());
    Ok("100 lines there and back".into())
}

fn keys(tools: &Tools<'_>) -> Result<String> {
    let producer = [
        "--bootstrap-server",
        "BOOTSTRAP",
        "--topic",
        "java-keys",
        "--property",
        "parse.key=true",
        "--property",
        "parse.headers=true",
    ];
    tools.call(PRODUCER, &producer, b"h1:v1,h2:v2\tkey\tvalue\n")?.succeeded().context("produce")?;
    let consumer = [
        "--bootstrap-server",
        "BOOTSTRAP",
        "--topic",
        "java-keys",
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "1",
        "--timeout-ms",
        "30000",
        "--property",
        "print.key=true",
        "--property",
        "print.headers=true",
        "--property",
        "print.offset=true",
    ];
    let read = tools.call(CONSUMER, &consumer, b"")?.succeeded()?.says("Offset:0\th1:v1,h2:v2\tkey\tvalue")?;
    Ok(read.text().trim().to_owned())
}

fn offsets(tools: &Tools<'_>, topic: &str, wanted: u64) -> Result<String> {
    let text = tools.call(OFFSETS, &["--bootstrap-server", "BOOTSTRAP", "--topic", topic], b"")?.succeeded()?.text();
    let ends = text.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok());
    let total: u64 = ends.sum();
    ensure!(total == wanted, "the ends add up to {total}, not {wanted}: {text}");
    Ok(format!("{total} records"))
}
