//! One HTTP/2 connection to one peer's controller port: dialled early, again at once when it was lost, then
//! after 10–25 ms, doubling to 1 s with jitter (to 50 ms in the first seconds, in which brokers that start together
//! wait for each other), and at once when the peer shows itself.

use super::links::Places;
use super::proto::controller_client::ControllerClient;
use super::whole_messages::{self, MAX_MESSAGE_BYTES};
use crate::peers::Peers;
use chronik_core::ids::BrokerId;
use hyper_util::rt::TokioIo;
use rand::Rng;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::util::MapResponse;

/// A new connection has this long to come about, and as long again as the pause before it: what is dialled may be
/// somewhere else in a moment, or may take its time.
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// A peer that does not answer a ping for this long (after at most one interval) is taken for gone.
const KEEP_ALIVE: Duration = Duration::from_millis(400);
const MIN_BACKOFF: Duration = Duration::from_millis(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF_AT_FIRST: Duration = Duration::from_millis(50);
/// How long "at first" is.
const FIRST: Duration = Duration::from_secs(10);
/// Flow-control windows: what one peer may have in flight. A message of raft's fits, so that it takes no round trips
/// beside TCP's own.
pub(super) const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

pub(super) type Client = ControllerClient<MapResponse<Channel, fn(http::Response<Body>) -> http::Response<Body>>>;

/// A way to one peer. Dropping the last clone ends it.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<(u64, Client)>>,
    reports: mpsc::UnboundedSender<Report>,
    /// How many of the connections are known to have answered, or were given up before.
    answered: Arc<AtomicU64>,
    #[cfg(test)]
    caller: (BrokerId, crate::cuts::Caller),
    _guard: Arc<DropGuard>,
}

/// What a call says of the connection that it went over.
enum Report {
    Answered(u64),
    Lost(u64),
}

/// Why a call over a link had no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nothing was sent: there is no connection.
    NotConnected,
    /// It was sent, and may have been carried out or not.
    Lost(Status),
    /// The peer refused it: a wrong target, a stranger, or not now.
    Refused(Status),
}

impl Link {
    /// Begins to connect. `purpose` names the connection in the log.
    pub(super) fn open(peer: BrokerId, places: Places, peers: Peers, purpose: &'static str) -> Self {
        let (connected, current) = watch::channel(None);
        let (reports, reported) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        #[cfg(test)]
        let caller = (peer, peers.caller.clone());
        let dialler = Dialler { peer, places, peers, purpose, connected, reported, turn: 0 };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(dialler.run()).await });
        let answered = Arc::default();
        let guard = Arc::new(stop.drop_guard());
        Self {
            current,
            reports,
            answered,
            #[cfg(test)]
            caller,
            _guard: guard,
        }
    }

    /// Calls the peer, waiting for the connection if there is none.
    pub(super) async fn call<T, F>(&self, timeout: Duration, call: impl FnOnce(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        let mut current = self.current.clone();
        let connected = tokio::time::timeout_at(deadline, current.wait_for(Option::is_some)).await;
        let Ok(Ok(connection)) = connected.map(|c| c.map(|c| c.clone())) else { return Err(CallError::NotConnected) };
        let Some((generation, client)) = connection else { return Err(CallError::NotConnected) };
        let answer = call(client);
        #[cfg(test)]
        let answer = self.caller.1.clone().call(self.caller.0, answer);
        let status = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => {
                self.report_answer(generation);
                return Ok(answer.into_inner());
            }
            Ok(Err(status)) => status,
            Err(_) => return Err(CallError::Lost(Status::deadline_exceeded("no answer in time"))),
        };
        // Only what no failure of a connection looks like: HTTP/2's ENHANCE_YOUR_CALM becomes ResourceExhausted here.
        let refused = matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument);
        // A refusal may mean that the address is someone else's by now: resolve it anew.
        if !refused || is_wrong_target(&status) {
            // When nobody listens any more the link is gone, and needs no report.
            let _ = self.reports.send(Report::Lost(generation));
        } else {
            self.report_answer(generation);
        }
        Err(if refused { CallError::Refused(status) } else { CallError::Lost(status) })
    }

    fn report_answer(&self, generation: u64) {
        if self.answered.fetch_max(generation + 1, Ordering::Relaxed) <= generation {
            let _ = self.reports.send(Report::Answered(generation));
        }
    }
}

/// What a server says when it is not the one that was meant.
pub(super) fn wrong_target(reason: String) -> Status {
    let mut status = Status::failed_precondition(reason);
    status.metadata_mut().insert("wrong-target", tonic::metadata::MetadataValue::from_static("1"));
    status
}

fn is_wrong_target(status: &Status) -> bool {
    status.metadata().contains_key("wrong-target")
}

struct Dialler {
    peer: BrokerId,
    places: Places,
    peers: Peers,
    purpose: &'static str,
    connected: watch::Sender<Option<(u64, Client)>>,
    reported: mpsc::UnboundedReceiver<Report>,
    /// Which of the peer's places is tried first.
    turn: usize,
}

impl Dialler {
    async fn run(mut self) {
        let (peer, purpose) = (self.peer, self.purpose);
        let opened = Instant::now();
        let longer = |backoff: Duration| {
            let max = if opened.elapsed() < FIRST { MAX_BACKOFF_AT_FIRST } else { MAX_BACKOFF };
            (backoff * 2).min(max)
        };
        let mut backoff = FIRST_BACKOFF;
        let mut said = false;
        for generation in 0.. {
            let client = loop {
                // From before the try on: a peer that shows itself meanwhile is tried again.
                let mut contacts = self.peers.contacts();
                match self.dial(DIAL_TIMEOUT + backoff).await {
                    Ok(client) => break client,
                    Err(error) => {
                        if !said {
                            said = true;
                            tracing::info!(broker = %peer, %error, "Failed to connect to broker {peer} ({purpose})");
                        }
                    }
                }
                pause(peer, backoff, &mut contacts).await;
                backoff = longer(backoff);
            };
            let since = Instant::now();
            self.connected.send_replace(Some((generation, client)));
            // A process that is stopped still accepts connections: only an answer shows that the peer is there.
            let mut answered = false;
            loop {
                match self.reported.recv().await {
                    Some(Report::Answered(by)) if by == generation && !answered => {
                        answered = true;
                        tracing::info!(broker = %peer, "Connected to broker {peer} ({purpose})");
                    }
                    Some(Report::Lost(lost)) if lost == generation => break,
                    Some(_) => {}
                    None => return,
                }
            }
            self.connected.send_replace(None);
            // Who accepts and does not answer may be somebody else: another place has its turn.
            self.turn += usize::from(!answered);
            if answered {
                said = false;
            } else if !said {
                said = true;
                tracing::info!(broker = %peer, "Broker {peer} accepts connections, but does not answer ({purpose})");
            }
            // A connection that never worked is no reason to start over with short pauses.
            if since.elapsed() > MAX_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            if !answered || backoff > FIRST_BACKOFF {
                pause(peer, backoff, &mut self.peers.contacts()).await;
                backoff = longer(backoff);
            }
        }
    }

    /// At the first of the peer's places that accepts.
    async fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let mut places = self.places.of(self.peer);
        let begin = self.turn % places.len().max(1);
        places.rotate_left(begin);
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for place in &places {
            match self.peers.dial(self.peer, place, timeout).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial(&self, timeout: Duration) -> io::Result<Client> {
        let mut stream = Some(self.connect(timeout).await?);
        // The stream can be used once: when it is lost, this loop dials, not the channel behind its back.
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://controller")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .buffer_size(64);
        let channel = tokio::time::timeout(timeout, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        Ok(ControllerClient::new(MapResponse::new(channel, whole_messages::of_response as _))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// Waits before the next dial: for the backoff, or less if the peer shows itself.
async fn pause(peer: BrokerId, backoff: Duration, contacts: &mut broadcast::Receiver<BrokerId>) {
    let jittered = rand::rng().random_range(MIN_BACKOFF..=backoff.max(MIN_BACKOFF));
    tokio::time::sleep(MIN_BACKOFF).await;
    let shows_itself = async {
        loop {
            match contacts.recv().await {
                Ok(id) if id == peer => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Passing the time is all there is to do either way.
    let _ = tokio::time::timeout(jittered.saturating_sub(MIN_BACKOFF), shows_itself).await;
}
