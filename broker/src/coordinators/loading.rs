//! Reading a partition of `__consumer_offsets` from its start to where it ended when this leadership began.

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

/// Brings every record to `each`, oldest first, and returns the offset after the last one. All of them are committed
/// when this returns: also what a former try of this leadership has appended without hearing how it ended.
pub(super) async fn load(
    partitions: &Partitions,
    partition: TopicPartition,
    epoch: LeaderEpoch,
    mut each: impl FnMut(GroupRecord),
) -> Result<Offset, LoadError> {
    let start = partitions.offset(partition, Some(epoch), OffsetSpec::Earliest).await?.offset.unwrap_or(Offset::ZERO);
    let end = partitions.epoch_end(partition, Some(epoch), epoch).await?.end.unwrap_or(start);
    let changed = Arc::new(Changes::default());
    let mut next = start;
    let mut unread = Unread::default();
    while next < end {
        let spec = FetchSpec {
            offset: next,
            max_bytes: READ_BYTES,
            at_least_one: true,
            current_epoch: Some(epoch),
            last_fetched_epoch: None,
            from_follower: false,
            nearby: Vec::new(),
            waiter: Some(changed.waiter(0)),
        };
        let batches = match partitions.fetch(partition, spec).await {
            Ok(fetched) => fetched.batches,
            Err(FetchError::Read(ReadError::OffsetNotAvailable)) => Vec::new(),
            Err(FetchError::Read(error)) => return Err(error.into()),
            Err(FetchError::OutOfRange { log_start, .. }) => {
                return Err(LoadError::OutOfRange { from: next, log_start });
            }
        };
        if batches.is_empty() {
            let _ = timeout(AGAIN, changed.wait()).await;
        }
        for batch in batches.into_iter().map(split_batches).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            if batch.header().end_offset() > next {
                next = batch.header().end_offset();
                bring(records_of(&batch)?, &mut each, &mut unread)?;
            }
        }
        tokio::task::yield_now().await;
    }
    if let Some(error) = unread.first {
        let records = unread.records;
        error!(%partition, records, %error, "Skipped records that cannot be read; the error is that of the first one");
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
