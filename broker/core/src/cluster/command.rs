//! The entries of the metadata log, and what can come of one.

use super::Endpoint;
use super::config::{ConfigChange, ConfigResource};
use super::features::{MetadataVersion, SupportedVersions};
use super::leadership::Elected;
use super::permits::Objection;
use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, PartitionEpoch,
    ProducerId, TopicId, TopicPartition,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One entry of the metadata log. Kinds and fields are encoded by their names: neither is ever renamed, and a field that
/// is added has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataCommand {
    /// The first entry of a new cluster: its identity and its initial members.
    CreateCluster {
        /// Chosen at random by the first controller leader.
        cluster_id: ClusterId,
        /// Who is expected; each may be given replicas before it has ever been seen.
        members: Vec<Member>,
        /// The version to begin with.
        #[serde(default)]
        metadata_version: MetadataVersion,
    },
    /// A broker process takes part from now on (KIP-631). Its epoch is the entry's offset.
    RegisterBroker {
        /// Who, and where it is reached.
        member: Member,
        /// Its data directory; another one than before means that its disk was replaced.
        directory: DirectoryId,
        /// Its process.
        incarnation: IncarnationId,
        /// Partitions of which the directory has lost something: for these the broker counts as one whose disk was
        /// replaced. Those that do not exist (any more) are passed over.
        damaged: Vec<TopicPartition>,
        /// The metadata versions that it speaks.
        #[serde(default)]
        versions: SupportedVersions,
    },
    /// The broker is not heard from any more.
    Fence {
        /// Who.
        id: BrokerId,
        /// The registration that is meant; a later one is left alone.
        epoch: BrokerEpoch,
    },
    /// The broker is heard, and knows all that happened up to its fencing.
    Unfence {
        /// Who.
        id: BrokerId,
        /// The registration that is meant.
        epoch: BrokerEpoch,
    },
    /// A new topic.
    CreateTopic {
        /// Chosen at random by who asks, for each try that may have been carried out: a retry finds what an earlier one
        /// made, and never brings the id of a deleted topic back.
        id: TopicId,
        /// Its name.
        name: String,
        /// How many partitions.
        partitions: i32,
        /// How many replicas each; ignored when there are `assignments`.
        replication_factor: i16,
        /// Replicas by partition, as chosen by the client; empty to have them chosen here.
        assignments: BTreeMap<i32, Vec<BrokerId>>,
        /// Topic configs by Kafka's names.
        configs: BTreeMap<String, String>,
        /// `min.insync.replicas` of a topic that does not say its own.
        default_min_insync_replicas: i32,
    },
    /// A topic and all that is in it goes.
    DeleteTopic {
        /// Which.
        id: TopicId,
    },
    /// A leader asks for another ISR (KIP-497).
    AlterPartition {
        /// The broker that asks.
        leader: BrokerId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// The partition.
        partition: TopicPartition,
        /// The leadership that asks.
        leader_epoch: LeaderEpoch,
        /// The state that it saw.
        partition_epoch: PartitionEpoch,
        /// The new ISR, each member with the registration that its leader knows (KIP-903).
        isr: Vec<(BrokerId, BrokerEpoch)>,
    },
    /// A block of producer ids for one broker.
    AllocateProducerIds {
        /// Who asks.
        broker: BrokerId,
        /// Its registration.
        epoch: BrokerEpoch,
        /// How many.
        count: u32,
    },
    /// A topic gets more partitions.
    CreatePartitions {
        /// Which.
        topic: TopicId,
        /// How many it is to have.
        total: i32,
        /// Replicas of each new partition, as chosen by the client; empty to have them chosen here.
        assignments: Vec<Vec<BrokerId>>,
    },
    /// Configs change (KIP-339), all or none of them.
    AlterConfigs {
        /// Whose.
        resource: ConfigResource,
        /// Whether configs that are not named lose their values.
        replace: bool,
        /// How.
        changes: Vec<ConfigChange>,
    },
    /// Newer formats may be written from now on.
    SetMetadataVersion {
        /// Up to which.
        version: MetadataVersion,
    },
    /// A broker's process may be stopped, and no other broker's until the permit is closed. Asked for again for the same
    /// process, the permit there is lasts longer.
    GrantPermit {
        /// Who.
        broker: BrokerId,
        /// Which process.
        incarnation: IncarnationId,
        /// For how long, in milliseconds since this entry.
        ttl_ms: u64,
        /// A person's reason to do so in spite of what speaks against it.
        forced: Option<String>,
    },
    /// A permit is outstanding no more.
    ClosePermit {
        /// Which: the offset of the entry that first granted it.
        permit: MetadataOffset,
        /// Only if it has not been granted again since this entry: its time has run out.
        renewed: Option<MetadataOffset>,
    },
    /// Nothing new is placed on a broker from now on, or something is again.
    Cordon {
        /// Who.
        broker: BrokerId,
        /// Which of the two.
        cordoned: bool,
    },
    /// A broker gives up leaderships, all that can be in one entry.
    Resign {
        /// Who.
        broker: BrokerId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// Of which partitions.
        partitions: ResignedPartitions,
        /// What it gives up beside the leadership.
        leaving: Leaving,
        /// Why. Who resigns everything because it stops leads nothing again before it registers anew.
        reason: ResignReason,
    },
    /// Leaders are elected because somebody asks for it (KIP-460).
    ElectLeaders {
        /// Of which partitions; of all that need it if `None`.
        partitions: Option<Vec<TopicPartition>>,
        /// Whom.
        election: Election,
    },
    /// A member that is gone for good is forgotten.
    UnregisterBroker {
        /// Who.
        id: BrokerId,
    },
    /// Partitions get other replicas (KIP-455), each by itself: some may be refused and others not.
    AlterPartitionReassignments {
        /// Which, and what they are to become.
        partitions: Vec<Reassignment>,
        /// Whether a partition may have more or fewer replicas afterwards than before (KIP-860).
        may_change_factor: bool,
    },
}

/// What a partition's replicas are to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The partition.
    pub partition: TopicPartition,
    /// Its replicas, the preferred leader first; `None` to leave it with those it had before the reassignment that is
    /// under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// Whom an election that somebody asks for may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any replica that is alive, where nobody leads: what it lacks is lost. A person's last resort.
    Unclean,
}

/// The partitions that a broker resigns from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResignedPartitions {
    /// All of which it is a replica.
    All,
    /// These. Those that do not exist (any more) are passed over.
    These(Vec<TopicPartition>),
}

/// What a broker that resigns gives up. Where it leads and another can, it gives up that alone, and asks once more when
/// it has heard of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// The leadership alone: it goes on as a follower that is in sync.
    Leadership,
    /// Its place in the ISR as well, until it has caught up with the new leader. Its copy still counts where it is
    /// needed (it may be eligible).
    InSync,
    /// Its copy: what it has is less than what it acknowledged.
    Copy,
}

/// Why a broker resigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResignReason {
    /// It stops.
    Stop,
    /// Its disk hangs, is full, or fails.
    Disk,
    /// What it has on its disk is damaged.
    Damage,
    /// It cannot act on the partition.
    Incapable,
    /// Somebody asked for it.
    Asked,
}

/// A broker as it is configured or as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: BrokerId,
    /// Where clients reach it.
    pub kafka: Endpoint,
    /// Where its followers reach it.
    pub replication: Endpoint,
    /// The failure domain it is in.
    pub rack: Option<Arc<str>>,
}

/// What came of an entry: the same for everyone who applies it. A refusal has changed nothing.
pub type Outcome = Result<Answer, Refusal>;

/// What an accepted entry has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing beyond that it was done.
    Done,
    /// The broker is registered, under this epoch.
    Registered(BrokerEpoch),
    /// The topic is there.
    Topic(TopicId),
    /// These ids are the broker's alone.
    ProducerIds(Range<ProducerId>),
    /// Resigned; but these stay as they are, as nobody else can lead them.
    Resigned {
        /// Partitions that the broker still leads, or that only it has.
        kept: Vec<TopicPartition>,
    },
    /// What came of each election.
    Elected(Vec<(TopicPartition, Elected)>),
    /// Whether each reassignment has begun, was done at once, or was taken back; in the order in which they were named.
    Reassigned(Vec<(TopicPartition, Result<(), Refusal>)>),
}

/// Why an entry changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cluster's first entry came a second time.
    #[error("the cluster exists already")]
    ClusterExists,
    /// An entry came before the cluster's first.
    #[error("the cluster does not exist yet")]
    NoCluster,
    /// A broker number below zero.
    #[error("{0} is no broker id")]
    InvalidBroker(BrokerId),
    /// No member has that number.
    #[error("broker {0} is not a member")]
    UnknownBroker(BrokerId),
    /// The registration named is not the broker's current one.
    #[error("broker {id} is registered under epoch {current:?}, not {given}")]
    StaleBrokerEpoch {
        /// The broker.
        id: BrokerId,
        /// The epoch that was named.
        given: BrokerEpoch,
        /// The current one.
        current: Option<BrokerEpoch>,
    },
    /// There is a topic of that name.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// There is no such topic.
    #[error("no such topic")]
    UnknownTopic,
    /// The name is not allowed.
    #[error("{0}")]
    InvalidTopicName(String),
    /// The number of partitions is not allowed.
    #[error("{0}")]
    InvalidPartitions(String),
    /// There are not that many brokers, or none is there to lead.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// The replicas given do not fit.
    #[error("{0}")]
    InvalidAssignment(String),
    /// A config that is not known, or whose value is not honoured.
    #[error("{0}")]
    InvalidConfig(String),
    /// There is no such partition.
    #[error("no such partition")]
    UnknownPartition,
    /// The broker that asks does not lead the partition in that epoch.
    #[error("not the leader of the partition in that epoch")]
    NotLeader,
    /// The partition changed since the state that was named.
    #[error("the partition is at epoch {current}, not {given}")]
    StalePartitionEpoch {
        /// The epoch that was named.
        given: PartitionEpoch,
        /// The current one.
        current: PartitionEpoch,
    },
    /// The ISR asked for is not one that could be.
    #[error("{0}")]
    InvalidIsr(String),
    /// A broker in the ISR asked for is fenced, or registered anew.
    #[error("broker {0} is fenced or was restarted, and cannot join the ISR")]
    IneligibleReplica(BrokerId),
    /// A block of no ids, or of more than there are.
    #[error("{0} producer ids cannot be given out")]
    InvalidProducerIdCount(u32),
    /// More partitions than the cluster takes.
    #[error("{0}")]
    PolicyViolation(String),
    /// A metadata version that some broker does not speak, or an older one.
    #[error("{0}")]
    InvalidMetadataVersion(String),
    /// What speaks against stopping a broker.
    #[error("the broker may not be stopped: {0:?}")]
    MayNotStop(Vec<Objection>),
    /// There is no reassignment that could be taken back.
    #[error("no reassignment of the partition is under way")]
    NoReassignment,
    /// A broker that is alive, or has replicas, cannot be forgotten.
    #[error("{0}")]
    BrokerInUse(String),
    /// Brokers that cannot read the command may be members, as far as the cluster's metadata version says.
    #[error("that needs metadata version {needed}; the cluster is at {current}")]
    VersionTooLow {
        /// The version that the command needs.
        needed: MetadataVersion,
        /// The cluster's.
        current: MetadataVersion,
    },
}

/// One thing that an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A broker registered, was fenced or unfenced, or moved.
    Broker(BrokerId),
    /// A partition was created or changed.
    PartitionChanged(TopicPartition),
    /// A partition was deleted with its topic.
    PartitionDeleted(TopicPartition),
}
