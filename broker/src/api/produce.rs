//! Produce: batches to partitions.
//!
//! A request begins with handing each batch to its partition's owner, in the order of the request, and goes on
//! with waiting for the acknowledgements. A request that has timed out leaves its batches where they are: they may
//! still be committed.

use super::admission::AdmissionError;
use super::errors::Code as _;
use super::leaders::{Leaders, find_partition, find_topic};
use super::listener::ListenerName;
use super::{ErrorCodes as _, Handlers, Outcome, Reply, ServerConfig, encoded, millis};
use crate::partitions::Reservation;
use bytes::Bytes;
use chronik_core::cluster::{Image, Topic, config};
use chronik_core::ids::TopicPartition;
use chronik_core::record::{BatchHeader, Compression, Limits, RecordBatch, RecordRules, TimestampType};
use chronik_core::replication::{Acks, ProduceError, Produced};
use chronik_wire::messages::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, StrBytes, TopicProduceResponse, Uuid, message,
};
use chronik_wire::{ErrorCode, Frame, Header, ProduceRequest, TopicRef};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// A request whose batches are with their owners.
struct Begun {
    topics: Vec<BegunTopic>,
    /// With acks=all alone: the leader's own disk is waited for as long as it takes.
    deadline: Option<Instant>,
}

struct BegunTopic {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<BegunPartition>,
}

struct BegunPartition {
    index: i32,
    state: State,
}

enum State {
    Pending {
        partition: TopicPartition,
        /// The broker's time if the records got it, in milliseconds since 1970; -1 otherwise.
        log_append_time_ms: i64,
        answer: oneshot::Receiver<Result<Produced, ProduceError>>,
    },
    Refused(Refusal),
}

/// Why a batch never came to its owner.
struct Refusal {
    error: ErrorCode,
    message: Option<String>,
    /// The records that are to blame, if it is not the batch (KIP-467).
    records: Vec<BatchIndexAndErrorMessage>,
}

impl From<AdmissionError> for Refusal {
    fn from(error: AdmissionError) -> Self {
        let mut refusal = Self::because(error.code(), error.to_string());
        if let AdmissionError::Records(error) = error {
            let blamed = error.rejected().map(|record| {
                message!(BatchIndexAndErrorMessage {
                    batch_index: record.index,
                    batch_index_error_message: Some(StrBytes::from(record.reason.to_string())),
                })
            });
            refusal.records = blamed.collect();
        }
        refusal
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

impl Refusal {
    fn because(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()), records: Vec::new() }
    }
}

pub(super) async fn begin(
    handlers: Arc<Handlers>,
    header: Header,
    listener: ListenerName,
    request: ProduceRequest,
    reservation: &Reservation,
) -> Reply {
    let acks = match request.acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    };
    let begun = start(&handlers, header, request, acks, reservation).await;
    if acks == Some(Acks::None) {
        Box::pin(finish_unacknowledged(begun))
    } else {
        Box::pin(async move {
            let response = finish(&handlers, header, &listener, begun).await;
            handlers.errors.count(header.api, |found| response.each_code(found));
            encoded(Frame::encode(header, &response))
        })
    }
}

/// Hands every batch to its owner.
async fn start(
    handlers: &Handlers,
    header: Header,
    request: ProduceRequest,
    acks: Option<Acks>,
    reservation: &Reservation,
) -> Begun {
    let transactional = request.transactional_id.is_some();
    let image = handlers.controller.image();
    let deadline = (acks == Some(Acks::All)).then(|| Instant::now() + millis(request.timeout_ms));
    let mut records = Vec::new();
    // First everything that holds on to the frame but the records is let go of, names are copied: an owner can
    // write offsets into a batch in place when nobody else has the frame.
    let mut topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            let found = find_topic(&image, &topic.topic);
            let (name, id) = match &topic.topic {
                TopicRef::Name(name) => (StrBytes::from(&**name), Uuid::ZERO),
                TopicRef::Id(id) => (StrBytes::default(), *id),
            };
            let partitions = topic
                .partitions
                .into_iter()
                .map(|(index, batch)| {
                    records.push(batch.map(|batch| on_its_own(batch, request.frame_len)));
                    let state = State::Refused(ErrorCode::NONE.into());
                    (found, BegunPartition { index, state })
                })
                .collect::<Vec<_>>();
            (name, id, partitions)
        })
        .collect();
    drop(request.transactional_id);
    let all = topics.iter_mut().flat_map(|(_, _, partitions)| partitions.iter_mut());
    for ((topic, begun), batch) in all.zip(records) {
        let begin = async {
            let acks = acks.ok_or(ErrorCode::INVALID_REQUIRED_ACKS)?;
            if transactional {
                // Fatal to the client, and says what is missing: retrying would not help.
                return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.into());
            }
            let topic = writable((*topic)?)?;
            let partition = find_partition(topic, begun.index)?;
            let batch = admit(handlers, batch, header.version, topic, &image, reservation).await?;
            let log_append_time_ms = log_append_time(&batch);
            let answer = handlers.partitions.produce(partition, batch, acks, Arc::clone(reservation));
            Ok(State::Pending { partition, log_append_time_ms, answer })
        };
        begun.state = begin.await.unwrap_or_else(State::Refused);
    }
    let topics = topics
        .into_iter()
        .map(|(name, id, partitions)| {
            let partitions = partitions.into_iter().map(|(_, begun)| begun).collect();
            BegunTopic { name, id, partitions }
        })
        .collect();
    Begun { topics, deadline }
}

/// What the broker keeps in topics of its own, it alone writes.
fn writable(topic: &Topic) -> Result<&Topic, Refusal> {
    if topic.is_internal() {
        return Err(Refusal::because(
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "an internal topic takes no client's records",
        ));
    }
    Ok(topic)
}

/// A batch that is kept in memory would keep its whole frame there: a small part of one is copied out of it.
fn on_its_own(batch: Bytes, frame_len: usize) -> Bytes {
    if batch.len() * 2 < frame_len { Bytes::copy_from_slice(&batch) } else { batch }
}

/// `max.message.bytes` of the topic, or the broker's `message.max.bytes`. No more than a request, whatever the topic says:
/// what is compressed less than it was sent must still fit into a frame to a follower.
fn max_bytes(topic: &Topic, image: &Image, handlers: &Handlers) -> usize {
    let value = topic.config(config::MAX_MESSAGE_BYTES, image, handlers.config.me);
    let value = value.and_then(|v| v.parse().ok()).unwrap_or(handlers.config.max_message_bytes);
    value.min(handlers.config.max_request_bytes)
}

/// Checks what Kafka asks of a batch that a client sends.
async fn admit(
    handlers: &Handlers,
    records: Option<Bytes>,
    version: i16,
    topic: &Topic,
    image: &Image,
    reservation: &Reservation,
) -> Result<RecordBatch, Refusal> {
    let records = records.filter(|r| !r.is_empty()).ok_or_else(|| {
        Refusal::because(ErrorCode::INVALID_RECORD, "a partition's records must be exactly one batch; there is none")
    })?;
    if let Ok(header) = BatchHeader::read(&records) {
        if header.compression() == Some(Compression::Zstd) && version < 7 {
            return Err(Refusal::because(
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
                "zstd needs version 7 of Produce or later",
            ));
        }
        if header.is_transactional() && header.producer_id.is_some() {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.into());
        }
    }
    let max_bytes = max_bytes(topic, image, handlers);
    let rules = rules(topic, image, &handlers.config);
    let batch = handlers.admission.admit(records, Limits { max_bytes }, rules, reservation).await?;
    Ok(batch)
}

/// What the topic asks of records.
fn rules(topic: &Topic, image: &Image, server: &ServerConfig) -> RecordRules {
    let value = |name| topic.config(name, image, server.me);
    let defaults = server.timestamps;
    let number = |name, default| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let append_time = value(config::TIMESTAMP_TYPE).map_or(defaults.append_time, |kind| kind == "LogAppendTime");
    RecordRules {
        now_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        timestamp_type: if append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        before_max_ms: number(config::TIMESTAMP_BEFORE_MAX_MS, defaults.before_max_ms),
        after_max_ms: number(config::TIMESTAMP_AFTER_MAX_MS, defaults.after_max_ms),
        keyed: topic.is_compacted(image, server.me),
        compression: value(config::COMPRESSION_TYPE).and_then(Compression::of_config),
        // What a batch may decompress to depends on the batch.
        max_decompressed: u64::MAX,
    }
}

fn log_append_time(batch: &RecordBatch) -> i64 {
    match batch.header().timestamp_type() {
        TimestampType::LogAppendTime => batch.header().max_timestamp,
        TimestampType::CreateTime => -1,
    }
}

/// With acks=0 there is no answer that an error could be in: the connection is closed instead, so that the client
/// asks for metadata again.
async fn finish_unacknowledged(begun: Begun) -> Outcome {
    for partition in begun.topics.into_iter().flat_map(|topic| topic.partitions) {
        let error = match partition.state {
            State::Refused(refusal) => refusal.error,
            State::Pending { answer, .. } => match answer.await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.code(),
                Err(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            },
        };
        return Outcome::Close(format!("a Produce with acks=0 failed with {}", error.name()));
    }
    Outcome::NoAnswer
}

async fn finish(handlers: &Handlers, header: Header, listener: &ListenerName, begun: Begun) -> ProduceResponse {
    let mut leaders = Leaders::of(listener);
    let mut responses = Vec::with_capacity(begun.topics.len());
    for topic in begun.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for BegunPartition { index, state } in topic.partitions {
            partitions.push(match state {
                State::Refused(refusal) => refused(index, refusal),
                State::Pending { partition, log_append_time_ms, answer } => {
                    let came = match begun.deadline {
                        Some(deadline) => timeout_at(deadline, answer).await,
                        None => Ok(answer.await),
                    };
                    let result = match came {
                        Ok(Ok(result)) => result.map(|produced| (produced, log_append_time_ms)),
                        Ok(Err(_)) => Err(ProduceError::NotLeader),
                        Err(_) => {
                            partitions.push(refused(index, ErrorCode::REQUEST_TIMED_OUT.into()));
                            continue;
                        }
                    };
                    answered(index, partition, result, header.version, handlers, &mut leaders)
                }
            });
        }
        responses.push(message!(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.id,
            partition_responses: partitions,
        }));
    }
    message!(ProduceResponse { responses: responses, node_endpoints: leaders.into_endpoints() })
}

fn answered(
    index: i32,
    partition: TopicPartition,
    result: Result<(Produced, i64), ProduceError>,
    version: i16,
    handlers: &Handlers,
    leaders: &mut Leaders<'_>,
) -> PartitionProduceResponse {
    match result {
        Ok((produced, log_append_time_ms)) => message!(PartitionProduceResponse {
            index: index,
            base_offset: produced.base_offset.0,
            log_append_time_ms: log_append_time_ms,
            log_start_offset: produced.log_start.0,
        }),
        Err(error) => {
            let mut response = refused(index, error.code().into());
            if error == ProduceError::NotLeader
                && version >= 10
                && let Some(leader) = leaders.name(&handlers.controller.image(), partition, Some(handlers.config.me))
            {
                response.current_leader = leader;
            }
            response
        }
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    message!(PartitionProduceResponse {
        index: index,
        error_code: refusal.error.0,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: refusal.records,
        error_message: refusal.message.map(StrBytes::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_of_a_frame_does_not_keep_the_frame() {
        let frame = Bytes::from(vec![7; 1000]);
        for (len, copied) in [(499, true), (500, false), (1000, false)] {
            let batch = on_its_own(frame.slice(1000 - len..), frame.len());
            assert_eq!((batch.len(), !frame.as_ptr_range().contains(&batch.as_ptr())), (len, copied));
        }
    }
}
