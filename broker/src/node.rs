//! One broker from start to stop: opens the log, listens on every port, joins the controller quorum, and serves.
//! Nothing here waits for a peer but readiness.

use crate::api::LastingHosts;
use crate::cleaner::{self, CleanerConfig, CleanerMetrics};
use crate::cluster_metrics::ClusterMetrics;
use crate::config::{self, Config};
use crate::coordinators::{self, CoordinatorMetrics, CoordinatorsConfig};
use crate::damage;
use crate::disk_space;
use crate::found_damage;
use crate::handing_over;
use crate::health::{self, Probes, Readiness, Recovery};
use crate::identity::Identity;
use crate::lags;
use crate::log_metrics::LogStateMetrics;
use crate::metrics::{Metrics, ScrubMetrics};
use crate::open_files::OpenFiles;
use crate::partitions::{self, DiskMetrics, LogMetrics, PartitionMetrics, Partitions, PartitionsConfig};
use crate::replication::{CATCH_UP_BYTES, ReplicationConfig, WalReplicationManager};
use crate::retention::{self, RetentionConfig};
use crate::scrub::{self, ScrubConfig};
use crate::segments;
use crate::server::{self, ClientListener, ServerConfig};
use crate::unreached;
use anyhow::Context;
use chronik_core::cluster::Member;
use chronik_core::ids::BrokerId;
use chronik_core::replication;
use chronik_log::{Log, LogError, LogReader, Options, RealDisk, RecoveredPartition, Writer, create_dir_all};
use chronik_quorum::peers::Peers;
use chronik_quorum::{
    Controller, ControllerConfig, ControllerHandle, Damages, DiskSpace, LagsQuestion, Starter, Timings,
};
use prometheus_client::registry::Registry;
use rustix::io::Errno;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// The log's folder in the data directory.
pub(crate) const LOG_DIR: &str = "log";
/// The folder of the metadata log in a data directory.
pub(crate) const METADATA_DIR: &str = "metadata";
/// Record bytes of one partition on their way to one follower at most.
const WINDOW_BYTES: usize = 4 << 20;
/// Record bytes of one catch-up read at most.
const READ_BYTES: usize = 1 << 20;
/// Nor fewer, however many owners read at the same time: what comes in pieces of less than 256 KiB (`write_once_bytes`) a
/// follower writes twice, and a read ends with a whole batch.
const READ_BYTES_LEAST: usize = 512 << 10;
/// What is kept free of a disk at most, if nobody says how much.
const MAX_DISK_RESERVE: u64 = 1 << 30;
/// How long a process runs until the host that outlives it is advertised. A node learns of a pod behind a Service
/// within two seconds, a busy one later.
const LASTING_AFTER: Duration = Duration::from_secs(10);
/// Bytes of a log's ballast at most: more than a start takes.
const MAX_BALLAST: u64 = 64 << 20;
/// Tasks that own partitions at most.
const OWNERS_MAX: usize = 8;
/// Connections that may wait to be accepted, as far as the kernel allows (`net.core.somaxconn`). When all clients come
/// back at once, who finds no room among them tries again a second later.
const BACKLOG: u32 = 4096;
/// How long the parts may take to stop.
const STOP_MAX: Duration = Duration::from_secs(8);

/// The ports that are opened when the log is open.
struct Listeners {
    kafka: Vec<ClientListener>,
    replication: TcpListener,
    controller: TcpListener,
    admin: TcpListener,
}

/// Runs the broker until `asked_to_stop`: then it hands over what it leads, and stops.
pub async fn run(config: Config, asked_to_stop: CancellationToken) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (mut node, mut identity) = Node::start(&config, stop.clone(), asked_to_stop.clone()).await?;
    let mut failed = node.controller.failed();
    let ended = tokio::select! {
        ended = node.watch_standing(&mut identity, config.id) => ended,
        reason = failed.wait_for(Option::is_some) => {
            Err(anyhow::anyhow!("the metadata log cannot be written: {}", reason?.as_deref().unwrap_or_default()))
        }
        () = asked_to_stop.cancelled() => {
            let why = "stopping: what this broker leads is handed over".into();
            node.probes.set(Readiness::NotReady(why));
            handing_over::run(&node.controller, config.id).await;
            Ok(())
        }
    };
    stop.cancel();
    node.stop().await?;
    info!("Stopped");
    ended
}

/// A running broker's parts.
struct Node {
    controller: Controller,
    replication: WalReplicationManager,
    tasks: TaskTracker,
    writer: Writer,
    writer_thread: JoinHandle<()>,
    cleaner: JoinHandle<()>,
    probes: Probes,
}

impl Node {
    /// `stop` ends its parts; `asked_to_stop` is for whoever asks it to stop.
    async fn start(
        config: &Config,
        stop: CancellationToken,
        asked_to_stop: CancellationToken,
    ) -> anyhow::Result<(Self, Identity)> {
        let started = Instant::now();
        info!(broker = config.id.0, version = env!("CARGO_PKG_VERSION"), "Starting");
        let (tasks, recovery) = (TaskTracker::new(), Arc::new(Recovery::begin()));
        let (probes, shown) = Probes::new(Arc::clone(&recovery));
        tasks.spawn(health::serve(bind("listen.http", config.listen.http)?, shown, stop.clone()));
        let dir = &config.data_dir;
        create_dir_all(&RealDisk, dir).with_context(|| format!("cannot make data_dir {}", dir.display()))?;
        let mut registry = Registry::with_prefix("chronik");
        let mut identity = Identity::load(dir, config.id)?;
        let files = OpenFiles::divide(config.max_connections);
        damage::is_there(&dir.join(LOG_DIR), &mut identity, config.members.len() > 1)?;
        let alternatives = config.members.iter().map(|m| (m.id, m.alternative_hosts.clone())).collect();
        let peers = Peers::new(alternatives).with_others(config.others_alternative_hosts.clone());
        let told = tell_start(config, &identity, &peers, &recovery);
        let (log, states) = open_whole_log(config, files, &mut identity, &recovery)?;
        drop(told);
        info!(partitions = states.len(), elapsed = ?started.elapsed(), "Opened the log");
        let (reader, segment_limits) = (log.reader(), log.segment_limits());
        LogStateMetrics::register(&mut registry, reader.clone(), started.elapsed());
        let log_metrics = LogMetrics::register(&mut registry);
        let (writer, writer_thread) =
            Writer::spawn_observed(log, move |round| log_metrics.observe(round), |e| end_process(&e));
        let disk = disk_space::watch(dir, &tasks, stop.clone());
        DiskMetrics::register(&mut registry, writer.clone(), disk.clone());

        let listeners = listeners(config)?;
        let (lags, lags_asked) = mpsc::channel(chronik_quorum::LAGS_QUESTIONS);
        let seen = Seen { disk, damages: found_damage::watch(reader.clone(), &tasks, stop.clone()), lags };
        let quorum = controller_config(config, &identity, &peers, listeners.controller, seen, asked_to_stop, &writer);
        let controller = chronik_quorum::start(quorum).await?;
        let handle = controller.handle();
        tasks.spawn(chronik_quorum::admin::serve(listeners.admin, controller.admin(), stop.clone()));
        tasks.spawn(ClusterMetrics::register(&mut registry, config.id, &handle));
        let owners = std::thread::available_parallelism().map_or(1, |n| n.get().min(OWNERS_MAX));
        let partitions_config = PartitionsConfig {
            me: config.id,
            cluster: identity.cluster_id(),
            owners,
            replication: replication_config(config, owners),
            writer: writer.clone(),
            reader: reader.clone(),
            recovered: states,
            producer_bytes: config.producer_state_bytes,
            controller: handle.clone(),
            metrics: PartitionMetrics::register(&mut registry),
            stop: stop.clone(),
        };
        let (partitions, owners) = partitions::start(partitions_config, &tasks);
        tasks.spawn(lags::answer(lags_asked, partitions.clone(), stop.clone()));
        tasks.spawn(partitions::feed(owners.clone(), controller.subscribe(), handle.clone()));

        let segments = (segment_limits, writer.clone());
        tasks.spawn(segments::run(config.id, config.segment_bytes, segments, handle.images(), stop.clone()));
        let upkeep =
            Upkeep { config, partitions: &partitions, reader, writer: &writer, controller: &handle, stop: &stop };
        let cleaner = upkeep.start(&tasks, &mut registry).context("cannot start the cleaner's thread")?;
        let replication_config = ReplicationConfig {
            me: config.id,
            directory: identity.directory_id(),
            peers: peers.clone(),
            controller: handle.clone(),
            owners,
            stop: stop.clone(),
        };
        let replication = WalReplicationManager::start(&replication_config, listeners.replication);
        let followers = replication.followers();
        tasks.spawn(unreached::run(config.id, config.session_timeout, handle.clone(), followers, stop.clone()));
        let coordinators_config = CoordinatorsConfig {
            me: config.id,
            partitions: partitions.clone(),
            controller: handle.clone(),
            groups: config.groups.clone(),
            member_bytes: config.request_budget_bytes.saturating_mul(2),
            offset_bytes: config.request_budget_bytes.saturating_mul(2),
            topic: config.offsets_topic,
            shown: config.group_metrics,
            metrics: CoordinatorMetrics::register(&mut registry),
            stop: stop.clone(),
        };
        let coordinators = coordinators::start(coordinators_config, &tasks);
        let metrics = Metrics::register(&mut registry);
        probes.opened(registry, config.id, handle.clone());
        let kafka = server::serve(
            listeners.kafka,
            server_config(config, &peers, files),
            partitions,
            handle,
            coordinators,
            metrics,
            stop,
        );
        tasks.spawn(kafka);
        info!(elapsed = ?started.elapsed(), kafka = %config.listen.kafka, "Listening");
        Ok((Self { controller, replication, tasks, writer, writer_thread, cleaner, probes }, identity))
    }

    /// Follows this broker's standing with the controller: says whether it is ready, and remembers its cluster.
    async fn watch_standing(&mut self, identity: &mut Identity, me: BrokerId) -> anyhow::Result<()> {
        let handle = self.controller.handle();
        let cluster = handle.images().wait_for(|image| image.cluster_id.is_some()).await?.cluster_id;
        identity.belongs_to(cluster.unwrap_or_default())?;
        let mut registration = handle.registration();
        let mut was_serving = false;
        loop {
            let standing = *registration.borrow_and_update();
            if standing.epoch.is_some() {
                identity.is_registered()?;
            }
            let serves_now = standing.unfenced;
            match (was_serving, serves_now) {
                (false, true) => {
                    info!("Broker {me} is registered and serves");
                    self.probes.set(Readiness::Ready(Instant::now()));
                }
                (true, false) => {
                    info!("Broker {me} is fenced by the controller");
                    self.probes.set(Readiness::NotReady("fenced by the controller".into()));
                }
                _ => {}
            }
            was_serving = serves_now;
            registration.changed().await?;
        }
    }

    /// Out of the quorum and of service first, so that nothing new is begun; then the log, which keeps what was.
    async fn stop(self) -> anyhow::Result<()> {
        let stopped = async {
            self.controller.shutdown().await;
            self.replication.stopped().await;
            self.tasks.close();
            self.tasks.wait().await;
            // It panics in a debug build alone, which has said so.
            let _ = tokio::task::spawn_blocking(move || self.cleaner.join()).await;
        };
        if tokio::time::timeout(STOP_MAX, stopped).await.is_err() {
            error!("Some tasks did not stop in time");
        }
        self.writer.close();
        let joined = tokio::task::spawn_blocking(move || self.writer_thread.join()).await;
        anyhow::ensure!(matches!(joined, Ok(Ok(()))), "the log's writer did not end as it should");
        Ok(())
    }
}

/// What the parts need that look after old records: those that leave, the scrub, and the cleaner.
struct Upkeep<'a> {
    config: &'a Config,
    partitions: &'a Partitions,
    reader: LogReader<RealDisk>,
    writer: &'a Writer,
    controller: &'a ControllerHandle,
    stop: &'a CancellationToken,
}

impl Upkeep<'_> {
    /// Returns the cleaner's thread.
    fn start(self, tasks: &TaskTracker, registry: &mut Registry) -> io::Result<JoinHandle<()>> {
        let Self { config, partitions, reader, writer, controller, stop } = self;
        let retention_config = RetentionConfig {
            me: config.id,
            partitions: partitions.clone(),
            reader: reader.clone(),
            controller: controller.clone(),
            every: config.retention_check_interval,
            space: writer.space().clone(),
        };
        tasks.spawn(retention::run(retention_config, stop.clone()));
        tasks.spawn(scrub::run(scrub_config(config, reader.clone(), registry), stop.clone()));
        let cleaner_config = CleanerConfig {
            me: config.id,
            limits: config.cleaner,
            partitions: partitions.clone(),
            reader,
            writer: writer.clone(),
            controller: controller.clone(),
            metrics: CleanerMetrics::register(registry),
        };
        cleaner::start(cleaner_config, stop.clone())
    }
}

/// A failed sync is never retried: what the page cache says after it cannot be trusted.
fn end_process(error: &LogError) {
    error!(%error, "The log cannot be written; this broker ends rather than acknowledge what is not on the disk");
    std::process::exit(1);
}

fn replication_config(config: &Config, owners: usize) -> replication::Config {
    // A former leader that has not heard of its successor is waited for until its lease is over.
    let lease = Timings::with_session(config.session_timeout).lease;
    let lag_time_max = config.replica_lag_time_max.max(lease);
    replication::Config {
        lag_time_max,
        // By then the controller should have fenced it, which also moves what it leads.
        stall_time_max: (config.disk_stall_timeout * 3 / 2).clamp(lease, lag_time_max),
        window_bytes: WINDOW_BYTES,
        read_bytes: (CATCH_UP_BYTES / owners).clamp(READ_BYTES_LEAST, READ_BYTES),
    }
}

/// Tells the other brokers how far the start is, until that is dropped.
fn tell_start(config: &Config, identity: &Identity, peers: &Peers, recovery: &Arc<Recovery>) -> DropGuard {
    let starter = Starter {
        me: config.id,
        peers: peers.clone(),
        others: config.members.iter().map(|m| (m.id, m.controller.clone())).collect(),
        cluster_id: identity.cluster_id(),
    };
    let (stop, recovery) = (CancellationToken::new(), Arc::clone(recovery));
    let stopped = stop.clone();
    tokio::spawn(async move { stopped.run_until_cancelled(starter.tell(|| recovery.so_far())).await });
    stop.drop_guard()
}

/// Opens the log, and cuts off what the disk has lost of it.
fn open_whole_log(
    config: &Config,
    files: OpenFiles,
    identity: &mut Identity,
    recovery: &Recovery,
) -> anyhow::Result<(Log<RealDisk>, damage::LogStates)> {
    let dir = &config.data_dir;
    let (mut log, recovered) = open_log(dir, config, files)?;
    identity.begin_process(dir)?;
    let found = damage::inspect(&log, recovered, recovery, config.producer_state_bytes)?;
    let (_, states) = damage::repair(&mut log, found, identity, config.members.len() > 1)?;
    Ok((log, states))
}

fn open_log(
    data_dir: &Path,
    config: &Config,
    files: OpenFiles,
) -> anyhow::Result<(Log<RealDisk>, Vec<RecoveredPartition>)> {
    let options = options(data_dir, config, files);
    Log::open(RealDisk, &data_dir.join(LOG_DIR), options)
        .with_context(|| format!("cannot open the log in {}", data_dir.display()))
}

fn options(data_dir: &Path, config: &Config, files: OpenFiles) -> Options {
    let whole = rustix::fs::statvfs(data_dir).map_or(u64::MAX, |found| found.f_blocks.saturating_mul(found.f_frsize));
    let reserve_bytes = config.disk_reserve_bytes.unwrap_or_else(|| (whole / 20).min(MAX_DISK_RESERVE));
    Options {
        segment_bytes: config.segment_bytes as u64,
        max_open_files: files.log,
        reserve_bytes,
        ballast_bytes: (reserve_bytes / 4).min(MAX_BALLAST),
        open_with_wal_loss: config.members.len() > 1,
        producer_expiration_ms: config.producer_expiration_ms,
        ..Options::default()
    }
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen_on(address).with_context(|| format!("{key}: cannot listen on {address}; is another broker running there?"))
}

fn listeners(config: &Config) -> anyhow::Result<Listeners> {
    let listen = config.listen;
    let mut kafka = vec![ClientListener { name: None, socket: bind("listen.kafka", listen.kafka)? }];
    for (name, address) in &config.listeners {
        let socket = bind(&format!("listeners.{name}"), *address)?;
        kafka.push(ClientListener { name: Some(Arc::clone(name)), socket });
    }
    Ok(Listeners {
        kafka,
        replication: bind("listen.replication", listen.replication)?,
        controller: bind("listen.controller", listen.controller)?,
        admin: bind("listen.admin", listen.admin)?,
    })
}

/// Binds an address. On a host without IPv6, every address is every IPv4 address.
fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        Err(error) if lacks_ipv6(address, &error) => listen((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        listening => listening,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted broker takes its port back although connections of the one before are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let absent = matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL));
    absent && address.ip() == Ipv6Addr::UNSPECIFIED
}

fn server_config(config: &Config, peers: &Peers, files: OpenFiles) -> ServerConfig {
    ServerConfig {
        max_request_bytes: config.max_request_bytes,
        request_budget_bytes: config.request_budget_bytes,
        max_message_bytes: config.max_message_bytes,
        auto_create_topics: config.auto_create_topics,
        delete_topics: config.delete_topics,
        consumer_groups: config.consumer_groups,
        groups: config.groups.clone(),
        replica_selector: config.replica_selector,
        timestamps: config.timestamps,
        default_partitions: config.topics.partitions,
        default_replication_factor: config.topics.replication_factor,
        default_min_insync_replicas: config.topics.min_insync_replicas,
        advertised: Some(config.me().kafka.clone()),
        lasting_hosts: config.lasting_hosts.as_deref().map(|hosts| Arc::new(LastingHosts::new(hosts, LASTING_AFTER))),
        max_connections: files.connections,
        connections_per_ip: config.connections_per_ip.clone(),
        fetch_max_bytes: config.fetch_max_bytes,
        fetch_session_slots: config.fetch_session_slots,
        described_partitions: config.described_partitions,
        idle_timeout: config.connections_max_idle,
        data_dir: config.data_dir.clone(),
        properties: config.properties(),
        peers: peers.clone(),
        ..ServerConfig::new(config.id)
    }
}

fn scrub_config(config: &Config, reader: LogReader<RealDisk>, registry: &mut Registry) -> ScrubConfig {
    ScrubConfig {
        reader,
        data_dir: config.data_dir.clone(),
        rate: config.scrub_rate,
        metrics: ScrubMetrics::register(registry),
    }
}

/// What is seen of the disk, and how replicas are asked about, for the controller's leader.
struct Seen {
    disk: watch::Receiver<Option<DiskSpace>>,
    damages: watch::Receiver<Arc<Damages>>,
    lags: mpsc::Sender<LagsQuestion>,
}

fn controller_config(
    config: &Config,
    identity: &Identity,
    peers: &Peers,
    listener: TcpListener,
    seen: Seen,
    stop: CancellationToken,
    writer: &Writer,
) -> ControllerConfig {
    let member = |m: &config::Member| Member {
        id: m.id,
        kafka: m.kafka.clone(),
        replication: m.replication.clone(),
        // Of the others nothing is known before they register.
        rack: config.rack.clone().filter(|_| m.id == config.id),
    };
    let is_voter = |m: &&config::Member| config.voters.contains(&m.id);
    ControllerConfig {
        me: member(config.me()),
        endpoint: config.me().controller.clone(),
        voters: config.members.iter().filter(is_voter).map(|m| (m.id, m.controller.clone())).collect(),
        members: config.members.iter().map(member).collect(),
        seeds: config.members.iter().map(|m| (m.id, m.controller.clone())).collect(),
        listener,
        dir: config.data_dir.join(METADATA_DIR),
        cluster_id: identity.cluster_id(),
        directory: identity.directory_id(),
        incarnation: identity.incarnation(),
        known_incarnations: identity.known_incarnations(),
        damaged: identity.damaged(),
        timings: Timings::with_session(config.session_timeout),
        defaults: chronik_quorum::TopicDefaults {
            partitions: config.topics.partitions,
            replication_factor: config.topics.replication_factor,
            min_insync_replicas: config.topics.min_insync_replicas as i32,
        },
        peers: peers.clone(),
        disk: seen.disk,
        damages: seen.damages,
        lags: seen.lags,
        stop,
        data_disk: writer.pulse().clone(),
        disk_stall_timeout: config.disk_stall_timeout,
        leader_balance: config.leader_balance.enabled.then_some(config.leader_balance.when),
        snapshot_entries: chronik_quorum::SNAPSHOT_ENTRIES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_without_ipv6_is_given_ipv4_and_only_for_every_address() {
        for (address, error, lacks) in [
            ("[::]:9092", Errno::AFNOSUPPORT, true),
            ("[::]:9092", Errno::ADDRNOTAVAIL, true),
            ("[::]:9092", Errno::ADDRINUSE, false),
            ("[::1]:9092", Errno::ADDRNOTAVAIL, false),
            ("0.0.0.0:9092", Errno::ADDRNOTAVAIL, false),
        ] {
            let error = io::Error::from(error);
            assert_eq!(lacks_ipv6(address.parse().unwrap(), &error), lacks, "{address}: {error}");
        }
    }

    #[tokio::test]
    async fn a_listener_on_every_address_takes_ipv4() {
        let listener = listen_on("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }

    /// Nobody accepts: who finds no room would be kept waiting for good.
    #[tokio::test]
    async fn many_clients_may_come_at_once() {
        let listener = listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let all = async {
            let mut clients = Vec::new();
            while clients.len() < 400 {
                clients.push(tokio::net::TcpStream::connect(address).await.unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("room for all");
    }
}
