//! The accept loop.

use super::frames::FrameLimits;
use super::per_ip::PerIp;
use super::unread::Unread;
use super::{Shared, connection};
use crate::api::{Handlers, ListenerName, RequestContext, ServerConfig};
use crate::coordinators::Coordinators;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::rooms::Rooms;
use chronik_quorum::ControllerHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How long to wait after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to end when the broker stops.
const STOP: Duration = Duration::from_secs(6);

/// A bound listener for clients.
#[derive(Debug)]
pub struct ClientListener {
    /// Its name in upper case; `None` for the one whose addresses brokers register.
    pub name: Option<Arc<str>>,
    /// Where clients come.
    pub socket: TcpListener,
}

/// Serves Kafka clients of all these listeners until `stop` is cancelled; returns when the connections have ended.
pub async fn serve(
    listeners: Vec<ClientListener>,
    config: ServerConfig,
    partitions: Partitions,
    controller: ControllerHandle,
    coordinators: Coordinators,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (max_connections, lasting) = (config.max_connections, config.lasting_hosts.clone());
    let images = controller.images();
    let per_ip = PerIp::new(config.me, config.connections_per_ip.clone(), controller.images());
    let shared = Arc::new(Shared {
        rooms: Rooms::new(config.request_budget_bytes),
        decoded: Rooms::new(config.request_budget_bytes / 2),
        unread: Unread::new(config.request_budget_bytes / 2),
        frame_limits: FrameLimits { max_bytes: config.max_request_bytes, stall: config.stall_timeout },
        idle: config.idle_timeout,
        metrics: metrics.clone(),
        api: Arc::new(Handlers::new(config, partitions, controller, coordinators, metrics.errors())),
    });
    metrics.watch_budget(shared.rooms.clone());
    let connections = TaskTracker::new();
    let loops = listeners.into_iter().map(|ClientListener { name, socket }| {
        let name = name.map_or_else(|| ListenerName::First(lasting.clone()), ListenerName::Further);
        accept(socket, name, (max_connections, &per_ip), &shared, &connections, &stop)
    });
    let follow = async {
        if let Some(lasting) = &lasting {
            let _ = stop.run_until_cancelled(lasting.follow(images)).await;
        }
    };
    futures::future::join(futures::future::join_all(loops), follow).await;
    connections.close();
    let _ = timeout(STOP, connections.wait()).await;
}

/// With a reset: franz-go takes an end before its first answer for a refusal that is final, and not for one that passes.
fn refuse(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Connections at most are those of all listeners together.
async fn accept(
    listener: TcpListener,
    name: ListenerName,
    (max_connections, per_ip): (usize, &PerIp),
    shared: &Arc<Shared>,
    connections: &TaskTracker,
    stop: &CancellationToken,
) {
    let (mut failing, mut full, mut full_for_one) = (false, false, false);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot accept connections");
                    failing = true;
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if failing {
            info!("accepting connections again");
            failing = false;
        }
        if connections.len() >= max_connections {
            if !full {
                warn!(max_connections, %client, "refusing connections: there are as many as max.connections allows");
                full = true;
            }
            refuse(&stream);
            continue;
        }
        full = false;
        let Some(one_of) = per_ip.one_more(client.ip()) else {
            if !full_for_one {
                warn!(%client, "refusing connections: its address has as many as max.connections.per.ip allows");
                full_for_one = true;
            }
            refuse(&stream);
            continue;
        };
        full_for_one = false;
        // Without it, small answers would wait for the client's acknowledgement of the ones before.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let counted = shared.metrics.connection();
        let context = RequestContext::new(client, name.clone());
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        connections.spawn(async move {
            connection::run(stream, client, context, shared, stop).await;
            drop((counted, one_of));
        });
    }
}
