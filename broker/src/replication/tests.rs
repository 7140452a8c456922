//! What a round over many partitions costs in events and frames, with a log on a disk and without sockets where these do
//! not matter.

use super::acks;
use super::config::{HANDSHAKE_FRAME, HANDSHAKE_MAX, ReplicationConfig};
use super::frame::{Ack, Frame, Hello, MINOR, MINOR_ACKS};
use super::link::{Credit, FollowerLink, LeaderLink};
use super::manager::WalReplicationManager;
use crate::partitions::{
    self, FetchError, FetchSpec, Input, Owners, PartitionMetrics, Partitions, PartitionsConfig, ReadError,
};
use bytes::BytesMut;
use chronik_core::cluster::{Broker, Endpoint, Image, Partition, SupportedVersions, Topic};
use chronik_core::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, MetadataOffset, Offset, PartitionEpoch, PartitionId,
    ProducerId, TopicId, TopicPartition,
};
use chronik_core::record::RecordBatch;
use chronik_core::record::testing::BatchBuilder;
use chronik_core::replication::{Acks, Config, FollowerMessage, LeaderMessage, StreamId};
use chronik_log::{Log, Op, Options, RealDisk, Writer};
use chronik_quorum::ControllerHandle;
use chronik_quorum::events::{MetadataEvent, MetadataUpdate};
use chronik_quorum::handle::Registration;
use chronik_quorum::peers::Peers;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A test that runs into it hangs.
const DEADLINE: Duration = Duration::from_mins(1);
const ME: BrokerId = BrokerId(0);
const PEERS: [BrokerId; 2] = [BrokerId(1), BrokerId(2)];
const EPOCH: LeaderEpoch = LeaderEpoch(3);
const BROKER_EPOCH: BrokerEpoch = BrokerEpoch(1);
const PARTITIONS: i32 = 100;

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(index) }
}

fn batch() -> RecordBatch {
    BatchBuilder::new(1).payload(20).build()
}

/// An owner over a log of its own.
struct Bench {
    owners: Owners,
    partitions: Partitions,
    writer: Writer,
    /// What goes to a follower that subscribes to nothing.
    fence: mpsc::UnboundedReceiver<Frame>,
    _guard: DropGuard,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
        let reader = log.reader();
        let (writer, _) = Writer::spawn(log, |error| panic!("{error}"));
        let (requests, _) = mpsc::unbounded_channel();
        let (images, registration) = (watch::channel(Image::default()).1, watch::channel(Registration::default()).1);
        let stop = CancellationToken::new();
        let config = PartitionsConfig {
            me: ME,
            cluster: None,
            owners: 1,
            replication: Config {
                lag_time_max: DEADLINE,
                stall_time_max: DEADLINE,
                window_bytes: 1 << 20,
                read_bytes: 1 << 20,
            },
            writer: writer.clone(),
            reader,
            recovered: HashMap::new(),
            producer_bytes: 1 << 20,
            controller: ControllerHandle::new(requests, images, registration, watch::channel(None).1),
            metrics: PartitionMetrics::register(&mut Registry::default()),
            stop: stop.clone(),
        };
        let (partitions, owners) = partitions::start(config, &TaskTracker::new());
        let (link, fence) = follower(BrokerId(99));
        owners.broadcast(|| Input::FollowerConnected(link.clone()));
        owners.broadcast(|| Input::Lease(Instant::now() + DEADLINE));
        Self { owners, partitions, writer, fence, _guard: stop.drop_guard(), _dir: dir }
    }

    /// Makes one of the brokers the leader of each partition.
    fn led_by(&self, leader: impl Fn(i32) -> BrokerId) {
        self.led_in(EPOCH, leader);
    }

    fn led_in(&self, leader_epoch: LeaderEpoch, leader: impl Fn(i32) -> BrokerId) {
        let mut image = Image::default();
        for id in [ME].into_iter().chain(PEERS) {
            image.brokers.insert(id, broker(id));
        }
        let partitions = (0..PARTITIONS).map(|index| Partition {
            replicas: [&[ME][..], &PEERS].concat(),
            isr: [&[ME][..], &PEERS].concat(),
            elr: Box::default(),
            adding: Box::default(),
            removing: Box::default(),
            leader: Some(leader(index)),
            leader_epoch,
            partition_epoch: PartitionEpoch(leader_epoch.0),
        });
        let topic = Topic {
            id: partition(0).topic,
            name: "topic".into(),
            partitions: partitions.collect(),
            configs: imbl::OrdMap::new(),
            min_insync_replicas: 3,
            default_min_insync_replicas: 3,
            older_producers: ProducerId(0),
        };
        image.topics.insert(topic.id, topic);
        let events = (0..PARTITIONS).map(|index| MetadataEvent::PartitionChanged(partition(index))).collect();
        let update = Arc::new(MetadataUpdate { image, events });
        self.owners.broadcast(|| Input::Metadata(Arc::clone(&update)));
    }

    /// Brings the owner of a partition what its leader says.
    fn leader_says(&self, index: i32, stream: StreamId, message: LeaderMessage) {
        let partition = partition(index);
        let input = Input::FromLeader { partition, leader_epoch: EPOCH, stream, message, credit: None };
        self.owners.send(partition, input);
    }

    fn follower_says(&self, partition: TopicPartition, follower: BrokerId, message: FollowerMessage) {
        let (broker_epoch, leader_epoch, stream) = (BROKER_EPOCH, EPOCH, stream(follower));
        let input = Input::FromFollower { partition, follower, broker_epoch, leader_epoch, stream, message };
        self.owners.send(partition, input);
    }

    /// Waits until all that was brought to the one owner is done: it answers who asks for what it does not hold.
    async fn is_done(&mut self) {
        let message = FollowerMessage::Subscribe { log_end: Offset(0), last_epoch: None, log_start: None };
        self.follower_says(partition(-1), BrokerId(99), message);
        next(&mut self.fence).await;
    }

    /// Lets no round begin until the sender is dropped.
    fn hold(&self) -> blocking::Sender<()> {
        let ((answering, waits), (held, released)) = (blocking::channel(), blocking::channel());
        let op = Op::Append { partition: partition(-2), batch: batch().assign(Offset(0), EPOCH) };
        let answer = move || {
            answering.send(()).unwrap_or_default();
            released.recv().unwrap_or_default();
        };
        self.writer.submit(op, Box::new(answer));
        waits.recv_timeout(DEADLINE).expect("a round");
        held
    }
}

fn broker(id: BrokerId) -> Broker {
    let endpoint = Endpoint { host: "broker".into(), port: 9092 };
    Broker {
        id,
        epoch: Some(BROKER_EPOCH),
        directory: None,
        incarnation: None,
        fenced_at: MetadataOffset(0),
        fenced: false,
        cordoned: false,
        stopping: false,
        kafka: endpoint.clone(),
        replication: endpoint,
        rack: None,
        versions: SupportedVersions::HERE,
    }
}

/// The one connection with a peer.
fn stream(peer: BrokerId) -> StreamId {
    StreamId::new(BROKER_EPOCH, peer.0 as u32)
}

fn follower(id: BrokerId) -> (FollowerLink, mpsc::UnboundedReceiver<Frame>) {
    let (frames, queue) = mpsc::unbounded_channel();
    let credit = Arc::new(Credit::default());
    (FollowerLink { follower: id, broker_epoch: BROKER_EPOCH, stream: stream(id), frames, credit }, queue)
}

async fn next<T>(queue: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(DEADLINE, queue.recv()).await.expect("in time").expect("its sender is there")
}

/// Follows two leaders of half of the partitions each, all in one round, and says how many frames each of them got to hear
/// that all is synced.
async fn frames_of_a_round(minor: u16) -> Vec<usize> {
    let mut bench = Bench::new();
    let mut queues = Vec::new();
    for peer in PEERS {
        let (frames, queue) = mpsc::unbounded_channel();
        let link = LeaderLink::new(peer, stream(peer), frames, minor);
        bench.owners.broadcast(|| Input::LeaderConnected(link.clone()));
        queues.push(queue);
    }
    let leader = |index: i32| PEERS[usize::from(index % 2 == 0)];
    bench.led_by(leader);
    for index in 0..PARTITIONS {
        let started = LeaderMessage::Started { high_watermark: Offset(0), log_start: Offset(0) };
        bench.leader_says(index, stream(leader(index)), started);
    }
    bench.is_done().await;
    for queue in &mut queues {
        // Subscriptions, and acknowledgements of nothing.
        while queue.try_recv().is_ok() {}
    }
    let held = bench.hold();
    for index in 0..PARTITIONS {
        let batches = vec![batch().assign(Offset(0), EPOCH), batch().assign(Offset(1), EPOCH)];
        let message =
            LeaderMessage::Batches { from: Offset(0), batches, high_watermark: Offset(0), log_start: Offset(0) };
        bench.leader_says(index, stream(leader(index)), message);
    }
    bench.is_done().await;
    assert!(queues.iter_mut().all(|queue| queue.try_recv().is_err()), "nothing is synced yet");
    drop(held);
    let mut counts = Vec::new();
    for (queue, peer) in queues.iter_mut().zip(PEERS) {
        let mut lacking: BTreeSet<_> = (0..PARTITIONS).filter(|index| leader(*index) == peer).map(partition).collect();
        let mut frames = 0;
        while !lacking.is_empty() {
            for (partition, durable) in acknowledged(next(queue).await) {
                assert!(durable == Offset(2) && lacking.remove(&partition), "{partition} once, with all of it");
            }
            frames += 1;
        }
        counts.push(frames);
    }
    counts
}

fn acknowledged(frame: Frame) -> Vec<(TopicPartition, Offset)> {
    match frame {
        Frame::Acks(acks) => acks.into_iter().map(|ack| (ack.partition, ack.durable)).collect(),
        Frame::FromFollower { partition, message: FollowerMessage::Ack { durable, .. }, .. } => {
            vec![(partition, durable)]
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_follower_acknowledges_a_round_in_one_frame_to_each_leader() {
    assert_eq!(frames_of_a_round(MINOR).await, [1, 1]);
}

#[tokio::test]
async fn a_leader_of_a_former_release_gets_a_frame_for_each_partition() {
    assert_eq!(frames_of_a_round(MINOR_ACKS - 1).await, [PARTITIONS as usize / 2; 2]);
}

fn ack(index: i32, durable: i64) -> Ack {
    let end = Offset(durable);
    Ack { partition: partition(index), leader_epoch: EPOCH, appended: end, durable: end, log_start: Offset(0) }
}

#[tokio::test]
async fn a_frame_of_acknowledgements_is_one_event_for_each_owner() {
    let (inputs, mut queues): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
    let owners = Owners::new(inputs);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
    let mut near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
    let (far, _) = listener.accept().await.expect("it was dialled");
    let (mut small, mut out) = (BytesMut::new(), Vec::new());
    Frame::Acks((0..PARTITIONS).map(|index| ack(index, 1)).collect()).encode(&mut small, &mut out);
    near.write_all(&small).await.expect("it is read");
    drop(near);
    let (link, _frames) = follower(PEERS[0]);
    acks::run(far.into_split().0, &link, &owners).await.expect_err("the connection ends");
    let mut all = BTreeMap::new();
    for (owner, queue) in queues.iter_mut().enumerate() {
        let Ok(Input::Acks { follower, broker_epoch, stream, acks }) = queue.try_recv() else {
            panic!("owner {owner} has some of them");
        };
        assert_eq!((follower, broker_epoch, stream), (link.follower, link.broker_epoch, link.stream));
        assert!(acks.iter().all(|ack| Partitions::owner_of(ack.partition, 3) == owner));
        all.extend(acks.into_iter().map(|ack| (ack.partition, ack)));
        assert!(queue.try_recv().is_err(), "one for each owner");
    }
    let sent: BTreeMap<_, _> = (0..PARTITIONS).map(|index| (partition(index), ack(index, 1))).collect();
    assert_eq!(all, sent);
}

#[tokio::test]
async fn producers_are_answered_when_all_followers_have_acknowledged_many_partitions_at_once() {
    let mut bench = Bench::new();
    let links = PEERS.map(follower);
    for (link, _) in &links {
        bench.owners.broadcast(|| Input::FollowerConnected(link.clone()));
    }
    bench.led_by(|_| ME);
    for index in 0..PARTITIONS {
        for peer in PEERS {
            let log_start = Some(Offset(0));
            let message = FollowerMessage::Subscribe { log_end: Offset(0), last_epoch: None, log_start };
            bench.follower_says(partition(index), peer, message);
        }
    }
    bench.is_done().await;
    let produce = |index| bench.partitions.produce(partition(index), batch(), Acks::All, Arc::new(()));
    let mut answers: Vec<_> = (0..PARTITIONS).map(produce).collect();
    for (_, mut frames) in links {
        let mut lacking = PARTITIONS;
        while lacking > 0 {
            let frame = next(&mut frames).await;
            lacking -= i32::from(matches!(frame, Frame::FromLeader { message: LeaderMessage::Batches { .. }, .. }));
        }
    }
    let acks = |follower: BrokerId, partitions: std::ops::Range<i32>| Input::Acks {
        follower,
        broker_epoch: BROKER_EPOCH,
        stream: stream(follower),
        acks: partitions.map(|index| ack(index, 1)).collect(),
    };
    // Who asks about a partition that is not there learns that, and the others are heard.
    bench.owners.send(partition(0), acks(PEERS[0], -1..PARTITIONS));
    bench.is_done().await;
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "one follower has not got it");
    bench.owners.send(partition(0), acks(PEERS[1], 0..PARTITIONS));
    for answer in answers {
        let produced = tokio::time::timeout(DEADLINE, answer).await.expect("in time").expect("its owner is there");
        assert_eq!(produced.map(|produced| produced.base_offset), Ok(Offset(0)));
    }
}

/// What a reader asks for that knows of this epoch, and names that of the last record that it has.
fn reads(offset: i64, current_epoch: LeaderEpoch, last_fetched_epoch: Option<LeaderEpoch>) -> FetchSpec {
    FetchSpec {
        offset: Offset(offset),
        max_bytes: 1000,
        at_least_one: true,
        current_epoch: Some(current_epoch),
        last_fetched_epoch,
        from_follower: true,
        uncommitted: false,
        nearby: Vec::new(),
        waiter: None,
    }
}

/// A new leader that has too few in sync does not know what is committed, for as long as that lasts.
#[tokio::test]
async fn who_has_read_what_is_known_to_be_committed_waits_without_an_error() {
    let mut bench = Bench::new();
    bench.led_by(|_| ME);
    bench.is_done().await;
    let produced = bench.partitions.produce(partition(0), batch(), Acks::Leader, Arc::new(()));
    tokio::time::timeout(DEADLINE, produced).await.expect("in time").expect("its owner is there").expect("appended");
    let next_epoch = LeaderEpoch(EPOCH.0 + 1);
    bench.led_in(next_epoch, |_| ME);
    bench.is_done().await;
    let fetch = async |offset| {
        let fetched = bench.partitions.fetch(partition(0), reads(offset, next_epoch, None)).await;
        fetched.map(|fetched| (fetched.high_watermark, fetched.batches.len()))
    };
    for offset in [0, 1] {
        assert_eq!(fetch(offset).await.expect("no error"), (None, 0), "offset {offset}");
    }
    let beyond = fetch(2).await.expect_err("there is no such offset yet");
    assert!(matches!(beyond, FetchError::Read(ReadError::OffsetNotAvailable)), "{beyond:?}");
}

/// What it had before was committed, and is removed: there is nothing that could have gone another way.
#[tokio::test]
async fn a_follower_that_begins_anew_serves_readers_that_name_the_epoch_of_what_they_have() {
    let bench = Bench::new();
    let (leader, at) = (PEERS[0], Offset(54));
    let (frames, mut queue) = mpsc::unbounded_channel();
    let link = LeaderLink::new(leader, stream(leader), frames, MINOR);
    bench.owners.broadcast(|| Input::LeaderConnected(link.clone()));
    bench.led_by(|_| leader);
    bench.leader_says(0, stream(leader), LeaderMessage::BeginAt { at, producers: None });
    let begins = |frame: Frame| {
        let Frame::FromFollower { partition: tp, message, .. } = frame else { return false };
        tp == partition(0) && matches!(message, FollowerMessage::Subscribe { log_end, .. } if log_end == at)
    };
    while !begins(next(&mut queue).await) {}
    bench.leader_says(0, stream(leader), LeaderMessage::Started { high_watermark: at, log_start: at });
    let is_synced = |frame: Frame, end| match frame {
        Frame::FromFollower { message: FollowerMessage::Subscribe { .. }, .. } => false,
        frame => acknowledged(frame).contains(&(partition(0), end)),
    };
    while !is_synced(next(&mut queue).await, at) {}
    let fetch = async |offset, last| {
        let fetched = bench.partitions.fetch(partition(0), reads(offset, EPOCH, Some(LeaderEpoch(last)))).await;
        fetched.map(|fetched| (fetched.high_watermark, fetched.batches.len(), fetched.diverging))
    };
    for last in [1, EPOCH.0] {
        assert_eq!(fetch(54, last).await, Ok((Some(at), 0, None)), "it waits for what comes next");
        assert_eq!(fetch(53, last).await, Err(FetchError::OutOfRange { log_start: at }));
        assert_eq!(fetch(55, last).await, Err(ReadError::OffsetNotAvailable.into()));
    }
    let (batches, end) = (vec![batch().assign(at, EPOCH)], Offset(55));
    let message = LeaderMessage::Batches { from: at, batches, high_watermark: end, log_start: at };
    bench.leader_says(0, stream(leader), message);
    while !is_synced(next(&mut queue).await, end) {}
    assert_eq!(fetch(54, 1).await, Ok((Some(end), 1, None)), "its records are older than all that is here");
    assert_eq!(fetch(55, 1).await, Err(ReadError::NotLeader.into()), "it has another record at 54");
    assert_eq!(fetch(55, EPOCH.0).await, Ok((Some(end), 0, None)));
}

/// That it has gone another way would be wrong, and so would be that nothing is amiss: it would ask again and again.
#[tokio::test]
async fn who_has_read_in_an_epoch_that_there_was_not_yet_is_told_so() {
    let mut bench = Bench::new();
    bench.led_by(|_| ME);
    bench.is_done().await;
    let newer = reads(0, EPOCH, Some(LeaderEpoch(EPOCH.0 + 1)));
    let says_nothing_of_the_leader = FetchSpec { current_epoch: None, ..newer.clone() };
    let gone = FetchError::OutOfRange { log_start: Offset(0) };
    for (spec, error) in [(newer, gone), (says_nothing_of_the_leader, ReadError::UnknownLeaderEpoch.into())] {
        let fetched = bench.partitions.fetch(partition(0), spec).await;
        assert_eq!(fetched.map(|fetched| fetched.diverging), Err(error));
    }
}

/// Who is out of all others' reach goes by that.
#[tokio::test]
async fn a_connection_that_another_broker_has_made_counts_for_as_long_as_it_lasts() {
    let (cluster, directory) = (ClusterId::default(), DirectoryId::default());
    let mut image = Image { cluster_id: Some(cluster), ..Image::default() };
    image.brokers.insert(PEERS[0], Broker { directory: Some(directory), ..broker(PEERS[0]) });
    let (requests, _) = mpsc::unbounded_channel();
    // It is not registered, and dials nobody.
    let (images, registration) = (watch::channel(image).1, watch::channel(Registration::default()).1);
    let (owner, _inputs) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let config = ReplicationConfig {
        me: ME,
        directory,
        peers: Peers::default(),
        controller: ControllerHandle::new(requests, images, registration, watch::channel(None).1),
        owners: Owners::new(vec![owner]),
        stop: stop.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    let manager = WalReplicationManager::start(&config, listener);
    let mut followers = manager.followers();
    let mut counts = async |count: usize| {
        let counted = tokio::time::timeout(DEADLINE, followers.wait_for(|now| *now == count)).await;
        assert!(counted.expect("in time").is_ok(), "it accepts");
    };
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let hello =
        Hello { cluster, from: PEERS[0], broker_epoch: BROKER_EPOCH, directory, to: ME, stream: stream(PEERS[0]) };
    let (mut small, mut out) = (BytesMut::new(), Vec::new());
    Frame::Hello(hello).encode(&mut small, &mut out);
    socket.write_all(&small).await.expect("it reads");
    let answer = Frame::read(&mut socket, HANDSHAKE_FRAME, HANDSHAKE_MAX).await;
    assert!(matches!(answer, Ok(Frame::Welcome { from: ME, .. })), "{answer:?}");
    counts(1).await;
    drop(socket);
    counts(0).await;
    stop.cancel();
    tokio::time::timeout(DEADLINE, manager.stopped()).await.expect("it stops");
}
