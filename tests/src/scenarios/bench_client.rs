//! The program whose work is measured: one librdkafka producer or consumer, the same for every broker. Only `linger.ms`
//! differs from its defaults, and only where a delay is measured, as the default of 5 ms would be most of it.

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a saturated producer got through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    /// Acknowledged records a second, once it had warmed up.
    pub(super) records_per_second: f64,
    /// All acknowledged records, those of the warm-up too.
    pub(super) records: u64,
}

#[derive(Clone)]
struct Acks {
    begin: Instant,
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    delays_ms: Arc<Mutex<Vec<f64>>>,
    /// Who waits for each single record, if anybody does.
    waiting: Option<Sender<()>>,
}

impl ClientContext for Acks {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Acks {
    /// When the record was due, in ns after `begin`; 0 where that does not matter.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        match result {
            Ok(_) => self.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
        };
        if due > 0 {
            let delay_ms = (self.begin.elapsed().as_nanos() as f64 - due as f64) / 1e6;
            self.delays_ms.lock().unwrap_or_else(PoisonError::into_inner).push(delay_ms);
        }
        if let Some(waiting) = &self.waiting {
            // Whoever waited may have given up.
            let _ = waiting.send(());
        }
    }
}

fn producer(bootstrap: &str, linger_ms: Option<&str>, waiting: Option<Sender<()>>) -> Result<ThreadedProducer<Acks>> {
    let acks = Acks {
        begin: Instant::now(),
        acknowledged: Arc::default(),
        failed: Arc::default(),
        delays_ms: Arc::default(),
        waiting,
    };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("acks", "all");
    if let Some(linger) = linger_ms {
        config.set("linger.ms", linger);
    }
    Ok(config.create_with_context(acks)?)
}

/// As fast as the client's queue takes them, for a fifth of `length` and then for `length`.
pub(super) fn throughput(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    size: usize,
    length: Duration,
) -> Result<Throughput> {
    let producer = producer(bootstrap, None, None)?;
    let acks = producer.context().clone();
    let value = payload(size);
    let (begin, mut warm, mut next) = (Instant::now(), None, 0);
    let end = loop {
        let now = Instant::now();
        if warm.is_none() && now - begin >= length / 5 {
            warm = Some((now, acks.acknowledged.load(Ordering::Relaxed)));
        }
        if let Some((since, before)) = warm
            && now - since >= length
        {
            break (acks.acknowledged.load(Ordering::Relaxed) - before) as f64 / (now - since).as_secs_f64();
        }
        for _ in 0..256 {
            next = (next + 1) % partitions;
            let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, 0).partition(next).payload(&value);
            match producer.send(record) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    thread::sleep(Duration::from_millis(1));
                    break;
                }
                Err((e, _)) => bail!("send: {e}"),
            }
        }
    };
    producer.flush(Duration::from_mins(2))?;
    none_failed(&acks)?;
    Ok(Throughput { records_per_second: end, records: acks.acknowledged.load(Ordering::Relaxed) })
}

/// One record after the other, each sent when the one before is acknowledged: every delay, in ms.
pub(super) fn one_at_a_time(bootstrap: &str, topic: &str, size: usize, length: Duration) -> Result<Vec<f64>> {
    const WARM_UP: usize = 50;
    let (tell, delivered) = channel();
    let producer = producer(bootstrap, Some("0"), Some(tell))?;
    let acks = producer.context().clone();
    let value = payload(size);
    let mut sent = 0;
    while acks.begin.elapsed() < length || sent < WARM_UP * 2 {
        let now = acks.begin.elapsed().as_nanos() as usize;
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, now).partition(0).payload(&value);
        producer.send(record).map_err(|(e, _)| e)?;
        delivered.recv_timeout(Duration::from_mins(1)).context("one record to be acknowledged")?;
        sent += 1;
    }
    none_failed(&acks)?;
    let delays = acks.delays_ms.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(delays[WARM_UP.min(delays.len())..].to_vec())
}

/// At a steady rate, each delay counted from when the record was due, in ms: a client that falls behind does not
/// hide it.
pub(super) fn paced(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    size: usize,
    rate: u32,
    length: Duration,
) -> Result<Vec<f64>> {
    let producer = producer(bootstrap, Some("0"), None)?;
    let acks = producer.context().clone();
    let value = payload(size);
    let step = Duration::from_secs(1) / rate;
    let count = (length.as_secs_f64() * f64::from(rate)) as u32;
    for i in 0..count {
        // Never 0, which means that nobody asks.
        let due = step * (i + 1);
        thread::sleep(due.saturating_sub(acks.begin.elapsed()));
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, due.as_nanos() as usize);
        producer.send(record.partition(i as i32 % partitions).payload(&value)).map_err(|(e, _)| e)?;
    }
    producer.flush(Duration::from_mins(1))?;
    none_failed(&acks)?;
    let delays = acks.delays_ms.lock().unwrap_or_else(PoisonError::into_inner);
    // The first second is the client's own start: metadata, connections, a producer id.
    Ok(delays[(rate as usize).min(delays.len() / 2)..].to_vec())
}

/// Reads a topic from its beginning for `length`, or to the end of what is there: bytes of values a second.
pub(super) fn consume(bootstrap: &str, topic: &str, partitions: i32, length: Duration) -> Result<f64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "bench").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&wanted)?;
    let (mut bytes, mut ended) = (0, 0);
    // Counted from the first record on: what comes before is the client's own start.
    let mut begin = None;
    let mut last = Instant::now();
    while ended < partitions && begin.is_none_or(|begin: Instant| begin.elapsed() < length) {
        match consumer.poll(Duration::from_secs(30)).context("a record, or the end of a partition")? {
            Ok(message) => {
                last = Instant::now();
                begin.get_or_insert(last);
                bytes += message.payload_len();
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(e) => bail!("consume: {e}"),
        }
    }
    let took = last - begin.context("nothing was read")?;
    Ok(bytes as f64 / took.as_secs_f64())
}

fn none_failed(acks: &Acks) -> Result<()> {
    let failed = acks.failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} records failed");
    Ok(())
}

/// Bytes that no compression would shorten.
fn payload(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::Rng::fill(&mut rand::rng(), &mut bytes[..]);
    bytes
}
