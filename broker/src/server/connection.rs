//! One connection: its requests are begun as they arrive and answered in the same order.
//!
//! Reading and writing go on in one task. Between them is a bounded queue of requests that wait for their answer:
//! a client that does not read its answers is not read either.

use super::Shared;
use super::frames::{FrameError, Frames};
use super::open::{Open, UNCOUNTED};
use super::pace::Pace;
use super::unread::Kept;
use crate::api::{Handlers, Outcome, Reply, RequestContext};
use crate::budget::Share;
use crate::partitions::Reservation;
use bytes::Bytes;
use chronik_wire::{Decoded, ErrorCode, Request, RequestKind, WireError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// What a client was told of brokers has passed, and it asks nothing for so long: there is nothing on its way.
const PAUSE: Duration = Duration::from_millis(100);
/// For so long a pause is waited for. A client that makes none has its connection ended between an answer and a request.
const PAUSE_WITHIN: Duration = Duration::from_secs(10);
/// Requests of one connection that wait for their answer at most.
const MAX_WAITING: usize = 32;
/// How long a connection that is about to be closed may take to write the answers it owes.
const DRAIN: Duration = Duration::from_secs(5);
/// A request without records is decoded to structures that are longer than its bytes; by this factor at most.
const DECODED_FACTOR: usize = 32;
/// One request may be decoded to this part of the budget for all of them at most.
const DECODED_PART: usize = 2;
/// However small that is, a request may have this many bytes, and be decoded to as many of [`PENDING`].
const PLAIN_MIN: usize = 512 << 10;
/// What a partition of Produce takes until it is answered, when its batch is on the disk.
const PENDING: usize = 256;
/// One request may take this part of the budget for that.
const PENDING_PART: usize = 16;
/// While those of one connection take this part of it, no more are read.
const PENDING_OF_ONE_PART: usize = 64;

/// Answers that are ready are put together until they have this many bytes.
const TOGETHER: usize = 64 << 10;
/// Parts of answers that are written at once at most.
const MAX_SLICES: usize = 64;

/// A request that has begun.
struct Waiting {
    reply: Reply,
    api: RequestKind,
    started: Instant,
    request_len: usize,
    /// Held until the reply is there; what it says is counted apart. What Produce brought is held by its batches alone:
    /// once they are on the disk the request takes little, however long the followers keep its answer waiting.
    reservation: Option<Reservation>,
    pending: Share,
}

impl Waiting {
    /// The reply is there: nothing of the request is kept.
    fn replied(&mut self, open: &Open) {
        self.reservation = None;
        open.replied(self.pending.bytes());
        self.pending = Share::default();
    }
}

/// The addresses that a client knows brokers by, where they go away with their processes.
struct KnownAddresses {
    passes: BoxFuture<'static, ()>,
    /// Until when a pause is waited for, once it has passed.
    pause_by: Option<tokio::time::Instant>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the broker is stopping")]
    Stopping,
    #[error("idle")]
    Idle,
    #[error("the client knows brokers by addresses that go away with their processes")]
    Outdated,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] WireError),
    #[error("{0}")]
    Refused(String),
    #[error("the client does not read its answers")]
    NotRead,
    #[error("cannot write: {0}")]
    Write(io::Error),
}

impl End {
    /// Whether answers that wait should be written before the connection is closed.
    fn flushes_answers(&self) -> bool {
        !matches!(self, Self::Frame(FrameError::Closed | FrameError::Io(_)) | Self::NotRead | Self::Write(_))
    }

    /// Whether somebody should know: clients that go, or fall silent, are nothing special.
    fn notable(&self) -> bool {
        !matches!(
            self,
            Self::Stopping
                | Self::Idle
                | Self::Outdated
                | Self::Write(_)
                | Self::Frame(FrameError::Closed | FrameError::Io(_))
        )
    }
}

/// Serves a connection until either side ends it.
pub(super) async fn run(
    mut stream: TcpStream,
    client: SocketAddr,
    context: RequestContext,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let open = Open::default();
    let end = serve(&mut stream, context, &shared, &open, stop).await;
    // franz-go takes an end before its first answer for a refusal that is final, and gives up all that it is to write. A reset
    // it takes for what it is, as others do. Nothing that was answered is lost by it.
    if matches!(end, End::Stopping) && !open.has_served() {
        let _ = stream.set_zero_linger();
    }
    if end.notable() {
        info!(%client, reason = %end, "closed a connection");
    } else {
        debug!(%client, reason = %end, "closed a connection");
    }
}

/// Reads, answers, and when nothing more is read writes the answers that are left. Returns why it ends.
async fn serve(
    stream: &mut TcpStream,
    context: RequestContext,
    shared: &Arc<Shared>,
    open: &Open,
    stop: CancellationToken,
) -> End {
    let (read_half, write_half) = stream.split();
    let frames = Frames::new(read_half, shared.frame_limits);
    let (queue, waiting) = mpsc::channel::<Box<Waiting>>(MAX_WAITING);
    let mut writer = std::pin::pin!(write_answers(write_half, waiting, shared, open));
    let (end, written) = {
        let reader = read_requests(frames, context, queue, shared, open, stop);
        tokio::select! {
            end = reader => (end, false),
            end = &mut writer => (end, true),
        }
    };
    // The reader, and with it the queue's sending end, is gone: the writer ends with the last answer.
    if end.flushes_answers() && !written {
        let _ = timeout(DRAIN, writer).await;
    }
    end
}

async fn read_requests(
    mut frames: Frames<'_>,
    mut context: RequestContext,
    queue: mpsc::Sender<Box<Waiting>>,
    shared: &Arc<Shared>,
    open: &Open,
    stop: CancellationToken,
) -> End {
    let mut known = None;
    loop {
        // Room in the queue comes first: while there is none, nothing is read.
        let room = tokio::select! {
            () = stop.cancelled() => return End::Stopping,
            room = queue.reserve() => match room {
                Ok(room) => room,
                Err(_) => return End::NotRead,
            },
        };
        tokio::select! {
            () = stop.cancelled() => return End::Stopping,
            () = open.until_pending_is(shared.rooms.total() / PENDING_OF_ONE_PART) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return End::Stopping,
            got = wait_unless_idle(&mut frames, shared.idle, open, &mut known) => if let Err(end) = got { return end },
        }
        let next = tokio::select! {
            () = stop.cancelled() => return End::Stopping,
            next = frames.next(&shared.rooms, |api, len| open.admit(api, len)) => next,
        };
        let (frame, mut share) = match next {
            Ok(got) => got,
            Err(e) => return e.into(),
        };
        let started = Instant::now();
        let request_len = frame.len();
        let mut decoded = Share::default();
        let api = frame.first_chunk().map_or(i16::MIN, |key| i16::from_be_bytes(*key));
        if request_len > UNCOUNTED && api != RequestKind::Produce as i16 {
            let most = (shared.decoded.total() / DECODED_PART / DECODED_FACTOR).max(PLAIN_MIN);
            if request_len > most {
                return End::Refused(format!(
                    "a request without records of {request_len} bytes; at most {most} are taken"
                ));
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stopping,
                () = shared.decoded.of(api, request_len).grow(&mut decoded, request_len * DECODED_FACTOR) => {}
            }
        }
        let Decoded { header, client_id, mut request } = match Request::decode(frame) {
            Ok(decoded) => decoded,
            Err(WireError::UnsupportedVersion(header)) if header.api == RequestKind::ApiVersions => {
                let reply = Handlers::unsupported_api_versions(header);
                shared.metrics.errors().count(header.api, |found| found(ErrorCode::UNSUPPORTED_VERSION.0));
                open.begun(share.bytes());
                let waiting =
                    Waiting { reply, api: header.api, started, request_len, reservation: None, pending: share };
                room.send(Box::new(waiting));
                continue;
            }
            Err(e) => return e.into(),
        };
        // A slice of the frame: it would keep an owner from writing offsets into the frame's batches.
        context.client_is(client_id.as_deref().unwrap_or_default());
        drop(client_id);
        if let Some(bytes) = request.compact() {
            decoded.shrink_to(bytes);
        }
        if header.api == RequestKind::Metadata {
            known =
                shared.api.addresses_pass(&context).map(|passes| Box::new(KnownAddresses { passes, pause_by: None }));
        }
        let pending = pending_bytes(&request);
        let most = (shared.rooms.total() / PENDING_PART).max(PLAIN_MIN);
        if pending.is_some_and(|bytes| bytes > most) {
            let partitions = most / PENDING;
            return End::Refused(format!("a Produce of more than {partitions} partitions"));
        }
        let pending_share = share.split(pending.unwrap_or(0));
        let reservation: Reservation = Arc::new((share, decoded));
        // The next request is read when this one's batches are with the partitions' owners: so requests are appended in
        // their order. In a box: the state of this future would be part of each idle connection's otherwise.
        let reply = tokio::select! {
            () = stop.cancelled() => return End::Stopping,
            reply = Box::pin(shared.api.begin(header, &context, request, &reservation)) => reply,
        };
        open.begun(pending_share.bytes());
        let reservation = pending.is_none().then_some(reservation);
        let waiting = Waiting { reply, api: header.api, started, request_len, reservation, pending: pending_share };
        room.send(Box::new(waiting));
    }
}

/// Waits for a request to begin. Idle is a connection that owes no answer and gets no request; what it was told of brokers
/// may pass as well.
async fn wait_unless_idle(
    frames: &mut Frames<'_>,
    idle: Duration,
    open: &Open,
    known: &mut Option<Box<KnownAddresses>>,
) -> Result<(), End> {
    loop {
        let waited = tokio::select! {
            biased;
            waited = timeout(idle, frames.wait()) => waited,
            () = passes(known, open) => return Err(End::Outdated),
        };
        match waited {
            Ok(began) => return Ok(began?),
            Err(_) if !open.is_empty() => {}
            Err(_) => return Err(End::Idle),
        }
    }
}

/// Ends when what the client was told of brokers has passed, it is owed no answer and makes a pause; never if nothing passes.
async fn passes(known: &mut Option<Box<KnownAddresses>>, open: &Open) {
    let Some(known) = known else { return std::future::pending().await };
    // In a box, as it would be a part of every idle connection otherwise.
    Box::pin(async move {
        // It is asked once more where a request comes before the end.
        if known.pause_by.is_none() {
            known.passes.as_mut().await;
            known.pause_by = Some(tokio::time::Instant::now() + PAUSE_WITHIN);
        }
        open.until_empty().await;
        // Who asks one thing after another has the next request on its way when it has the answer.
        if known.pause_by.is_some_and(|by| tokio::time::Instant::now() < by) {
            sleep(PAUSE).await;
        }
    })
    .await;
}

/// What a Produce takes that waits for its answer, without its records; `None` for other requests.
fn pending_bytes(request: &Request) -> Option<usize> {
    let Request::Produce(request) = request else { return None };
    // Without an acknowledgement nothing is waited for, and the batches may still be on their way to the disk.
    let acknowledged = usize::from(request.acks != 0);
    Some(request.topics.iter().map(|topic| topic.partitions.len() * PENDING).sum::<usize>() * acknowledged)
}

async fn write_answers(
    socket: WriteHalf<'_>,
    mut waiting: mpsc::Receiver<Box<Waiting>>,
    shared: &Shared,
    open: &Open,
) -> End {
    let mut ahead = None;
    loop {
        let next = match ahead.take() {
            Some(next) => Some(next),
            None => waiting.recv().await,
        };
        let Some(mut next) = next else { return End::Stopping };
        let mut answers = Answers::default();
        answers.add(next.reply.as_mut().await, next, open);
        // A client that asks several things at once gets what is ready in one write.
        while answers.may_grow() {
            let Ok(mut more) = waiting.try_recv() else { break };
            let ready = may_be_asked_early(more.api).then(|| more.reply.as_mut().now_or_never()).flatten();
            let Some(outcome) = ready else {
                ahead = Some(more);
                break;
            };
            answers.add(outcome, more, open);
        }
        open.answers(answers.waiting.iter().map(|(answered, _)| answered.api));
        if let Err(end) = write_all(&socket, &answers.chunks, (answers.bytes, answers.unpaid), shared).await {
            return end;
        }
        for (answered, response_len) in &answers.waiting {
            open.answered();
            shared.metrics.answered(answered.api, answered.request_len, *response_len, answered.started.elapsed());
        }
        if let Some(reason) = answers.close {
            return End::Refused(reason);
        }
    }
}

/// Whether a reply may be asked whether it is ready, and left alone until the answers before it are written, however slow
/// the client is. The others may hold what is not theirs alone while they go on: a lock, or a place in a queue.
fn may_be_asked_early(api: RequestKind) -> bool {
    matches!(api, RequestKind::Produce | RequestKind::OffsetCommit | RequestKind::Heartbeat)
}

/// Answers that are written together.
#[derive(Default)]
struct Answers {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// Of these, those that no share is held for.
    unpaid: usize,
    /// What they are the answers of, and their length; with the memory that is held until they are written.
    waiting: Vec<(Box<Waiting>, usize)>,
    shares: Vec<Share>,
    /// The connection ends after them, for this reason.
    close: Option<String>,
}

impl Answers {
    fn add(&mut self, outcome: Outcome, mut waiting: Box<Waiting>, open: &Open) {
        waiting.replied(open);
        let mut response_len = 0;
        match outcome {
            Outcome::Answer(frame, share) => {
                let chunks = frame.into_chunks();
                response_len = chunks.iter().map(Bytes::len).sum();
                self.chunks.extend(chunks);
                self.unpaid += response_len.saturating_sub(share.bytes());
                self.shares.push(share);
            }
            Outcome::NoAnswer => {}
            Outcome::Close(reason) => {
                self.close = Some(reason);
                return;
            }
        }
        self.bytes += response_len;
        self.waiting.push((waiting, response_len));
    }

    /// Whether another one may be added: what is ready does not wait for much.
    fn may_grow(&self) -> bool {
        self.close.is_none() && self.bytes < TOGETHER && self.chunks.len() < MAX_SLICES
    }
}

/// Writes the chunks without putting them together first; so many bytes, and of these so many that no share is held for.
/// What the client does not take at once is counted, and it is to take the rest at some pace.
async fn write_all(
    socket: &WriteHalf<'_>,
    chunks: &[Bytes],
    (bytes, unpaid): (usize, usize),
    shared: &Shared,
) -> Result<(), End> {
    let (mut first, mut offset, mut left) = (0, 0, bytes);
    let mut blocked: Option<Box<Blocked>> = None;
    while first < chunks.len() {
        match try_write(socket, &chunks[first..], offset) {
            Ok(0) => return Err(End::Write(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                offset += written;
                left = left.saturating_sub(written);
                if let Some(blocked) = &mut blocked {
                    blocked.pace.moved(written);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let unpaid = left.min(unpaid);
                let blocked = blocked.get_or_insert_with(|| {
                    let pace = Pace::new(shared.frame_limits.stall);
                    Box::new(Blocked { kept: shared.unread.keep(unpaid), left, pace })
                });
                blocked.goes_on(left, unpaid);
                // In a box, as it would be a part of every idle connection otherwise.
                Box::pin(blocked.wait(socket)).await?;
            }
            Err(e) => return Err(End::Write(e)),
        }
        while first < chunks.len() && offset >= chunks[first].len() {
            offset -= chunks[first].len();
            first += 1;
        }
    }
    Ok(())
}

/// Answers of which the socket did not take all at once.
struct Blocked {
    kept: Kept,
    /// Bytes that were left when it was last looked.
    left: usize,
    pace: Pace,
}

impl Blocked {
    /// Notes how much is left, if it is less than before.
    fn goes_on(&mut self, left: usize, unpaid: usize) {
        if left < self.left {
            self.left = left;
            self.kept.goes_on(unpaid);
        }
    }

    /// Waits until the socket takes more.
    async fn wait(&self, socket: &WriteHalf<'_>) -> Result<(), End> {
        tokio::select! {
            () = self.kept.given_up() => Err(End::NotRead),
            ready = timeout_at(self.pace.next_by(false), socket.writable()) => match ready {
                Err(_) => Err(End::NotRead),
                Ok(ready) => ready.map_err(End::Write),
            },
        }
    }
}

/// Writes as much of the chunks as the socket takes now, but for what is written of the first one. Its slices are on the
/// stack: as a part of what waits they would be a part of every idle connection.
fn try_write(socket: &WriteHalf<'_>, chunks: &[Bytes], offset: usize) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = MAX_SLICES.min(chunks.len());
    for (i, slice) in slices[..count].iter_mut().enumerate() {
        *slice = IoSlice::new(&chunks[i][if i == 0 { offset } else { 0 }..]);
    }
    socket.try_write_vectored(&slices[..count])
}

#[cfg(test)]
mod tests {
    use super::{KnownAddresses, Open, passes};
    use futures::FutureExt as _;
    use tokio::time::Instant;

    /// The length of what an async function returns.
    fn len<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand members of groups are ten thousand connections.
    #[test]
    fn an_idle_connection_is_small() {
        let len = len(super::run);
        assert!(len <= 2_560, "{len} bytes");
    }

    #[tokio::test]
    async fn who_was_told_what_has_passed_is_sent_away_in_a_pause_and_after_a_while_without_one() {
        let (open, mut known) = (Open::default(), None);
        assert!(passes(&mut known, &open).now_or_never().is_none(), "nothing passes");
        known = Some(Box::new(KnownAddresses { passes: Box::pin(std::future::ready(())), pause_by: None }));
        // It comes back to that after each request.
        for _ in 0..3 {
            assert!(passes(&mut known, &open).now_or_never().is_none(), "the next request may be on its way");
        }
        open.begun(0);
        assert!(passes(&mut known, &open).now_or_never().is_none(), "it is owed an answer");
        open.answered();
        passes(&mut known, &open).await;
        // There was no pause in time.
        known =
            Some(Box::new(KnownAddresses { passes: Box::pin(std::future::pending()), pause_by: Some(Instant::now()) }));
        open.begun(0);
        assert!(passes(&mut known, &open).now_or_never().is_none(), "it is owed an answer");
        open.answered();
        assert!(passes(&mut known, &open).now_or_never().is_some(), "it would never end");
    }
}
