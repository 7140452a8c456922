//! Applying operations that are durable in the write-ahead log to the partitions' segments, also on a disk that is full.
//!
//! What has no room in its segment is *stuck*: it is durable, and readers do not see it here yet. It is tried again, and
//! what comes behind it in its partition waits with it; other partitions go on. While anything is stuck there is no
//! checkpoint, so that the write-ahead log keeps it. A partition whose folder has no room is there, and its first batches are
//! stuck until it has one.

use crate::Op;
use crate::disk::Disk;
use crate::error::LogError;
use crate::once::Once;
use crate::partition::{Dirty, stay_if_full};
use crate::store::Store;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::{BTreeMap, HashMap};

/// Batches that had no room, by partition, in order; none of one whose folder alone had none.
#[derive(Default)]
pub(crate) struct Stuck(BTreeMap<TopicPartition, Vec<RecordBatch>>);

impl Stuck {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the partition ends when all of it is applied, if any of it is stuck.
    pub(crate) fn end(&self, tp: TopicPartition) -> Option<Offset> {
        Some(self.0.get(&tp)?.last()?.header().end_offset())
    }

    /// Whether an operation has to wait for what is stuck. Appends are stuck beside it, a deletion ends it, and the start
    /// may move as far as the log is applied.
    pub(crate) fn holds_back(&self, op: &Op) -> bool {
        let Some(first) = self.0.get(&op.partition()).and_then(|batches| batches.first()) else { return false };
        match op {
            Op::Append { .. } | Op::Delete { .. } => false,
            Op::AdvanceStart { to, .. } | Op::BeginAt { at: to, .. } => *to > first.header().base_offset,
            Op::Truncate { .. } | Op::Repair { .. } => true,
        }
    }

    /// Tries again; fails when there is still no room for all.
    pub(crate) fn apply<D: Disk>(&mut self, store: &Store<D>, dirty: &mut Dirty) -> Result<(), LogError> {
        while let Some((tp, batches)) = self.0.pop_first() {
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            if let Err(e) = store.create_folder(tp, dirty).and_then(|()| store.append(tp, &batches, dirty)) {
                self.keep(store, tp, &batches);
                return Err(e);
            }
            tracing::info!(partition = %tp, batches = batches.len(), "what had no room in its segment is written");
        }
        Ok(())
    }

    fn append<D: Disk>(
        &mut self,
        store: &Store<D>,
        tp: TopicPartition,
        batches: &[&RecordBatch],
        dirty: &mut Dirty,
    ) -> Result<(), LogError> {
        if let Some(stuck) = self.0.get_mut(&tp) {
            stuck.extend(batches.iter().map(|batch| (*batch).clone()));
            return Ok(());
        }
        match store.append(tp, batches, dirty) {
            Err(error) if error.is_full() => {
                tracing::warn!(partition = %tp, %error, "no room in a segment; the write-ahead log keeps what belongs there");
                self.keep(store, tp, batches);
                Ok(())
            }
            other => other,
        }
    }

    /// Begins a partition that is not there, whose folder may have no room.
    fn create<D: Disk>(
        &mut self,
        store: &Store<D>,
        tp: TopicPartition,
        start: Offset,
        dirty: &mut Dirty,
    ) -> Result<(), LogError> {
        match store.create_partition(tp, start, dirty) {
            Err(error) if error.is_full() => {
                tracing::warn!(partition = %tp, %error, "no room for a partition's folder; the write-ahead log keeps it");
                store.insert_empty(tp, start);
                self.0.entry(tp).or_default();
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Keeps those that are not in the segments.
    fn keep<D: Disk>(&mut self, store: &Store<D>, tp: TopicPartition, batches: &[&RecordBatch]) {
        let end = store.partition(tp).map(|shared| shared.read().end);
        let left = batches.iter().filter(|batch| end.is_none_or(|end| batch.header().base_offset >= end));
        self.0.insert(tp, left.map(|batch| (*batch).clone()).collect());
    }
}

/// Applies operations; what is appended to one partition is written at once. Truncations end where `cuts` says, if it does.
pub(crate) fn apply_ops<D: Disk>(
    store: &Store<D>,
    ops: &[Op],
    dirty: &mut Dirty,
    stuck: &mut Stuck,
    once: &mut Once<D>,
    cuts: &mut HashMap<TopicPartition, Offset>,
) -> Result<(), LogError> {
    let mut waiting: BTreeMap<TopicPartition, Vec<&RecordBatch>> = BTreeMap::new();
    for op in ops {
        let tp = op.partition();
        if let Op::Append { batch, .. } = op {
            waiting.entry(tp).or_default().push(batch);
            continue;
        }
        let batches = waiting.remove(&tp).unwrap_or_default();
        if !matches!(op, Op::Delete { .. }) {
            stuck.append(store, tp, &batches, dirty)?;
        }
        if stuck.holds_back(op) {
            stuck.apply(store, dirty)?;
        }
        if let Op::AdvanceStart { to, .. } | Op::BeginAt { at: to, .. } = op
            && store.partition(tp).is_none()
        {
            stuck.create(store, tp, *to, dirty)?;
        }
        let done = match op {
            Op::Truncate { to, .. } | Op::Repair { to, .. } => {
                store.truncate(tp, cuts.remove(&tp).unwrap_or(*to), dirty)
            }
            Op::AdvanceStart { to, .. } => store.advance_start(tp, *to, dirty),
            Op::BeginAt { at, producers, .. } => store.begin_at(tp, *at, producers, dirty),
            Op::Delete { .. } => {
                stuck.0.remove(&tp);
                store.delete(tp, dirty)
            }
            Op::Append { .. } => Ok(()),
        };
        // The partition's state comes first.
        stay_if_full(tp, done)?;
    }
    for (tp, batches) in waiting {
        match once.take(tp) {
            Some(written) => store.publish(tp, written, &batches),
            None => stuck.append(store, tp, &batches, dirty)?,
        }
    }
    Ok(())
}
