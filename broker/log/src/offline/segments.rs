//! Checking what a checkpoint says of partitions: segments, their indexes, and snapshots of producers.

use super::{Progress, Verified, VerifiedPartition, len};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, read_exact_at};
use crate::error::{IoContext, LogError};
use crate::history::History;
use crate::log::partitions_dir;
use crate::partition::{
    Failure, Partition, SLOT, Segment, SegmentCursor, Slot, Snapshot, TIMED, Timed, Times, folder, slots,
    verify_snapshot,
};
use chronik_core::ids::{Offset, TopicPartition};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn verify<D: Disk>(
    disk: &D,
    log: &Path,
    checkpoint: &Checkpoint,
    histories: &BTreeMap<TopicPartition, History>,
    verified: &mut Verified,
    progress: Progress<'_>,
) -> Result<(), LogError> {
    let root = partitions_dir(log);
    let total = checkpoint.partitions.iter().flat_map(|(_, p, _)| &p.segments).map(|s| s.len).sum();
    let mut done = 0;
    progress(done, total);
    for (tp, partition, snapshots) in &checkpoint.partitions {
        let history = histories.get(tp);
        if history.is_some_and(|h| h.deleted.is_some()) {
            verified.recovery.push(format!("{tp} was deleted after the checkpoint: its files are removed"));
            continue;
        }
        let dir = folder(&root, *tp);
        // What lies elsewhere is written anew from the write-ahead log.
        let (until, from) = history.and_then(History::limits).unwrap_or((Offset(i64::MAX), Offset(i64::MIN)));
        let (from, until) = (from.max(partition.start), until.min(partition.end));
        let mut found = VerifiedPartition {
            partition: *tp,
            start: partition.start,
            end: partition.end,
            bytes: 0,
            damaged: partition.damaged,
        };
        for (n, segment) in partition.segments.iter().enumerate() {
            let next = partition.segments.get(n + 1).map_or(partition.end, |s| s.base);
            let last = done;
            if segment.base < until && next > from {
                let read = &mut |bytes| progress(last + bytes, total);
                let damaged = verify_segment(disk, &dir, partition, segment, until, verified, read)?;
                let first = |offset: Offset| found.damaged.map_or(offset, |known| known.min(offset));
                found.damaged = damaged.map(|offset| first(offset.max(partition.start))).or(found.damaged);
            }
            found.bytes += segment.len;
            done += segment.len;
            progress(done, total);
        }
        for snapshot in snapshots.iter().filter(|s| s.at <= until && s.at >= from) {
            verify_snapshot_of(disk, log, &dir, snapshot, verified)?;
        }
        if let Some(from) = found.damaged {
            verified.recovery.push(format!(
                "{tp} cannot be read from offset {from} on: with peers it is cut there, what is cut off is kept in {}, and \
                 it is filled again from them; a broker without peers does not start",
                log.join("damaged").display()
            ));
        }
        verified.partitions.push(found);
    }
    Ok(())
}

/// Checks a segment's batches up to `until`, and its index. Returns the first offset that cannot be read.
fn verify_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    partition: &Partition,
    segment: &Segment,
    until: Offset,
    verified: &mut Verified,
    read: &mut dyn FnMut(u64),
) -> Result<Option<Offset>, LogError> {
    let path = dir.join(segment.log_name());
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            verified.find(&path, 0, "it is missing");
            return Ok(Some(segment.base));
        }
        Err(source) => return Err(LogError::Io { action: "open", path, source }),
    };
    let index = dir.join(segment.index_name());
    let (mut entries, mut wrong) = index_entries(disk, &index, segment)?;
    let mut times = Times::EMPTY;
    let mut cursor = SegmentCursor::new(&file, partition, segment, (segment.base, 0));
    let damage = loop {
        if cursor.offset >= until {
            break None;
        }
        let header = match cursor.peek().and_then(|header| {
            header.iter().try_for_each(|h| cursor.check(h))?;
            Ok(header)
        }) {
            Ok(Some(header)) => header,
            Ok(None) => break None,
            Err(failure) => break Some(failure),
        };
        if let Some(entry) = entries.remove(&cursor.position)
            && (header.base_offset.0 - segment.base.0 != i64::from(entry.relative)
                || entry.max.is_some_and(|max| max != times.max))
        {
            wrong.push(entry.slot);
        }
        times.observe(&header);
        cursor.skip(&header);
        read(cursor.position.min(segment.len));
    };
    if let Some(failure) = damage {
        let (offset, detail) = match failure {
            Failure::Damaged(offset, detail) => (offset, detail),
            Failure::Io(source) => return Err(LogError::Io { action: "read", path, source }),
        };
        verified.find(&path, cursor.position, format!("the batch at offset {offset}: {detail}"));
        return Ok(Some(offset));
    }
    wrong.extend(entries.range(..cursor.position).map(|(_, entry)| entry.slot));
    wrong.extend(entries.range(segment.len..).map(|(_, entry)| entry.slot));
    wrong.sort_unstable();
    wrong.dedup();
    for n in wrong {
        verified.find(&index, u64::from(n) * SLOT as u64, "the entry does not fit the batches; it is not used");
    }
    Ok(None)
}

/// What an entry of an index says.
struct Entry {
    /// The number of its first slot.
    slot: u32,
    /// The batch's offset, relative to the segment's base.
    relative: u32,
    /// The greatest timestamp before the batch, if it says that.
    max: Option<i64>,
}

/// What an index says, by the position that it names; and the first slots of entries that are not as they were written. A
/// write that a power cut has lost says nothing, nor does what it has left of an entry.
fn index_entries<D: Disk>(
    disk: &D,
    path: &Path,
    segment: &Segment,
) -> Result<(BTreeMap<u64, Entry>, Vec<u32>), LogError> {
    let there = (len(disk, path)? / SLOT as u64).min(u64::from(segment.index_entries));
    let mut bytes = vec![0; there as usize * SLOT];
    if there > 0 {
        let file = disk.open(path).during("open", path)?;
        read_exact_at(&file, &mut bytes, 0).during("read", path)?;
    }
    let mut slots = slots(&bytes);
    if there < u64::from(segment.index_entries) {
        // What is behind the file's end is lost as well.
        slots.push((0, 0));
    }
    let timed = |n: usize| Timed::decode(segment.uid, slots.get(n..n + TIMED)?, n as u32);
    // No entry is ever made for the segment's first batch: zeroes are a write that was lost.
    let is_lost = |n: usize| slots.get(n).is_some_and(|slot| slot.0 == 0);
    let (mut entries, mut broken, mut n) = (BTreeMap::new(), Vec::new(), 0);
    while let Some((relative, position)) = slots.get(n).copied() {
        let slot = n as u32;
        let same = slots[n..].iter().take(TIMED).take_while(|next| next.0 == relative).count();
        let is_part = same < TIMED && (is_lost(n + same) || n.checked_sub(1).is_some_and(is_lost));
        if relative == 0 || is_part {
            n += same;
        } else if let Some(found) = timed(n) {
            let entry = Entry { slot, relative: found.relative, max: Some(found.max) };
            entries.insert(u64::from(found.position), entry);
            n += TIMED;
        } else if slots.get(n..n + TIMED).is_some_and(are_of_one)
            && !(n + 1..n + TIMED).any(|n| timed(n).is_some())
            // One of a single slot, before one that has lost its last.
            && !is_lost(n + TIMED)
        {
            broken.push(slot);
            n += TIMED;
        } else {
            entries.insert(u64::from(position), Entry { slot, relative, max: None });
            n += 1;
        }
    }
    Ok((entries, broken))
}

/// Whether slots were written as one entry: each has the same offset, but for one at most.
fn are_of_one(slots: &[Slot]) -> bool {
    let with = |(relative, _): &Slot| slots.iter().filter(|slot| slot.0 == *relative).count();
    slots.iter().any(|slot| with(slot) + 1 >= slots.len())
}

fn verify_snapshot_of<D: Disk>(
    disk: &D,
    log: &Path,
    dir: &Path,
    snapshot: &Snapshot,
    verified: &mut Verified,
) -> Result<(), LogError> {
    let Some(wrong) = verify_snapshot(disk, dir, snapshot)? else { return Ok(()) };
    let path = if snapshot.is_file() { dir.join(snapshot.file_name()) } else { checkpoint::path(log) };
    verified.find(&path, 0, format!("{wrong}; batches are read instead"));
    Ok(())
}
