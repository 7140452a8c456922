//! Reading a partition of `__consumer_offsets` from its start to where it ended when this leadership began.

use super::topic::NAME;
use crate::partitions::{Changes, FetchError, FetchSpec, OffsetSpec, Partitions, ReadError};
use bytes::Bytes;
use chronik_core::groups::GroupRecord;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::{BatchError, split_batches};
use chronik_wire::records::{BatchRecords, Decoded, RecordError, decode, records_of};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{debug, error};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// What is not committed yet is asked for again after so long, if nobody says before that there is more.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a partition could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("offset out of range while reading from {from}; the log starts at {log_start}")]
    OutOfRange { from: Offset, log_start: Offset },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Records(#[from] RecordError),
}

impl LoadError {
    /// Whether it goes by itself: metadata has not come through everywhere, or the lease is still to come.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Read(error) if *error != ReadError::Storage)
    }
}

/// The log of one leadership, as its coordinator reads it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) partitions: Partitions,
    pub(super) partition: TopicPartition,
    pub(super) epoch: LeaderEpoch,
}

/// What was read: from `committed` to `end` it is not known to be committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    pub(super) committed: Offset,
    pub(super) end: Offset,
}

impl Log {
    /// Brings every record to `each`, oldest first, with whether it is committed. All of them are when this returns,
    /// also what a former try of this leadership has appended without hearing how it ended; unless too few replicas are
    /// in sync, as there would be no end to the wait.
    pub(super) async fn load(
        &self,
        too_few: impl Fn() -> bool,
        mut each: impl FnMut(GroupRecord, bool),
    ) -> Result<Loaded, LoadError> {
        let Self { partitions, partition, epoch } = self;
        let start = partitions.offset(*partition, Some(*epoch), OffsetSpec::Earliest).await?.offset;
        let start = start.unwrap_or(Offset::ZERO);
        let end = partitions.epoch_end(*partition, Some(*epoch), *epoch).await?.end.unwrap_or(start);
        let mut unread = Unread::default();
        let committed = self.read_committed(start, end, too_few, |record| each(record, true), &mut unread).await?;
        let mut next = committed;
        while next < end {
            let batches = self.read(next, true, None).await?;
            if batches.is_empty() {
                // The leadership is over, or its lease.
                return Err(ReadError::NotLeader.into());
            }
            next = bring_all(batches, next, &mut |record| each(record, false), &mut unread)?;
            tokio::task::yield_now().await;
        }
        if let Some(error) = unread.first {
            let records = unread.records;
            let index = partition.partition;
            error!(%index, records, %error, "Skipped records of {NAME} that cannot be read; the first one's error");
        }
        Ok(Loaded { committed, end: next })
    }

    /// Waits until what was loaded is committed.
    pub(super) async fn until_committed(&self, loaded: Loaded) -> Result<(), LoadError> {
        let Loaded { committed, end } = loaded;
        self.read_committed(committed, end, || false, |_| {}, &mut Unread::default()).await.map(|_| ())
    }

    /// Brings what is committed, and waits for what is not as long as that has an end; how far it came.
    async fn read_committed(
        &self,
        from: Offset,
        end: Offset,
        too_few: impl Fn() -> bool,
        mut each: impl FnMut(GroupRecord),
        unread: &mut Unread,
    ) -> Result<Offset, LoadError> {
        let changed = Arc::new(Changes::default());
        let mut next = from;
        while next < end {
            let batches = self.read(next, false, Some(&changed)).await?;
            if batches.is_empty() {
                if too_few() {
                    break;
                }
                let _ = timeout(AGAIN, changed.wait()).await;
            }
            next = bring_all(batches, next, &mut each, unread)?;
            tokio::task::yield_now().await;
        }
        Ok(next)
    }

    async fn read(
        &self,
        offset: Offset,
        uncommitted: bool,
        changed: Option<&Arc<Changes>>,
    ) -> Result<Vec<Bytes>, LoadError> {
        let spec = FetchSpec {
            offset,
            max_bytes: READ_BYTES,
            at_least_one: true,
            current_epoch: Some(self.epoch),
            last_fetched_epoch: None,
            from_follower: false,
            uncommitted,
            nearby: Vec::new(),
            waiter: changed.map(|changed| changed.waiter(0)),
        };
        match self.partitions.fetch(self.partition, spec).await {
            Ok(fetched) => Ok(fetched.batches),
            Err(FetchError::Read(ReadError::OffsetNotAvailable)) => Ok(Vec::new()),
            Err(FetchError::Read(error)) => Err(error.into()),
            Err(FetchError::OutOfRange { log_start, .. }) => Err(LoadError::OutOfRange { from: offset, log_start }),
        }
    }
}

/// Brings the records of batches from `next` on; where they end.
fn bring_all(
    batches: Vec<Bytes>,
    mut next: Offset,
    each: &mut impl FnMut(GroupRecord),
    unread: &mut Unread,
) -> Result<Offset, LoadError> {
    for batch in batches.into_iter().map(split_batches).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        if batch.header().end_offset() > next {
            next = batch.header().end_offset();
            bring(records_of(&batch)?, each, unread)?;
        }
    }
    Ok(next)
}

/// Records that cannot be read. A topic that clients wrote to before it was the coordinators' is full of them.
#[derive(Default)]
struct Unread {
    records: u64,
    first: Option<RecordError>,
}

fn bring(records: BatchRecords, each: &mut impl FnMut(GroupRecord), unread: &mut Unread) -> Result<(), RecordError> {
    for record in records {
        let (key, value) = record?;
        match decode(&key.unwrap_or_else(Bytes::new), value.as_ref()) {
            Ok(Decoded::Group(record)) => each(record),
            Ok(Decoded::Unknown(version)) => debug!(version, "Skipping a record of a kind that is not known"),
            // One record that cannot be read must not take all groups of the partition with it.
            Err(error) => {
                unread.records += 1;
                unread.first.get_or_insert(error);
            }
        }
    }
    Ok(())
}
