//! What a log is opened with, and what it reports.

use crate::partition::Partition;
use bytes::Bytes;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::DEFAULT_EXPIRATION_MS;
use chronik_core::record::RecordBatch;

/// Sizes that a log goes by. The defaults are for a broker.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a segment of the write-ahead log.
    pub wal_segment_bytes: u64,
    /// Bytes of a partition's segment at most, but for a batch that is larger by itself (`segment.bytes`); twice as many for
    /// each 1,024 segments that a partition has.
    pub segment_bytes: u64,
    /// Bytes of batches between two entries of a segment's index.
    pub index_interval_bytes: u64,
    /// Bytes of a segment before its first entry.
    pub index_from_bytes: u64,
    /// A checkpoint is begun after this many bytes of the write-ahead log. A [`crate::Writer`] goes on meanwhile, up to
    /// four times as many since the last one that was finished: a start replays no more, but for one round.
    pub checkpoint_bytes: u64,
    /// Segments' files (batches and indexes) that are kept open at most. Half of them may be waiting for a checkpoint
    /// to sync them: where more partitions than that are written to, each costs a sync of its own.
    pub max_open_files: usize,
    /// Bytes of one partition in a round from which on they may be written to its segment at once, and not to the write-ahead
    /// log: a [`crate::Writer`] does so when it is [told that it may](crate::Writer::write_once).
    pub write_once_bytes: usize,
    /// Whether a write-ahead log that has lost something is opened as far as it goes, see [`crate::Log::wal_lost`]: for
    /// who can get it from elsewhere. If not, nothing is opened or changed.
    pub open_with_wal_loss: bool,
    /// Who has not written to a partition for so many milliseconds of its log's clock is forgotten
    /// (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
    /// Free bytes of the disk that are kept: below that, [`crate::Space`] says that the log takes no more.
    pub reserve_bytes: u64,
    /// Bytes of a file that is given up when the disk is full all the same, as others write to it.
    pub ballast_bytes: u64,
    /// Bytes that are kept of what repairs cut off at most (see [`crate::Log::set_aside`]); never more than half of what
    /// the disk has left.
    pub damaged_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wal_segment_bytes: 16 * 1024 * 1024,
            segment_bytes: 1024 * 1024 * 1024,
            index_interval_bytes: 4096,
            index_from_bytes: 64 * 1024,
            checkpoint_bytes: 32 * 1024 * 1024,
            max_open_files: 512,
            write_once_bytes: 256 * 1024,
            open_with_wal_loss: false,
            producer_expiration_ms: DEFAULT_EXPIRATION_MS,
            reserve_bytes: 0,
            ballast_bytes: 0,
            damaged_bytes: 16 * 1024 * 1024 * 1024,
        }
    }
}

impl Options {
    /// The same, where positions fit the formats' fields.
    pub(crate) fn bounded(self) -> Self {
        Self {
            wal_segment_bytes: self.wal_segment_bytes.clamp(8192, 1 << 30),
            segment_bytes: self.segment_bytes.clamp(1, 1 << 31),
            ..self
        }
    }
}

/// A change of one partition's log.
#[derive(Clone, Debug)]
pub enum Op {
    /// Adds a batch at the partition's end; the first one creates the partition, which begins with it.
    Append {
        /// The partition.
        partition: TopicPartition,
        /// With offset and epoch assigned.
        batch: RecordBatch,
    },
    /// Removes all batches that hold offsets from `to` on, so that the log ends at `to`, or before it if a
    /// batch stood across. Below the log's start: removes all, and the log begins and ends at `to`. So it does where
    /// the batch that stands across holds the log's start too: nothing is left, and it begins and ends where that batch
    /// began.
    ///
    /// Where damage is in its way, so that it could only end before that, it does nothing but say so to who watches for
    /// damage: others may count on what it would remove beyond what was asked for.
    Truncate {
        /// The partition.
        partition: TopicPartition,
        /// The offset after the last that may stay.
        to: Offset,
    },
    /// As [`Self::Truncate`], for a log that nobody counts on: what is damaged goes too, with what comes behind it.
    Repair {
        /// The partition.
        partition: TopicPartition,
        /// The offset after the last that may stay.
        to: Offset,
    },
    /// Moves the log's start to `to`, if it lies before it: nothing before `to` is there any more, in memory at once and
    /// on the disk as far as whole segments are before it. A log that ends before `to` loses all, and begins and ends at
    /// `to`; so does a partition that is not there, which is created.
    AdvanceStart {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that may stay.
        to: Offset,
    },
    /// As [`Self::AdvanceStart`], for a log that ends at `at` or before it: nothing of it is left. Who wrote what others
    /// have had before `at` is known from then on as if this log had had it too.
    BeginAt {
        /// The partition.
        partition: TopicPartition,
        /// The new start and end.
        at: Offset,
        /// Who wrote, as [`chronik_core::producers::Producers::encode`] has it.
        producers: Bytes,
    },
    /// Removes the partition and all that it holds.
    Delete {
        /// The partition.
        partition: TopicPartition,
    },
}

impl Op {
    /// The partition that changes.
    pub fn partition(&self) -> TopicPartition {
        match self {
            Self::Append { partition, .. }
            | Self::Truncate { partition, .. }
            | Self::Repair { partition, .. }
            | Self::AdvanceStart { partition, .. }
            | Self::BeginAt { partition, .. }
            | Self::Delete { partition } => *partition,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        crate::wal::entry::longest(self)
    }
}

/// What the log holds of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset. It may lie within the first batch, after [`Op::AdvanceStart`].
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
    /// Each leader epoch with the offset of its first record that is still there, ascending; the first one begins with the
    /// log, also if a gap is before its first record. The last one may stay when its records are gone.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The first offset that is known to be unreadable, though it was durable once: such a replica must not
    /// lead. Truncating to it and replicating again repairs the partition.
    pub damaged: Option<Offset>,
}

impl RecoveredPartition {
    pub(crate) fn of(tp: TopicPartition, p: &Partition) -> Self {
        Self { partition: tp, start: p.start, end: p.end, epochs: p.visible_epochs(), damaged: p.damaged }
    }
}
