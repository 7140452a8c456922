//! Records leave: by size, by age, and because somebody asks; what is gone stays gone over a restart, and a follower that
//! was away for all of it comes back. And what the disk takes through a whole day.

use super::{Settings, a_day};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Small enough that a few records fill one.
const SEGMENT_BYTES: &str = "20000";
const RECORD_BYTES: usize = 1000;
const AN_HOUR: Duration = Duration::from_hours(1);
/// The follower that is away.
const AWAY: usize = 2;

/// All of it.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let properties = [
        ("log.segment.bytes", SEGMENT_BYTES),
        ("log.retention.check.interval.ms", "200"),
        ("replica.lag.time.max.ms", "2000"),
    ];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    let outcome = remove(&mut cluster, report);
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if outcome.is_err() || report.has_failures() {
        println!("{}\nkept: {}", cluster.tails(), cluster.keep().display());
    }
    outcome?;
    drop(cluster);
    a_day::run(settings, report)
}

fn remove(cluster: &mut Cluster, report: &mut Report) -> Result<()> {
    let client = Client::new(&cluster.bootstrap())?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let ages = ("retention.ms", "3600000");
    metadata.create_topic("by-size", 1, 3, &[("retention.bytes", "60000"), ("retention.ms", "-1")])?;
    metadata.create_topic("by-age", 1, 3, &[ages])?;
    metadata.create_topic("asked", 1, 3, &[ages])?;

    client.write("asked", 100, Duration::ZERO)?;
    report.check_result("a follower that is away is not waited for", {
        cluster.kill(AWAY)?;
        ["by-size", "by-age", "asked"].iter().try_for_each(|topic| client.write(topic, 1, Duration::ZERO))?;
        Ok("written to".into())
    });

    client.write("by-size", 300, Duration::ZERO)?;
    let by_size = wait::until("retention by size", PATIENCE, || {
        let (start, end) = client.offsets("by-size")?;
        ensure!(end == 301, "it ends at {end}");
        // What is left has no more than a segment above the limit, and no less than the limit allows.
        Ok((start > 200).then_some(start))
    })?;
    report.check("retention.bytes keeps what it says", by_size <= 260, format!("{by_size} of 301 are gone"));

    client.write("by-age", 100, AN_HOUR * 2)?;
    client.write("by-age", 60, Duration::ZERO)?;
    client.write("by-age", 60, Duration::ZERO)?;
    report.check_result("a segment stays while one of its records is young, and those before it go", {
        // The very first record is young, so that its segment stays, and all others after it.
        let (start, end) = client.offsets("by-age")?;
        ensure!((start, end) == (0, 221), "{start} to {end}");
        client.delete("by-age", 20)?;
        let start = wait::until("retention by age", PATIENCE, || {
            let (start, _) = client.offsets("by-age")?;
            Ok((start > 60).then_some(start))
        })?;
        ensure!(start <= 101, "young records are gone: it starts at {start}");
        Ok(format!("it starts at {start}"))
    });

    report.check("DeleteRecords answers with the new start", client.delete("asked", 50)? == 50, "50");
    report.check("at or below the start it succeeds", client.delete("asked", 10)? == 50, "50");
    let beyond = client.delete("asked", 1000);
    let refused = beyond.as_ref().is_err_and(|e| format!("{e:#}").contains("OffsetOutOfRange"));
    report.check("beyond the high watermark it is refused", refused, "OFFSET_OUT_OF_RANGE");
    report.check("readers begin at the start", client.first("asked")? == 50, "50");
    report.check("-1 stands for the high watermark", client.delete("asked", -1)? == 101, "101");
    client.write("asked", 5, Duration::ZERO)?;
    report.check("it goes on after everything was removed", client.first("asked")? == 101, "101");

    cluster.start(AWAY)?;
    for topic in ["by-size", "by-age", "asked"] {
        metadata.wait_for_isr(topic, 1, 3)?;
    }
    report.check("a follower that lacks what is gone comes back", true, "in sync in every topic");
    let before = client.all_offsets()?;
    for id in 0..AWAY {
        cluster.kill(id)?;
    }
    // Nothing more is removed meanwhile: the others are down until all has a leader again.
    for id in 0..AWAY {
        cluster.start(id)?;
    }
    for topic in ["by-size", "by-age", "asked"] {
        metadata.wait_for_isr(topic, 1, 3)?;
    }
    cluster.kill_all()?;
    cluster.start_all()?;
    for topic in ["by-size", "by-age", "asked"] {
        metadata.wait_for_isr(topic, 1, 3)?;
    }
    let after = wait::until("offsets after the restart", PATIENCE, || client.all_offsets().map(Some))?;
    report.check("what is gone stays gone over restarts", before == after, format!("{before:?}, {after:?}"));
    client.write("asked", 5, Duration::ZERO)?;
    report.check("and writing goes on", client.offsets("asked")? == (101, 111), "101 to 111");
    Ok(())
}

struct Client {
    consumer: BaseConsumer,
    producer: BaseProducer,
    admin: AdminClient<DefaultClientContext>,
}

impl Client {
    fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("log_level", "0").set("auto.offset.reset", "earliest");
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        let admin = config.create()?;
        let producer = config.clone().set("enable.idempotence", "true").create()?;
        Ok(Self { consumer: config.set("group.id", "none").create()?, producer, admin })
    }

    /// Records one after the other, each a batch, with timestamps so long ago.
    fn write(&self, topic: &str, count: usize, ago: Duration) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let at = now.saturating_sub(ago).as_millis() as i64;
        for n in 0..count {
            let value: Vec<u8> = (0..RECORD_BYTES).map(|i| (i * 31 + n * 7) as u8).collect();
            let record = BaseRecord::<(), _>::to(topic).payload(&value).partition(0).timestamp(at);
            self.producer.send(record).map_err(|(e, _)| e)?;
            if n % 10 == 9 {
                self.producer.flush(PATIENCE)?;
            }
        }
        self.producer.flush(PATIENCE).context("flush")
    }

    fn offsets(&self, topic: &str) -> Result<(i64, i64)> {
        Ok(self.consumer.fetch_watermarks(topic, 0, Duration::from_secs(5))?)
    }

    fn all_offsets(&self) -> Result<Vec<(i64, i64)>> {
        ["by-size", "by-age", "asked"].iter().map(|topic| self.offsets(topic)).collect()
    }

    /// DeleteRecords; the new low watermark.
    fn delete(&self, topic: &str, before: i64) -> Result<i64> {
        let mut list = TopicPartitionList::new();
        let offset = if before < 0 { Offset::End } else { Offset::Offset(before) };
        list.add_partition_offset(topic, 0, offset)?;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let done = futures::executor::block_on(self.admin.delete_records(&list, &options))?;
        let element = done.find_partition(topic, 0).context("the partition in the answer")?;
        element.error()?;
        match element.offset() {
            Offset::Offset(start) => Ok(start),
            other => bail!("{other:?} is no low watermark"),
        }
    }

    /// The first record that a reader gets who begins at the beginning.
    fn first(&self, topic: &str) -> Result<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning)?;
        self.consumer.assign(&list)?;
        let found = wait::until("a record", PATIENCE, || {
            Ok(self.consumer.poll(Duration::from_millis(100)).transpose()?.map(|message| message.offset()))
        });
        self.consumer.unassign()?;
        found
    }
}
