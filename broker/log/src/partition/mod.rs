//! A partition's folder: `partitions/<topic id>-<partition>/`, with segments `<base offset, 20 digits>.log` of
//! record batches one after the other, byte for byte as on the wire, and beside each its sparse `.index`. What compaction
//! made of some segments is a segment `<base offset>.<number, 16 hex digits>.log`: it takes their place when the
//! partition's state says so, and not by its name.
//!
//! Segments are written behind the write-ahead log, by one thread, without sync. What a checkpoint covers is
//! synced; everything after it is written again from the write-ahead log at the next start, so nothing else
//! about these files needs to be trusted, and indexes (a hint, proven at each use) are never synced while
//! they grow.
//!
//! Kafka's CRC covers neither a batch's base offset nor its leader epoch. So a reader also checks that each
//! batch starts where the one before it ended, and that its epoch is the one that the partition's state has
//! for that offset. Where compaction has removed batches, here or at the leader that a follower has them from, a batch
//! may start later: such segments are marked. A segment ends with a batch that ends where the next segment begins.

mod append;
mod aside;
mod clean;
mod index;
mod read;
mod soft;
mod times;
mod truncate;

pub(crate) use append::{Ahead, Dirty, Referred, Written, batch_at};
pub use clean::{CleanError, CleanReport, CleanSpec, CleanStep};
pub(crate) use index::{SLOT, Slot, TIMED, Timed, slots};
pub use read::ReadError;
pub(crate) use read::{Cursor as SegmentCursor, Failure, tail_batches};
pub(crate) use soft::{Content, Snapshot, Soft, verify_snapshot};
pub use times::SegmentInfo;
pub(crate) use times::Times;
pub(crate) use truncate::stay_if_full;

use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::BatchHeader;
use std::path::{Path, PathBuf};

/// What is known of a partition, in memory and in checkpoints. No more than some hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Within the first segment; the batches before it there do not count.
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// Ascending; the last is appended to.
    pub(crate) segments: Vec<Segment>,
    /// Each leader epoch with the offset of its first record, ascending, from the first segment's on.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    /// The first offset that is known to be unreadable.
    pub(crate) damaged: Option<Offset>,
    /// The last one, if all that is known was found by this process since it recovered the log: nobody has looked for what
    /// there is behind the first one that a recovery or a former process found.
    pub(crate) damaged_to: Option<Offset>,
    /// Whether a recovery has lost what was behind the end, and it was not cut since.
    pub(crate) lost_end: bool,
    /// Compaction has been over all that is before it.
    pub(crate) cleaned_to: Offset,
    /// Counts the changes that make what a reader saw before meaningless: truncations, moves of the start, the deletion.
    pub(crate) version: u64,
    /// Counts those of them that are more than moves of the start within the log.
    pub(crate) cuts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Distinguishes segments of the same name over time.
    pub(crate) uid: u64,
    pub(crate) base: Offset,
    /// Bytes that hold batches.
    pub(crate) len: u64,
    /// Slots of its index: an entry has several if it knows times.
    pub(crate) index_entries: u32,
    /// Where the last indexed batch begins.
    pub(crate) last_indexed: u64,
    /// Whether nothing is appended to it any more: it was cut by a truncation, or compacted.
    pub(crate) sealed: bool,
    /// Whether it was made by compaction, which its name tells.
    pub(crate) cleaned: bool,
    /// Whether there may be offsets without a batch between its batches, and before the first one.
    pub(crate) sparse: bool,
    pub(crate) times: Times,
}

impl Segment {
    /// An empty one.
    pub(crate) fn new(uid: u64, base: Offset) -> Self {
        Self {
            uid,
            base,
            len: 0,
            index_entries: 0,
            last_indexed: 0,
            sealed: false,
            cleaned: false,
            sparse: false,
            times: Times::EMPTY,
        }
    }

    /// The name of its file of batches.
    pub(crate) fn log_name(&self) -> String {
        if self.cleaned { format!("{:020}.{:016x}.log", self.base.0, self.uid) } else { log_name(self.base) }
    }

    /// The name of its index.
    pub(crate) fn index_name(&self) -> String {
        if self.cleaned { format!("{:020}.{:016x}.index", self.base.0, self.uid) } else { index_name(self.base) }
    }

    /// Whether a batch may start at `offset` where `expected` comes next.
    pub(crate) fn may_start(&self, offset: Offset, expected: Offset) -> bool {
        offset == expected || self.sparse && offset > expected
    }

    /// Says why such a batch does not belong where `expected` comes next and nothing ends behind `until`, if it does not.
    pub(super) fn may_hold(&self, header: &BatchHeader, expected: Offset, until: Offset) -> Result<(), String> {
        let (base, last) = (header.base_offset, header.last_offset_delta);
        let fits = self.may_start(base, expected) && last >= 0 && base < until && header.end_offset() <= until;
        if fits { Ok(()) } else { Err(format!("a batch with offsets from {base} stands there")) }
    }
}

impl Partition {
    pub(crate) fn new(start: Offset) -> Self {
        Self {
            start,
            end: start,
            segments: Vec::new(),
            epochs: Vec::new(),
            damaged: None,
            damaged_to: None,
            lost_end: false,
            cleaned_to: Offset(0),
            version: 0,
            cuts: 0,
        }
    }

    /// From where on a checkpoint says that it is damaged. A later start may find that a read has failed for no lasting reason,
    /// and takes the mark for wrong; but what a recovery has lost behind the end is lost, and a mark at the end stays. What
    /// cannot be read before that is found again by who reads there.
    pub(crate) fn durable_mark(&self) -> Option<Offset> {
        if self.lost_end { Some(self.end) } else { self.damaged }
    }

    /// The epochs of the records that are there, as if the log had begun at its start: the first one begins with it, also
    /// if the first record comes behind a gap.
    pub(crate) fn visible_epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let before = self.epochs.partition_point(|(_, start)| *start <= self.start).saturating_sub(1);
        let mut visible = self.epochs[before..].to_vec();
        if let Some((_, first)) = visible.first_mut() {
            *first = self.start;
        }
        visible
    }

    /// Bytes of memory beside this.
    pub(crate) fn memory(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>() + self.epochs.capacity() * size_of::<(LeaderEpoch, Offset)>()
    }

    /// Marks it as damaged where a read has found that it is. Says whether that is the first such offset.
    fn found_damage(&mut self, offset: Offset, recovering: bool) -> bool {
        self.damaged_to = match (self.damaged, self.damaged_to) {
            _ if recovering => None,
            (None, _) => Some(offset),
            (Some(_), last) => last.map(|last| last.max(offset)),
        };
        let first = self.damaged.is_none_or(|known| known > offset);
        if first {
            self.damaged = Some(offset);
        }
        first
    }

    /// The leader epoch that the batch at `offset` must carry.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        epoch_at(&self.epochs, offset)
    }
}

fn epoch_at(epochs: &[(LeaderEpoch, Offset)], offset: Offset) -> Option<LeaderEpoch> {
    let after = epochs.partition_point(|(_, start)| *start <= offset);
    epochs.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
}

/// The partition's folder.
pub(crate) fn folder(root: &Path, tp: TopicPartition) -> PathBuf {
    root.join(tp.to_string())
}

/// The partition that a folder's name stands for.
pub(crate) fn parse_folder(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let topic = chronik_core::ids::TopicId(uuid::Uuid::try_parse(topic).ok()?);
    let tp = TopicPartition { topic, partition: chronik_core::ids::PartitionId(partition.parse().ok()?) };
    (tp.to_string() == name).then_some(tp)
}

pub(crate) fn log_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

pub(crate) fn index_name(base: Offset) -> String {
    format!("{:020}.index", base.0)
}
