//! What it costs a leader to bring back a follower that lacks something of many partitions.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};

const TOPIC: &str = "catching-up";
const PARTITIONS: usize = 400;
/// One batch, and nearly all that is read at a time. All of them are many times what leaders keep in memory.
const RECORD_BYTES: usize = 900_000;
const AWAY: usize = 2;
/// How much more than ever before a leader may have in memory while the follower catches up. It should be the credit of
/// one connection and a few reads.
const GROWTH_BYTES: u64 = 64_000_000;

/// Writes to every partition while one broker is away, and looks at the others while it comes back.
pub(super) fn check(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    cluster.kill(AWAY)?;
    wait::until("leaders that are there", PATIENCE, || {
        let there = |leader: Option<i32>| leader.is_some_and(|id| id != AWAY as i32);
        Ok(metadata.partitions(TOPIC)?.iter().all(|p| there(p.leader)).then_some(()))
    })?;
    write(&cluster.bootstrap())?;
    let leaders = || (0..AWAY).map(|id| cluster.usage(id)).collect::<Result<Vec<_>>>();
    let before = leaders()?;
    let started = cluster.start(AWAY)?;
    metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    let took = started.elapsed();
    cluster.check_alive()?;
    for (id, (before, after)) in before.iter().zip((0..AWAY).map(|id| cluster.usage(id))).enumerate() {
        let growth = after?.peak_rss_bytes.saturating_sub(before.peak_rss_bytes);
        let megabytes = (PARTITIONS * RECORD_BYTES) as f64 / 1e6;
        let seen = format!(
            "{:.1} MB more than {:.1}; {megabytes} MB of {PARTITIONS} partitions in {} ms",
            growth as f64 / 1e6,
            before.peak_rss_bytes as f64 / 1e6,
            took.as_millis()
        );
        report.check(
            format!("leader {id} takes at most 64 MB more to bring a follower back"),
            growth <= GROWTH_BYTES,
            seen,
        );
    }
    Ok(())
}

/// One record to each partition, of bytes that are not the same everywhere.
fn write(bootstrap: &str) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.kbytes", "16384")
        .create()?;
    let deadline = Instant::now() + PATIENCE * 2;
    for partition in 0..PARTITIONS {
        let value: Vec<u8> = (0..RECORD_BYTES).map(|n| (n.wrapping_mul(31) >> 8) as u8 ^ partition as u8).collect();
        let mut record = BaseRecord::<(), _>::to(TOPIC).payload(&value).partition(partition as i32);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => record = refused,
                Err((error, _)) => return Err(error).context("a record was not taken"),
            }
            ensure!(Instant::now() < deadline, "partition {partition} could not be written to");
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(deadline.saturating_duration_since(Instant::now()))?;
    for partition in 0..PARTITIONS as i32 {
        let (_, end) = producer.client().fetch_watermarks(TOPIC, partition, PATIENCE)?;
        ensure!(end == 1, "partition {partition} ends at {end}");
    }
    Ok(())
}
