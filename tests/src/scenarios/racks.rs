//! Brokers in racks of their own: a consumer that names one reads from the follower there, and goes on when it is killed.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context as _, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, Statistics, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

const TOPIC: &str = "racks";
const SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const RECORDS: usize = 100;

/// All of it.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut cluster = Cluster::new(&settings.software, 3, &[("replica.selector.class", SELECTOR)])?;
    for id in 0..3 {
        cluster.set_rack(id, &rack(id))?;
    }
    cluster.start_all()?;
    cluster.wait_for_brokers(3)?;
    let outcome = read(&mut cluster, report);
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if outcome.is_err() || report.has_failures() {
        println!("{}\nkept: {}", cluster.tails(), cluster.keep().display());
    }
    outcome
}

fn rack(id: usize) -> String {
    format!("rack-{id}")
}

fn read(cluster: &mut Cluster, report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 3, &[])?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    let leader = metadata.leader(TOPIC, 0)?;
    let follower = (leader + 1) % 3;
    let mut reader = Reader::new(&cluster.bootstrap(), &rack(follower))?;
    let mut written = 0;
    let mut round = |reader: &mut Reader, bootstrap: &str| -> Result<String> {
        write(bootstrap, written)?;
        written += RECORDS;
        reader.read_to(written)
    };
    report.check_result("all is read", round(&mut reader, &cluster.bootstrap()));
    report.check_result("it is read from the follower in the consumer's rack", reader.reads_from(follower));
    report.check_result("what comes later too", round(&mut reader, &cluster.bootstrap()));
    cluster.kill(follower)?;
    report.check_result("it goes on when that follower is killed", round(&mut reader, &cluster.bootstrap()));
    report.check_result("from the leader", reader.reads_from(leader));
    cluster.start(follower)?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    report.check_result("and when it is back", round(&mut reader, &cluster.bootstrap()));
    Ok(())
}

fn write(bootstrap: &str, from: usize) -> Result<()> {
    let producer: BaseProducer = config(bootstrap).set("enable.idempotence", "true").create()?;
    for number in from..from + RECORDS {
        let value = number.to_string();
        producer.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&value)).map_err(|(e, _)| e)?;
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config
}

/// The broker that the partition was fetched from last, by the client's own statistics.
#[derive(Clone)]
struct FetchedFrom(Arc<AtomicI32>);

impl ClientContext for FetchedFrom {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats(&self, statistics: Statistics) {
        if let Some(partition) = statistics.topics.get(TOPIC).and_then(|topic| topic.partitions.get(&0)) {
            self.0.store(partition.broker, Ordering::Relaxed);
        }
    }
}

impl ConsumerContext for FetchedFrom {}

/// Reads on from where it was; each record has its offset as its value.
struct Reader {
    consumer: BaseConsumer<FetchedFrom>,
    from: FetchedFrom,
    next: usize,
}

impl Reader {
    fn new(bootstrap: &str, rack: &str) -> Result<Self> {
        let from = FetchedFrom(Arc::new(AtomicI32::new(-1)));
        let mut config = config(bootstrap);
        config.set("group.id", "racks").set("client.rack", rack).set("statistics.interval.ms", "100");
        let consumer: BaseConsumer<_> = config.create_with_context(from.clone())?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
        consumer.assign(&list)?;
        Ok(Self { consumer, from, next: 0 })
    }

    fn read_to(&mut self, end: usize) -> Result<String> {
        let Self { consumer, next, .. } = self;
        wait::until("the records", PATIENCE, || {
            while let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let message = message?;
                let value = message.payload().map(String::from_utf8_lossy).context("a value")?;
                anyhow::ensure!(value == next.to_string(), "{value} where {next} should be");
                *next += 1;
            }
            Ok((*next == end).then(|| format!("{end} records, in order")))
        })
    }

    fn reads_from(&self, broker: usize) -> Result<String> {
        wait::until("the statistics", PATIENCE, || {
            // Statistics come while it is polled.
            anyhow::ensure!(self.consumer.poll(Duration::from_millis(50)).is_none(), "a record that nobody wrote");
            let from = self.from.0.load(Ordering::Relaxed);
            Ok((usize::try_from(from) == Ok(broker)).then(|| format!("broker {broker}")))
        })
    }
}
