//! How long the entries of the metadata log take to be applied, and what is asked of the image besides, in a cluster of 100
//! brokers and 100,000 partitions: `cargo run --release -p chronik-core --example entries`.

use chronik_core::cluster::{
    Answer, Endpoint, Image, Leaving, Member, MetadataCommand, MetadataVersion, ResignReason, ResignedPartitions,
    SupportedVersions,
};
use chronik_core::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, MetadataOffset, PartitionId, TopicId, TopicPartition,
};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use uuid::Uuid;

const BROKERS: i32 = 100;
const PARTITIONS: i32 = 100_000;
const TIMES: u32 = 20;

/// A cluster, and how long each kind of step took in all.
struct Timed {
    image: Image,
    took: Vec<(&'static str, Duration, u32)>,
}

impl Timed {
    fn with_topics_of(partitions: i32) -> Self {
        let endpoint = Endpoint { host: "localhost".into(), port: 1 };
        let member =
            |id| Member { id: BrokerId(id), kafka: endpoint.clone(), replication: endpoint.clone(), rack: None };
        let mut timed = Self { image: Image::default(), took: Vec::new() };
        let create = MetadataCommand::CreateCluster {
            cluster_id: ClusterId(Uuid::from_u128(1)),
            members: (0..BROKERS).map(member).collect(),
            metadata_version: MetadataVersion::LATEST,
        };
        timed.apply("", &create);
        for id in 0..BROKERS {
            timed.register(id, 0);
            timed.unfence("", id);
        }
        for n in 0..PARTITIONS / partitions {
            timed.create("", n, partitions);
        }
        timed.took.clear();
        timed
    }

    /// Applies an entry while somebody reads the image before it, as is always so.
    fn apply(&mut self, what: &'static str, command: &MetadataCommand) -> Answer {
        let before = self.image.clone();
        let started = Instant::now();
        let (outcome, changes) = self.image.apply(MetadataOffset(self.image.offset.0 + 1), command);
        self.note(what, started);
        black_box(changes);
        let started = Instant::now();
        black_box(self.image.lost_leaderships_since(&before));
        self.note(if what == "fence" { "who lost leaderships by it" } else { "" }, started);
        outcome.expect("nothing speaks against it")
    }

    fn note(&mut self, what: &'static str, started: Instant) {
        let took = started.elapsed();
        match self.took.iter_mut().find(|(name, ..)| *name == what) {
            Some((_, sum, times)) => (*sum, *times) = (*sum + took, *times + 1),
            None => self.took.push((what, took, 1)),
        }
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.brokers[&BrokerId(id)].epoch.expect("it is registered")
    }

    fn register(&mut self, id: i32, process: u128) {
        let endpoint = Endpoint { host: "localhost".into(), port: 1 };
        let command = MetadataCommand::RegisterBroker {
            member: Member { id: BrokerId(id), kafka: endpoint.clone(), replication: endpoint, rack: None },
            directory: DirectoryId(Uuid::from_u128(100 + id as u128)),
            incarnation: IncarnationId(Uuid::from_u128(1_000 * (process + 1) + id as u128)),
            damaged: Vec::new(),
            versions: SupportedVersions::HERE,
        };
        self.apply("register", &command);
    }

    fn unfence(&mut self, what: &'static str, id: i32) {
        self.apply(what, &MetadataCommand::Unfence { id: BrokerId(id), epoch: self.epoch(id) });
    }

    fn create(&mut self, what: &'static str, n: i32, partitions: i32) {
        let create = MetadataCommand::CreateTopic {
            id: TopicId(Uuid::from_u128(u128::from(n.unsigned_abs()))),
            name: format!("topic-{n}"),
            partitions,
            replication_factor: 3,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 2,
        };
        self.apply(what, &create);
    }

    /// The leader of a partition asks for the in-sync set of all replicas that are alive.
    fn ask_for_isr(&mut self, tp: TopicPartition) {
        let partition = self.image.partition(tp).expect("it is there").clone();
        let leader = partition.leader.expect("somebody is alive");
        let alive = partition.replicas.iter().filter_map(|id| Some((*id, self.image.alive(*id)?.epoch?)));
        let command = MetadataCommand::AlterPartition {
            leader,
            broker_epoch: self.epoch(leader.0),
            partition: tp,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: alive.collect(),
        };
        self.apply("alter partition", &command);
    }

    fn all_isrs(&mut self, broker: i32) {
        let hosted: Vec<TopicPartition> = self.image.replicas_on(BrokerId(broker));
        for tp in hosted {
            self.ask_for_isr(tp);
        }
    }

    fn measure(&mut self, partitions: i32) {
        for n in 0..TIMES {
            let id = n as i32 * 3;
            self.apply("fence", &MetadataCommand::Fence { id: BrokerId(id), epoch: self.epoch(id) });
            self.unfence("unfence", id);
            self.all_isrs(id);
            let resign = MetadataCommand::Resign {
                broker: BrokerId(id),
                broker_epoch: self.epoch(id),
                partitions: ResignedPartitions::All,
                leaving: Leaving::Leadership,
                reason: ResignReason::Stop,
            };
            self.apply("resign", &resign);
            self.register(id, 1 + u128::from(n));
            self.unfence("unfence", id);
            let incarnation = self.image.brokers[&BrokerId(id)].incarnation.expect("it is registered");
            let started = Instant::now();
            black_box(self.image.objections_to_stop(BrokerId(id), incarnation));
            self.note("what speaks against a stop", started);
            let started = Instant::now();
            black_box(self.image.drain(BrokerId(id), 8));
            self.note("what to move from a broker", started);
            self.all_isrs(id);
            self.create("create topic", 1_000_000 + n as i32, partitions);
            let topic = self.image.topic_by_name(&format!("topic-{}", 1_000_000 + n as i32)).expect("just made").id;
            self.apply("delete topic", &MetadataCommand::DeleteTopic { id: topic });
        }
        let last = TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: PartitionId(0) };
        self.ask_for_isr(last);
    }
}

fn main() {
    for partitions in [10, 1_000] {
        let mut timed = Timed::with_topics_of(partitions);
        timed.measure(partitions);
        println!("{} topics of {partitions} partitions:", PARTITIONS / partitions);
        for (what, sum, times) in timed.took.iter().filter(|(what, ..)| !what.is_empty()) {
            println!("{:>12.1} us  {what} ({times} times)", sum.as_secs_f64() * 1e6 / f64::from(*times));
        }
    }
}
