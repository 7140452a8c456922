//! One broker from start to stop: opens the log, listens on every port, joins the controller quorum, and serves.
//! Nothing here waits for a peer but readiness.

use crate::config::{Config, Member};
use crate::controller::{self, ControllerConfig, ControllerHandle};
use crate::health::{self, Readiness};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::partitions::{self, PartitionMetrics, PartitionsConfig};
use crate::peers::Peers;
use crate::replication::{ReplicationConfig, WalReplicationManager};
use crate::server::{self, ServerConfig};
use anyhow::Context;
use chronik_core::ids::BrokerId;
use chronik_core::replication;
use chronik_log::{Log, Options, RealDisk, RecoveredPartition, Writer};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// Record bytes of one partition on their way to one follower at most.
const WINDOW_BYTES: usize = 4 << 20;
/// Record bytes of one catch-up read.
const CATCH_UP_BYTES: usize = 1 << 20;
/// How long the parts may take to stop.
const STOP_MAX: Duration = Duration::from_secs(8);

/// The four ports, bound.
struct Listeners {
    kafka: TcpListener,
    replication: TcpListener,
    controller: TcpListener,
    http: TcpListener,
}

/// Runs the broker until `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    info!(broker = config.id.0, version = env!("CARGO_PKG_VERSION"), "Starting");
    let data_dir = config.data_dir.clone();
    std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot make data_dir {}", data_dir.display()))?;
    let (log, recovered) = open_log(&data_dir, &config)?;
    let mut identity = Identity::load(&data_dir, config.id)?;
    info!(partitions = recovered.len(), elapsed = ?started.elapsed(), "Opened the log");
    let reader = log.reader();
    let (writer, writer_thread) = Writer::spawn(log, |error| {
        // A failed sync is never retried: what the page cache says after it cannot be trusted.
        error!(%error, "The log cannot be written; this broker ends so that nothing is acknowledged that is not on the disk");
        std::process::exit(1);
    });

    let listeners = bind(&config).await?;
    let tasks = TaskTracker::new();
    let mut registry = Registry::with_prefix("chronik");
    let metrics = Metrics::register(&mut registry);
    let partition_metrics = PartitionMetrics::register(&mut registry);
    let (readiness, ready) = watch::channel(Readiness::NotReady("starting".into()));
    tasks.spawn(health::serve(listeners.http, Arc::new(registry), ready, stop.clone()));

    let peers = Peers::default();
    let controller = controller::start(controller_config(&config, &identity, &peers, listeners.controller)).await?;
    let handle = controller.handle();
    let updates = controller.subscribe();

    let partitions_config = PartitionsConfig {
        me: config.id,
        owners: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
        replication: replication::Config {
            lag_time_max: config.replica_lag_time_max,
            window_bytes: WINDOW_BYTES,
            read_bytes: CATCH_UP_BYTES,
        },
        writer: writer.clone(),
        reader,
        recovered,
        controller: handle.clone(),
        metrics: partition_metrics,
        stop: stop.clone(),
    };
    let (partitions, owners) = partitions::start(&partitions_config, &tasks)?;
    tasks.spawn(partitions::feed(owners.clone(), updates, handle.clone()));

    let replication_config = ReplicationConfig {
        me: config.id,
        directory: identity.directory_id(),
        peers,
        controller: handle.clone(),
        owners,
        stop: stop.clone(),
    };
    let members: Vec<BrokerId> = config.members.iter().map(|m| m.id).collect();
    let manager = WalReplicationManager::start(&replication_config, listeners.replication, &members);
    let served =
        server::serve(listeners.kafka, server_config(&config), partitions, handle.clone(), metrics, stop.clone());
    tasks.spawn(served);
    info!(elapsed = ?started.elapsed(), kafka = %config.listen.kafka, "Listening");

    let ended = tokio::select! {
        ended = watch_standing(&handle, &readiness, &mut identity, config.id) => ended,
        () = stop.cancelled() => Ok(()),
    };
    stop.cancel();
    // Out of the quorum and of service first, so that nothing new is begun; then the log, which keeps what was.
    let stopped = async {
        controller.shutdown().await;
        manager.stopped().await;
        tasks.close();
        tasks.wait().await;
    };
    if tokio::time::timeout(STOP_MAX, stopped).await.is_err() {
        error!("Some tasks did not stop in time");
    }
    writer.close();
    let joined = tokio::task::spawn_blocking(move || writer_thread.join()).await;
    anyhow::ensure!(matches!(joined, Ok(Ok(()))), "the log's writer did not end as it should");
    info!("Stopped");
    ended
}

fn open_log(data_dir: &Path, config: &Config) -> anyhow::Result<(Log<RealDisk>, Vec<RecoveredPartition>)> {
    let options = Options { segment_bytes: config.segment_bytes as u64, ..Options::default() };
    Log::open(RealDisk, &data_dir.join("log"), options)
        .with_context(|| format!("cannot open the log in {}", data_dir.display()))
}

async fn bind(config: &Config) -> anyhow::Result<Listeners> {
    let bind = async |key: &'static str, address: SocketAddr| {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("listen.{key}: cannot listen on {address}; is another broker running there?"))
    };
    let listen = config.listen;
    Ok(Listeners {
        kafka: bind("kafka", listen.kafka).await?,
        replication: bind("replication", listen.replication).await?,
        controller: bind("controller", listen.controller).await?,
        http: bind("http", listen.http).await?,
    })
}

/// Follows this broker's standing with the controller: says whether it is ready, and remembers its cluster.
async fn watch_standing(
    controller: &ControllerHandle,
    readiness: &watch::Sender<Readiness>,
    identity: &mut Identity,
    me: BrokerId,
) -> anyhow::Result<()> {
    let mut images = controller.images();
    let cluster = images.wait_for(|image| image.cluster_id.is_some()).await?.cluster_id;
    if let Some(cluster) = cluster {
        identity.belongs_to(cluster)?;
    }
    readiness.send_replace(Readiness::NotReady("not registered with the controller yet".into()));
    let mut registration = controller.registration();
    let mut serving = None;
    loop {
        let unfenced = registration.borrow_and_update().unfenced;
        if serving != Some(unfenced) {
            if unfenced {
                info!("Broker {me} is registered and serves");
                readiness.send_replace(Readiness::Ready);
            } else if serving.is_some() {
                info!("Broker {me} is fenced by the controller");
                readiness.send_replace(Readiness::NotReady("fenced by the controller".into()));
            }
            serving = Some(unfenced).filter(|s| *s || serving.is_some());
        }
        registration.changed().await?;
    }
}

fn server_config(config: &Config) -> ServerConfig {
    ServerConfig {
        max_request_bytes: config.max_request_bytes,
        request_budget_bytes: config.request_budget_bytes,
        max_message_bytes: config.max_message_bytes,
        auto_create_topics: config.auto_create_topics,
        default_partitions: config.topics.partitions,
        default_replication_factor: config.topics.replication_factor,
        max_connections: config.max_connections,
        idle_timeout: config.connections_max_idle,
        properties: config.properties(),
        ..ServerConfig::new(config.id)
    }
}
fn controller_config(_: &Config, _: &Identity, _: &Peers, _: TcpListener) -> ControllerConfig {
    ControllerConfig
}
