//! `chronik produce`: lines of standard input become records.

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on, pair};
use super::line::{LineFormat, Lines};
use super::partitioner::murmur2;
use anyhow::Context as _;
use bytes::Bytes;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    InitProducerIdRequest, ProduceRequest, StrBytes, message,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use chronik_wire::records::{NewRecord, Producer, produced_batch};
use clap::Args;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Records of a batch at most.
const BATCH_RECORDS: usize = 1000;
/// Bytes of a batch's values at which it is sent.
const BATCH_BYTES: usize = 256 << 10;
/// How long an incomplete batch waits for the next line.
const LINGER: Duration = Duration::from_millis(5);
const TIMEOUT_MS: i32 = 30_000;

/// Write lines of standard input as records, each acknowledged by all in-sync replicas.
#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    common: Common,
    /// The topic.
    topic: String,
    /// The partition [default: by the key as Java's clients do; without a key one after the other]
    #[arg(long)]
    partition: Option<i32>,
    /// What stands between a line's key and its value; without it lines have no key.
    #[arg(long, value_name = "SEPARATOR", conflicts_with = "key")]
    key_separator: Option<String>,
    /// The key of all records.
    #[arg(long)]
    key: Option<String>,
    /// A header of all records; may be repeated.
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// What a line is: its bytes, or a JSON object with key, value and headers.
    #[arg(long, value_enum, default_value = "lines")]
    format: LineFormat,
    /// An empty value is a null one, a tombstone.
    #[arg(long)]
    empty_is_null: bool,
}

impl Produce {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async move {
            let mut sender = Sender::new(self.common.client(), &self.topic).await?;
            let lines = Lines {
                format: self.format,
                key_separator: self.key_separator.map(String::into_bytes),
                key: self.key.map(Bytes::from),
                headers: self.headers.into_iter().map(|(k, v)| (k.into(), Some(Bytes::from(v)))).collect(),
                empty_is_null: self.empty_is_null,
            };
            let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');
            let mut number = 0_u64;
            loop {
                let next = if sender.waiting.is_empty() {
                    input.next_segment().await?
                } else if let Ok(next) = tokio::time::timeout(LINGER, input.next_segment()).await {
                    next?
                } else {
                    sender.flush().await?;
                    continue;
                };
                let Some(line) = next else { break };
                number += 1;
                let record = lines.record(Bytes::from(line)).with_context(|| format!("line {number}"))?;
                sender.add(record, self.partition).await?;
            }
            sender.flush().await?;
            Ok(())
        })
    }
}

/// Collects records, and sends them batch by batch as an idempotent producer.
struct Sender {
    client: Client,
    topic: String,
    partitions: Vec<i32>,
    producer: Producer,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
    waiting: BTreeMap<i32, Vec<NewRecord>>,
    records: usize,
    bytes: usize,
    next: usize,
}

impl Sender {
    async fn new(mut client: Client, topic: &str) -> Result<Self, ClientError> {
        let partitions = client.topic(topic).await?.partitions.iter().map(|p| p.partition_index).collect();
        let request = message!(InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
        });
        let answer = client
            .again(async |client| {
                let answer = client.ask(To::Any, 3..=4, &request).await?;
                refused("a producer id", answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
        let producer = Producer { id: answer.producer_id, epoch: answer.producer_epoch, sequence: 0 };
        let topic = topic.to_owned();
        let (sequences, waiting) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { client, topic, partitions, producer, sequences, waiting, records: 0, bytes: 0, next: 0 })
    }

    async fn add(&mut self, record: NewRecord, partition: Option<i32>) -> Result<(), ClientError> {
        let count = self.partitions.len().max(1);
        let partition = partition.unwrap_or_else(|| match &record.key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) as i32 % count as i32,
            None => self.partitions.get(self.next % count).copied().unwrap_or(0),
        });
        self.records += 1;
        self.bytes += record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len);
        self.waiting.entry(partition).or_default().push(record);
        if self.records >= BATCH_RECORDS || self.bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what waits, and returns when it is acknowledged.
    async fn flush(&mut self) -> Result<(), ClientError> {
        for (partition, records) in std::mem::take(&mut self.waiting) {
            let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
            let producer = Producer { sequence, ..self.producer };
            self.send(partition, &records, producer).await?;
            let next = (i64::from(sequence) + records.len() as i64) % (i64::from(i32::MAX) + 1);
            self.sequences.insert(partition, next as i32);
        }
        (self.records, self.bytes) = (0, 0);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    async fn send(&mut self, partition: i32, records: &[NewRecord], producer: Producer) -> Result<(), ClientError> {
        let what = format!("records for partition {partition} of topic {}", self.topic);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let batch = produced_batch(records, now, producer).map_err(|error| ClientError::Refused {
            what: what.clone(),
            code: ErrorCode::INVALID_RECORD,
            text: Some(error.to_string()),
        })?;
        let data = message!(PartitionProduceData { index: partition, records: Some(batch.into_bytes()) });
        let data = message!(TopicProduceData { name: StrBytes::from(&*self.topic), partition_data: vec![data] });
        let request = message!(ProduceRequest { acks: -1, timeout_ms: TIMEOUT_MS, topic_data: vec![data] });
        let topic = self.topic.clone();
        self.client
            .again(async |client| {
                let leader = client.leader(&topic, partition).await?;
                let answer = client.ask(leader, 8..=12, &request).await?;
                let answered = answer.responses.first().and_then(|t| t.partition_responses.first());
                let code = answered.map_or(ErrorCode::UNKNOWN_SERVER_ERROR.0, |p| p.error_code);
                if code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER.0 {
                    // It was written by an attempt whose answer did not arrive.
                    return Ok(());
                }
                refused(what.clone(), code, answered.and_then(|p| p.error_message.as_ref()))
            })
            .await
    }
}
