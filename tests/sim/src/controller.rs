//! The controller: the real decisions ([`Image::apply`]) on one reliable log, with the liveness of brokers
//! judged by their heartbeats.

use crate::activity::{Activity, Counts};
use crate::checker::Invariant;
use crate::invariants::{broken_by_entry, elected_uncleanly};
use crate::plant::{self, Plant};
use chronik_core::cluster::{Answer, Change, Endpoint, Image, Member, MetadataCommand, MetadataVersion, Outcome};
use chronik_core::ids::{BrokerEpoch, BrokerId, LeaderEpoch, MetadataOffset, PartitionId, TopicId, TopicPartition};
use std::collections::BTreeMap;

/// A broker that is not heard for so long is fenced.
pub(crate) const SESSION_US: u64 = 1_000_000;
/// A heartbeat's answer lets a broker lead for so long, counted from when the heartbeat was *sent*: less than the
/// session, which is counted from when it was heard.
pub(crate) const LEASE_US: u64 = 600_000;

/// The metadata log and what it says.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    /// All entries; the first has offset 1.
    pub(crate) log: Vec<MetadataCommand>,
    /// What they say.
    pub(crate) image: Image,
    /// What an entry broke.
    pub(crate) broken: Option<(Invariant, String)>,
    /// What entries did.
    pub(crate) counts: Counts,
    /// Who is to lead without having been eligible, and in which epoch, since somebody looked last.
    pub(crate) unclean: Vec<(TopicPartition, LeaderEpoch)>,
    plant: Option<Plant>,
    heard_us: BTreeMap<BrokerId, u64>,
    /// Since when it is the controller.
    since_us: u64,
    /// Who has not applied that entry may not know of a leadership that it lost before.
    from: MetadataOffset,
    /// By broker, the last entry that took a leadership from it.
    lost: BTreeMap<BrokerId, MetadataOffset>,
}

/// A member as the world's brokers present themselves.
pub(crate) fn member(id: BrokerId) -> Member {
    let endpoint = Endpoint { host: "sim".into(), port: id.0 as u16 };
    Member { id, kafka: endpoint.clone(), replication: endpoint, rack: None }
}

/// The one topic's partitions.
pub(crate) fn partitions(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|p| TopicPartition { topic: topic(), partition: PartitionId(p) }).collect()
}

fn topic() -> TopicId {
    TopicId(uuid::Uuid::from_u128(7))
}

impl Controller {
    /// A cluster of `brokers` that nobody has registered with.
    pub(crate) fn new(brokers: i32, plant: Option<Plant>) -> Self {
        let mut controller = Self { plant, ..Self::default() };
        let members = (0..brokers).map(|id| member(BrokerId(id))).collect();
        let cluster_id = chronik_core::ids::ClusterId(uuid::Uuid::from_u128(1));
        let created = controller.apply(MetadataCommand::CreateCluster {
            cluster_id,
            members,
            metadata_version: MetadataVersion::LATEST,
        });
        debug_assert!(created.is_ok(), "a new cluster can be created");
        controller
    }

    /// Appends an entry.
    pub(crate) fn apply(&mut self, command: MetadataCommand) -> Outcome {
        let offset = MetadataOffset(self.log.len() as u64 + 1);
        let before = self.image.clone();
        let (outcome, _) = plant::apply(&mut self.image, offset, &command, self.plant);
        self.log.push(command);
        self.lost.extend(self.image.lost_leaderships_since(&before).into_iter().map(|id| (id, offset)));
        self.broken = self.broken.take().or_else(|| broken_by_entry(&before, &self.image));
        let unclean = elected_uncleanly(&before, &self.image);
        self.count(&before, unclean.len());
        self.unclean.extend(unclean);
        outcome
    }

    /// Another one takes over at that time, with what the log says and nothing else.
    pub(crate) fn begin_anew(&mut self, now_us: u64) {
        self.heard_us.clear();
        self.lost.clear();
        (self.since_us, self.from) = (now_us, self.image.offset);
    }

    fn count(&mut self, before: &Image, unclean: usize) {
        for _ in 0..unclean {
            self.counts.note(Activity::UncleanElection);
        }
        for (tp, _, now) in self.image.partitions() {
            let Some(old) = before.partition(tp) else { continue };
            if let Some(elected) = now.leader.filter(|_| now.leader != old.leader) {
                let eligible = old.elr.contains(&elected);
                self.counts.note(if eligible { Activity::ElectionOfEligible } else { Activity::Election });
            }
            if old.is_reassigning() && !now.is_reassigning() {
                self.counts.note(Activity::Moved);
            }
            if now.isr.len() < old.isr.len() {
                self.counts.note(Activity::IsrShrink);
            }
            if now.isr.len() > old.isr.len() && now.leader == old.leader {
                self.counts.note(Activity::IsrExpand);
            }
        }
    }

    /// Creates the topic if it is not there and can be; `older` has given out producer ids before.
    pub(crate) fn create_topic(
        &mut self,
        older: Option<(BrokerId, BrokerEpoch)>,
        partitions: i32,
        replication_factor: i16,
        min_insync_replicas: i32,
        unclean: bool,
    ) {
        if self.image.topics.contains_key(&topic()) {
            return;
        }
        if let Some((broker, epoch)) = older {
            // Refused if another process of that broker has registered.
            let _ = self.apply(MetadataCommand::AllocateProducerIds { broker, epoch, count: 100 });
        }
        // Refused while nobody is there to lead: asked again with the next heartbeat.
        let _ = self.apply(MetadataCommand::CreateTopic {
            id: topic(),
            name: "t".into(),
            partitions,
            replication_factor,
            assignments: BTreeMap::new(),
            configs: unclean.then(|| ("unclean.leader.election.enable".into(), "true".into())).into_iter().collect(),
            default_min_insync_replicas: min_insync_replicas,
        });
    }

    /// A broker is heard that has applied all entries up to `applied`; true if its registration is current, and it knows
    /// of each leadership that it has lost: it gets a lease.
    pub(crate) fn heartbeat(&mut self, now_us: u64, id: BrokerId, epoch: BrokerEpoch, applied: MetadataOffset) -> bool {
        let Some(broker) = self.image.brokers.get(&id).filter(|b| b.epoch == Some(epoch)) else { return false };
        let (fenced, ready) = (broker.fenced, applied >= broker.fenced_at);
        self.heard_us.insert(id, now_us);
        if fenced && ready {
            let unfenced = self.apply(MetadataCommand::Unfence { id, epoch });
            debug_assert!(unfenced.is_ok(), "its registration was just looked at");
        }
        let knows = applied >= self.lost.get(&id).copied().unwrap_or(self.from);
        knows && (!fenced || ready)
    }

    /// A broker says that its disk hangs: it is fenced as long as another one is not, and not unfenced before it says otherwise.
    pub(crate) fn hangs(&mut self, now_us: u64, id: BrokerId, epoch: BrokerEpoch) {
        let Some(broker) = self.image.brokers.get(&id).filter(|b| b.epoch == Some(epoch)) else { return };
        self.heard_us.insert(id, now_us);
        let others = self.image.brokers.values().filter(|other| other.id != id && !other.fenced);
        if !broker.fenced && others.count() > 0 {
            self.counts.note(Activity::Fenced);
            let fenced = self.apply(MetadataCommand::Fence { id, epoch });
            debug_assert!(fenced.is_ok(), "its registration was just looked at");
        }
    }

    /// Registers a broker's process.
    pub(crate) fn register(&mut self, now_us: u64, command: MetadataCommand, id: BrokerId) -> Option<BrokerEpoch> {
        match self.apply(command) {
            Ok(Answer::Registered(epoch)) => {
                self.heard_us.insert(id, now_us);
                Some(epoch)
            }
            _ => None,
        }
    }

    /// For how long a broker has not been heard by this controller. One that begins gives everybody a session.
    fn silent_us(&self, id: BrokerId, now_us: u64) -> u64 {
        now_us.saturating_sub(self.heard_us.get(&id).copied().unwrap_or(self.since_us))
    }

    /// Fences the brokers that were not heard for a session.
    pub(crate) fn fence_silent(&mut self, now_us: u64) {
        let silent: Vec<(BrokerId, BrokerEpoch)> = self
            .image
            .brokers
            .values()
            .filter(|b| !b.fenced && self.silent_us(b.id, now_us) > SESSION_US)
            .filter_map(|b| Some((b.id, b.epoch?)))
            .collect();
        for (id, epoch) in silent {
            self.counts.note(Activity::Fenced);
            let fenced = self.apply(MetadataCommand::Fence { id, epoch });
            debug_assert!(fenced.is_ok(), "its registration was just looked at");
        }
    }
}

/// The partitions whose replica on a broker has to hear of a change.
pub(crate) fn concerned(image: &Image, change: Change) -> Vec<TopicPartition> {
    match change {
        Change::PartitionChanged(tp) => vec![tp],
        Change::PartitionDeleted(_) => Vec::new(),
        Change::Broker(id) => {
            image.partitions().filter(|(_, _, p)| p.replicas.contains(&id)).map(|(tp, _, _)| tp).collect()
        }
    }
}
