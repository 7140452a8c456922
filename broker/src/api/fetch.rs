//! Fetch: committed batches, waiting for them if there are none yet.

use super::errors::Code as _;
use super::fetch_plan::{Plan, Wanted};
use super::leaders::Leaders;
use super::listener::ListenerName;
use super::{ErrorCodes as _, Handlers, Outcome, encoded, millis};
use crate::budget::Share;
use crate::partitions::{Changes, FetchError, Fetched, ReadError};
use chronik_wire::messages::FetchRequest;
use chronik_wire::{ErrorCode, FetchResponse, FetchedPartition, Header};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A fetch waits for something new so long at most, whatever is asked for: meanwhile nobody sees whether its client is
/// still there.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// What has been answered so far.
struct Round {
    /// In the order of what is wanted; `None` for what has to be asked.
    answers: Vec<Option<Result<Fetched, ErrorCode>>>,
    bytes: usize,
    /// Something that the client must know at once: an error, or a truncation.
    urgent: bool,
    /// There was less memory for records than there were records asked for.
    scarce: bool,
    share: Share,
}

pub(super) async fn handle(
    handlers: &Handlers,
    header: Header,
    listener: &ListenerName,
    mut request: FetchRequest,
) -> Outcome {
    let encode = |response: FetchResponse| {
        handlers.errors.count(header.api, |found| response.each_code(found));
        encoded(response.encode(header))
    };
    let refused = |error| encode(FetchResponse { error, ..FetchResponse::default() });
    // Brokers replicate over a protocol of their own.
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    let plan = match Plan::new(handlers, header.version, &mut request) {
        Ok(plan) => plan,
        Err(error) => return refused(error),
    };
    let (answers, share) = collect(handlers, &request, &plan.wanted).await.into_answers();
    let response = respond(handlers, header, listener, request.isolation_level == 1, plan, answers);
    match encode(response) {
        Outcome::Answer(frame, _) => Outcome::Answer(frame, share),
        other => other,
    }
}

/// Asks until there is enough, something urgent, or no time left.
async fn collect(handlers: &Handlers, request: &FetchRequest, wanted: &[Wanted]) -> Round {
    let deadline = Instant::now() + millis(request.max_wait_ms).min(MAX_WAIT);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(handlers.config.fetch_max_bytes);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let mut changes = (request.max_wait_ms > 0).then(Arc::<Changes>::default);
    let mut round = Round::new(wanted.len());
    let mut places: Vec<usize> = (0..wanted.len()).collect();
    loop {
        round.ask(handlers, wanted, &places, max_bytes, changes.as_ref()).await;
        let Some(waiting) = changes.as_ref().filter(|_| !round.is_enough(min_bytes)) else { return round };
        // Memory that is held while waiting would be missing elsewhere.
        places = round.let_go();
        match timeout_at(deadline, waiting.wait()).await {
            Ok(woken) => places.extend(woken),
            Err(_) => changes = None,
        }
        places.sort_unstable();
        places.dedup();
    }
}

impl Round {
    fn new(wanted: usize) -> Self {
        let answers = std::iter::repeat_with(|| None).take(wanted).collect();
        Self { answers, bytes: 0, urgent: false, scarce: false, share: Share::default() }
    }

    fn is_enough(&self, min_bytes: usize) -> bool {
        self.urgent || self.bytes >= min_bytes || (self.scarce && self.bytes > 0)
    }

    /// Forgets all records; returns whose they were.
    fn let_go(&mut self) -> Vec<usize> {
        let mut places = Vec::new();
        for (place, answer) in self.answers.iter_mut().enumerate() {
            if answer.as_ref().is_none_or(|a| a.as_ref().is_ok_and(|fetched| !fetched.batches.is_empty())) {
                *answer = None;
                places.push(place);
            }
        }
        self.bytes = 0;
        self.share = Share::default();
        places
    }

    fn into_answers(self) -> (Vec<Result<Fetched, ErrorCode>>, Share) {
        // Everything has been asked at least once, and what was let go of again.
        let known = |answer: Option<_>| answer.unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR));
        (self.answers.into_iter().map(known).collect(), self.share)
    }

    /// Asks each of these partitions once. Those whose limits fit into the answer's together are asked at the same time.
    async fn ask(
        &mut self,
        handlers: &Handlers,
        wanted: &[Wanted],
        places: &[usize],
        max_bytes: usize,
        changes: Option<&Arc<Changes>>,
    ) {
        let most = places.iter().map(|place| wanted[*place].spec.max_bytes).sum::<usize>().min(max_bytes);
        // Without memory for more, one batch is read all the same: somebody else's answers must not stop this client.
        let (granted, share) = handlers.fetched.take_up_to(most);
        self.scarce = granted < most;
        self.share = share;
        let mut rest = places;
        while !rest.is_empty() {
            let left = granted.saturating_sub(self.bytes);
            let mut sum = 0;
            let together = rest
                .iter()
                .take_while(|place| {
                    // Of each there may come a whole batch, however little is asked for; of most there comes nothing.
                    let whole = handlers.config.max_message_bytes.min(left / 16).max(1);
                    sum += wanted[**place].spec.max_bytes.max(whole);
                    sum <= left
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(together);
            let at_least_one = self.bytes == 0;
            let asked = now.iter().map(|place| {
                let Wanted { partition, spec, .. } = &wanted[*place];
                let mut spec = spec.clone();
                spec.max_bytes = spec.max_bytes.min(left);
                spec.at_least_one = at_least_one;
                spec.waiter = changes.map(|changes| changes.waiter(*place));
                async move {
                    match partition {
                        Ok(partition) => handlers.partitions.fetch(*partition, spec).await.map_err(Some),
                        Err(_) => Err(None),
                    }
                }
            });
            for (answer, place) in join_all(asked).await.into_iter().zip(now) {
                let left = granted.saturating_sub(self.bytes);
                let answer = self.judge(answer, &wanted[*place], left);
                self.answers[*place] = Some(answer);
            }
            rest = later;
        }
        self.share.shrink_to(self.bytes);
    }

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
                self.urgent |= fetched.diverging.is_some() || fetched.preferred.is_some();
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
    listener: &ListenerName,
    read_committed: bool,
    mut plan: Plan,
    answers: Vec<Result<Fetched, ErrorCode>>,
) -> FetchResponse {
    let (session_id, included) = plan.answered(handlers, &answers);
    let Plan { mut topics, wanted, .. } = plan;
    let mut leaders = Leaders::of(listener);
    for (place, (w, answer)) in wanted.iter().zip(answers).enumerate() {
        if included.as_ref().is_some_and(|included| !included[place]) {
            continue;
        }
        let part = match answer {
            Ok(fetched) => FetchedPartition {
                index: w.index,
                error: ErrorCode::NONE,
                high_watermark: fetched.high_watermark.map_or(-1, |offset| offset.0),
                log_start: fetched.log_start.0,
                read_committed,
                diverging: fetched.diverging.map(|d| (d.epoch.map_or(-1, |e| e.0), d.end.map_or(-1, |o| o.0))),
                preferred_replica: fetched.preferred.map_or(-1, |id| id.0),
                leader: None,
                records: fetched.batches,
            },
            Err(error) => {
                // Clients of that time know nothing of the latter, and look for another leader after the former.
                let error = match error {
                    ErrorCode::KAFKA_STORAGE_ERROR if header.version < 6 => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    error => error,
                };
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
    if included.is_some() {
        topics.retain(|topic| !topic.partitions.is_empty());
    }
    FetchResponse { error: ErrorCode::NONE, session_id, topics, endpoints: leaders.into_endpoints() }
}
