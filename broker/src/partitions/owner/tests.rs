//! What one owner does, without a task of its own.

use super::super::series::Series;
use super::*;
use chronik_core::cluster::{Broker, Endpoint, Partition, SupportedVersions, Topic};
use chronik_core::ids::{BrokerEpoch, MetadataOffset, PartitionEpoch, PartitionId, ProducerId, TopicId};
use chronik_core::record::testing::BatchBuilder;
use chronik_core::replication::Acks;
use chronik_log::{Log, Op, Options};
use chronik_quorum::Registration;
use tokio::sync::{oneshot, watch};

const ME: BrokerId = BrokerId(0);
const TP: TopicPartition = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(0) };

fn image() -> Image {
    image_in(1)
}

/// This broker leads the partition in that epoch, and has its only replica.
fn image_in(epoch: i32) -> Image {
    let partition = Partition {
        replicas: vec![ME],
        isr: vec![ME],
        elr: Box::default(),
        adding: Box::default(),
        removing: Box::default(),
        leader: Some(ME),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
    };
    let topic = Topic {
        id: TP.topic,
        name: "t".into(),
        partitions: std::iter::once(partition).collect(),
        configs: imbl::OrdMap::new(),
        min_insync_replicas: 1,
        default_min_insync_replicas: 1,
        older_producers: ProducerId(0),
    };
    let mut image = Image::default();
    let endpoint = Endpoint { host: "broker".into(), port: 9092 };
    let broker = Broker {
        id: ME,
        epoch: Some(BrokerEpoch(1)),
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
    };
    image.brokers.insert(ME, broker);
    image.topic_ids.insert(topic.name.clone(), topic.id);
    image.topics.insert(topic.id, topic);
    image
}

/// The owner of what is in that log, and what is to reach it.
fn owner(log: Log<RealDisk>, recovered: HashMap<TopicPartition, LogState>) -> (Owner, mpsc::UnboundedReceiver<Input>) {
    let reader = log.reader();
    let (writer, _thread) = Writer::spawn(log, |_| {});
    let (images, registration) = (watch::channel(image()).1, watch::channel(Registration::default()).1);
    let controller = ControllerHandle::new(mpsc::unbounded_channel().0, images, registration, watch::channel(None).1);
    let metrics = PartitionMetrics::default();
    let (inputs, reach) = mpsc::unbounded_channel();
    let shell = Shell {
        me: ME,
        cluster: None,
        index: 0,
        config: Arc::new(Config {
            lag_time_max: Duration::from_secs(10),
            stall_time_max: Duration::from_secs(10),
            window_bytes: 1 << 20,
            read_bytes: 1 << 20,
        }),
        tail_bytes: 1 << 20,
        writer,
        reader,
        controller,
        owners: Owners::new(vec![inputs]),
        producers: ProducerMemory::new(1 << 20, 1, &metrics),
        metrics,
        throttle: Arc::default(),
        origin: std::time::Instant::now(),
    };
    let mut owner = Owner::new(shell, recovered);
    let events = vec![MetadataEvent::PartitionChanged(TP)];
    owner.input(Input::Metadata(Arc::new(MetadataUpdate { image: image(), events })));
    (owner, reach)
}

#[tokio::test]
async fn what_a_repair_cuts_off_is_kept_aside_before_it_is_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
    let batches = [0, 1, 2].map(|base| BatchBuilder::new(1).build().assign(Offset(base), LeaderEpoch(1)));
    let ops = batches.clone().map(|batch| Op::Append { partition: TP, batch });
    log.commit(&ops).and_then(|()| log.apply(&ops)).expect("the disk is whole");
    let reader = log.reader();
    let state = crate::partitions::log_state(&reader, TP).expect("it can be read");
    let (mut owner, mut inputs) = owner(log, HashMap::from([(TP, state)]));
    owner.carry_out(TP, Command::Repair { to: Offset(1) }, None);
    loop {
        match inputs.recv().await.expect("the writer goes on") {
            Input::TruncateDone { .. } => break,
            input => owner.input(input),
        }
    }
    assert_eq!(reader.applied_end(TP), Some(Offset(1)));
    let kept = dir.path().join("log/damaged").join(format!("{TP}-{:020}.log", 1));
    let expected = [&batches[1].bytes()[..], &batches[2].bytes()[..]].concat();
    assert!(std::fs::read(kept).expect("it is kept").starts_with(&expected));
}

#[tokio::test]
async fn after_an_append_of_a_series_that_was_refused_none_of_it_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
    let (mut owner, mut durable) = owner(log, HashMap::new());
    let (none, hour) = (owner.shell.origin, owner.shell.origin + Duration::from_hours(1));
    let (requests, mut inbox) = mpsc::unbounded_channel();
    let partitions = Partitions::new(vec![requests]);
    let series = Series::new(LeaderEpoch(1));
    let mut append = |owner: &mut Owner, lease, series: &Series| {
        owner.input(Input::Lease(lease));
        let answer = partitions.produce_next(TP, series, BatchBuilder::new(1).build(), Acks::Committed, Arc::new(()));
        owner.request(inbox.try_recv().expect("it is asked for"));
        answer
    };
    let mut first = append(&mut owner, hour, &series);
    assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty), "it is taken");
    let mut second = append(&mut owner, none, &series);
    let mut third = append(&mut owner, hour, &series);
    assert_eq!(second.try_recv(), Ok(Err(ProduceError::NotLeader)), "it has no lease");
    assert_eq!(third.try_recv(), Ok(Err(ProduceError::NotLeader)), "it would be in the log without the second");
    series.over().await;
    let mut other = append(&mut owner, hour, &Series::new(LeaderEpoch(1)));
    assert_eq!(other.try_recv(), Err(oneshot::error::TryRecvError::Empty), "another series is taken");
    while other.is_empty() {
        owner.input(durable.recv().await.expect("the writer goes on"));
        owner.let_go();
    }
    // The first was answered when the lease ended, as another may have led since; it is in the log all the same.
    assert_eq!(first.try_recv(), Ok(Err(ProduceError::NotLeader)));
    assert_eq!(other.try_recv().map(|done| done.map(|produced| produced.base_offset)), Ok(Ok(Offset(1))));
}

/// The coordinator takes what has no answer for refused when it hears that a series is over.
#[tokio::test]
async fn what_was_committed_of_a_series_is_answered_before_a_refusal_ends_it() {
    for in_another_epoch in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
        let (mut owner, mut durable) = owner(log, HashMap::new());
        let (none, hour) = (owner.shell.origin, owner.shell.origin + Duration::from_hours(1));
        let (requests, mut inbox) = mpsc::unbounded_channel();
        let partitions = Partitions::new(vec![requests]);
        let series = Series::new(LeaderEpoch(1));
        let mut append = |owner: &mut Owner| {
            let batch = BatchBuilder::new(1).build();
            let answer = partitions.produce_next(TP, &series, batch, Acks::Committed, Arc::new(()));
            owner.request(inbox.try_recv().expect("it is asked for"));
            answer
        };
        owner.input(Input::Lease(hour));
        let mut first = append(&mut owner);
        while owner.answers.is_empty() {
            owner.input(durable.recv().await.expect("the writer goes on"));
        }
        assert!(first.is_empty(), "the turn goes on");
        if in_another_epoch {
            let events = vec![MetadataEvent::PartitionChanged(TP)];
            owner.input(Input::Metadata(Arc::new(MetadataUpdate { image: image_in(2), events })));
        } else {
            owner.input(Input::Lease(none));
        }
        let mut second = append(&mut owner);
        series.over().await;
        assert_eq!(second.try_recv(), Ok(Err(ProduceError::NotLeader)));
        let first = first.try_recv().map(|done| done.map(|produced| produced.base_offset));
        assert_eq!(first, Ok(Ok(Offset(0))), "it is in another epoch: {in_another_epoch}");
    }
}

/// A connection that waits for several is woken once, and writes them in one call.
#[tokio::test]
async fn answers_that_a_turn_brings_leave_together_at_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
    let (mut owner, mut durable) = owner(log, HashMap::new());
    owner.input(Input::Lease(owner.shell.origin + Duration::from_hours(1)));
    let (requests, mut inbox) = mpsc::unbounded_channel();
    let partitions = Partitions::new(vec![requests]);
    let mut answers = [0, 1].map(|_| partitions.produce(TP, BatchBuilder::new(1).build(), Acks::All, Arc::new(())));
    while let Ok(request) = inbox.try_recv() {
        owner.request(request);
    }
    while owner.answers.len() < answers.len() {
        owner.input(durable.recv().await.expect("the writer goes on"));
    }
    assert!(answers.iter_mut().all(|answer| answer.is_empty()), "the turn goes on");
    owner.let_go();
    let bases = answers.each_mut().map(|answer| answer.try_recv().map(|done| done.map(|done| done.base_offset)));
    assert_eq!(bases, [Ok(Ok(Offset(0))), Ok(Ok(Offset(1)))]);
}

#[tokio::test]
async fn no_answer_waits_for_what_may_go_over_all_partitions() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
    let (mut owner, _inputs) = owner(log, HashMap::new());
    let produced = Produced { base_offset: Offset(0), log_start: Offset::ZERO };
    let (reply, mut answer) = oneshot::channel();
    owner.answers.push((AppendReply::new(None, reply), produced));
    owner.take(Input::Durable { ends: vec![(TP, Offset(0))] });
    assert!(answer.is_empty(), "others may come with it");
    owner.take(Input::FollowerGone { follower: BrokerId(1), stream: StreamId(1) });
    assert_eq!(answer.try_recv(), Ok(Ok(produced)));
}

#[tokio::test]
async fn a_turn_with_very_many_answers_leaves_no_room_for_as_many_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(RealDisk, &dir.path().join("log"), Options::default()).expect("a log");
    let (mut owner, _inputs) = owner(log, HashMap::new());
    let produced = Produced { base_offset: Offset(0), log_start: Offset::ZERO };
    owner.answers.extend((0..8 * ANSWERS_KEPT).map(|_| (AppendReply::new(None, oneshot::channel().0), produced)));
    owner.let_go();
    assert!(owner.answers.capacity() < 2 * ANSWERS_KEPT, "{}", owner.answers.capacity());
}
