//! Kafka's own command line tools, as its start scripts would call them.

use super::clients::{PATIENCE, numbered_lines};
use crate::harness::clients::{Outcome, run as run_program};
use crate::harness::cluster::Cluster;
use crate::harness::kafka::Kafka;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, ensure};

pub(super) const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
pub(super) const CONFIGS: &str = "kafka.admin.ConfigCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
pub(super) const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
pub(super) const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
pub(super) const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
pub(super) const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";

/// Kafka's tools, and whom they ask.
pub(super) struct Tools<'a> {
    pub(super) kafka: &'a Kafka,
    pub(super) bootstrap: String,
}

impl Tools<'_> {
    /// Runs a tool; `BOOTSTRAP` in an argument stands for the address.
    pub(super) fn call(&self, class: &str, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        let mut command = self.kafka.program(class, "256m")?;
        command.args(arguments.iter().map(|a| a.replace("BOOTSTRAP", &self.bootstrap)));
        run_program(command, input, PATIENCE)
    }

    /// The line of a tool's output that has this in it.
    pub(super) fn says(&self, class: &str, arguments: &[&str], what: &str) -> Result<String> {
        let text = self.call(class, arguments, b"")?.succeeded()?.says(what)?.text();
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_default();
        Ok(line.chars().take(120).collect())
    }
}

/// Every tool, each with a line of its own.
pub(super) fn run(report: &mut Report, cluster: &Cluster, kafka: &Kafka) {
    let tools = &Tools { kafka, bootstrap: cluster.bootstrap() };
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
    says("kafka-features describe", FEATURES, &["describe"], "metadata.version");
    let topic = ["--describe", "--all", "--entity-type", "topics", "--entity-name", "java-topic"];
    says("kafka-configs --describe of a topic", CONFIGS, &topic, "retention.ms=");
    let broker = ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "0"];
    says("kafka-configs --describe of a broker", CONFIGS, &broker, "min.insync.replicas=");
    let (status, replication) = (["describe", "--status"], ["describe", "--replication"]);
    for (name, arguments, what) in [
        ("kafka-metadata-quorum describe --status", status, "CurrentVoters:"),
        ("kafka-metadata-quorum describe --replication", replication, "Leader"),
    ] {
        let before = ["--bootstrap-server", "BOOTSTRAP"];
        report.check_result(format!("java: {name}"), tools.says(QUORUM, &[&before[..], &arguments].concat(), what));
    }
    report.check_result("java: kafka-features upgrade and downgrade", features(tools));
    report.check_result("java: kafka-broker-api-versions", api_versions(tools, cluster));
    let id = tools.says(CLUSTER, &["cluster-id", "--bootstrap-server", "BOOTSTRAP"], "Cluster ID: ");
    report.check_result("java: kafka-cluster cluster-id", id);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        report.check_result(format!("java: console producer and consumer, {codec}"), round_trip(tools, codec));
    }
    report.check_result(
        "java: none of the records is there twice",
        no_more(tools, "java-(none|gzip|snappy|lz4|zstd)", 5, 100),
    );
    report.check_result("java: console consumer prints keys and headers", keys(tools));
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
    report.check_result("java: kafka-get-offsets after it", no_more(tools, "java-perf", 1, 50_000));
    let delete = tools.call(TOPICS, &with(&["--delete", "--topic", "java-topic"]), b"").and_then(Outcome::succeeded);
    report.check_result("java: kafka-topics --delete", delete.map(|_| "no complaint".into()));
    report.check_result(
        "java: a deleted topic is gone",
        wait_until_deleted(tools, &with(&["--describe", "--topic", "java-topic"])),
    );
}

/// A producer that wants transactions.
pub(super) fn transaction(cluster: &Cluster, kafka: &Kafka) -> Result<Outcome> {
    let tools = Tools { kafka, bootstrap: cluster.bootstrap() };
    let perf = ["--topic", "java-transactions", "--num-records", "1", "--record-size", "10", "--throughput", "-1"];
    let more = ["--transactional-id", "java", "--producer-props", "bootstrap.servers=BOOTSTRAP"];
    tools.call(PRODUCER_PERF, &[&perf[..], &more].concat(), b"")
}

/// There is no newer version than the one that a new cluster begins with, and none goes back.
fn features(tools: &Tools<'_>) -> Result<String> {
    let call =
        |arguments: &[&str]| tools.call(FEATURES, &[&["--bootstrap-server", "BOOTSTRAP"], arguments].concat(), b"");
    let described = call(&["describe"])?.succeeded()?.text();
    let levels = described.lines().find(|line| line.contains("metadata.version")).context("the feature")?;
    // Kafka's own levels begin at 7, and the tool has no names for others.
    let finalized = levels.split("FinalizedVersionLevel: ").nth(1).unwrap_or_default();
    let level: Option<u16> = finalized.split_whitespace().find_map(|word| word.parse().ok());
    let level = level.with_context(|| format!("no level in {levels}"))?;
    let [as_it_is, above] = [format!("metadata.version={level}"), format!("metadata.version={}", level + 1)];
    call(&["upgrade", "--dry-run", "--feature", &as_it_is])?.succeeded()?.says("metadata.version")?;
    for arguments in [["upgrade", "--feature", &above], ["downgrade", "--feature", "metadata.version=1"]] {
        let refused = call(&arguments)?;
        let says = format!("{}{}", refused.text(), refused.err);
        ensure!(!refused.success && says.contains("Could not"), "{arguments:?}: {says}");
    }
    ensure!(call(&["describe"])?.succeeded()?.text() == described, "something was changed");
    Ok(format!("{level} stays"))
}

/// Every broker answers for itself: the tool prints the answer of each.
fn api_versions(tools: &Tools<'_>, cluster: &Cluster) -> Result<String> {
    let text = tools.call(API_VERSIONS, &["--bootstrap-server", "BOOTSTRAP"], b"")?.succeeded()?.text();
    for id in 0..cluster.size() {
        let address = format!("127.0.0.1:{} (id: {id} ", cluster.ports(id).kafka);
        ensure!(text.contains(&address), "nothing of broker {id} in: {text}");
    }
    let produce = text.lines().filter(|line| line.contains("Produce(0): 0 to 1")).count();
    ensure!(produce == cluster.size(), "{produce} brokers say which versions of Produce they serve: {text}");
    Ok(format!("{produce} brokers"))
}

/// A broker that has not heard of the deletion yet may be the one that is asked.
fn wait_until_deleted(tools: &Tools<'_>, describe: &[&str]) -> Result<String> {
    wait::until("the topic to be gone", PATIENCE, || {
        let outcome = tools.call(TOPICS, describe, b"")?;
        let all = format!("{}{}", outcome.text(), outcome.err);
        ensure!(!outcome.success && all.contains("does not exist"), "described after it was deleted: {all}");
        Ok(Some("does not exist".into()))
    })
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

/// The topics that this pattern names are so many, of one partition each, and each ends after so many records.
fn no_more(tools: &Tools<'_>, topics: &str, count: usize, records: u64) -> Result<String> {
    let text = tools.call(OFFSETS, &["--bootstrap-server", "BOOTSTRAP", "--topic", topics], b"")?.succeeded()?.text();
    let ends: Vec<u64> = text.lines().filter_map(|line| line.rsplit(':').next()?.parse().ok()).collect();
    ensure!(ends == vec![records; count], "the ends are {ends:?}, not {count} times {records}: {text}");
    Ok(format!("{count} times {records} records"))
}
