//! The connection manager: keeps a connection to one other broker, whatever the order in which the two start.
//!
//! The first retry comes after 10–25 ms, the next ones after twice as long each, up to a second, with full
//! jitter; and at once when the peer shows itself or its registration changes.

use super::config::{HANDSHAKE_FRAME, HANDSHAKE_MAX, ReplicationConfig};
use super::frame::{Frame, FrameError, Hello};
use super::link::{CreditAccount, LeaderLink, write_loop};
use super::receiver;
use crate::partitions::Input;
use bytes::BytesMut;
use chronik_core::cluster::{Broker, Endpoint, Image};
use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId};
use chronik_core::replication::StreamId;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_MAX: Duration = Duration::from_secs(1);
const DIAL_MAX: Duration = Duration::from_secs(1);

/// How long to wait before dialling again.
struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { ceiling: RETRY_FIRST }
    }

    fn next(&mut self) -> Duration {
        let floor = self.ceiling.min(RETRY_FIRST).mul_f64(0.4);
        let wait = floor + self.ceiling.saturating_sub(floor).mul_f64(rand::random::<f64>());
        self.ceiling = (self.ceiling * 2).min(RETRY_MAX);
        wait
    }
}

/// Keeps the connection until it is stopped.
pub(super) async fn keep(config: ReplicationConfig, peer: BrokerId, stop: CancellationToken) {
    tokio::select! {
        () = keep_on(&config, peer) => {}
        () = stop.cancelled() => {}
    }
}

async fn keep_on(config: &ReplicationConfig, peer: BrokerId) {
    let mut images = config.controller.images();
    let mut contacts = config.peers.contacts();
    let mut backoff = Backoff::new();
    let mut generation = 0;
    let mut failing = false;
    loop {
        let Some((hello, endpoint)) = introduction(config, &mut images, peer, &mut generation).await else { return };
        let before = standing(&images.borrow_and_update(), peer);
        let dialled = tokio::select! {
            dialled = dial(config, peer, &endpoint, hello) => dialled,
            () = registered_elsewhere(images.clone(), peer, before.clone()) => continue,
        };
        match dialled {
            Ok((socket, address, minor)) => {
                config.peers.reached(peer);
                info!("Connected to broker {peer} ({address})");
                (failing, backoff) = (false, Backoff::new());
                let error = follow(config, peer, socket, hello, minor).await;
                config.peers.lost(peer);
                info!(%error, "Disconnected from broker {peer} ({address})");
            }
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "Failed to connect to broker {peer} ({}:{}); trying on", endpoint.host, endpoint.port);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = contacted(&mut contacts, peer) => backoff = Backoff::new(),
            () = moved(&mut images, peer, before) => backoff = Backoff::new(),
        }
    }
}

/// Waits until this broker is registered and the peer is a member, and says what to say to whom.
async fn introduction(
    config: &ReplicationConfig,
    images: &mut watch::Receiver<Image>,
    peer: BrokerId,
    generation: &mut u32,
) -> Option<(Hello, Endpoint)> {
    let epoch = config.controller.registration().wait_for(|r| r.epoch.is_some()).await.ok()?.epoch?;
    let known = |image: &Image| Some((image.cluster_id?, image.brokers.get(&peer)?.replication.clone()));
    let (cluster, endpoint): (ClusterId, Endpoint) = known(&*images.wait_for(|i| known(i).is_some()).await.ok()?)?;
    *generation = generation.wrapping_add(1);
    let stream = StreamId::new(epoch, *generation);
    let hello = Hello { cluster, from: config.me, broker_epoch: epoch, directory: config.directory, to: peer, stream };
    Some((hello, endpoint))
}

/// Returns the minor version of who answered, too.
async fn dial(
    config: &ReplicationConfig,
    peer: BrokerId,
    endpoint: &Endpoint,
    hello: Hello,
) -> Result<(TcpStream, SocketAddr, u16), FrameError> {
    let mut socket = config.peers.dial(peer, endpoint, DIAL_MAX).await?;
    let address = socket.peer_addr()?;
    let (mut small, mut out) = (BytesMut::new(), Vec::new());
    Frame::Hello(hello).encode(&mut small, &mut out);
    socket.write_all(&small).await?;
    let answer = Frame::read(&mut socket, HANDSHAKE_FRAME, HANDSHAKE_MAX).await;
    if let Ok(Frame::Welcome { from, minor }) = answer
        && from == peer
    {
        return Ok((socket, address, minor));
    }
    // Whoever that was, the name may know better than the address that was tried.
    config.peers.mistaken(peer, address.ip());
    match answer? {
        Frame::Refused { reason } => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason).into()),
        _ => Err(FrameError::Magic),
    }
}

/// Serves the connection until it ends, and says why it did.
async fn follow(
    config: &ReplicationConfig,
    leader: BrokerId,
    socket: TcpStream,
    hello: Hello,
    minor: u16,
) -> FrameError {
    let stream = hello.stream;
    let (read, write) = socket.into_split();
    let (frames, queue) = mpsc::unbounded_channel();
    let account = Arc::new(CreditAccount::default());
    let link = LeaderLink::new(leader, stream, frames, minor);
    config.owners.broadcast(|| Input::LeaderConnected(link.clone()));
    drop(link);
    let read = BufReader::with_capacity(16 << 10, read);
    let ended = tokio::select! {
        ended = receiver::run(read, stream, &account, &config.owners) => ended,
        ended = write_loop(write, queue, Some(Arc::clone(&account))) => ended.map_err(FrameError::from),
        () = registered_again(config, hello.broker_epoch) => {
            Err(io::Error::other("this broker has a newer registration").into())
        }
    };
    config.owners.broadcast(|| Input::LeaderGone { leader, stream });
    ended.err().unwrap_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted).into())
}

/// A connection speaks for the registration that its handshake named.
async fn registered_again(config: &ReplicationConfig, epoch: BrokerEpoch) {
    if config.controller.registration().wait_for(|r| r.epoch.is_some_and(|e| e != epoch)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn contacted(contacts: &mut broadcast::Receiver<BrokerId>, peer: BrokerId) {
    loop {
        match contacts.recv().await {
            Ok(who) if who == peer => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What about a peer makes another dial worth while when it changes.
type Standing = Option<(Option<BrokerEpoch>, bool, Endpoint)>;

fn standing(image: &Image, peer: BrokerId) -> Standing {
    image.brokers.get(&peer).map(|b: &Broker| (b.epoch, b.fenced, b.replication.clone()))
}

/// The peer has registered: where it was looked for before that may be a name that leads nowhere yet.
async fn registered_elsewhere(mut images: watch::Receiver<Image>, peer: BrokerId, before: Standing) {
    let place = |standing: Standing| standing.map(|(epoch, _, endpoint)| (epoch, endpoint));
    let before = place(before);
    if images.wait_for(|image| place(standing(image, peer)) != before).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn moved(images: &mut watch::Receiver<Image>, peer: BrokerId, before: Standing) {
    if images.wait_for(|image| standing(image, peer) != before).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_comes_within_25_ms_and_no_later_one_after_more_than_a_second() {
        let mut backoff = Backoff::new();
        let first = backoff.next();
        assert!((Duration::from_millis(10)..=RETRY_FIRST).contains(&first), "{first:?}");
        for _ in 0..100 {
            let wait = backoff.next();
            assert!((Duration::from_millis(10)..=RETRY_MAX).contains(&wait), "{wait:?}");
        }
    }
}
