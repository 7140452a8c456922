//! The sparse index of a segment: slots of 8 bytes, each of two numbers, big endian as Kafka's. The first is the offset of a
//! batch relative to the segment's base. An entry is one slot, whose second number is the byte where the batch begins; there is
//! one about every `index_interval_bytes`, from `index_from_bytes` on: what is before is read over at once, and most segments of
//! a broker with very many partitions never have the file.
//!
//! About every fourth entry knows times too, for lookups by them. It has three slots more before that one, with the same
//! offset: the upper and the lower half of the greatest timestamp of all batches of the segment before this one, and a CRC-32C
//! of the entry and its segment's number. That timestamp never falls from one entry to the next, so they can be searched.
//! Builds before these wrote entries of one slot only, and find their way over the others: offsets ascend, and what they
//! take for a byte leads to no batch with that offset.
//!
//! An index is a hint. It is not synced while its segment grows, and it may be missing, or hold anything
//! after a power cut: an entry counts only if the batch that it points at has the offset that it says;
//! otherwise earlier entries are tried, and in the end the segment's start. What an entry says of times nothing else proves, so
//! it has the checksum.

use super::{Segment, folder};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Store};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{BatchHeader, HEADER_LEN};
use std::io::{self, IoSlice};

pub(crate) const SLOT: usize = 8;
/// Slots of an entry that knows times.
pub(crate) const TIMED: usize = 4;
/// There is one about every so many intervals.
const TIMED_EVERY: u64 = 4;
/// What counts for an interval at least where it comes to those: where `index.interval.bytes` is 0, each entry would be one.
/// As a batch has [`HEADER_LEN`] bytes or more, at most four others are between two of them.
const TIMED_INTERVAL_MIN: u64 = 64;
/// Slots that are read at once: between two entries that know times are few others, so that there is one among these.
const LOOK: usize = 16;

/// A slot: an offset relative to the segment's base, and another number.
pub(crate) type Slot = (u32, u32);

/// Whether the batch that comes next in a segment is to have an entry. The first one has to wait for `from` bytes.
pub(super) fn is_due(segment: &Segment, interval: u64, from: u64) -> bool {
    let next = segment.last_indexed.saturating_add(interval);
    segment.len > 0 && segment.len >= if segment.index_entries == 0 { next.max(from) } else { next }
}

/// Adds the entry of the batch at that offset, which comes next in the segment.
pub(super) fn push(out: &mut Vec<u8>, segment: &mut Segment, offset: Offset, interval: u64) {
    let (relative, position) = ((offset.0 - segment.base.0) as u32, segment.len as u32);
    let part = interval.max(TIMED_INTERVAL_MIN).saturating_mul(TIMED_EVERY);
    let is_due = segment.index_entries == 0 || segment.len / part != segment.last_indexed / part;
    if is_due && segment.times.exact {
        let max = segment.times.max;
        for number in [(max >> 32) as u32, max as u32, checksum(segment.uid, relative, position, max)] {
            encode(out, relative, number);
        }
        segment.index_entries += TIMED as u32 - 1;
    }
    encode(out, relative, position);
    segment.index_entries += 1;
    segment.last_indexed = segment.len;
}

fn encode(out: &mut Vec<u8>, relative: u32, number: u32) {
    out.extend_from_slice(&relative.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

fn checksum(uid: u64, relative: u32, position: u32, max: i64) -> u32 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&uid.to_be_bytes());
    bytes[8..12].copy_from_slice(&relative.to_be_bytes());
    bytes[12..16].copy_from_slice(&position.to_be_bytes());
    bytes[16..].copy_from_slice(&max.to_be_bytes());
    crc32c::crc32c(&bytes)
}

/// An entry that knows times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// The number of its first slot.
    first: u32,
    pub(crate) relative: u32,
    pub(crate) position: u32,
    /// The greatest timestamp of all batches of the segment before it, or -1.
    pub(crate) max: i64,
}

impl Timed {
    /// The one of a segment that is in these slots, from the `first`-th on, if there is one.
    pub(crate) fn decode(uid: u64, slots: &[Slot], first: u32) -> Option<Self> {
        let &[(relative, upper), (second, lower), (third, sum), (last, position)] = slots else { return None };
        let max = ((u64::from(upper) << 32) | u64::from(lower)) as i64;
        let is_one = [second, third, last] == [relative; 3] && sum == checksum(uid, relative, position, max);
        is_one.then_some(Self { first, relative, position, max })
    }

    /// The offset and the byte where its batch begins.
    pub(super) fn place(&self, segment: &Segment) -> (Offset, u64) {
        (segment.base.plus(i64::from(self.relative)), u64::from(self.position))
    }
}

/// The slots in these bytes.
pub(crate) fn slots(bytes: &[u8]) -> Vec<Slot> {
    let number = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
    bytes.chunks_exact(SLOT).map(|slot| (number(slot), number(&slot[4..]))).collect()
}

impl<D: Disk> Store<D> {
    /// Writes entries from the `first`-th slot on.
    pub(super) fn write_index(
        &self,
        tp: TopicPartition,
        segment: &Segment,
        first: u32,
        entries: &[u8],
    ) -> Result<(), LogError> {
        let path = || folder(&self.root, tp).join(segment.index_name());
        let file = match self.file(tp, segment, Kind::Index) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let path = path();
                let file = self.disk.create(&path).during("create", &path)?;
                self.files.insert(segment.uid, Kind::Index, file)
            }
            other => other.during_at("open", path)?,
        };
        file.write_at(&[IoSlice::new(entries)], u64::from(first) * SLOT as u64).during_at("write", path)
    }

    /// How many slots are of batches before `offset`.
    pub(super) fn slots_before(&self, tp: TopicPartition, segment: &Segment, offset: Offset) -> u32 {
        let Ok(index) = self.file(tp, segment, Kind::Index) else { return 0 };
        partition_point(&*index, segment.index_entries, offset.0 - segment.base.0)
    }

    /// A batch's offset and position in the segment, at or before `offset` and near it.
    pub(super) fn locate(&self, tp: TopicPartition, segment: &Segment, log: &D::File, offset: Offset) -> (Offset, u64) {
        let start = (segment.base, 0);
        if segment.index_entries == 0 {
            return start;
        }
        let Ok(index) = self.file(tp, segment, Kind::Index) else { return start };
        let relative = offset.0 - segment.base.0;
        let behind = partition_point(&*index, segment.index_entries, relative.saturating_add(1));
        let mut back = 1;
        while let Some(n) = behind.checked_sub(back) {
            if let Some((r, position)) = last_slot(&*index, n, behind)
                && i64::from(r) <= relative
                && points_at_batch(log, segment, r, position)
            {
                return (segment.base.plus(i64::from(r)), u64::from(position));
            }
            back *= 2;
        }
        start
    }

    /// The last entry that knows times of those that are `wanted`, as all before it are.
    pub(super) fn last_timed(
        &self,
        tp: TopicPartition,
        segment: &Segment,
        log: &D::File,
        wanted: impl Fn(&Timed) -> bool,
    ) -> Option<Timed> {
        if segment.index_entries == 0 {
            return None;
        }
        let index = self.file(tp, segment, Kind::Index).ok()?;
        let (mut count, mut back) = (segment.index_entries, 0);
        loop {
            let found = search(&*index, segment.uid, count, &wanted)?;
            if points_at_batch(log, segment, found.relative, found.position) {
                return Some(found);
            }
            count = found.first.saturating_sub(back);
            back = back * 2 + 1;
        }
    }
}

fn slot(index: &impl DiskFile, n: u32) -> Option<Slot> {
    let mut bytes = [0; SLOT];
    let read = index.read_at(&mut bytes, u64::from(n) * SLOT as u64).ok()?;
    let both = u64::from_be_bytes(bytes);
    let slot = ((both >> 32) as u32, both as u32);
    // No entry is ever made for the segment's first batch: zeroes are a write that was lost.
    (read == bytes.len() && slot.0 > 0).then_some(slot)
}

/// The first of `count` slots whose batch is not before the offset that is so far behind the segment's base.
fn partition_point(index: &impl DiskFile, count: u32, relative: i64) -> u32 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = u32::midpoint(low, high);
        match slot(index, middle) {
            Some((r, _)) if i64::from(r) < relative => low = middle + 1,
            _ => high = middle,
        }
    }
    low
}

/// The last slot of the entry that has the `n`-th, of those before the `count`-th: it has the position.
fn last_slot(index: &impl DiskFile, n: u32, count: u32) -> Option<Slot> {
    let first = slot(index, n)?;
    let more = (n + 1..count.min(n + TIMED as u32)).map_while(|n| slot(index, n));
    Some(more.take_while(|next| next.0 == first.0).last().unwrap_or(first))
}

/// The last of the entries that know times, within `count` slots, that is wanted. What cannot be read is taken for unwanted.
fn search(index: &impl DiskFile, uid: u64, count: u32, wanted: &impl Fn(&Timed) -> bool) -> Option<Timed> {
    let (mut low, mut high, mut last) = (0, count, None);
    while low < high {
        let middle = u32::midpoint(low, high);
        match timed_from(index, uid, middle, count).filter(wanted) {
            Some(timed) => {
                low = timed.first + TIMED as u32;
                last = Some(timed);
            }
            None => high = middle,
        }
    }
    last
}

/// The first entry that knows times and does not end before the `n`-th slot, if there is one near that, within `count` slots.
fn timed_from(index: &impl DiskFile, uid: u64, n: u32, count: u32) -> Option<Timed> {
    let begin = n.saturating_sub(TIMED as u32 - 1);
    let mut bytes = [0; LOOK * SLOT];
    let there = index.read_at(&mut bytes, u64::from(begin) * SLOT as u64).ok()?;
    let mut slots = slots(&bytes[..there]);
    slots.truncate(count.saturating_sub(begin) as usize);
    slots.windows(TIMED).zip(begin..).find_map(|(slots, first)| Timed::decode(uid, slots, first))
}

fn points_at_batch(log: &impl DiskFile, segment: &Segment, relative: u32, position: u32) -> bool {
    let mut header = [0; HEADER_LEN];
    let position = u64::from(position);
    if position + HEADER_LEN as u64 > segment.len || log.read_at(&mut header, position).ok() != Some(HEADER_LEN) {
        return false;
    }
    BatchHeader::read(&header).is_ok_and(|h| h.base_offset == segment.base.plus(i64::from(relative)))
}
