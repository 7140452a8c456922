//! Which formats the cluster may write: a number in the metadata log, as Kafka's `metadata.version` (KIP-584, KIP-778).
//!
//! A broker registers the range that it speaks. Nothing that needs a version is written below it, so that brokers of
//! the release before can still read everything until somebody raises it, and an upgrade can be taken back until then.

use super::command::{Answer, MetadataCommand, Outcome, Refusal};
use super::config::ConfigResource;
use super::image::Image;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of what is written to the metadata log, to other brokers, and to internal topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetadataVersion(pub u16);

impl MetadataVersion {
    /// The first one.
    pub const FIRST: Self = Self(1);
    /// Leaderships are resigned.
    pub const RESIGNATION: Self = Self(2);
    /// What people do to a running cluster: elections, reassignments, brokers that are forgotten.
    pub const OPERATIONS: Self = Self(2);
    /// New partitions are spread over racks.
    pub const RACKS: Self = Self(2);
    /// Groups have configs of their own.
    pub const GROUP_CONFIGS: Self = Self(3);
    /// Write-ahead logs refer to large batches that are in their segments.
    pub const WRITE_ONCE: Self = Self(4);
    /// A topic may rather have a leader that lacks records than none.
    pub const UNCLEAN_ELECTIONS: Self = Self(5);
    /// The newest that this code speaks.
    pub const LATEST: Self = Self(5);
}

impl Default for MetadataVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions that a broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedVersions {
    /// The oldest.
    pub min: MetadataVersion,
    /// The newest.
    pub max: MetadataVersion,
}

impl SupportedVersions {
    /// What this code speaks.
    pub const HERE: Self = Self { min: MetadataVersion::FIRST, max: MetadataVersion::LATEST };

    /// Whether it speaks that one.
    pub fn contains(self, version: MetadataVersion) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl Default for SupportedVersions {
    fn default() -> Self {
        Self { min: MetadataVersion::FIRST, max: MetadataVersion::FIRST }
    }
}

impl fmt::Display for SupportedVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl MetadataCommand {
    /// The first version at which this may be written to the log: at an older one, a broker that cannot read it may
    /// be a member.
    pub fn version(&self) -> MetadataVersion {
        match self {
            Self::Resign { .. } => MetadataVersion::RESIGNATION,
            Self::ElectLeaders { .. }
            | Self::UnregisterBroker { .. }
            | Self::AlterPartitionReassignments { .. }
            | Self::GrantPermit { .. }
            | Self::ClosePermit { .. }
            | Self::Cordon { .. } => MetadataVersion::OPERATIONS,
            Self::AlterConfigs { resource: ConfigResource::Group(_), .. } => MetadataVersion::GROUP_CONFIGS,
            Self::CreateCluster { .. }
            | Self::RegisterBroker { .. }
            | Self::Fence { .. }
            | Self::Unfence { .. }
            | Self::CreateTopic { .. }
            | Self::DeleteTopic { .. }
            | Self::AlterPartition { .. }
            | Self::AllocateProducerIds { .. }
            | Self::CreatePartitions { .. }
            | Self::AlterConfigs { .. }
            | Self::SetMetadataVersion { .. } => MetadataVersion::FIRST,
        }
    }
}

impl Image {
    /// Whether the cluster's version allows this command. Asked before it is written, by whoever leads, as who cannot
    /// read an entry stops at it; and again when it is applied.
    pub fn allows(&self, command: &MetadataCommand) -> Result<(), Refusal> {
        let needed = command.version();
        if needed > self.metadata_version {
            return Err(Refusal::VersionTooLow { needed, current: self.metadata_version });
        }
        Ok(())
    }

    /// Raises the version: never above what any registered broker speaks, and never back.
    pub(super) fn set_metadata_version(&mut self, version: MetadataVersion) -> Outcome {
        if version < self.metadata_version {
            return Err(Refusal::InvalidMetadataVersion(format!(
                "the metadata version is {}, and cannot go back to {version}",
                self.metadata_version
            )));
        }
        let behind = self.brokers.values().find(|b| b.epoch.is_some() && !b.versions.contains(version));
        if let Some(broker) = behind {
            return Err(Refusal::InvalidMetadataVersion(format!(
                "broker {} speaks metadata versions {}, not {version}",
                broker.id, broker.versions
            )));
        }
        self.metadata_version = version;
        Ok(Answer::Done)
    }
}
