//! Quorums of real controllers: real sockets on loopback, real disks in a temporary directory.

use super::*;
use crate::events::MetadataUpdate;
use crate::peers::Peers;
use chronik_core::cluster::{Change, Image, LeaderBalanceConfig, Member};
use chronik_core::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, PartitionId, TopicId, TopicPartition,
};
use chronik_core::replication::Lag;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod admin;
mod balance;
mod delays;
mod elections;
mod failures;
mod handover;
mod lost_leader;
mod random;
mod requests;
mod start;
mod voters;

/// Whatever is waited for is there long before, on a loaded machine too; a test that runs into it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// Brokers' places: directories that outlive processes, and ports that stay.
struct Cluster {
    dir: TempDir,
    /// Controller ports, by broker.
    controllers: Vec<SocketAddr>,
    /// Where others reach the controller ports.
    reached_at: Vec<SocketAddr>,
    /// Replication ports, by broker.
    replication: Vec<SocketAddr>,
    directories: Vec<DirectoryId>,
    /// The cluster that the data directories know, of processes that start from now on.
    known: Option<ClusterId>,
    voters: usize,
    /// The first brokers, which know each other. The others join, and know of one broker each.
    first: usize,
    /// Whom those that join know.
    known_member: usize,
    timings: Timings,
    leader_balance: Option<LeaderBalanceConfig>,
    snapshot_entries: u64,
    /// Whether each broker's disk is at something.
    disks: Vec<chronik_log::Pulse>,
    /// What each broker's log has lost.
    damages: Vec<watch::Sender<Arc<Damages>>>,
    /// What is lost on the way between brokers.
    cuts: cuts::Cuts,
}

/// One running process.
struct Broker {
    id: BrokerId,
    controller: Controller,
    updates: Updates,
    peers: Peers,
    /// What makes its replication port accept.
    replication: std::net::TcpListener,
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string().into(), port: address.port() }
}

/// Ports that nobody listens on: each once, and below those that the kernel gives to outgoing connections, one of which
/// might sit on the port of a broker that is down.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static OWN: LazyLock<(u16, File)> = LazyLock::new(own_ports);
    let next = || {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(n < PORTS, "more ports than one process has");
        SocketAddr::from((Ipv4Addr::LOCALHOST, OWN.0 + n))
    };
    std::iter::repeat_with(next).filter(|address| std::net::TcpListener::bind(address).is_ok()).take(count).collect()
}

/// How many ports a process has for itself.
const PORTS: u16 = 1_000;

/// The first port that is this process's own, for as long as it holds the file: tests of another checkout may run at
/// the same time, and take the port of a broker that is down.
fn own_ports() -> (u16, File) {
    let folder = std::env::temp_dir().join("chronik-controller-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = |first: u16| {
        let file = File::create(folder.join(first.to_string())).unwrap();
        file.try_lock().ok().map(|()| (first, file))
    };
    (2_000..9_000).step_by(PORTS.into()).find_map(lock).expect("ports that no other process has")
}

impl Cluster {
    fn of(brokers: usize) -> Self {
        let controllers = free_ports(brokers);
        Self {
            dir: tempfile::tempdir().unwrap(),
            reached_at: controllers.clone(),
            controllers,
            replication: free_ports(brokers),
            directories: (0..brokers).map(|_| DirectoryId(Uuid::new_v4())).collect(),
            known: None,
            voters: brokers.min(3),
            first: brokers,
            known_member: 0,
            timings: Timings::default(),
            leader_balance: None,
            snapshot_entries: SNAPSHOT_ENTRIES,
            disks: (0..brokers).map(|_| chronik_log::Pulse::default()).collect(),
            damages: (0..brokers).map(|_| watch::channel(Arc::default()).0).collect(),
            cuts: cuts::Cuts::default(),
        }
    }

    /// In which a stall of the machine fences nobody: only whose port refuses is fenced.
    fn patient(brokers: usize) -> Self {
        let session = DEADLINE * 2;
        Self { timings: Timings { session, lease: session / 2, ..Timings::default() }, ..Self::of(brokers) }
    }

    /// With elections that take a minute by themselves: a leader that is replaced sooner was not merely missed.
    fn with_slow_elections(self) -> Self {
        let (election_min, election_max) = (DEADLINE, DEADLINE * 2);
        Self { timings: Timings { election_min, election_max, ..self.timings }, ..self }
    }

    /// Of which only the first brokers know each other; each other one joins by whom it knows.
    fn growing(first: usize, brokers: usize) -> Self {
        Self { first, voters: first.min(3), ..Self::patient(brokers) }
    }

    fn controller_port(&self, id: usize) -> (BrokerId, Endpoint) {
        (BrokerId(id as i32), endpoint(self.reached_at[id]))
    }

    fn member(&self, id: usize) -> Member {
        let replication = endpoint(self.replication[id]);
        Member { id: BrokerId(id as i32), kafka: replication.clone(), replication, rack: None }
    }

    async fn config(&self, id: usize) -> ControllerConfig {
        let address = self.controllers[id];
        let listener = eventually("the port is free", || async { TcpListener::bind(address).await.ok() }).await;
        let is_first = id < self.first;
        let seeds = if is_first { 0..self.first } else { self.known_member..self.known_member + 1 };
        ControllerConfig {
            me: self.member(id),
            endpoint: endpoint(self.reached_at[id]),
            voters: (0..if is_first { self.voters } else { 0 }).map(|i| self.controller_port(i)).collect(),
            members: seeds.clone().map(|i| self.member(i)).collect(),
            seeds: seeds.map(|i| self.controller_port(i)).collect(),
            listener,
            dir: self.dir.path().join(id.to_string()),
            cluster_id: self.known,
            directory: self.directories[id],
            incarnation: IncarnationId(Uuid::new_v4()),
            known_incarnations: Vec::new(),
            damaged: Vec::new(),
            timings: self.timings,
            defaults: TopicDefaults { partitions: 1, replication_factor: 3, min_insync_replicas: 2 },
            peers: Peers::default().called_by(cuts::Caller(Some((BrokerId(id as i32), self.cuts.clone())))),
            disk: watch::channel(Some(DiskSpace { total: 100, free: 40 })).1,
            damages: self.damages[id].subscribe(),
            lags: self.knows_lags(),
            stop: CancellationToken::new(),
            data_disk: self.disks[id].clone(),
            disk_stall_timeout: self.timings.session,
            leader_balance: self.leader_balance,
            snapshot_entries: self.snapshot_entries,
        }
    }

    /// What a broker knows of each follower of what it leads: it lacks 70 offsets and as many more as its id is.
    fn knows_lags(&self) -> mpsc::Sender<LagsQuestion> {
        let (questions, mut asked) = mpsc::channel::<LagsQuestion>(LAGS_QUESTIONS);
        let brokers = self.controllers.len() as i32;
        tokio::spawn(async move {
            while let Some(LagsQuestion { partitions, reply }) = asked.recv().await {
                let lag = |id: i32| Lag {
                    follower: BrokerId(id),
                    behind: Some(70 + id as u64),
                    for_at_least: Duration::from_secs(7),
                };
                let of = |partition| (0..brokers).map(move |id| FollowerLag { partition, lag: lag(id) });
                // Who asked may have had to wait too long.
                let _ = reply.send(partitions.into_iter().flat_map(of).collect());
            }
        });
        questions
    }

    async fn start(&self, id: usize) -> Broker {
        let address = self.replication[id];
        let bind = || async { std::net::TcpListener::bind(address).ok() };
        let replication = eventually("the port is free", bind).await;
        let config = self.config(id).await;
        let peers = config.peers.clone();
        let controller = start(config).await.unwrap();
        self.cuts.runs(BrokerId(id as i32), controller.handle().registration());
        Broker { id: BrokerId(id as i32), updates: controller.subscribe(), controller, peers, replication }
    }

    async fn start_all(&self) -> Vec<Broker> {
        futures::future::join_all((0..self.controllers.len()).map(|id| self.start(id))).await
    }

    /// Its metadata log is gone, and nothing else.
    fn empty(&self, id: usize) {
        std::fs::remove_dir_all(self.dir.path().join(id.to_string())).unwrap();
    }

    /// Its disk is replaced by an empty one.
    fn wipe(&mut self, id: usize) {
        self.empty(id);
        self.directories[id] = DirectoryId(Uuid::new_v4());
    }
}

impl Broker {
    async fn stop(self) {
        drop(self.replication);
        self.controller.shutdown().await;
    }

    fn handle(&self) -> ControllerHandle {
        self.controller.handle()
    }

    /// Waits for an image.
    async fn sees(&self, what: &str, mut condition: impl FnMut(&Image) -> bool) -> Image {
        let mut images = self.handle().images();
        let seen = tokio::time::timeout(DEADLINE, images.wait_for(|image| condition(image))).await;
        let image = seen.map(|image| image.unwrap().clone());
        image.unwrap_or_else(|_| panic!("broker {}: not in {DEADLINE:?}: {what}; {:?}", self.id, self.handle().image()))
    }

    /// Serves, and sees exactly these brokers alive. (Before it serves, its image may be one of long ago.)
    async fn sees_alive(&self, ids: &[i32]) -> Image {
        self.is_serving().await;
        let alive = |image: &Image| image.brokers.values().filter(|b| !b.fenced).count();
        self.sees(&format!("exactly {ids:?} are alive"), |image| {
            alive(image) == ids.len() && ids.iter().all(|id| image.alive(BrokerId(*id)).is_some())
        })
        .await
    }

    async fn has(&self, what: &str, condition: impl FnMut(&Registration) -> bool) -> Registration {
        let mut registration = self.handle().registration();
        let seen = tokio::time::timeout(DEADLINE, registration.wait_for(condition)).await;
        *seen.unwrap_or_else(|_| panic!("broker {}: not in {DEADLINE:?}: {what}", self.id)).unwrap()
    }

    /// Serving: registered, unfenced, and with a lease.
    async fn is_serving(&self) -> Registration {
        self.has("it serves", |r| r.unfenced && r.lease_until.is_some_and(|until| until > std::time::Instant::now()))
            .await
    }

    async fn create_topic(&self, name: &str, replication_factor: i16) -> Result<TopicId, TopicError> {
        self.handle().create_topic(topic(name, replication_factor), DEADLINE).await
    }

    async fn leader(&self) -> BrokerId {
        eventually("there is a leader", || async { self.handle().leader() }).await
    }
}

fn topic(name: &str, replication_factor: i16) -> CreateTopic {
    CreateTopic {
        name: name.into(),
        partitions: None,
        replication_factor: Some(replication_factor),
        assignments: BTreeMap::new(),
        configs: BTreeMap::new(),
        validate_only: false,
    }
}

fn first_of(topic: TopicId) -> TopicPartition {
    TopicPartition { topic, partition: PartitionId(0) }
}

/// Tries until there is something.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let tries = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.unwrap_or_else(|_| panic!("not in {DEADLINE:?}: {what}"))
}

async fn next(updates: &mut Updates) -> MetadataUpdate {
    tokio::time::timeout(DEADLINE, updates.recv()).await.expect("an update comes").expect("the broker runs")
}

async fn stop_all(brokers: Vec<Broker>) {
    futures::future::join_all(brokers.into_iter().map(Broker::stop)).await;
}
