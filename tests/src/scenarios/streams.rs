//! Kafka Streams: words are counted by two instances, one of which is killed. The counts live in a changelog, from which
//! the other one takes them over; so they are exact only when nothing of the changelog, of the repartition topic or of
//! the committed offsets was lost.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::kafka::Kafka;
use crate::harness::metadata::Metadata;
use crate::harness::process::Process;
use crate::harness::{repository, wait};
use crate::load::read_each;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

const PARTITIONS: i32 = 2;
const WORDS: u64 = 10;
const LINES: u64 = 300;
const GROUP: &str = "word-count";
/// Until the group has noticed that a member is gone, and the other one has restored its counts.
const TAKES_OVER: Duration = Duration::from_mins(2);

/// Two instances count, one is killed, and the other one counts on.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let kafka = match Kafka::fetch() {
        Ok(kafka) => kafka,
        Err(e) => {
            report.could_not_run(format!("Kafka Streams: {e:#}"));
            return Ok(());
        }
    };
    let mut cluster = Cluster::of_three(&settings.software, &[("group.initial.rebalance.delay.ms", "500")])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    for topic in ["lines", "counts"] {
        metadata.create_topic(topic, PARTITIONS, 3, &[])?;
    }
    let outcome = count(report, &cluster, &kafka);
    report.check_result("the words are counted to the end", outcome.map(|()| "yes".into()));
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

fn count(report: &mut Report, cluster: &Cluster, kafka: &Kafka) -> Result<()> {
    let first = start(cluster, kafka, "first")?;
    let _second = start(cluster, kafka, "second")?;
    write(cluster, 0..LINES)?;
    report.check_result("two instances count every word as often as it was written", counted(cluster, LINES, PATIENCE));
    // What is committed is not counted again.
    wait::until("all lines to be committed", PATIENCE, || Ok((committed(cluster)? == LINES as i64).then_some(())))?;
    first.kill()?;
    write(cluster, LINES..2 * LINES)?;
    let outcome = counted(cluster, 2 * LINES, TAKES_OVER);
    report.check_result("after kill -9 of one the other one goes on with its counts", outcome);
    Ok(())
}

fn start(cluster: &Cluster, kafka: &Kafka, name: &str) -> Result<Process> {
    let home = cluster.data_dir(0).with_file_name(name);
    let source = repository().join("tests/clients/streams/WordCount.java");
    let mut command = kafka.program(&source.display().to_string(), "256m")?;
    command.arg(&home).arg(cluster.bootstrap());
    Process::start(&format!("the {name} instance"), command, &home.with_extension("log"))
}

/// Lines of two words each; every word is as frequent as every other one.
fn write(cluster: &Cluster, lines: std::ops::Range<u64>) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).set("enable.idempotence", "true").create()?;
    for n in lines {
        let line = format!("word-{} word-{}", n % WORDS, (n + 1) % WORDS);
        let record = BaseRecord::<(), _>::to("lines").partition((n % PARTITIONS as u64) as i32).payload(&line);
        producer.send(record).map_err(|(e, _)| e)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

/// Waits until the newest count of each word is what so many lines make it.
fn counted(cluster: &Cluster, lines: u64, patience: Duration) -> Result<String> {
    let each = 2 * lines / WORDS;
    let wanted: BTreeMap<_, _> = (0..WORDS).map(|n| (format!("word-{n}"), each.to_string())).collect();
    wait::until("the counts", patience, || {
        let mut found = BTreeMap::new();
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        read_each(&cluster.bootstrap(), "counts", PARTITIONS as usize, PATIENCE, |message| {
            found.insert(text(message.key()), text(message.payload()));
        })?;
        ensure!(found == wanted, "counted {found:?}, not {each} of each");
        Ok(Some(format!("{WORDS} words, {each} of each")))
    })
}

/// The sum of the offsets that the application has committed for its lines.
fn committed(cluster: &Cluster) -> Result<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap()).set("group.id", GROUP).set("log_level", "0");
    let consumer: BaseConsumer = config.create()?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range("lines", 0, PARTITIONS - 1);
    let found = consumer.committed_offsets(asked, Duration::from_secs(10)).context("committed offsets")?;
    let offset = |offset: Offset| if let Offset::Offset(n) = offset { n } else { 0 };
    Ok(found.elements().iter().map(|element| offset(element.offset())).sum())
}
