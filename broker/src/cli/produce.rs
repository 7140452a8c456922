//! `chronik produce`: lines of standard input become records.

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on, pair};
use super::config;
use super::line::{LineFormat, Lines};
use super::partitioner::murmur2;
use bytes::Bytes;
use chronik_core::cluster::config::MAX_MESSAGE_BYTES;
use chronik_core::record::HEADER_LEN;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    InitProducerIdRequest, ProduceRequest, StrBytes, message,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use chronik_wire::records::{NewRecord, Producer, produced_batch};
use clap::Args;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Records of a batch at most.
const BATCH_RECORDS: usize = 1000;
/// Bytes of all that waits at which it is sent.
const BATCH_BYTES: usize = 256 << 10;
/// How long an incomplete batch waits for the next line.
const LINGER: Duration = Duration::from_millis(5);
const TIMEOUT_MS: i32 = 30_000;
/// What has become of a run that ends with an error of one line.
const WRITTEN_BEFORE: &str = "the lines before it are written, no other is";
/// Kafka's default of `max.message.bytes`, where a broker does not say what it is.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

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
                let record = match lines.record(Bytes::from(line)) {
                    Ok(record) => record,
                    Err(error) => {
                        sender.flush().await?;
                        return Err(error.context(format!("line {number} ({WRITTEN_BEFORE})")));
                    }
                };
                sender.add(Line { number, record }, self.partition).await?;
            }
            sender.flush().await?;
            Ok(())
        })
    }
}

/// A record, and which line of the input it was.
#[derive(Clone, Debug)]
struct Line {
    number: u64,
    record: NewRecord,
}

impl Line {
    /// Bytes of a batch with this record alone.
    fn alone(&self) -> usize {
        HEADER_LEN + self.record.len_in_batch(0)
    }
}

/// How many of these records, of which there is one at least, fit into a batch: one at least, whatever its length.
fn fitting(records: &VecDeque<Line>, max_bytes: usize) -> usize {
    let mut bytes = HEADER_LEN;
    let fits = |(line, delta): &(&Line, i64)| {
        bytes = bytes.saturating_add(line.record.len_in_batch(*delta));
        bytes <= max_bytes
    };
    records.iter().zip(0..).take(BATCH_RECORDS).take_while(fits).count().max(1)
}

fn too_large(topic: &str, line: &Line, max_bytes: usize, others: &str) -> ClientError {
    ClientError::Refused {
        what: format!("line {}", line.number),
        code: ErrorCode::MESSAGE_TOO_LARGE,
        text: Some(format!(
            "its record takes {} bytes, and {MAX_MESSAGE_BYTES} of topic {topic} is {max_bytes}; {others}",
            line.alone()
        )),
    }
}

/// How large a batch of the topic may be.
async fn max_bytes(client: &mut Client, topic: &str) -> Result<usize, ClientError> {
    let value = config::of_topic(client, topic, MAX_MESSAGE_BYTES).await?;
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_MAX_MESSAGE_BYTES))
}

/// Collects records, and sends them batch by batch as an idempotent producer.
struct Sender {
    client: Client,
    topic: String,
    partitions: Vec<i32>,
    producer: Producer,
    /// Bytes of a batch at most: `max.message.bytes` of the topic when it was last asked for.
    max_bytes: usize,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
    waiting: BTreeMap<i32, VecDeque<Line>>,
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
        let max_bytes = max_bytes(&mut client, topic).await?;
        let topic = topic.to_owned();
        let (sequences, waiting) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { client, topic, partitions, producer, max_bytes, sequences, waiting, records: 0, bytes: 0, next: 0 })
    }

    async fn add(&mut self, line: Line, partition: Option<i32>) -> Result<(), ClientError> {
        if line.alone() > self.max_bytes {
            self.max_bytes = max_bytes(&mut self.client, &self.topic).await?;
            if line.alone() > self.max_bytes {
                self.flush().await?;
                return Err(too_large(&self.topic, &line, self.max_bytes, WRITTEN_BEFORE));
            }
        }
        let count = self.partitions.len().max(1);
        let partition = partition.unwrap_or_else(|| match &line.record.key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) as i32 % count as i32,
            None => self.partitions.get(self.next % count).copied().unwrap_or(0),
        });
        self.records += 1;
        self.bytes += line.record.len_in_batch(0);
        self.waiting.entry(partition).or_default().push_back(line);
        if self.records >= BATCH_RECORDS || self.bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what waits, and returns when it is acknowledged.
    async fn flush(&mut self) -> Result<(), ClientError> {
        for (partition, mut lines) in std::mem::take(&mut self.waiting) {
            while let Some(first) = lines.front() {
                let count = fitting(&lines, self.max_bytes);
                let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
                let producer = Producer { sequence, ..self.producer };
                let records: Vec<_> = lines.iter().take(count).map(|line| line.record.clone()).collect();
                match self.send(partition, &records, producer).await {
                    // The limit has been lowered meanwhile. What is refused takes no sequence number.
                    Err(ClientError::Refused { code: ErrorCode::MESSAGE_TOO_LARGE, .. }) if count > 1 => {
                        let half: usize = records[..count / 2].iter().map(|record| record.len_in_batch(0)).sum();
                        self.max_bytes = max_bytes(&mut self.client, &self.topic).await?.min(HEADER_LEN + half);
                        continue;
                    }
                    Err(ClientError::Refused { code: ErrorCode::MESSAGE_TOO_LARGE, .. }) => {
                        self.max_bytes = max_bytes(&mut self.client, &self.topic).await?;
                        let others = "the limit was lowered meanwhile: lines before and after it may be written or not";
                        return Err(too_large(&self.topic, first, self.max_bytes, others));
                    }
                    done => done?,
                }
                let next = (i64::from(sequence) + count as i64) % (i64::from(i32::MAX) + 1);
                self.sequences.insert(partition, next as i32);
                lines.drain(..count);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64, record: &NewRecord) -> VecDeque<Line> {
        (1..=count).map(|number| Line { number, record: record.clone() }).collect()
    }

    fn batch_len(lines: &VecDeque<Line>, count: usize) -> usize {
        let records: Vec<_> = lines.iter().take(count).map(|line| line.record.clone()).collect();
        let batch = produced_batch(&records, 0, Producer { id: 1, epoch: 0, sequence: 0 }).unwrap();
        batch.header().total_len as usize
    }

    #[test]
    fn a_batch_is_as_large_as_the_topic_allows_with_all_that_is_in_it() {
        let small = NewRecord { value: Some(vec![b'v'; 100].into()), ..NewRecord::default() };
        let headers = vec![("a".into(), Some(vec![b'h'; 2000].into()))];
        let with_headers = NewRecord { value: Some("v".into()), headers, ..NewRecord::default() };
        let with_key = NewRecord { key: Some(vec![b'k'; 500].into()), ..NewRecord::default() };
        for (record, max_bytes) in [(&small, 20_000), (&with_headers, 1_048_588), (&with_key, 1 << 17)] {
            let lines = lines(1000, record);
            let count = fitting(&lines, max_bytes);
            assert!(count < 1000 && batch_len(&lines, count) <= max_bytes);
            assert!(batch_len(&lines, count + 1) > max_bytes, "{count} of {max_bytes} bytes");
            assert_eq!(fitting(&lines, batch_len(&lines, count)), count);
        }
        assert_eq!(fitting(&lines(1000, &NewRecord::default()), usize::MAX), BATCH_RECORDS);
        assert_eq!(fitting(&lines(2, &small), 10), 1, "the broker says what it takes");
    }

    #[test]
    fn a_record_that_is_too_large_is_named_by_its_line() {
        let record = NewRecord { value: Some(vec![b'v'; 300].into()), ..NewRecord::default() };
        let line = &lines(17, &record)[16];
        assert_eq!(line.alone(), batch_len(&lines(1, &record), 1));
        let says = too_large("t", line, 200, "the others are not").to_string();
        let start =
            format!("line 17: its record takes {} bytes, and max.message.bytes of topic t is 200", line.alone());
        assert!(says.starts_with(&start) && says.contains("chronik config set topic"), "{says}");
    }
}
