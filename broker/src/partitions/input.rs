//! What reaches the owners of partitions from inside the broker.

use super::handle::Partitions;
use crate::replication::{BatchCredit, FollowerLink, LeaderLink};
use chronik_core::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::{FollowerMessage, LeaderMessage, LogState, StreamId};
use chronik_quorum::events::MetadataUpdate;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// The owners, for those who bring them events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Owners {
    inputs: Arc<[mpsc::UnboundedSender<Input>]>,
}

/// One event for an owner.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are those of the replica's events")]
pub enum Input {
    /// The cluster changed.
    Metadata(Arc<MetadataUpdate>),
    /// This broker may act as a leader until then.
    Lease(Instant),
    /// The log is synced up to there.
    Durable { partition: TopicPartition, end: Offset },
    /// A move of the log's start to `to` is durable and applied.
    AdvanceDone { partition: TopicPartition, to: Offset },
    /// The log starts at `start`, within or at the beginning of the batch at `first_batch`.
    StartAdvanced { partition: TopicPartition, life: u64, start: Offset, first_batch: Offset },
    /// A truncation is durable and applied.
    TruncateDone { partition: TopicPartition },
    /// The log's state after a truncation.
    Truncated { partition: TopicPartition, life: u64, log: LogState },
    /// The log is gone, and all that was queued for it before is done.
    Deleted { partition: TopicPartition },
    /// A follower's connection is up.
    FollowerConnected(FollowerLink),
    /// A follower's connection is gone.
    FollowerGone { follower: BrokerId, stream: StreamId },
    /// A follower spoke.
    FromFollower {
        partition: TopicPartition,
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        leader_epoch: LeaderEpoch,
        stream: StreamId,
        message: FollowerMessage,
    },
    /// There is credit again for those who wait.
    Writable { follower: BrokerId },
    /// Batches for a follower that is behind have been read.
    ReadDone {
        partition: TopicPartition,
        follower: BrokerId,
        stream: StreamId,
        from: Offset,
        batches: Vec<RecordBatch>,
    },
    /// The connection to another broker is up: it can be followed.
    LeaderConnected(LeaderLink),
    /// The connection to another broker is gone.
    LeaderGone { leader: BrokerId, stream: StreamId },
    /// A leader spoke.
    FromLeader {
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        stream: StreamId,
        message: LeaderMessage,
        /// Returned to the leader when dropped.
        credit: Option<BatchCredit>,
    },
    /// The disk has lost what the log holds from there on.
    Damaged { partition: TopicPartition, from: Offset },
    /// The controller has no other copy to count on than this broker's, which is damaged.
    CopyKept { partition: TopicPartition },
    /// The controller refused an ISR change, or did not answer.
    AlterPartitionFailed { partition: TopicPartition, partition_epoch: PartitionEpoch, refused: bool },
}

impl Input {
    /// Drops each that a later one says as well: a round makes many batches of a partition durable, one by one, and what
    /// counts, for the replica and for whom it acknowledges them to, is where the last one ends.
    pub(super) fn drop_superseded(inputs: &mut Vec<Self>) {
        let is_durable = |input: &&Self| matches!(input, Self::Durable { .. });
        if inputs.iter().filter(is_durable).nth(1).is_none() {
            return;
        }
        let mut later = HashSet::new();
        let mut kept: Vec<bool> = inputs.iter().rev().map(|input| input.is_needed(&mut later)).collect();
        inputs.retain(|_| kept.pop() == Some(true));
    }

    /// `later` are the partitions of which the next input is that more is durable.
    fn is_needed(&self, later: &mut HashSet<TopicPartition>) -> bool {
        match self {
            Self::Durable { partition, .. } => return later.insert(*partition),
            Self::FromFollower { partition, .. } | Self::FromLeader { partition, .. } => {
                later.remove(partition);
            }
            // Rarer, and some of them concern every partition.
            _ => later.clear(),
        }
        true
    }
}

impl Owners {
    /// The owners behind these channels. The channels are unbounded: what is in them is bounded by the credits
    /// of replication connections, the budget of client requests, and the rate of metadata changes.
    pub fn new(inputs: Vec<mpsc::UnboundedSender<Input>>) -> Self {
        Self { inputs: inputs.into() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// To the owner of that partition.
    pub fn send(&self, partition: TopicPartition, input: Input) {
        // An owner that is gone belongs to a broker that stops.
        let _ = self.inputs[Partitions::owner_of(partition, self.inputs.len())].send(input);
    }

    /// To every owner.
    pub fn broadcast(&self, input: impl Fn() -> Input) {
        for owner in self.inputs.iter() {
            let _ = owner.send(input());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{PartitionId, TopicId};

    #[test]
    fn of_what_is_durable_the_last_end_is_left_of_each_partition_between_other_events() {
        let partition = |index| TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: PartitionId(index) };
        let durable = |index, end| Input::Durable { partition: partition(index), end: Offset(end) };
        let cut = |index| Input::TruncateDone { partition: partition(index) };
        let mut inputs =
            vec![durable(0, 1), durable(1, 5), durable(0, 2), cut(0), durable(0, 1), durable(1, 6), durable(0, 3)];
        Input::drop_superseded(&mut inputs);
        let ends: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                Input::Durable { partition, end } => Some((partition.partition.0, end.0)),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [Some((1, 5)), Some((0, 2)), None, Some((1, 6)), Some((0, 3))]);
    }
}
