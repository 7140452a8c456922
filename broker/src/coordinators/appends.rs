//! Appends of one shard that are not committed yet, in their order.

use super::loading::{Loaded, Log};
use crate::partitions::{Partitions, Series};
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
    /// What is appended builds on what was appended before, so none of it may be missing.
    series: Series,
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
            series: Series::new(epoch),
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
        let answer = self.partitions.produce_next(self.partition, &self.series, batch, Acks::Committed, Arc::new(()));
        self.outstanding.push_back(Outstanding { last: self.last, bytes, answer });
        self.outstanding_bytes += bytes;
        Ok(())
    }

    /// Waits until the oldest batch is committed, and returns the number of the last append in it. Waits for ever
    /// while there is none. That any is refused is an error at once: what was decided since builds on something that is
    /// not in the log. Nothing is lost when it is not polled to its end.
    pub(super) async fn committed(&mut self) -> Result<u64, AppendError> {
        let Some(oldest) = self.outstanding.front_mut() else { return std::future::pending().await };
        let (number, bytes) = (oldest.last, oldest.bytes);
        let result = tokio::select! {
            biased;
            answer = &mut oldest.answer => answer.unwrap_or(Err(ProduceError::NotLeader)),
            () = self.series.over() => Err(self.refusal()),
        };
        self.outstanding.pop_front();
        self.outstanding_bytes -= bytes;
        result?;
        Ok(number)
    }

    /// Why the first batch was refused of those that were.
    fn refusal(&mut self) -> ProduceError {
        let refused = |batch: &mut Outstanding| batch.answer.try_recv().ok()?.err();
        self.outstanding.iter_mut().find_map(refused).unwrap_or(ProduceError::NotLeader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::handle::Request;
    use chronik_core::groups::RecordKey;
    use chronik_core::ids::{PartitionId, TopicId};
    use tokio::sync::mpsc::unbounded_channel;

    #[tokio::test]
    async fn a_refused_batch_is_heard_of_at_once_and_none_after_it_is_taken() {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let (owner, mut asked) = unbounded_channel();
        let mut appends = Appends::new(Partitions::new(vec![owner]), partition, LeaderEpoch(1));
        let record = GroupRecord { key: RecordKey::GroupMetadata("g".into()), value: None };
        let mut replies = Vec::new();
        for number in 0..3 {
            appends.add(number, std::slice::from_ref(&record), 0).expect("it can be encoded");
            appends.flush(0).expect("it can be written");
            let Ok(Request::Produce { reply, .. }) = asked.try_recv() else { panic!("nothing is appended") };
            assert_eq!(reply.fits(LeaderEpoch(1)), number < 2, "batch {number}");
            if number == 1 {
                reply.send(Err(ProduceError::NoRoom));
            } else {
                replies.push(reply);
            }
        }
        let error = appends.committed().await.expect_err("the first one is not committed, the second one refused");
        assert!(matches!(error, AppendError::Produce(ProduceError::NoRoom)), "{error}");
    }

    #[tokio::test]
    async fn what_is_committed_before_a_refusal_is_heard_of_first() {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let (owner, mut asked) = unbounded_channel();
        let mut appends = Appends::new(Partitions::new(vec![owner]), partition, LeaderEpoch(1));
        let record = GroupRecord { key: RecordKey::GroupMetadata("g".into()), value: None };
        let produced = Produced { base_offset: Offset::ZERO, log_start: Offset::ZERO };
        for (number, result) in [(0, Ok(produced)), (1, Err(ProduceError::NoRoom))] {
            appends.add(number, std::slice::from_ref(&record), 0).expect("it can be encoded");
            appends.flush(0).expect("it can be written");
            let Ok(Request::Produce { reply, .. }) = asked.try_recv() else { panic!("nothing is appended") };
            reply.send(result);
        }
        assert_eq!(appends.committed().await.expect("the first one is committed"), 0);
        appends.committed().await.expect_err("the second one is refused");
    }
}
