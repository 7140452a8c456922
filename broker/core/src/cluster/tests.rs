//! The controller's rules as tables: what happens → what the partition looks like.

use super::*;
use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, PartitionEpoch,
    PartitionId, TopicId, TopicPartition,
};
use std::collections::BTreeMap;

mod balance;
mod drain;
mod fencing;
mod group_configs;
mod isr;
mod leadership;
mod membership;
mod permits;
mod racks;
mod random;
mod reassignment;
mod rebalance;
mod rebalance_rates;
mod resignation;
mod throttles;
mod topics;
mod unreached;

fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().map(|n| BrokerId(*n)).collect()
}

fn member(id: i32) -> Member {
    let endpoint = |port| Endpoint { host: format!("broker-{id}").into(), port };
    Member { id: BrokerId(id), kafka: endpoint(9092), replication: endpoint(9192), rack: None }
}

fn tp(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(uuid(topic)), partition: PartitionId(partition) }
}

/// A metadata log with its image. Each broker's directory is its id, unless it is wiped.
struct Cluster {
    image: Image,
    processes: u128,
}

impl Cluster {
    /// Members 0 to `members - 1`, none of them seen yet.
    fn of(members: i32) -> Self {
        let mut cluster = Self { image: Image::default(), processes: 0 };
        let members = (0..members).map(member).collect();
        cluster.accepted(&MetadataCommand::CreateCluster {
            cluster_id: ClusterId(uuid(1)),
            members,
            metadata_version: MetadataVersion::LATEST,
        });
        cluster
    }

    /// All of them alive.
    fn alive(members: i32) -> Self {
        let mut cluster = Self::of(members);
        for id in 0..members {
            cluster.register(id);
            cluster.unfence(id);
        }
        cluster
    }

    fn apply(&mut self, command: &MetadataCommand) -> (Outcome, Vec<Change>) {
        let before = self.image.clone();
        let offset = MetadataOffset(self.image.offset.0 + 1);
        let (outcome, changes) = self.image.apply(offset, command);
        self.image.valid().unwrap();
        if outcome.is_err() {
            assert_eq!(Image { offset, ..before.clone() }, self.image, "a refusal changes nothing");
        }
        let mut reported = changes.clone();
        let mut seen = self.image.changes_since(&before);
        reported.sort();
        seen.sort();
        // Giving out producer ids and repeating a request change nothing that is reported.
        assert_eq!(reported, seen, "{command:?} reports what it changed");
        (outcome, changes)
    }

    fn accepted(&mut self, command: &MetadataCommand) -> Answer {
        self.apply(command).0.unwrap()
    }

    fn refused(&mut self, command: &MetadataCommand) -> Refusal {
        self.apply(command).0.unwrap_err()
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.brokers[&BrokerId(id)].epoch.unwrap()
    }

    fn register(&mut self, id: i32) -> BrokerEpoch {
        self.register_with(id, id as u128)
    }

    fn register_with(&mut self, id: i32, directory: u128) -> BrokerEpoch {
        self.register_as(id, directory, &[])
    }

    /// Comes back with its disk, which has lost something of these topics' only partitions.
    fn register_damaged(&mut self, id: i32, topics: &[u128]) -> BrokerEpoch {
        self.register_as(id, id as u128, topics)
    }

    fn register_as(&mut self, id: i32, directory: u128, damaged: &[u128]) -> BrokerEpoch {
        self.processes += 1;
        let command = MetadataCommand::RegisterBroker {
            member: member(id),
            directory: DirectoryId(uuid(directory)),
            incarnation: IncarnationId(uuid(self.processes)),
            damaged: damaged.iter().map(|topic| tp(*topic, 0)).collect(),
            versions: SupportedVersions::HERE,
        };
        match self.accepted(&command) {
            Answer::Registered(epoch) => epoch,
            other => panic!("registered: {other:?}"),
        }
    }

    /// Gives up topic 1's, or all, leaderships; how many stay.
    fn resign(&mut self, id: i32, partitions: ResignedPartitions, leaving: Leaving, reason: ResignReason) -> usize {
        let (broker, broker_epoch) = (BrokerId(id), self.epoch(id));
        match self.accepted(&MetadataCommand::Resign { broker, broker_epoch, partitions, leaving, reason }) {
            Answer::Resigned { kept } => kept.len(),
            other => panic!("resigned: {other:?}"),
        }
    }

    /// Resigns as one that stops: once more when it has heard of its successors.
    fn stop(&mut self, id: i32) -> usize {
        self.resign(id, ResignedPartitions::All, Leaving::Leadership, ResignReason::Stop);
        self.resign(id, ResignedPartitions::All, Leaving::InSync, ResignReason::Stop)
    }

    fn fence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.accepted(&MetadataCommand::Fence { id: BrokerId(id), epoch });
    }

    fn unfence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.accepted(&MetadataCommand::Unfence { id: BrokerId(id), epoch });
    }

    /// A topic of one partition with these replicas.
    fn topic(&mut self, id: u128, replicas: &[i32], min_insync_replicas: i32) {
        let command = MetadataCommand::CreateTopic {
            id: TopicId(uuid(id)),
            name: format!("topic{id}"),
            partitions: 1,
            replication_factor: 0,
            assignments: BTreeMap::from([(0, ids(replicas))]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: min_insync_replicas,
        };
        assert_eq!(self.accepted(&command), Answer::Topic(TopicId(uuid(id))));
    }

    /// The topic's partition is to be on these brokers.
    fn moves(&mut self, topic: u128, replicas: &[i32]) {
        let partitions = vec![Reassignment { partition: tp(topic, 0), replicas: Some(ids(replicas)) }];
        self.accepted(&MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: false });
    }

    fn partition(&self, topic: u128) -> &Partition {
        self.image.partition(tp(topic, 0)).unwrap()
    }

    /// A change of the ISR as the current leader asks for it.
    fn isr_change(&self, topic: u128, isr: &[i32]) -> MetadataCommand {
        let partition = self.partition(topic);
        let leader = partition.leader.unwrap();
        MetadataCommand::AlterPartition {
            leader,
            broker_epoch: self.epoch(leader.0),
            partition: tp(topic, 0),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr.iter().map(|id| (BrokerId(*id), self.epoch(*id))).collect(),
        }
    }

    fn alter(&mut self, topic: u128, isr: &[i32]) {
        let command = self.isr_change(topic, isr);
        self.accepted(&command);
    }

    /// Leader, ISR and ELR of topic 1.
    fn expect(&self, leader: Option<i32>, isr: &[i32], elr: &[i32]) {
        let p = self.partition(1);
        assert_eq!((p.leader, &p.isr, &*p.elr), (leader.map(BrokerId), &ids(isr), &*ids(elr)), "{p:?}");
    }
}
