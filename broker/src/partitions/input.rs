//! What reaches the owners of partitions from inside the broker.

use super::handle::Partitions;
use crate::replication::{Ack, BatchCredit, FollowerLink, LeaderLink};
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
    /// A round of the log is synced: of each of these partitions up to there, as far as the last one of it says.
    Durable { ends: Vec<(TopicPartition, Offset)> },
    /// A move of the log's start to `to` is durable and applied.
    AdvanceDone { partition: TopicPartition, to: Offset },
    /// The log starts at `start`, within or at the beginning of the batch at `first_batch`.
    StartAdvanced { partition: TopicPartition, life: u64, start: Offset, first_batch: Offset },
    /// What a repair to `to` cuts off is kept aside, as far as it can be.
    SetAside { partition: TopicPartition, life: u64, to: Offset },
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
    /// A follower said what it has of many partitions.
    Acks { follower: BrokerId, broker_epoch: BrokerEpoch, stream: StreamId, acks: Vec<Ack> },
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
    /// How many partitions it is about, as far as it names them.
    pub(super) fn partitions(&self) -> usize {
        match self {
            Self::Durable { ends } => ends.len(),
            Self::Acks { acks, .. } => acks.len(),
            _ => 1,
        }
    }

    /// Whether it is one of those that come most, and about no partitions but those that it names. Of the others some go over
    /// all partitions, or over all that wait for a follower.
    pub(super) fn is_of_few(&self) -> bool {
        matches!(self, Self::Durable { .. } | Self::Acks { .. } | Self::FromFollower { .. } | Self::FromLeader { .. })
    }

    /// Drops what a later one says as well: a round makes many batches of a partition durable, one by one, and what
    /// counts, for the replica and for whom it acknowledges them to, is where the last one ends.
    pub(super) fn drop_superseded(inputs: &mut Vec<Self>) {
        let says_one = |input: &Self| matches!(input, Self::Durable { ends } if ends.len() == 1);
        let mut durable = inputs.iter().filter(|input| matches!(input, Self::Durable { .. }));
        match (durable.next(), durable.next()) {
            (None, _) => return,
            (Some(only), None) if says_one(only) => return,
            _ => {}
        }
        let mut later = HashSet::new();
        for input in inputs.iter_mut().rev() {
            input.drop_what_is_said(&mut later);
        }
        inputs.retain(|input| !matches!(input, Self::Durable { ends } if ends.is_empty()));
    }

    /// `later` are the partitions of which the next input is that more is durable.
    fn drop_what_is_said(&mut self, later: &mut HashSet<TopicPartition>) {
        match self {
            Self::Durable { ends } => {
                ends.reverse();
                ends.retain(|(partition, _)| later.insert(*partition));
                ends.reverse();
            }
            Self::FromFollower { partition, .. } | Self::FromLeader { partition, .. } => {
                later.remove(partition);
            }
            Self::Acks { acks, .. } => {
                for ack in acks {
                    later.remove(&ack.partition);
                }
            }
            // Rarer, and some of them concern every partition.
            _ => later.clear(),
        }
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

    /// To one of them.
    pub(super) fn send_to(&self, owner: usize, input: Input) {
        if let Some(owner) = self.inputs.get(owner) {
            let _ = owner.send(input);
        }
    }

    /// To each owner, of what is about many partitions, what is about its own, at once.
    pub fn send_shares<T>(&self, all: Vec<T>, of: impl Fn(&T) -> TopicPartition, input: impl Fn(Vec<T>) -> Input) {
        let mut shares: Vec<Vec<T>> = (0..self.inputs.len()).map(|_| Vec::new()).collect();
        for one in all {
            shares[Partitions::owner_of(of(&one), self.inputs.len())].push(one);
        }
        for (owner, share) in self.inputs.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            let _ = owner.send(input(share));
        }
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
        let durable = |ends: &[(i32, i64)]| Input::Durable {
            ends: ends.iter().map(|(index, end)| (partition(*index), Offset(*end))).collect(),
        };
        let cut = |index| Input::TruncateDone { partition: partition(index) };
        let said = |mut inputs: Vec<Input>| -> Vec<Option<Vec<(i32, i64)>>> {
            Input::drop_superseded(&mut inputs);
            let ends = |input: &Input| match input {
                Input::Durable { ends } => Some(ends.iter().map(|(tp, end)| (tp.partition.0, end.0)).collect()),
                _ => None,
            };
            inputs.iter().map(ends).collect()
        };
        let one = |ends: &[(i32, i64)]| Some(ends.to_vec());
        let many = vec![
            durable(&[(0, 1), (1, 5)]),
            durable(&[(0, 2)]),
            cut(0),
            durable(&[(0, 1)]),
            durable(&[(1, 6), (0, 2), (1, 7), (0, 3)]),
        ];
        assert_eq!(said(many), [one(&[(1, 5)]), one(&[(0, 2)]), None, one(&[(1, 7), (0, 3)])]);
        assert_eq!(said(vec![cut(0), durable(&[(0, 1), (0, 2)])]), [None, one(&[(0, 2)])], "of one round, too");
    }
}
