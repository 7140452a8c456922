//! A producer that speaks the protocol itself, without the waits and retries of a client library: what it measures is
//! the broker's.

use super::raw::Raw;
use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The newest version without tagged fields.
const PRODUCE: i16 = 8;
/// Between two tries of a first append.
const PAUSE: Duration = Duration::from_millis(2);

/// When a batch of which nothing else is said was written, in milliseconds since 1970.
const LONG_AGO_MS: i64 = 1_700_000_000_000;

/// One connection to the broker that leads whatever is appended to. With acks=all if nothing else is said, and not
/// idempotent.
#[derive(Debug)]
pub struct Appender {
    topic: TopicName,
    acks: i16,
    connection: Raw,
}

impl Appender {
    /// Connects to a broker's port; an answer may take as long as `patience`.
    pub fn connect(port: u16, topic: &str, patience: Duration) -> Result<Self> {
        let topic = TopicName(StrBytes::from_string(topic.to_owned()));
        Ok(Self { topic, acks: -1, connection: Raw::connect(port, patience)? })
    }

    /// The same with other acks.
    #[must_use]
    pub fn with_acks(self, acks: i16) -> Self {
        Self { acks, ..self }
    }

    /// The same connection once more, so that one thread sends and another one reads the answers.
    pub fn share(&self) -> Result<Self> {
        Ok(Self { topic: self.topic.clone(), connection: self.connection.share()?, acks: self.acks })
    }

    /// Sends one batch to each of these partitions in one request, and does not wait for the answer.
    pub fn send(&mut self, partitions: impl IntoIterator<Item = i32>, batch: &Bytes) -> Result<()> {
        let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(self.topic.clone())
            .with_partition_data(partitions.into_iter().map(data).collect());
        let request =
            ProduceRequest::default().with_acks(self.acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        self.connection.send(ApiKey::Produce, PRODUCE, &RequestKind::Produce(request))
    }

    /// Reads the answer to the oldest request that has none yet: the offset for each of its partitions, or the first
    /// error.
    pub fn next_answer(&mut self) -> Result<Result<Vec<i64>, ResponseError>> {
        let answer: ProduceResponse = self.connection.answer(ApiKey::Produce, PRODUCE)?;
        let partitions = || answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        ensure!(partitions().next().is_some(), "an answer without a partition");
        let error = partitions().find_map(|partition| ResponseError::try_from_code(partition.error_code));
        Ok(error.map_or_else(|| Ok(partitions().map(|partition| partition.base_offset).collect()), Err))
    }

    /// Sends one batch to each of these partitions, and waits until all are acknowledged.
    pub fn append(&mut self, partitions: impl IntoIterator<Item = i32>, batch: &Bytes) -> Result<Vec<i64>> {
        self.send(partitions, batch)?;
        self.next_answer()?.map_err(|error| anyhow::anyhow!("an append is refused: {error:?}"))
    }
}

/// Appends to a partition of a broker that has just been started, at the first moment at which it takes that. Says when
/// it was acknowledged, and the offset.
pub fn first_append(
    port: u16,
    topic: &str,
    partition: i32,
    batch: &Bytes,
    patience: Duration,
) -> Result<(Instant, i64)> {
    first_append_unless(&AtomicBool::new(false), port, topic, partition, batch, patience)
}

/// The same where any of these brokers may come to lead the partition.
pub fn first_append_to_any(
    ports: &[u16],
    topic: &str,
    partition: i32,
    batch: &Bytes,
    patience: Duration,
) -> Result<(Instant, i64)> {
    let (sender, outcomes) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    for port in ports.iter().copied() {
        let (sender, over, topic, batch) = (sender.clone(), Arc::clone(&over), topic.to_owned(), batch.clone());
        // It ends by itself, a little after the first; nobody waits for one that a broker does not answer.
        thread::spawn(move || {
            // The receiver is gone when a second broker answers.
            let _ = sender.send(first_append_unless(&over, port, &topic, partition, &batch, patience));
        });
    }
    drop(sender);
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(first) => {
                over.store(true, Ordering::Relaxed);
                return Ok(first);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.context("no broker was asked")?)
}

fn first_append_unless(
    over: &AtomicBool,
    port: u16,
    topic: &str,
    partition: i32,
    batch: &Bytes,
    patience: Duration,
) -> Result<(Instant, i64)> {
    let deadline = Instant::now() + patience;
    let mut connection = None;
    loop {
        ensure!(!over.load(Ordering::Relaxed), "another broker took the first append");
        let appended = append_or_not(&mut connection, port, topic, partition, batch, patience);
        match appended {
            Ok(Ok(offset)) => return Ok((Instant::now(), offset)),
            Ok(Err(error)) if Instant::now() >= deadline => bail!("the first append is refused: {error:?}"),
            Err(error) if Instant::now() >= deadline => return Err(error).context("the first append"),
            Ok(Err(_)) => {}
            Err(_) => connection = None,
        }
        thread::sleep(PAUSE);
    }
}

fn append_or_not(
    connection: &mut Option<Appender>,
    port: u16,
    topic: &str,
    partition: i32,
    batch: &Bytes,
    patience: Duration,
) -> Result<Result<i64, ResponseError>> {
    let appender = match connection {
        Some(appender) => appender,
        None => connection.insert(Appender::connect(port, topic, patience)?),
    };
    appender.send([partition], batch)?;
    match appender.next_answer()? {
        Ok(offsets) => Ok(Ok(*offsets.first().context("an offset")?)),
        Err(error) => Ok(Err(error)),
    }
}

/// A batch of one record with a value of so many bytes.
pub fn batch(bytes: usize) -> Result<Bytes> {
    batch_at(bytes, LONG_AGO_MS)
}

/// The same with a timestamp, in milliseconds since 1970.
pub fn batch_at(bytes: usize, timestamp_ms: i64) -> Result<Bytes> {
    batch_of(1, bytes, timestamp_ms)
}

/// A batch of so many records, each with a value of so many bytes and that timestamp, in milliseconds since 1970.
pub fn batch_of(records: usize, bytes: usize, timestamp_ms: i64) -> Result<Bytes> {
    let value = Bytes::from(vec![b'x'; bytes]);
    let record = |offset| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        // An encoder begins another batch where these do not follow each other.
        sequence: offset as i32 - 1,
        timestamp: timestamp_ms,
        key: None,
        value: Some(value.clone()),
        headers: std::iter::empty().collect(),
    };
    let records: Vec<_> = (0..records as i64).map(record).collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options)?;
    Ok(out.freeze())
}
