//! Permits to stop a broker: at most one is outstanding, so that whoever stops brokers, an operator or a person, takes
//! one of them away at a time, and only when nobody misses it.
//!
//! A permit is an entry of the metadata log, and what is decided about it is decided when that is applied. Time is not
//! in it but as the permit's length: the controller's leader counts that from when it has applied the grant, and closes
//! the permit with another entry. So no clock of one broker is compared with that of another, and whoever asked counts
//! from before it asked.

use super::command::{Answer, Outcome, Refusal};
use super::image::{Image, Partition, Topic};
use crate::ids::{BrokerId, IncarnationId, MetadataOffset, TopicPartition};
use serde::{Deserialize, Serialize};

/// The right to stop one broker's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// The entry that granted it first.
    pub id: MetadataOffset,
    /// The entry that granted it last, to the same holder: it lasts from then on.
    pub renewed: MetadataOffset,
    /// Who may be stopped.
    pub broker: BrokerId,
    /// Which process of it.
    pub incarnation: IncarnationId,
    /// How long it lasts.
    pub ttl_ms: u64,
    /// The reason of a person who had it granted in spite of what spoke against it.
    #[serde(default)]
    pub forced: Option<String>,
}

/// What speaks against stopping a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objection {
    /// The broker is registered as another process, or not at all.
    OtherIncarnation(Option<IncarnationId>),
    /// These partitions would have no leader.
    Unavailable(Vec<TopicPartition>),
    /// These partitions would have fewer in-sync replicas than `min.insync.replicas`, or have already.
    UnderMinIsr(Vec<TopicPartition>),
    /// One or the other is true of these partitions, which are on their way to other brokers: waiting may help.
    Reassigning(Vec<TopicPartition>),
    /// These brokers are on their way back.
    PeersRecovering(Vec<BrokerId>),
    /// Another broker may be stopped.
    PermitOutstanding(BrokerId),
}

/// What a permit still waits for before it is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The permit is not outstanding (any more).
    Closed,
    /// The process has not been stopped yet.
    StillRuns,
    /// The broker is not back.
    Away,
    /// It is back, and not in the ISR of these partitions.
    OutOfSync(Vec<TopicPartition>),
    /// For nothing: it is back, and in sync everywhere.
    Back,
}

impl Image {
    /// All that speaks against stopping this process; nothing if it may be stopped. Partitions with a single replica do
    /// not: they are unavailable while their broker is down, whatever is waited for.
    pub fn objections_to_stop(&self, broker: BrokerId, incarnation: IncarnationId) -> Vec<Objection> {
        let mut objections = Vec::new();
        let current = self.brokers.get(&broker).and_then(|b| b.incarnation);
        if current != Some(incarnation) {
            objections.push(Objection::OtherIncarnation(current));
        }
        if let Some(permit) = self.permit.as_ref().filter(|p| p.broker != broker) {
            objections.push(Objection::PermitOutstanding(permit.broker));
        }
        // One that is fenced is in no ISR: nothing depends on its process, whatever is wrong elsewhere.
        if self.alive(broker).is_some() {
            let (mut unavailable, mut under_min, mut moving) = (Vec::new(), Vec::new(), Vec::new());
            for (tp, topic, partition) in self.partitions().filter(|(_, _, p)| p.replicas.len() > 1) {
                match self.without(broker, topic, partition) {
                    Without::Well => {}
                    _ if partition.is_reassigning() => moving.push(tp),
                    Without::Unavailable => unavailable.push(tp),
                    Without::UnderMinIsr => under_min.push(tp),
                }
            }
            if !unavailable.is_empty() {
                objections.push(Objection::Unavailable(unavailable));
            }
            if !under_min.is_empty() {
                objections.push(Objection::UnderMinIsr(under_min));
            }
            if !moving.is_empty() {
                objections.push(Objection::Reassigning(moving));
            }
        }
        let holdings = self.holdings();
        let recovering = |id: &BrokerId| {
            let holdings = holdings.get(id).copied().unwrap_or_default();
            self.brokers.get(id).is_some_and(|b| b.is_recovering(holdings))
        };
        let peers: Vec<BrokerId> = self.brokers.keys().copied().filter(|id| *id != broker && recovering(id)).collect();
        if !peers.is_empty() {
            objections.push(Objection::PeersRecovering(peers));
        }
        objections
    }

    fn without(&self, broker: BrokerId, topic: &Topic, partition: &Partition) -> Without {
        let left = partition.isr.iter().filter(|id| **id != broker).count();
        let successor = partition.isr.iter().chain(&partition.elr).any(|id| *id != broker && self.alive(*id).is_some());
        if !successor {
            Without::Unavailable
        } else if left < partition.min_insync_replicas(topic.min_insync_replicas) {
            Without::UnderMinIsr
        } else {
            Without::Well
        }
    }

    /// The partitions of which the broker is the only replica.
    pub fn only_replica(&self, broker: BrokerId) -> Vec<TopicPartition> {
        self.partitions().filter(|(_, _, p)| p.replicas == [broker]).map(|(tp, ..)| tp).collect()
    }

    /// What the permit waits for before it can be closed.
    pub fn recovery(&self, permit: MetadataOffset) -> Recovery {
        let Some(permit) = self.permit.as_ref().filter(|p| p.id == permit) else { return Recovery::Closed };
        let Some(broker) = self.brokers.get(&permit.broker) else { return Recovery::Away };
        if broker.incarnation == Some(permit.incarnation) {
            return Recovery::StillRuns;
        }
        if broker.fenced {
            return Recovery::Away;
        }
        let missing: Vec<_> = self.partitions().filter(|(_, _, p)| p.lacks(broker.id)).map(|(tp, ..)| tp).collect();
        if missing.is_empty() { Recovery::Back } else { Recovery::OutOfSync(missing) }
    }

    /// A person's reason stands above all that speaks against it, but for another broker's permit and the wrong process.
    pub(super) fn grant_permit(
        &mut self,
        offset: MetadataOffset,
        (broker, incarnation): (BrokerId, IncarnationId),
        ttl_ms: u64,
        forced: Option<&str>,
    ) -> Outcome {
        if !self.brokers.contains_key(&broker) {
            return Err(Refusal::UnknownBroker(broker));
        }
        let mut objections = self.objections_to_stop(broker, incarnation);
        if forced.is_some() {
            objections.retain(Objection::stands_above_force);
        }
        if !objections.is_empty() {
            return Err(Refusal::MayNotStop(objections));
        }
        let renewed = self.permit.as_ref().filter(|p| p.broker == broker && p.incarnation == incarnation);
        let id = renewed.map_or(offset, |p| p.id);
        let forced = forced.map(str::to_owned);
        self.permit = Some(Permit { id, renewed: offset, broker, incarnation, ttl_ms, forced });
        Ok(Answer::Done)
    }

    /// `renewed` is the grant that has run out; one that was given since stays.
    pub(super) fn close_permit(&mut self, id: MetadataOffset, renewed: Option<MetadataOffset>) {
        if self.permit.as_ref().is_some_and(|p| p.id == id && renewed.is_none_or(|at| at == p.renewed)) {
            self.permit = None;
        }
    }
}

enum Without {
    Well,
    UnderMinIsr,
    Unavailable,
}

impl Objection {
    /// Whether no person's reason does away with it.
    pub fn stands_above_force(&self) -> bool {
        matches!(self, Self::OtherIncarnation(_) | Self::PermitOutstanding(_))
    }
}
