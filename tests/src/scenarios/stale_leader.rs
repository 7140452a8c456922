//! What a client that still talks to a deposed leader asks of it, and what it may be answered. Each request is on a raw
//! connection: a client library would go to the next leader by itself.
//!
//! A write may not be acknowledged. A read has no lease in Kafka: a leader that has not heard of the next one may
//! serve what is committed in its log, and nothing else, as a consumer would take it for the truth.

use super::hostile_frames::batch;
use crate::harness::raw::Raw;
use crate::load::Record;
use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    RequestKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, RecordBatchDecoder};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const METADATA: i16 = 12;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// What a leader that is none any more says to a write.
const REFUSALS: [ResponseError; 4] = [
    ResponseError::NotLeaderOrFollower,
    ResponseError::RequestTimedOut,
    ResponseError::NotEnoughReplicas,
    ResponseError::NotEnoughReplicasAfterAppend,
];
/// How many of the newest committed records are asked for.
const NEWEST: i64 = 100;

/// A client of partition 0 of a topic that talks to one broker only.
pub(super) struct Loyal {
    topic: &'static str,
    writes: Raw,
    reads: Raw,
    more_reads: Raw,
    epoch: i32,
    from: i64,
    acks: Vec<i16>,
}

/// The answer to a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The broker says that it does not lead, or no more in this epoch.
    Refused,
    Served {
        high_watermark: i64,
        records: Vec<Record>,
    },
}

impl Loyal {
    /// Connects to the leader, and reads from it what it has committed last. It will be written to with these acks.
    pub(super) fn to(port: u16, topic: &'static str, acks: &[i16]) -> Result<(Self, Answer)> {
        let connect = || Raw::connect(port, ANSWER);
        let (writes, mut reads, more_reads) = (connect()?, connect()?, connect()?);
        let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = RequestKind::Metadata(MetadataRequest::default().with_topics(Some(vec![wanted])));
        let metadata: MetadataResponse = reads.ask(ApiKey::Metadata, METADATA, &request)?;
        let partition = metadata.topics.first().and_then(|t| t.partitions.first()).context("a partition")?;
        let mut loyal =
            Self { topic, writes, reads, more_reads, epoch: partition.leader_epoch, from: 0, acks: acks.to_vec() };
        let from = (end(port, topic)? - NEWEST).max(0);
        loyal.from = from;
        let answer = ask(&mut loyal.reads, topic, from, loyal.epoch)?;
        let served = matches!(&answer, Answer::Served { records, .. } if !records.is_empty());
        ensure!(served, "the leader serves nothing from {from} on: {answer:?}");
        Ok((loyal, answer))
    }

    /// Writes and reads, with what it knows of the epoch and without, and does not wait for the answers.
    pub(super) fn send(&mut self) -> Result<()> {
        for acks in &self.acks {
            self.writes.send(ApiKey::Produce, PRODUCE, &produce(self.topic, *acks)?)?;
        }
        for epoch in [-1, self.epoch] {
            self.reads.send(ApiKey::Fetch, FETCH, &fetch(self.topic, self.from, epoch))?;
        }
        Ok(())
    }

    /// Whether nothing has been answered yet.
    pub(super) fn waits(&self) -> Result<bool> {
        Ok(self.writes.is_silent()? && self.reads.is_silent()?)
    }

    /// All answers to what was sent before the broker went on, and to reads that it gets now, until it refuses them.
    pub(super) fn answers(&mut self, patience: Duration) -> Result<Vec<Answer>> {
        let deadline = Instant::now() + patience;
        let mut answers = Vec::new();
        loop {
            let answer = ask(&mut self.more_reads, self.topic, self.from, -1)?;
            answers.push(answer.clone());
            if answer == Answer::Refused {
                break;
            }
            ensure!(Instant::now() < deadline, "{} reads, and still served by the old leader", answers.len());
        }
        for _ in 0..2 {
            answers.push(answer(self.reads.answer(ApiKey::Fetch, FETCH)?)?);
        }
        for acks in &self.acks {
            let response: ProduceResponse = self.writes.answer(ApiKey::Produce, PRODUCE)?;
            let partition = response.responses.first().and_then(|t| t.partition_responses.first());
            let partition = partition.context("an answer for the partition")?;
            let error = ResponseError::try_from_code(partition.error_code);
            ensure!(
                error.is_some(),
                "a write with acks={acks} that waited is acknowledged at {}",
                partition.base_offset
            );
            // Refused for anything else, it would have been refused by every leader.
            ensure!(error.is_some_and(|e| REFUSALS.contains(&e)), "a write with acks={acks} is refused as {error:?}");
        }
        Ok(answers)
    }
}

/// Fails unless the answer is one that a deposed leader may give: a refusal, or what is in the log that the next
/// leader has, and of that nothing that was not `committed` when the next leader was asked.
pub(super) fn agrees(answer: &Answer, log: &[Record], committed: i64) -> Result<()> {
    let Answer::Served { high_watermark, records } = answer else { return Ok(()) };
    ensure!(*high_watermark <= committed, "high watermark {high_watermark}, and {committed} are committed");
    let log: HashMap<_, _> = log.iter().map(|(offset, value)| (*offset, value)).collect();
    // A leader that does not know how far it is by now says -1, and serves what it knows to be committed.
    let end = if *high_watermark < 0 { committed } else { *high_watermark };
    for (offset, value) in records {
        ensure!(*offset < end, "offset {offset} was served, and the high watermark is {high_watermark}, {end} at most");
        let is = log.get(offset).map(|value| String::from_utf8_lossy(value));
        let said = String::from_utf8_lossy(value);
        ensure!(is.as_ref() == Some(&said), "offset {offset} was served as {said:?} and is {is:?}");
    }
    Ok(())
}

/// What a broker that leads says is committed.
pub(super) fn end(port: u16, topic: &'static str) -> Result<i64> {
    match ask(&mut Raw::connect(port, ANSWER)?, topic, 0, -1)? {
        Answer::Served { high_watermark, .. } => Ok(high_watermark),
        Answer::Refused => bail!("it does not lead"),
    }
}

fn ask(raw: &mut Raw, topic: &'static str, offset: i64, epoch: i32) -> Result<Answer> {
    answer(raw.ask(ApiKey::Fetch, FETCH, &fetch(topic, offset, epoch))?)
}

fn answer(response: FetchResponse) -> Result<Answer> {
    let partition = response.responses.into_iter().next().and_then(|t| t.partitions.into_iter().next());
    let partition = partition.with_context(|| format!("an answer for the partition; error {}", response.error_code))?;
    match ResponseError::try_from_code(partition.error_code) {
        None => {}
        Some(ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch) => return Ok(Answer::Refused),
        Some(error) => bail!("a fetch was answered with {error:?}"),
    }
    let mut records = Vec::new();
    let mut bytes = partition.records.unwrap_or_default();
    if !bytes.is_empty() {
        for set in RecordBatchDecoder::decode_all(&mut bytes)? {
            records.extend(set.records.into_iter().map(|r| (r.offset, r.value.unwrap_or_default().to_vec())));
        }
    }
    Ok(Answer::Served { high_watermark: partition.high_watermark, records })
}

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

fn fetch(topic: &'static str, offset: i64, epoch: i32) -> RequestKind {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(epoch)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    RequestKind::Fetch(
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(0)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]),
    )
}

fn produce(topic: &'static str, acks: i16) -> Result<RequestKind> {
    let partition = PartitionProduceData::default().with_records(Some(batch(-1, Compression::None)?));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(5_000).with_topic_data(vec![topic]);
    Ok(RequestKind::Produce(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[(i64, &str)]) -> Vec<Record> {
        values.iter().map(|(offset, value)| (*offset, value.as_bytes().to_vec())).collect()
    }

    fn judged(high_watermark: i64, served: &[(i64, &str)]) -> bool {
        let log = records(&[(5, "a"), (6, "b"), (7, "c")]);
        agrees(&Answer::Served { high_watermark, records: records(served) }, &log, 7).is_ok()
    }

    #[test]
    fn a_refusal_and_what_is_committed_agree() {
        assert!(agrees(&Answer::Refused, &[], 0).is_ok());
        assert!(judged(7, &[(5, "a"), (6, "b")]));
        assert!(judged(6, &[(5, "a")]));
        assert!(judged(6, &[]));
    }

    #[test]
    fn another_value_and_what_is_not_there_disagree() {
        assert!(!judged(7, &[(5, "a"), (6, "c")]));
        assert!(!judged(7, &[(4, "a")]));
    }

    #[test]
    fn more_than_is_committed_disagrees() {
        assert!(!judged(6, &[(5, "a"), (6, "b")]), "beyond its own high watermark");
        assert!(!judged(8, &[(5, "a")]), "a high watermark beyond what is committed");
    }
}
