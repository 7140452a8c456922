//! The checkpoint: what the partitions' segments contained, synced, when the write-ahead log was at a position.
//!
//! One file, `checkpoint`, written as `checkpoint.new`, synced and renamed over the old one. Recovery starts
//! from it alone: a directory that holds a log but no valid checkpoint is refused. Layout (little endian):
//! magic `CCK4` 4, CRC-32C of all but itself 4, nonce 8, run 8, WAL position (LSN 8, segment 8, byte 8), partitions 4, and
//! for each partition: topic id 16, partition 4, start 8, end 8, first damaged offset or -1 8, offset before
//! which all was compacted 8, segments 4, leader epochs 4, then for each segment: base offset 8, bytes 8, slots of its index 4, byte of the last indexed
//! batch 8, number 8, flags 1 (1: it is not appended to any more; 2: its greatest timestamp is exact; 4: it was made by
//! compaction, and its files' names have its number; 8: there may be offsets without batches in it),
//! timestamp of the first batch 8, greatest timestamp 8, offset of the batch that has it 8; and for each epoch: epoch 4,
//! first offset 8. Then one byte: 1 if it is not yet accepted that the write-ahead log lost synced operations (see
//! [`crate::Log::wal_lost`]), 0 otherwise. Then for each partition, in the same order, its snapshots (see
//! `partition::soft`): how many 4, and for each: offset 8, bytes 4, and these; or -1 4 and the length of its file 8.
//!
//! Version 3 knows nothing of compaction, it has no offset of it, and not the last two flags; and nothing of snapshots: it
//! ends with the byte 1, if it is that, or before it. In version 2 a segment's fields also end before its number.

use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::error::{IoContext, LogError};
use crate::format::{Format, PREFIX};
use crate::partition::{Content, Partition, Segment, Snapshot, Times};
use crate::wal::{Mark, Position};
use chronik_core::ids::{LeaderEpoch, Lsn, Offset, PartitionId, TopicId, TopicPartition};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const FORMAT: Format = Format { name: "checkpoint", family: *b"CCK", oldest: 2, newest: 4 };
const LOSS: u8 = 1;
const IN_FILE: u32 = u32::MAX;
const SEALED: u8 = 1;
const TIMES_EXACT: u8 = 2;
const CLEANED: u8 = 4;
const SPARSE: u8 = 8;
/// Bytes of a partition, a segment, a leader epoch and a snapshot, at least.
const PARTITION_LEN: usize = 52;
const SEGMENT_LEN: usize = 28;
const EPOCH_LEN: usize = 12;
const SNAPSHOT_LEN: usize = 12;

/// The start of a recovery.
pub(crate) struct Checkpoint {
    pub(crate) mark: Mark,
    pub(crate) wal: Position,
    pub(crate) partitions: Vec<(TopicPartition, Partition, Vec<Snapshot>)>,
    /// The write-ahead log lost synced operations, nobody knows which.
    pub(crate) wal_lost: bool,
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

/// Begins the bytes of a checkpoint; [`encode_partition`], [`encode_loss`] and [`encode_snapshots`] add to them, [`write`]
/// ends them.
pub(crate) fn encode(mark: Mark, wal: Position, partitions: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + partitions as usize * 96);
    out.extend_from_slice(&[0; PREFIX]);
    for value in [mark.nonce, mark.run, wal.lsn.0, wal.segment, wal.offset] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&partitions.to_le_bytes());
    out
}

pub(crate) fn encode_partition(out: &mut Vec<u8>, tp: TopicPartition, partition: &Partition) {
    out.extend_from_slice(tp.topic.0.as_bytes());
    out.extend_from_slice(&tp.partition.0.to_le_bytes());
    for offset in [partition.start, partition.end, partition.durable_mark().unwrap_or(Offset(-1))] {
        out.extend_from_slice(&offset.0.to_le_bytes());
    }
    out.extend_from_slice(&partition.cleaned_to.0.to_le_bytes());
    out.extend_from_slice(&(partition.segments.len() as u32).to_le_bytes());
    out.extend_from_slice(&(partition.epochs.len() as u32).to_le_bytes());
    for s in &partition.segments {
        out.extend_from_slice(&s.base.0.to_le_bytes());
        out.extend_from_slice(&s.len.to_le_bytes());
        out.extend_from_slice(&s.index_entries.to_le_bytes());
        out.extend_from_slice(&s.last_indexed.to_le_bytes());
        out.extend_from_slice(&s.uid.to_le_bytes());
        let flags = [(s.sealed, SEALED), (s.times.exact, TIMES_EXACT), (s.cleaned, CLEANED), (s.sparse, SPARSE)];
        out.push(flags.iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| flag).sum());
        for value in [s.times.first, s.times.max, s.times.max_at.0] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    for (epoch, start) in &partition.epochs {
        out.extend_from_slice(&epoch.0.to_le_bytes());
        out.extend_from_slice(&start.0.to_le_bytes());
    }
}

/// Comes after the last partition.
pub(crate) fn encode_loss(out: &mut Vec<u8>, wal_lost: bool) {
    out.push(if wal_lost { LOSS } else { 0 });
}

/// Come after that, in the order of the partitions.
pub(crate) fn encode_snapshots(out: &mut Vec<u8>, snapshots: &[Snapshot]) {
    out.extend_from_slice(&(snapshots.len() as u32).to_le_bytes());
    for snapshot in snapshots {
        out.extend_from_slice(&snapshot.at.0.to_le_bytes());
        match &snapshot.content {
            Content::Inline(bytes) => {
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Content::File(len) => {
                out.extend_from_slice(&IN_FILE.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
            }
        }
    }
}

/// Puts the checkpoint in place, durably.
pub(crate) fn write<D: Disk>(disk: &D, dir: &Path, mut bytes: Vec<u8>) -> Result<(), LogError> {
    FORMAT.seal(FORMAT.newest, &mut bytes);
    let (path, new) = (path(dir), dir.join("checkpoint.new"));
    let file = disk.create(&new).during("create", &new)?;
    file.write_at(&[IoSlice::new(&bytes)], 0).during("write", &new)?;
    file.sync_data().during("sync", &new)?;
    disk.rename(&new, &path).during("rename", &new)?;
    disk.sync_dir(dir).during("sync", dir)
}

/// Reads the checkpoint, again if it seems to be damaged; `uid` numbers segments that have no number yet.
pub(crate) fn read<D: Disk>(disk: &D, dir: &Path, uid: impl FnMut() -> u64) -> Result<Checkpoint, LogError> {
    let path = path(dir);
    let damaged = || LogError::corrupt(&path, "its checksum does not fit its content");
    let look = || {
        let file = disk.open(&path).during("open", &path)?;
        let len = file.len().during("measure", &path)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        read_exact_at(&file, &mut bytes, 0).during("read", &path)?;
        let version = FORMAT.version(&bytes).ok_or_else(damaged)?;
        Ok::<_, LogError>((version, bytes))
    };
    let (version, bytes) = look().or_else(|_| {
        disk.pause();
        look()
    })?;
    decode(FORMAT.known(version, &path)?, &bytes[PREFIX..], uid).ok_or_else(damaged)
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn snapshots(&mut self) -> Option<Vec<Snapshot>> {
        let count = self.u32()?;
        let mut snapshots = Vec::with_capacity(self.room_for(count, SNAPSHOT_LEN));
        for _ in 0..count {
            let at = self.offset()?;
            let content = match self.u32()? {
                IN_FILE => Content::File(self.u64()?),
                len => {
                    let (bytes, rest) = self.0.split_at_checked(len as usize)?;
                    self.0 = rest;
                    Content::inline(bytes)
                }
            };
            snapshots.push(Snapshot { at, content });
        }
        Some(snapshots)
    }

    /// Room for so many that take so many bytes each at least, and no more than can still come: what is read here stays for
    /// as long as the process lives, and most partitions have one of each.
    fn room_for(&self, count: u32, len: usize) -> usize {
        (count as usize).min(self.0.len() / len)
    }

    fn offset(&mut self) -> Option<Offset> {
        self.take().map(i64::from_le_bytes).map(Offset)
    }
}

fn decode(version: u8, bytes: &[u8], mut uid: impl FnMut() -> u64) -> Option<Checkpoint> {
    let mut f = Fields(bytes);
    let mark = Mark { nonce: f.u64()?, run: f.u64()? };
    let wal = Position { lsn: Lsn(f.u64()?), segment: f.u64()?, offset: f.u64()? };
    let count = f.u32()?;
    let mut partitions = Vec::with_capacity(f.room_for(count, PARTITION_LEN));
    for _ in 0..count {
        let topic = TopicId(uuid::Uuid::from_bytes(f.take()?));
        let tp = TopicPartition { topic, partition: PartitionId(f.u32()? as i32) };
        let (start, end, damaged) = (f.offset()?, f.offset()?, f.offset()?);
        let cleaned_to = if version > 3 { f.offset()? } else { Offset(0) };
        let (segments, epochs) = (f.u32()?, f.u32()?);
        let mut partition = Partition::new(start);
        partition.end = end;
        partition.damaged = (damaged.0 >= 0).then_some(damaged);
        partition.lost_end = damaged.0 >= 0 && damaged >= end;
        partition.cleaned_to = cleaned_to;
        partition.segments.reserve_exact(f.room_for(segments, SEGMENT_LEN));
        for _ in 0..segments {
            let mut segment = Segment {
                uid: 0,
                base: f.offset()?,
                len: f.u64()?,
                index_entries: f.u32()?,
                last_indexed: f.u64()?,
                times: Times::UNKNOWN,
                ..Segment::new(0, Offset(0))
            };
            if version == 2 {
                segment.uid = uid();
            } else {
                segment.uid = f.u64()?;
                let [flags] = f.take()?;
                segment.sealed = flags & SEALED != 0;
                segment.cleaned = flags & CLEANED != 0;
                segment.sparse = flags & SPARSE != 0;
                let (first, max, max_at) = (f.offset()?.0, f.offset()?.0, f.offset()?);
                segment.times = Times { first, max, max_at, exact: flags & TIMES_EXACT != 0 };
            }
            partition.segments.push(segment);
        }
        partition.epochs.reserve_exact(f.room_for(epochs, EPOCH_LEN));
        for _ in 0..epochs {
            partition.epochs.push((LeaderEpoch(f.u32()? as i32), f.offset()?));
        }
        partitions.push((tp, partition, Vec::new()));
    }
    let wal_lost = f.0.first() == Some(&LOSS);
    if version >= 4 {
        f.take::<1>()?;
        for (_, _, snapshots) in &mut partitions {
            *snapshots = f.snapshots()?;
        }
    } else if wal_lost {
        f.take::<1>()?;
    }
    f.0.is_empty().then_some(Checkpoint { mark, wal, partitions, wal_lost })
}
