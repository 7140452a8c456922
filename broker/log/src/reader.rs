//! Reading a log: what is applied, and what is known of it.

use crate::disk::Disk;
use crate::partition::{CleanError, CleanReport, CleanSpec, CleanStep, ReadError, SegmentInfo};
use crate::store::Store;
use crate::{LogError, RecoveredPartition};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_core::record::{BatchHeader, RecordBatch};
use std::sync::Arc;

/// Reads what is applied. Clones share everything, and may be used from any thread.
pub struct LogReader<D: Disk> {
    pub(crate) store: Arc<Store<D>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store) }
    }
}

impl<D: Disk> LogReader<D> {
    /// The end of what can be read of the partition; newer batches are in their owner's memory.
    pub fn applied_end(&self, tp: TopicPartition) -> Option<Offset> {
        Some(self.store.partition(tp)?.read().end)
    }

    /// Whole, checked batches: the first one holds `from`, all end at `up_to` or before, and together they
    /// have no more than `max_bytes`, but for the first, which comes whatever its size. Empty if there is
    /// none below `up_to`. May return less than there is: call again from the last one's end.
    pub fn read(
        &self,
        tp: TopicPartition,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        self.store.read(tp, from, up_to, max_bytes)
    }

    /// The same for a consumer. What compaction emptied is read over while records follow below `up_to`: librdkafka takes an
    /// answer without a record for one that was cut short, asks for twice as much each time, and in the end reports a
    /// record that is too large.
    pub fn read_records(
        &self,
        tp: TopicPartition,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        let mut batches = self.store.read(tp, from, up_to, max_bytes)?;
        while batches.iter().all(|batch| batch.header().record_count == 0)
            && let Some(next) = batches.last().map(|batch| batch.header().end_offset()).filter(|next| *next < up_to)
        {
            match self.store.read(tp, next, up_to, max_bytes)? {
                more if more.is_empty() => break,
                more => batches = more,
            }
        }
        Ok(batches)
    }

    /// Visits the headers of all applied batches from the one that holds `from`. Their order, epochs and
    /// structure are checked; the CRC only of batches that fit the read-ahead, larger ones are skipped over
    /// unread.
    pub fn scan(&self, tp: TopicPartition, from: Offset, visit: impl FnMut(&BatchHeader)) -> Result<(), ReadError> {
        self.store.scan(tp, from, visit)
    }

    /// Visits the headers of all applied batches, and checks the CRC of every one of them, whatever its size:
    /// reads all that the partition holds.
    pub fn check(&self, tp: TopicPartition, visit: impl FnMut(&BatchHeader)) -> Result<(), ReadError> {
        self.store.check(tp, visit)
    }

    /// Bytes of the partition's batches in its segments; `None` if it has none yet. Waits for no disk.
    pub fn bytes(&self, tp: TopicPartition) -> Option<u64> {
        Some(self.store.partition(tp)?.read().segments.iter().map(|s| s.len).sum())
    }

    /// The applied batch that a lookup by timestamp ends in (KIP-79): the first one with a timestamp from `at` on, in
    /// milliseconds since 1970, of those that end after `from`, and at `up_to` or before. Reads some of the index and the
    /// headers of one segment, and that batch.
    pub fn first_at_or_after(
        &self,
        tp: TopicPartition,
        at: i64,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<RecordBatch>, ReadError> {
        loop {
            let Some(header) = self.store.first_at_or_after(tp, at, from, up_to)? else { return Ok(None) };
            let batch = self.store.read(tp, header.base_offset.max(from), header.end_offset(), 1)?;
            // Compaction may have removed it meanwhile, and there may be another one.
            if let Some(batch) = batch.into_iter().next() {
                return Ok(Some(batch));
            }
        }
    }

    /// The first of the applied batches with the greatest timestamp (KIP-734), of those that end after `from`, and at
    /// `up_to` or before; `None` when none has a timestamp.
    pub fn greatest_timestamp(
        &self,
        tp: TopicPartition,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<RecordBatch>, ReadError> {
        let Some(base) = self.store.greatest_timestamp(tp, from, up_to)? else { return Ok(None) };
        Ok(self.store.read(tp, base.max(from), up_to, 1)?.into_iter().next())
    }

    /// The partition's segments, the last of which is appended to. Reads nothing from the disk.
    pub fn segments(&self, tp: TopicPartition) -> Option<Vec<SegmentInfo>> {
        Some(self.store.partition(tp)?.read().segment_infos())
    }

    /// Finds out the greatest timestamp of segments where it is not known: those that a truncation has cut, and those
    /// that an older broker wrote. Reads them whole.
    pub fn measure(&self, tp: TopicPartition) -> Result<(), ReadError> {
        self.store.measure(tp)
    }

    /// When the segment's file was last written to, in milliseconds since 1970; `None` when there is no such segment, or
    /// nothing can be said. Asks the disk.
    pub fn modified(&self, tp: TopicPartition, base: Offset) -> Option<i64> {
        self.store.modified(tp, base)
    }

    /// The partition's idempotent producers, as its batches tell up to what is applied: from the newest snapshot, and what
    /// was appended since.
    pub fn producers(&self, tp: TopicPartition) -> Result<Producers, ReadError> {
        self.store.producers(tp)
    }

    /// Producers that have not written from `offset` on need not be known any more: the next snapshot is without them.
    pub fn forget_producers(&self, tp: TopicPartition, offset: Offset) {
        if let Some(shared) = self.store.partition(tp) {
            shared.soft().forget_before(offset);
        }
    }

    /// The producers of a log that has none yet.
    pub fn no_producers(&self) -> Producers {
        Producers::new(self.store.options.producer_expiration_ms)
    }

    /// About how many bytes of memory are taken by what is known of producers since the last snapshots.
    pub fn producers_memory(&self) -> usize {
        self.store.all().iter().map(|(_, shared)| shared.soft().memory()).sum()
    }

    /// The partition's first offset that is known to be unreadable. Waits for no disk.
    pub fn damaged(&self, tp: TopicPartition) -> Option<Offset> {
        self.store.partition(tp)?.read().damaged
    }

    /// The same, with how far it is known to go. Waits for no disk.
    pub fn damage(&self, tp: TopicPartition) -> Option<Damage> {
        let shared = self.store.partition(tp)?;
        let state = shared.read();
        let from = state.damaged?;
        // The last that was found may have left with the log's start, or with a truncation.
        Some(Damage { from, to: state.damaged_to.filter(|to| (from..state.end).contains(to)) })
    }

    /// To be called when a partition's start has moved: it is not damaged any more if all that is known to be is before the
    /// start, and what is left of a segment that had some of it can be read. Otherwise the mark stays. Reads no more than
    /// that segment, and nothing where nothing is damaged.
    pub fn look_behind_damage(&self, tp: TopicPartition) -> Result<(), ReadError> {
        self.store.look_behind_damage(tp)
    }

    /// Keeps copies of what a repair to `to` would remove, as [`crate::Log::set_aside`] does: nothing of the partition changes.
    /// Takes as long as reading and writing it does, or ends with an error when `goes_on` says no.
    pub fn copy_aside(&self, tp: TopicPartition, to: Offset, goes_on: &dyn Fn() -> bool) -> Result<(), LogError> {
        self.store.copy_aside(tp, to, goes_on)
    }

    /// How many files of segments are open, and how many of these were written to and are not synced.
    pub fn open_files(&self) -> (usize, usize) {
        self.store.files.count()
    }

    /// Bytes of memory that a partition's segments and leader epochs take.
    pub fn segments_memory(&self, tp: TopicPartition) -> usize {
        self.store.partition(tp).map_or(0, |shared| shared.read().memory())
    }

    /// Checks every CRC from the batch on that holds `from`, or the first one, for about `max_bytes`. Returns how many bytes
    /// it were, and where to go on; `None` when it came to the end.
    pub fn check_some(
        &self,
        tp: TopicPartition,
        from: Offset,
        max_bytes: u64,
    ) -> Result<(u64, Option<Offset>), ReadError> {
        self.store.check_some(tp, from, max_bytes)
    }

    /// Every partition there is, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.store.all().into_iter().map(|(tp, _)| tp).collect()
    }

    /// Has `watcher` called whenever a read has found damage that was not known, with the first offset that cannot be
    /// read. It must not wait.
    pub fn watch_damage(&self, watcher: impl Fn(TopicPartition, Offset) + Send + Sync + 'static) {
        self.store.watch_damage(Box::new(watcher));
    }

    /// Where the batch begins that holds the partition's first offset.
    pub fn first_batch(&self, tp: TopicPartition) -> Result<Offset, ReadError> {
        self.store.first_batch(tp)
    }

    /// What is to be known of a partition to decide whether to clean it. Reads nothing from the disk.
    pub fn cleaning(&self, tp: TopicPartition) -> Option<Cleaning> {
        self.store.cleaning(tp)
    }

    /// Compacts a partition's closed segments up to `spec.until`: takes as long as reading and writing them does. `go_on`
    /// is called with each step, may wait, and says whether to go on.
    ///
    /// The old files leave with the next checkpoint. Only one cleaning of a partition at a time makes sense.
    pub fn clean(
        &self,
        tp: TopicPartition,
        spec: &CleanSpec,
        mut go_on: impl FnMut(CleanStep) -> bool,
    ) -> Result<CleanReport, CleanError> {
        self.store.clean(tp, spec, &mut go_on)
    }

    /// What the partition's log says of itself, as of what is applied.
    pub fn state(&self, tp: TopicPartition) -> Option<RecoveredPartition> {
        Some(RecoveredPartition::of(tp, &self.store.partition(tp)?.read()))
    }
}

/// What is to be known of a partition to decide whether to clean it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaning {
    /// Its segments, the last of which is appended to.
    pub segments: Vec<SegmentInfo>,
    /// What is before it was cleaned.
    pub cleaned_to: Offset,
}

/// What a partition's log is known to have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first offset that cannot be read.
    pub from: Offset,
    /// Where the last batch begins that cannot be read, as far as that was looked for; `None` where it is not known how far
    /// it goes.
    pub to: Option<Offset>,
}
