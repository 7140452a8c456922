//! A compacted topic: of each key the last record stays, on every replica, over restarts and failovers; readers and
//! followers get over the gaps, however wide.

use super::Settings;
use crate::harness::clients;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TOPIC: &str = "compacted";
const SEGMENT_BYTES: &str = "100000";
/// Records that make the gap.
const GAP: usize = 300_000;

/// How much there is to clean.
struct Size {
    records: usize,
    keys: usize,
}

/// All of it.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let size = if settings.full {
        Size { records: 100_000_000, keys: 1_000_000 }
    } else {
        Size { records: 100_000, keys: 1_000 }
    };
    let properties =
        [("log.segment.bytes", SEGMENT_BYTES), ("log.cleaner.backoff.ms", "200"), ("replica.lag.time.max.ms", "2000")];
    let properties = if settings.full { &properties[1..] } else { &properties[..] };
    let mut cluster = Cluster::of_three(&settings.software, properties)?;
    let outcome = compact(&mut cluster, &size, report);
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if outcome.is_err() || report.has_failures() {
        println!("{}\nkept: {}", cluster.tails(), cluster.keep().display());
    }
    outcome
}

fn compact(cluster: &mut Cluster, size: &Size, report: &mut Report) -> Result<()> {
    let client = Client::new(&cluster.bootstrap())?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", "500")];
    metadata.create_topic(TOPIC, 1, 3, &configs)?;
    report.check("a record without a key is refused", client.is_refused_without_key()?, "INVALID_RECORD");

    let mut expected = BTreeMap::new();
    expected.insert("before".to_owned(), "0".to_owned());
    client.write([("before".to_owned(), Some("0".to_owned()))].into_iter())?;
    client.write((0..GAP).map(|n| ("gap".to_owned(), Some(n.to_string()))))?;
    expected.insert("gap".to_owned(), (GAP - 1).to_string());
    // So that the gap's last record is not in the segment that is appended to.
    let begin = Instant::now();
    let value = |n: usize| format!("{n} {}", "x".repeat(60));
    let records = (0..size.records).map(|n| (format!("key-{}", n * 7 % size.keys), value(n)));
    client.write(records.clone().map(|(key, value)| (key, Some(value))))?;
    expected.extend(records.skip(size.records.saturating_sub(size.keys * 2)));
    let wrote = begin.elapsed();
    report.check_result("a reader meanwhile sees the last value of every key", {
        client.read().and_then(|(found, _)| same(&found, &expected))
    });
    // The newest batches are read from memory as they were written, until the broker is another one.
    cluster.kill_all()?;
    cluster.start_all()?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    let cleaned = wait::until("the cleaner", PATIENCE, || {
        let (found, count) = Client::new(&cluster.bootstrap())?.read()?;
        same(&found, &expected)?;
        Ok((count < size.keys * 3 + 5000).then_some(count))
    });
    let written = size.records + GAP;
    report.check_result("the log is cleaned", {
        cleaned.map(|left| format!("{left} of {written} records are left, {wrote:.0?} after they began to be written"))
    });

    client.write([("key-0".to_owned(), None)].into_iter())?;
    expected.remove("key-0");
    client.write((0..3000).map(|n| ("filler".to_owned(), Some(value(n)))))?;
    expected.insert("filler".to_owned(), value(2999));
    report.check_result("a tombstone and its key leave", {
        wait::until("the tombstone to leave", PATIENCE, || {
            // What is cleaned twice, with that long between, is without it.
            client.write((0..2000).map(|n| ("filler".to_owned(), Some(value(n)))))?;
            let (_, mentions) = client.mentions("key-0")?;
            Ok((mentions == 0).then(|| "nothing is left".to_owned()))
        })
    });
    expected.insert("filler".to_owned(), value(1999));

    let leader = metadata.wait_for_isr(TOPIC, 1, 3).and_then(|()| leader(&client))?;
    cluster.kill(leader)?;
    client.write([("failover".to_owned(), Some("yes".to_owned()))].into_iter())?;
    expected.insert("failover".to_owned(), "yes".to_owned());
    report.check_result("another leader has the same", agrees(&cluster.bootstrap(), &expected));
    cluster.start(leader)?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    report.check("the one that was away is in sync again", true, "yes");
    cluster.kill_all()?;
    cluster.start_all()?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    report.check_result("a restart of all leaves the same", agrees(&cluster.bootstrap(), &expected));
    let python = clients::python()?;
    let mut script = clients::script(&python, "compacted.py")?;
    script.args([cluster.bootstrap(), TOPIC.to_owned(), client.end()?.to_string()]);
    let said = clients::run(script, b"", PATIENCE * 4)?.succeeded()?.text();
    for (name, line) in ["kafka-python", "confluent-kafka"].iter().zip(said.lines()) {
        let found: BTreeMap<String, Option<String>> = serde_json::from_str(line).context("the script's output")?;
        let found = found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        report.check_result(format!("{name} gets over the gap"), same(&found, &expected));
    }
    Ok(())
}

fn leader(client: &Client) -> Result<usize> {
    let metadata = client.consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(5))?;
    let topic = metadata.topics().first().context("the topic")?;
    Ok(usize::try_from(topic.partitions().first().context("the partition")?.leader())?)
}

/// Reads all, with a client that knows of nothing that was before; it may come before the leader, and is then another.
fn agrees(bootstrap: &str, expected: &BTreeMap<String, String>) -> Result<String> {
    let mut last = String::new();
    let found = wait::until("an answer of the leader", PATIENCE, || {
        let read = Client::new(bootstrap)?.read();
        Ok(read.inspect_err(|error| last = format!("{error:#}")).ok())
    });
    same(&found.with_context(|| last)?.0, expected)
}

fn same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> Result<String> {
    for (key, value) in expected {
        match found.get(key) {
            Some(other) if other == value => {}
            other => bail!("the last value of {key} is {value:?}, and {other:?} was read"),
        }
    }
    ensure!(found.len() == expected.len(), "{} keys were read, and there are {}", found.len(), expected.len());
    Ok(format!("{} keys", found.len()))
}

struct Client {
    consumer: BaseConsumer,
    producer: BaseProducer,
}

impl Client {
    fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("log_level", "0").set_log_level(RDKafkaLogLevel::Emerg);
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        let mut producer = config.clone();
        producer.set("enable.idempotence", "true").set("linger.ms", "5").set("batch.num.messages", "300");
        Ok(Self { consumer: config.set("group.id", "none").create()?, producer: producer.create()? })
    }

    fn write(&self, records: impl Iterator<Item = (String, Option<String>)>) -> Result<()> {
        for (key, value) in records {
            let mut record = BaseRecord::to(TOPIC).key(&key).partition(0);
            record.payload = value.as_ref();
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        self.producer.poll(Duration::from_millis(10));
                        record = again;
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
        }
        self.producer.flush(PATIENCE * 4).context("flush")
    }

    fn is_refused_without_key(&self) -> Result<bool> {
        let before = self.end()?;
        self.producer.send(BaseRecord::<(), _>::to(TOPIC).payload("x").partition(0)).map_err(|(e, _)| e)?;
        self.producer.flush(PATIENCE)?;
        Ok(self.end()? == before)
    }

    fn end(&self) -> Result<i64> {
        // It may ask whom it knew as the leader.
        wait::until("the end of the log", PATIENCE, || {
            Ok(Some(self.consumer.fetch_watermarks(TOPIC, 0, Duration::from_secs(5))?.1))
        })
    }

    /// The last value of each key that has one, and how many records there are.
    fn read(&self) -> Result<(BTreeMap<String, String>, usize)> {
        let mut last = BTreeMap::new();
        let count = self.each(|key, value| {
            match value {
                Some(value) => last.insert(key, value),
                None => last.remove(&key),
            };
        })?;
        Ok((last, count))
    }

    /// How many records there are, and how many with that key.
    fn mentions(&self, key: &str) -> Result<(usize, usize)> {
        let mut mentions = 0;
        let count = self.each(|found, _| mentions += usize::from(found == key))?;
        Ok((count, mentions))
    }

    /// Reads from the beginning to where the log ends when it is asked.
    fn each(&self, mut visit: impl FnMut(String, Option<String>)) -> Result<usize> {
        let end = self.end()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
        self.consumer.assign(&list)?;
        let deadline = Instant::now() + PATIENCE * 2;
        let (mut count, mut next) = (0, 0);
        while next < end {
            ensure!(Instant::now() < deadline, "read to {next} of {end}");
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let message = match message {
                Ok(message) => message,
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) => continue,
                Err(error) => return Err(error.into()),
            };
            ensure!(message.offset() >= next, "offset {} after {next}", message.offset());
            next = message.offset() + 1;
            let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
            visit(text(message.key()).context("a record without a key")?, text(message.payload()));
            count += 1;
        }
        self.consumer.unassign()?;
        Ok(count)
    }
}
