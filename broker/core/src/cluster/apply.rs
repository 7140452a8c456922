//! Applying one entry of the metadata log: the only way in which an [`Image`] changes.

use super::command::{Answer, Change, MetadataCommand, Outcome, Refusal};
use super::features::{MetadataVersion, SupportedVersions};
use super::fencing::Process;
use super::image::{Broker, Image};
use super::topics::NewTopic;
use crate::cluster::Member;
use crate::ids::{BrokerEpoch, BrokerId, ClusterId, MetadataOffset};

impl Image {
    /// Applies the entry at `offset`. A refusal changes nothing but the image's offset. The same entries in
    /// the same order lead to the same image, outcomes and changes everywhere.
    pub fn apply(&mut self, offset: MetadataOffset, command: &MetadataCommand) -> (Outcome, Vec<Change>) {
        self.offset = offset;
        let mut changes = Vec::new();
        let outcome = self.dispatch(offset, command, &mut changes);
        if outcome.is_ok() {
            self.elect_where_asked(command, &mut changes);
        }
        debug_assert!(outcome.is_ok() || changes.is_empty(), "a refusal changed something: {command:?}");
        (outcome, changes)
    }

    fn dispatch(&mut self, offset: MetadataOffset, command: &MetadataCommand, changes: &mut Vec<Change>) -> Outcome {
        if let MetadataCommand::CreateCluster { cluster_id, members, metadata_version } = command {
            return self.create_cluster(*cluster_id, members, *metadata_version, changes);
        }
        if self.cluster_id.is_none() {
            return Err(Refusal::NoCluster);
        }
        self.allows(command)?;
        match command {
            MetadataCommand::CreateCluster { .. } => Err(Refusal::ClusterExists),
            MetadataCommand::RegisterBroker { member, directory, incarnation, damaged, versions } => {
                let process =
                    Process { member, directory: *directory, incarnation: *incarnation, damaged, versions: *versions };
                self.register(offset, &process, changes)
            }
            MetadataCommand::Fence { id, epoch } => self.fence(offset, *id, *epoch, changes),
            MetadataCommand::Unfence { id, epoch } => self.unfence(*id, *epoch, changes),
            MetadataCommand::CreateTopic {
                id,
                name,
                partitions,
                replication_factor,
                assignments,
                configs,
                default_min_insync_replicas,
            } => {
                let new = NewTopic {
                    id: *id,
                    name,
                    partitions: *partitions,
                    replication_factor: *replication_factor,
                    assignments,
                    configs,
                    default_min_insync_replicas: *default_min_insync_replicas,
                };
                self.create_topic(&new, changes)
            }
            MetadataCommand::DeleteTopic { id } => self.delete_topic(*id, changes),
            MetadataCommand::AlterPartition { leader, broker_epoch, partition, leader_epoch, partition_epoch, isr } => {
                self.current_registration(*leader, *broker_epoch)?;
                self.alter_partition(*leader, *partition, (*leader_epoch, *partition_epoch), isr, changes)
            }
            MetadataCommand::AllocateProducerIds { broker, epoch, count } => {
                self.current_registration(*broker, *epoch)?;
                self.allocate_producer_ids(*count)
            }
            MetadataCommand::CreatePartitions { topic, total, assignments } => {
                self.create_partitions(*topic, *total, assignments, changes)
            }
            MetadataCommand::AlterConfigs { resource, replace, changes: configs } => {
                self.alter_configs(resource, *replace, configs, changes)
            }
            MetadataCommand::SetMetadataVersion { version } => self.set_metadata_version(*version),
            MetadataCommand::GrantPermit { broker, incarnation, ttl_ms, forced } => {
                self.grant_permit(offset, (*broker, *incarnation), *ttl_ms, forced.as_deref())
            }
            MetadataCommand::ClosePermit { permit, renewed } => {
                self.close_permit(*permit, *renewed);
                Ok(Answer::Done)
            }
            MetadataCommand::Cordon { broker, cordoned } => self.cordon(*broker, *cordoned, changes),
            MetadataCommand::ElectLeaders { partitions, election } => {
                self.elect_leaders(partitions.as_deref(), *election, changes)
            }
            MetadataCommand::UnregisterBroker { id } => self.unregister(*id, changes),
            MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor } => {
                self.alter_reassignments(partitions, *may_change_factor, changes)
            }
            MetadataCommand::Resign { broker, broker_epoch, partitions, leaving, reason } => {
                self.current_registration(*broker, *broker_epoch)?;
                Ok(self.resign(*broker, partitions, (*leaving, *reason), changes))
            }
        }
    }

    fn create_cluster(
        &mut self,
        cluster_id: ClusterId,
        members: &[Member],
        metadata_version: MetadataVersion,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if self.cluster_id.is_some() {
            return Err(Refusal::ClusterExists);
        }
        if let Some(member) = members.iter().find(|m| m.id.0 < 0) {
            return Err(Refusal::InvalidBroker(member.id));
        }
        self.cluster_id = Some(cluster_id);
        self.metadata_version = metadata_version;
        for member in members {
            self.brokers.insert(member.id, Broker::expected(member));
            changes.push(Change::Broker(member.id));
        }
        Ok(Answer::Done)
    }

    /// The broker, if `epoch` is its current registration.
    pub(super) fn current_registration(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<&Broker, Refusal> {
        let broker = self.brokers.get(&id).ok_or(Refusal::UnknownBroker(id))?;
        if broker.epoch == Some(epoch) {
            Ok(broker)
        } else {
            Err(Refusal::StaleBrokerEpoch { id, given: epoch, current: broker.epoch })
        }
    }
}

impl Broker {
    /// A member that has not been seen yet.
    pub(super) fn expected(member: &Member) -> Self {
        Self {
            id: member.id,
            epoch: None,
            directory: None,
            incarnation: None,
            fenced_at: MetadataOffset(0),
            fenced: true,
            stopping: false,
            kafka: member.kafka.clone(),
            replication: member.replication.clone(),
            rack: member.rack.clone(),
            versions: SupportedVersions::default(),
            cordoned: false,
        }
    }
}
