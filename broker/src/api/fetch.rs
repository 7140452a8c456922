//! Fetch: committed batches, waiting for them if there are none yet.
//!
//! Sessions (KIP-227) are never made: every answer names session 0, so every request is complete in itself.

use super::errors::Code as _;
use super::leaders::{Leaders, epoch, find_partition, find_topic};
use super::{Handlers, Outcome, encoded, millis};
use crate::partitions::{FetchError, FetchSpec, Fetched, ReadError};
use crate::server::budget::Share;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_wire::messages::{FetchPartition, FetchRequest, StrBytes};
use chronik_wire::{ErrorCode, FetchResponse, FetchedPartition, FetchedTopic, Header, TopicRef};
use futures::future::join_all;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Bytes of records in one answer at most, whatever is asked for (`fetch.max.bytes`).
const MAX_BYTES: usize = 55 << 20;

/// A fetch waits for something new so long at most, whatever is asked for: meanwhile nobody sees whether its client is
/// still there.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// What is wanted of one partition.
struct Wanted {
    /// Its topic's place in the request.
    topic: usize,
    index: i32,
    partition: Result<TopicPartition, ErrorCode>,
    spec: FetchSpec,
}

/// What one round of asking brought.
struct Round {
    answers: Vec<Result<Fetched, ErrorCode>>,
    bytes: usize,
    /// Something that the client must know at once: an error, or a truncation.
    urgent: bool,
    share: Share,
}

pub(super) async fn handle(handlers: &Handlers, header: Header, mut request: FetchRequest) -> Outcome {
    if request.session_id != 0 {
        let response = FetchResponse { error: ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ..FetchResponse::default() };
        return encoded(response.encode(header));
    }
    // Brokers replicate over a protocol of their own.
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        let response = FetchResponse { error: ErrorCode::INVALID_REQUEST, ..FetchResponse::default() };
        return encoded(response.encode(header));
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut wanted = Vec::new();
    let image = handlers.controller.image();
    for topic in std::mem::take(&mut request.topics) {
        let name = StrBytes::from(&*topic.topic);
        let by = if header.version >= 13 { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.topic) };
        let found = find_topic(&image, &by);
        wanted.extend(topic.partitions.iter().map(|p| Wanted {
            topic: topics.len(),
            index: p.partition,
            partition: found.and_then(|topic| find_partition(topic, p.partition)),
            spec: spec(p),
        }));
        topics.push(FetchedTopic { name, id: topic.topic_id, partitions: Vec::new() });
    }
    drop(image);
    let round = collect(handlers, &request, &wanted).await;
    let share = round.share;
    let response = respond(handlers, header, request.isolation_level == 1, topics, &wanted, round.answers);
    match encoded(response.encode(header)) {
        Outcome::Answer(frame, _) => Outcome::Answer(frame, share),
        other => other,
    }
}

fn spec(p: &FetchPartition) -> FetchSpec {
    FetchSpec {
        offset: Offset(p.fetch_offset),
        max_bytes: usize::try_from(p.partition_max_bytes).unwrap_or(0),
        at_least_one: true,
        current_epoch: epoch(p.current_leader_epoch),
        last_fetched_epoch: epoch(p.last_fetched_epoch),
        waiter: None,
    }
}

/// Asks until there is enough, something urgent, or no time left.
async fn collect(handlers: &Handlers, request: &FetchRequest, wanted: &[Wanted]) -> Round {
    let deadline = Instant::now() + millis(request.max_wait_ms).min(MAX_WAIT);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_BYTES);
    let changed = Arc::new(Notify::new());
    loop {
        // Listening begins before asking: what changes in between is not missed.
        let mut notified = pin!(changed.notified());
        notified.as_mut().enable();
        let waits = request.max_wait_ms > 0;
        let round = ask(handlers, wanted, max_bytes, waits.then_some(&changed)).await;
        if round.urgent || round.bytes >= min_bytes || Instant::now() >= deadline {
            return round;
        }
        // Memory that is held while waiting would be missing elsewhere.
        drop(round);
        if timeout_at(deadline, notified).await.is_err() {
            return ask(handlers, wanted, max_bytes, None).await;
        }
    }
}

/// Asks every partition once. Those whose limits fit into the answer's together are asked at the same time.
async fn ask(handlers: &Handlers, wanted: &[Wanted], max_bytes: usize, changed: Option<&Arc<Notify>>) -> Round {
    let most: usize = wanted.iter().map(|w| w.spec.max_bytes).sum();
    // Without memory for more, one batch is read all the same: somebody else's answers must not stop this client.
    let (granted, mut share) = handlers.fetched.take_up_to(most.min(max_bytes));
    let mut round =
        Round { answers: Vec::with_capacity(wanted.len()), bytes: 0, urgent: false, share: Share::default() };
    while round.answers.len() < wanted.len() {
        let rest = &wanted[round.answers.len()..];
        let left = granted.saturating_sub(round.bytes);
        let mut sum = 0;
        let together = rest
            .iter()
            .take_while(|w| {
                // Of each there may come a whole batch, however little is asked for; of most there comes nothing.
                sum += w.spec.max_bytes.max(handlers.config.max_message_bytes.min(left / 16));
                sum <= left
            })
            .count()
            .max(1);
        let asked = rest[..together].iter().map(|w| {
            let mut spec = w.spec.clone();
            spec.max_bytes = spec.max_bytes.min(left);
            spec.at_least_one = round.bytes == 0;
            spec.waiter = changed.map(Arc::downgrade);
            async move {
                match w.partition {
                    Ok(partition) => handlers.partitions.fetch(partition, spec).await.map_err(Some),
                    Err(_) => Err(None),
                }
            }
        });
        let answers = join_all(asked).await;
        for (answer, w) in answers.into_iter().zip(rest) {
            let left = granted.saturating_sub(round.bytes);
            let answer = round.judge(answer, w, left);
            round.answers.push(answer);
        }
    }
    share.shrink_to(round.bytes);
    round.share = share;
    round
}

impl Round {
    /// Takes an answer in, cut to what fits; the first batch of all fits always.
    fn judge(
        &mut self,
        answer: Result<Fetched, Option<FetchError>>,
        wanted: &Wanted,
        left: usize,
    ) -> Result<Fetched, ErrorCode> {
        match answer {
            Ok(mut fetched) => {
                let mut len = 0;
                fetched.batches.retain(|batch| {
                    let first = self.bytes == 0 && len == 0;
                    let fits = first || len + batch.len() <= left;
                    if fits {
                        len += batch.len();
                    } else {
                        // What follows a batch that is left out does not continue what came before it.
                        len = usize::MAX / 2;
                    }
                    fits
                });
                self.bytes += fetched.batches.iter().map(bytes::Bytes::len).sum::<usize>();
                self.urgent |= fetched.diverging.is_some();
                Ok(fetched)
            }
            // A leader that is new may know soon.
            Err(Some(FetchError::Read(ReadError::OffsetNotAvailable))) => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
            Err(Some(error)) => {
                self.urgent = true;
                Err(error.code())
            }
            Err(None) => {
                self.urgent = true;
                Err(wanted.partition.err().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR))
            }
        }
    }
}

fn respond(
    handlers: &Handlers,
    header: Header,
    read_committed: bool,
    mut topics: Vec<FetchedTopic>,
    wanted: &[Wanted],
    answers: Vec<Result<Fetched, ErrorCode>>,
) -> FetchResponse {
    let mut leaders = Leaders::default();
    for (w, answer) in wanted.iter().zip(answers) {
        let part = match answer {
            Ok(fetched) => FetchedPartition {
                index: w.index,
                error: ErrorCode::NONE,
                high_watermark: fetched.high_watermark.0,
                log_start: fetched.log_start.0,
                read_committed,
                diverging: fetched.diverging.map(|d| (d.epoch.map_or(-1, |e| e.0), d.end.map_or(-1, |o| o.0))),
                leader: None,
                records: fetched.batches,
            },
            Err(error) => {
                let mut part = FetchedPartition::failed(w.index, error);
                let except = match error {
                    ErrorCode::NOT_LEADER_OR_FOLLOWER => Some(Some(handlers.config.me)),
                    // The client knows an older epoch, perhaps of this very leader.
                    ErrorCode::FENCED_LEADER_EPOCH => Some(None),
                    _ => None,
                };
                if let (Some(except), Ok(partition), 16..) = (except, w.partition, header.version) {
                    part.leader = leaders.name(&handlers.controller.image(), partition, except);
                }
                part
            }
        };
        topics[w.topic].partitions.push(part);
    }
    FetchResponse { error: ErrorCode::NONE, topics, endpoints: leaders.into_endpoints() }
}
