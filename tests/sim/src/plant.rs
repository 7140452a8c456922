//! Rules of the replicas' surroundings that are broken on purpose: a simulation that cannot fail shows nothing. The
//! replicas' own rules are broken by the patches in `mutants`, which `cargo xtask mutants` applies to a copy of them.

use chronik_core::cluster::{Change, Image, MetadataCommand, Outcome, Partition};
use chronik_core::ids::{LeaderEpoch, MetadataOffset, PartitionEpoch, TopicPartition};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A disk says that it has synced what only its next sync makes durable.
    DiskLies,
    /// A disk loses a bit when its machine loses power.
    DiskRots,
    /// A process names its connections as the one before it did.
    StreamsRepeat,
    /// The controller elects whoever is alive when nobody eligible is.
    UncleanElection,
    /// The controller elects without a new leader epoch.
    ElectionInOldEpoch,
    /// The controller leaves a fenced broker in the ISR.
    FencedStaysInSync,
    /// The controller takes an ISR change whatever it was decided upon.
    StaleIsrChange,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DiskLies,
        Self::DiskRots,
        Self::StreamsRepeat,
        Self::UncleanElection,
        Self::ElectionInOldEpoch,
        Self::FencedStaysInSync,
        Self::StaleIsrChange,
    ];
}

/// Applies an entry of the metadata log to an image, on the controller and on the brokers.
pub(crate) fn apply(
    image: &mut Image,
    offset: MetadataOffset,
    command: &MetadataCommand,
    plant: Option<Plant>,
) -> (Outcome, Vec<Change>) {
    let before = image.clone();
    let (outcome, mut changes) = match (plant, command) {
        (Some(Plant::StaleIsrChange), MetadataCommand::AlterPartition { .. }) => {
            image.apply(offset, &refreshed(image, command.clone()))
        }
        _ => image.apply(offset, command),
    };
    let fenced = matches!(command, MetadataCommand::Fence { .. });
    let all: Vec<(TopicPartition, Partition)> = image.partitions().map(|(tp, _, p)| (tp, p.clone())).collect();
    for (tp, now) in all {
        let Some(old) = before.partition(tp) else { continue };
        let other = match plant {
            Some(Plant::UncleanElection) if now.leader.is_none() => unclean(image, &now),
            Some(Plant::ElectionInOldEpoch) => Some(Partition { leader_epoch: old.leader_epoch, ..now.clone() }),
            Some(Plant::FencedStaysInSync) if fenced => Some(old.clone()),
            _ => None,
        };
        if let Some(other) = other.filter(|other| *other != now) {
            if let Some(topic) = image.topics.get_mut(&tp.topic) {
                topic.partitions.set(tp.partition.0 as usize, other);
            }
            changes.push(Change::PartitionChanged(tp));
        }
    }
    (outcome, changes)
}

fn unclean(image: &Image, partition: &Partition) -> Option<Partition> {
    let elected = partition.replicas.iter().copied().find(|id| image.alive(*id).is_some())?;
    Some(Partition {
        leader: Some(elected),
        isr: vec![elected],
        elr: Box::default(),
        leader_epoch: LeaderEpoch(partition.leader_epoch.0 + 1),
        partition_epoch: PartitionEpoch(partition.partition_epoch.0 + 1),
        ..partition.clone()
    })
}

fn refreshed(image: &Image, mut command: MetadataCommand) -> MetadataCommand {
    if let MetadataCommand::AlterPartition { partition, partition_epoch, .. } = &mut command
        && let Some(now) = image.partition(*partition)
    {
        *partition_epoch = now.partition_epoch;
    }
    command
}
