//! How the rest of the broker asks a partition's owner for something: one message a question.

use super::series::{AppendReply, Series};
use super::waiter::Waiter;
use bytes::Bytes;
use chronik_core::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::ProducerState;
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Acks, Lag, ProduceError, Produced};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Questions to the owners of partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Partitions {
    owners: Arc<[mpsc::UnboundedSender<Request>]>,
    sizes: Option<Arc<dyn LogSizes>>,
}

/// Knows how much of the disk each partition's log takes, without asking its owner.
pub trait LogSizes: std::fmt::Debug + Send + Sync {
    /// Bytes of the partition's batches on this broker's disk; `None` if it has no log.
    fn bytes(&self, partition: TopicPartition) -> Option<u64>;
}

/// What a batch's memory was counted against. It goes with the batch until that is on the disk: an answer may come
/// earlier, and would make room for the next batch.
pub type Reservation = Arc<dyn Any + Send + Sync>;

/// One question, with the way back.
#[derive(Debug)]
pub enum Request {
    /// Append a batch.
    Produce {
        /// Where.
        partition: TopicPartition,
        /// What.
        batch: RecordBatch,
        /// When to answer.
        acks: Acks,
        /// Let go of when the batch is on the disk, or not wanted.
        reservation: Reservation,
        /// The answer. It knows whether the append is part of a series.
        reply: AppendReply,
    },
    /// Read committed batches.
    Fetch {
        /// Where.
        partition: TopicPartition,
        /// What.
        spec: FetchSpec,
        /// The answer.
        reply: oneshot::Sender<Result<Fetched, FetchError>>,
    },
    /// Find an offset.
    Offset {
        /// Where.
        partition: TopicPartition,
        /// The leader epoch that the client knows of.
        current_epoch: Option<LeaderEpoch>,
        /// Which.
        spec: OffsetSpec,
        /// The answer.
        reply: oneshot::Sender<Result<FoundOffset, ReadError>>,
    },
    /// Remove what comes before an offset.
    DeleteRecords {
        /// Where.
        partition: TopicPartition,
        /// The answer waits for all replicas that are alive, and not for this leader alone.
        on_all: bool,
        /// The first offset that stays; the high watermark if `None`.
        before: Option<Offset>,
        /// The answer: before which offset they have nothing now.
        reply: oneshot::Sender<Result<Offset, DeleteError>>,
    },
    /// Find where a leader epoch ends.
    EpochEnd {
        /// Where.
        partition: TopicPartition,
        /// The leader epoch that the client knows of.
        current_epoch: Option<LeaderEpoch>,
        /// The epoch asked about.
        epoch: LeaderEpoch,
        /// The answer.
        reply: oneshot::Sender<Result<EpochEnd, ReadError>>,
    },
    /// Say what compaction has to leave alone.
    Cleanable {
        /// Where.
        partition: TopicPartition,
        /// The answer.
        reply: oneshot::Sender<Result<Cleanable, ReadError>>,
    },
    /// Say how far followers that are not in sync are behind.
    Lags {
        /// Where.
        partition: TopicPartition,
        /// The answer; nothing if this broker does not lead.
        reply: oneshot::Sender<Vec<Lag>>,
    },
    /// Name the idempotent producers.
    Producers {
        /// Where.
        partition: TopicPartition,
        /// The answer.
        reply: oneshot::Sender<Result<Vec<ProducerState>, ReadError>>,
    },
}

/// What compaction has to leave alone in a replica's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// What comes from here on is not known to be committed.
    pub high_watermark: Offset,
    /// Where the last batch of each producer ends that is remembered.
    pub last_batches: BTreeSet<Offset>,
}

/// What a reader wants of one partition.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// The first offset wanted.
    pub offset: Offset,
    /// Bytes at most.
    pub max_bytes: usize,
    /// One whole batch is returned even if it is longer (KIP-74).
    pub at_least_one: bool,
    /// The leader epoch that the client knows of (KIP-320).
    pub current_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record that the client has, to detect a truncation (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Whether this broker may answer as a follower (KIP-392).
    pub from_follower: bool,
    /// Whether what is not committed is read too, up to the log's end: for what belongs to the leadership itself, which
    /// tells nobody of it.
    pub uncommitted: bool,
    /// Followers that the leader may send the reader to.
    pub nearby: Vec<BrokerId>,
    /// Woken once, when the answer to the same question may have changed.
    pub waiter: Option<Waiter>,
}

/// What a reader gets of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Records below it are committed. `None` while another leader may have shown a greater one before.
    pub high_watermark: Option<Offset>,
    /// The first offset that is still there.
    pub log_start: Offset,
    /// Whole batches, in order, the first of which holds the offset asked for. Empty if there is nothing yet.
    pub batches: Vec<Bytes>,
    /// Set when the client's log went another way: the leader's epoch and where it ends (KIP-595).
    pub diverging: Option<EpochEnd>,
    /// The replica that the reader had better ask, which is why there are no batches (KIP-392).
    pub preferred: Option<BrokerId>,
}

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one that is there (-2).
    Earliest,
    /// The one after the last committed record (-1).
    Latest,
    /// The first whose timestamp is at least this, in milliseconds since 1970.
    Timestamp(i64),
    /// That of the record with the greatest timestamp (-3, KIP-734).
    MaxTimestamp,
}

/// An offset that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` if no record is as asked.
    pub offset: Option<Offset>,
    /// The record's timestamp, when one was asked for.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record at that offset, as far as it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// The end of a leader epoch (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The greatest epoch that is not above the one asked for; `None` if there is none.
    pub epoch: Option<LeaderEpoch>,
    /// The offset after its last record.
    pub end: Option<Offset>,
}

/// Why a partition cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This broker does not hold the partition.
    #[error("this broker does not hold the partition")]
    UnknownPartition,
    /// It holds it and does not lead it.
    #[error("not the leader of the partition")]
    NotLeader,
    /// The client's leader epoch is older than the leader's.
    #[error("the client's leader epoch is older than the leader's")]
    FencedLeaderEpoch,
    /// The client's leader epoch is newer than this broker knows.
    #[error("the client's leader epoch is newer than this broker's")]
    UnknownLeaderEpoch,
    /// A new leader does not know yet what is committed.
    #[error("the new leader does not know yet what is committed")]
    OffsetNotAvailable,
    /// The log could not be read.
    #[error("the log could not be read")]
    Storage,
}

/// Why a fetch got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// As for every read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The offset is before the log's start or after its end.
    #[error("offset out of range; the log starts at {log_start}")]
    OutOfRange {
        /// The log's first offset.
        log_start: Offset,
    },
}

/// Why records are not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// This broker does not hold the partition.
    #[error("this broker does not hold the partition")]
    UnknownPartition,
    /// It does not lead it, or stopped to while the records were being removed.
    #[error("not the leader of the partition")]
    NotLeader,
    /// What is to be removed is not committed, or not there yet.
    #[error("beyond the high watermark")]
    OutOfRange,
}

impl Partitions {
    /// A handle to owners, each of which has the partitions that [`Self::owner_of`] gives it. The queues are
    /// unbounded here because what is in them is bounded before: by the request budget of the listener.
    pub fn new(owners: Vec<mpsc::UnboundedSender<Request>>) -> Self {
        Self { owners: owners.into(), sizes: None }
    }

    /// The same, with somebody who knows the sizes of logs.
    #[must_use]
    pub fn with_sizes(mut self, sizes: Arc<dyn LogSizes>) -> Self {
        self.sizes = Some(sizes);
        self
    }

    /// Bytes that a partition takes on this broker's disk. Asks no owner.
    pub fn bytes(&self, partition: TopicPartition) -> u64 {
        self.sizes.as_ref().and_then(|sizes| sizes.bytes(partition)).unwrap_or(0)
    }

    /// Which of `owners` owners has the partition.
    pub fn owner_of(partition: TopicPartition, owners: usize) -> usize {
        let topic = partition.topic.0.as_u128();
        let mixed = (topic as u64) ^ ((topic >> 64) as u64);
        (mixed.wrapping_add(u64::from(partition.partition.0 as u32)) % owners.max(1) as u64) as usize
    }

    fn send(&self, partition: TopicPartition, request: Request) {
        // An owner that is gone drops the way back with the request, which its receiver sees.
        let _ = self.owners[Self::owner_of(partition, self.owners.len())].send(request);
    }

    /// Starts to append a batch. The order of calls is the order of appends; the answer comes over the
    /// receiver (an error of the receiver's own means that the broker is stopping: answer `NotLeader`).
    pub fn produce(
        &self,
        partition: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        reservation: Reservation,
    ) -> oneshot::Receiver<Result<Produced, ProduceError>> {
        self.append(partition, batch, acks, reservation, None)
    }

    /// As [`Self::produce`], as the next append of a series: what decides by the partition's records must not append in
    /// an epoch whose records it has not seen, nor after an append of its own that was refused.
    pub fn produce_next(
        &self,
        partition: TopicPartition,
        series: &Series,
        batch: RecordBatch,
        acks: Acks,
        reservation: Reservation,
    ) -> oneshot::Receiver<Result<Produced, ProduceError>> {
        self.append(partition, batch, acks, reservation, Some(series.clone()))
    }

    fn append(
        &self,
        partition: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        reservation: Reservation,
        series: Option<Series>,
    ) -> oneshot::Receiver<Result<Produced, ProduceError>> {
        let (reply, answer) = oneshot::channel();
        let reply = AppendReply::new(series, reply);
        self.send(partition, Request::Produce { partition, batch, acks, reservation, reply });
        answer
    }

    /// Reads what is there now. To wait for more, give a waiter, and ask again when it is woken.
    pub async fn fetch(&self, partition: TopicPartition, spec: FetchSpec) -> Result<Fetched, FetchError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::Fetch { partition, spec, reply });
        answer.await.unwrap_or(Err(FetchError::Read(ReadError::NotLeader)))
    }

    /// Looks for an offset (KIP-79).
    pub async fn offset(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::Offset { partition, current_epoch, spec, reply });
        answer.await.unwrap_or(Err(ReadError::NotLeader))
    }

    /// Removes what comes before an offset, or all that is committed, and says before which offset nothing is left, when
    /// that holds on the disks of all replicas that are alive (KIP-107).
    pub async fn delete_records(
        &self,
        partition: TopicPartition,
        before: Option<Offset>,
    ) -> Result<Offset, DeleteError> {
        self.remove(partition, before, true).await
    }

    /// The same, and waits for this leader alone: followers do it when they hear of it.
    pub async fn advance_start(&self, partition: TopicPartition, to: Offset) -> Result<Offset, DeleteError> {
        self.remove(partition, Some(to), false).await
    }

    async fn remove(
        &self,
        partition: TopicPartition,
        before: Option<Offset>,
        on_all: bool,
    ) -> Result<Offset, DeleteError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::DeleteRecords { partition, on_all, before, reply });
        answer.await.unwrap_or(Err(DeleteError::NotLeader))
    }

    /// Looks for the end of a leader epoch (KIP-101, KIP-279).
    pub async fn epoch_end(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::EpochEnd { partition, current_epoch, epoch, reply });
        answer.await.unwrap_or(Err(ReadError::NotLeader))
    }

    /// Asks what compaction has to leave alone, of any replica.
    pub async fn cleanable(&self, partition: TopicPartition) -> Result<Cleanable, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::Cleanable { partition, reply });
        answer.await.unwrap_or(Err(ReadError::UnknownPartition))
    }

    /// Asks how far followers that are not in sync are behind, of a partition that is led here.
    pub async fn lags(&self, partition: TopicPartition) -> Vec<Lag> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::Lags { partition, reply });
        answer.await.unwrap_or_default()
    }

    /// Names the idempotent producers that the partition's leader remembers (KIP-664).
    pub async fn producers(&self, partition: TopicPartition) -> Result<Vec<ProducerState>, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, Request::Producers { partition, reply });
        answer.await.unwrap_or(Err(ReadError::NotLeader))
    }
}
