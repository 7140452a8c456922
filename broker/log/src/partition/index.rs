//! The sparse offset index of a segment: entries of 8 bytes, big endian as Kafka's: the offset of a batch
//! relative to the segment's base, and the byte where it begins. One about every `index_interval_bytes`, from
//! `index_from_bytes` on: what is before is read over at once, and most segments of a broker with very many partitions never
//! have the file.
//!
//! An index is a hint. It is not synced while its segment grows, and it may be missing, or hold anything
//! after a power cut: an entry counts only if the batch that it points at has the offset that it says;
//! otherwise earlier entries are tried, and in the end the segment's start.

use super::{Segment, folder};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Store};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{BatchHeader, HEADER_LEN};
use std::io::{self, IoSlice};

const ENTRY: u64 = 8;
/// Whether the batch that comes next in a segment is to have an entry. The first one has to wait for `from` bytes.
pub(super) fn is_due(segment: &Segment, interval: u64, from: u64) -> bool {
    let next = segment.last_indexed.saturating_add(interval);
    segment.len > 0 && segment.len >= if segment.index_entries == 0 { next.max(from) } else { next }
}

pub(super) fn encode(out: &mut Vec<u8>, relative: u32, position: u32) {
    out.extend_from_slice(&relative.to_be_bytes());
    out.extend_from_slice(&position.to_be_bytes());
}

impl<D: Disk> Store<D> {
    /// Writes entries from the `first`-th on.
    pub(super) fn write_index(
        &self,
        tp: TopicPartition,
        segment: &Segment,
        first: u32,
        entries: &[u8],
    ) -> Result<(), LogError> {
        let path = folder(&self.root, tp).join(segment.index_name());
        let file = match self.file(tp, segment, Kind::Index) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(&path).during("create", &path)?;
                self.files.insert(segment.uid, Kind::Index, file)
            }
            other => other.during("open", &path)?,
        };
        file.write_at(&[IoSlice::new(entries)], u64::from(first) * ENTRY).during("write", &path)
    }

    /// How many entries point before `position`.
    pub(super) fn entries_before(&self, tp: TopicPartition, segment: &Segment, position: u64) -> u32 {
        let Ok(index) = self.file(tp, segment, Kind::Index) else { return 0 };
        let (mut low, mut high) = (0, segment.index_entries);
        while low < high {
            let middle = u32::midpoint(low, high);
            match entry(&*index, middle) {
                Some((_, p)) if u64::from(p) < position => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// A batch's offset and position in the segment, at or before `offset` and near it.
    pub(super) fn locate(&self, tp: TopicPartition, segment: &Segment, log: &D::File, offset: Offset) -> (Offset, u64) {
        let start = (segment.base, 0);
        if segment.index_entries == 0 {
            return start;
        }
        let Ok(index) = self.file(tp, segment, Kind::Index) else { return start };
        let relative = offset.0 - segment.base.0;
        // The first entry that lies behind the offset.
        let (mut low, mut high) = (0, segment.index_entries);
        while low < high {
            let middle = u32::midpoint(low, high);
            match entry(&*index, middle) {
                Some((r, _)) if i64::from(r) <= relative => low = middle + 1,
                _ => high = middle,
            }
        }
        let mut back = 1;
        while let Some(n) = low.checked_sub(back) {
            if let Some((r, position)) = entry(&*index, n)
                && i64::from(r) <= relative
                && points_at_batch(log, segment, r, position)
            {
                return (segment.base.plus(i64::from(r)), u64::from(position));
            }
            back *= 2;
        }
        start
    }
}

fn entry(index: &impl DiskFile, n: u32) -> Option<(u32, u32)> {
    let mut bytes = [0; ENTRY as usize];
    let read = index.read_at(&mut bytes, u64::from(n) * ENTRY).ok()?;
    let both = u64::from_be_bytes(bytes);
    let entry = ((both >> 32) as u32, both as u32);
    // No entry is ever made for the segment's first batch: zeroes are a write that was lost.
    (read == bytes.len() && entry.0 > 0 && entry.1 > 0).then_some(entry)
}

fn points_at_batch(log: &impl DiskFile, segment: &Segment, relative: u32, position: u32) -> bool {
    let mut header = [0; HEADER_LEN];
    let position = u64::from(position);
    if position + HEADER_LEN as u64 > segment.len || log.read_at(&mut header, position).ok() != Some(HEADER_LEN) {
        return false;
    }
    BatchHeader::read(&header).is_ok_and(|h| h.base_offset == segment.base.plus(i64::from(relative)))
}
