//! The replication manager: owns every replication connection of this broker, to its leaders (it dials them)
//! and from its followers (they dial it).

use super::config::{HANDSHAKE_FRAME, HANDSHAKE_MAX, ReplicationConfig};
use super::connection;
use super::frame::{Frame, FrameError, Hello, MINOR};
use super::link::{Credit, FollowerLink};
use super::{acks, sender};
use crate::partitions::Input;
use bytes::BytesMut;
use chronik_core::ids::BrokerId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Every replication connection of this broker.
pub struct WalReplicationManager {
    tasks: TaskTracker,
    followers: watch::Receiver<usize>,
}

/// A connection that another broker has made, among those that there are.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn among(followers: &watch::Sender<usize>) -> Self {
        followers.send_modify(|count| *count += 1);
        Self(followers.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl WalReplicationManager {
    /// Accepts followers on `listener` and dials every other member of the cluster, as they come and go.
    pub fn start(config: &ReplicationConfig, listener: TcpListener) -> Self {
        let tasks = TaskTracker::new();
        let (counted, followers) = watch::channel(0);
        tasks.spawn(accept(config.clone(), listener, tasks.clone(), counted));
        tasks.spawn(dial_members(config.clone(), tasks.clone()));
        Self { tasks, followers }
    }

    /// How many connections other brokers have to this one.
    pub fn followers(&self) -> watch::Receiver<usize> {
        self.followers.clone()
    }

    /// Waits until every task has seen the stop.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A connection to each other member, for as long as it is one, whatever is shared with it: that it is missing, or that nobody
/// has dialled this broker, says something to those who share nothing too.
async fn dial_members(config: ReplicationConfig, tasks: TaskTracker) {
    let mut images = config.controller.images();
    let mut kept: BTreeMap<BrokerId, DropGuard> = BTreeMap::new();
    loop {
        {
            let image = images.borrow_and_update();
            kept.retain(|peer, _| image.brokers.contains_key(peer));
            for peer in image.brokers.keys().filter(|id| **id != config.me) {
                kept.entry(*peer).or_insert_with(|| {
                    let stop = config.stop.child_token();
                    tasks.spawn(connection::keep(config.clone(), *peer, stop.clone()));
                    stop.drop_guard()
                });
            }
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = config.stop.cancelled() => return,
        }
    }
}

async fn accept(config: ReplicationConfig, listener: TcpListener, tasks: TaskTracker, followers: watch::Sender<usize>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = config.stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                let (config, followers) = (config.clone(), followers.clone());
                tasks.spawn(async move {
                    let stop = config.stop.clone();
                    tokio::select! {
                        () = serve(&config, socket, address, &followers) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                warn!(%error, "Cannot accept a replication connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One follower's connection, from handshake to end.
async fn serve(
    config: &ReplicationConfig,
    mut socket: TcpStream,
    address: SocketAddr,
    followers: &watch::Sender<usize>,
) {
    let hello = match timeout(HANDSHAKE_MAX, welcome(config, &mut socket)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            // A connection that says nothing is a probe of the port, of which there may be many.
            if !matches!(&error, FrameError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof) {
                warn!(%address, %error, "Refused a replication connection");
            }
            return;
        }
        Err(_) => {
            warn!(%address, "Closed a replication connection that did not introduce itself");
            return;
        }
    };
    let follower = hello.from;
    let _counted = Counted::among(followers);
    config.peers.contacted(follower, address.ip());
    config.peers.reached(follower);
    info!("Connected to follower {follower} ({address})");
    let (frames, queue) = mpsc::unbounded_channel();
    let credit = Arc::new(Credit::default());
    let link = FollowerLink { follower, broker_epoch: hello.broker_epoch, stream: hello.stream, frames, credit };
    config.owners.broadcast(|| Input::FollowerConnected(link.clone()));
    let (read, write) = socket.into_split();
    let ended = tokio::select! {
        ended = acks::run(read, &link, &config.owners) => ended,
        ended = sender::run(write, queue) => ended.map_err(FrameError::from),
    };
    config.peers.lost(follower);
    config.owners.broadcast(|| Input::FollowerGone { follower, stream: hello.stream });
    let reason = ended.err().map(|e| e.to_string()).unwrap_or_default();
    info!(reason, "Disconnected from follower {follower} ({address})");
}

/// Reads the handshake and answers it. A stranger gets the reason why it is refused.
async fn welcome(config: &ReplicationConfig, socket: &mut TcpStream) -> Result<Hello, FrameError> {
    socket.set_nodelay(true)?;
    let hello = match Frame::read(socket, HANDSHAKE_FRAME, HANDSHAKE_MAX).await {
        Ok(Frame::Hello(hello)) => hello,
        Ok(_) => return Err(FrameError::Magic),
        Err(error @ FrameError::Version(_)) => {
            // Every version knows this answer.
            answer(socket, &Frame::Refused { reason: error.to_string() }).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let refusal = refusal(config, &hello).await;
    let frame = match &refusal {
        None => Frame::Welcome { from: config.me, minor: MINOR },
        Some(reason) => Frame::Refused { reason: reason.clone() },
    };
    answer(socket, &frame).await?;
    match refusal {
        None => Ok(hello),
        Some(reason) => Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, reason).into()),
    }
}

async fn answer(socket: &mut TcpStream, frame: &Frame) -> std::io::Result<()> {
    let (mut small, mut out) = (BytesMut::new(), Vec::new());
    frame.encode(&mut small, &mut out);
    socket.write_all(&small).await
}

async fn refusal(config: &ReplicationConfig, hello: &Hello) -> Option<String> {
    if hello.to != config.me {
        return Some(format!("this is broker {}, not broker {}", config.me, hello.to));
    }
    // The dialler may have seen its registration in the metadata log before this broker has.
    let mut images = config.controller.images();
    let knows = images.wait_for(|image| {
        image.cluster_id.is_some_and(|id| id != hello.cluster)
            || image.brokers.get(&hello.from).is_some_and(|b| b.epoch >= Some(hello.broker_epoch))
    });
    let image = match timeout(HANDSHAKE_MAX / 2, knows).await {
        Ok(Ok(image)) => image.clone(),
        _ => return Some(format!("broker {} is not known here by that registration", hello.from)),
    };
    if image.cluster_id != Some(hello.cluster) {
        return Some(format!("this broker belongs to cluster {}", image.cluster_id.unwrap_or_default()));
    }
    let broker = image.brokers.get(&hello.from)?;
    if broker.epoch != Some(hello.broker_epoch) {
        return Some(format!("broker {} has registered again since", hello.from));
    }
    (broker.directory != Some(hello.directory))
        .then(|| format!("broker {} registered another data directory", hello.from))
}
