//! Appends of one shard that are not committed yet, in their order.

use super::loading::{Loaded, Log};
use crate::partitions::Partitions;
use bytes::Bytes;
use chronik_core::groups::GroupRecord;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::replication::{Acks, ProduceError, Produced};
use chronik_wire::records::{RecordError, build_batch, encode};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A batch is ended when it has this many bytes of keys and values.
const BATCH_BYTES: usize = 256 << 10;

/// While so many bytes are not committed yet, no request is taken.
const OUTSTANDING_BYTES: usize = 8 << 20;

/// Why an append did not succeed; the shard's memory may differ from the log from then on. That too few replicas are in
/// sync is no reason: it is appended all the same, and waits.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Where a shard appends.
#[derive(Debug)]
pub(super) struct Appends {
    partitions: Partitions,
    partition: TopicPartition,
    epoch: LeaderEpoch,
    /// What is to be appended next, and the number of the last append that is in it.
    records: Vec<(Bytes, Option<Bytes>)>,
    bytes: usize,
    last: u64,
    outstanding: VecDeque<Outstanding>,
    outstanding_bytes: usize,
}

/// A batch that is not committed yet.
#[derive(Debug)]
struct Outstanding {
    /// The number of the last append in it.
    last: u64,
    bytes: usize,
    answer: oneshot::Receiver<Result<Produced, ProduceError>>,
}

impl Appends {
    pub(super) fn new(partitions: Partitions, partition: TopicPartition, epoch: LeaderEpoch) -> Self {
        Self {
            partitions,
            partition,
            epoch,
            records: Vec::new(),
            bytes: 0,
            last: 0,
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
        }
    }

    /// Waits for what was loaded and is not committed, as for an append of that number.
    pub(super) fn wait_for(&mut self, last: u64, log: Log, loaded: Loaded) {
        let (mut reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let committed = tokio::select! {
                () = reply.closed() => return,
                committed = log.until_committed(loaded) => committed,
            };
            let produced = Produced { base_offset: loaded.committed, log_start: Offset::ZERO };
            let _ = reply.send(committed.map(|()| produced).map_err(|_| ProduceError::NotLeader));
        });
        self.outstanding.push_back(Outstanding { last, bytes: 0, answer });
    }

    /// Whether so much is under way that no more should be asked for: a small request may write the record of a large
    /// group.
    pub(super) fn are_full(&self) -> bool {
        self.outstanding_bytes >= OUTSTANDING_BYTES
    }

    /// Adds an append to the next batch, in which all of its records will be.
    pub(super) fn add(&mut self, number: u64, records: &[GroupRecord], wall_ms: i64) -> Result<(), AppendError> {
        for record in records {
            let (key, value) = encode(record)?;
            self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            self.records.push((key, value));
        }
        self.last = number;
        if self.bytes >= BATCH_BYTES { self.flush(wall_ms) } else { Ok(()) }
    }

    /// Gives what was added to the partition's owner.
    pub(super) fn flush(&mut self, wall_ms: i64) -> Result<(), AppendError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let batch = build_batch(&self.records, wall_ms)?;
        let bytes = std::mem::take(&mut self.bytes);
        self.records.clear();
        // What is being appended is bounded by its bytes here, whatever the requests take that it comes of.
        let answer = self.partitions.produce_in_epoch(self.partition, self.epoch, batch, Acks::Committed, Arc::new(()));
        self.outstanding.push_back(Outstanding { last: self.last, bytes, answer });
        self.outstanding_bytes += bytes;
        Ok(())
    }

    /// Waits until the oldest batch is committed, and returns the number of the last append in it. Waits for ever
    /// while there is none. Nothing is lost when it is not polled to its end.
    pub(super) async fn committed(&mut self) -> Result<u64, AppendError> {
        let Some(oldest) = self.outstanding.front_mut() else { return std::future::pending().await };
        let (number, bytes) = (oldest.last, oldest.bytes);
        let result = (&mut oldest.answer).await.unwrap_or(Err(ProduceError::NotLeader));
        self.outstanding.pop_front();
        self.outstanding_bytes -= bytes;
        result?;
        Ok(number)
    }
}
