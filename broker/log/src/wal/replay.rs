//! Reading the chain of blocks back, and judging what follows its end.

use super::entry::{ALIGN, BlockHeader, FORMAT, HEADER, LoggedOp, decode_op};
use super::{Mark, Position, segment};
use crate::disk::{Disk, DiskFile, is_unreadable, read_exact_at};
use crate::error::{IoContext, LogError};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// The chain of blocks that a replay has read.
pub(crate) struct Chain {
    /// Where it ends.
    pub(crate) end: Position,
    /// What is missing, if it does not end where it ended once.
    pub(crate) lost: Option<LogError>,
    /// Its segments.
    segments: Vec<u64>,
    /// Its blocks that no later block says to have been synced, where they are, as they were read.
    tail: Vec<Block>,
}

/// A block as it was read, and where it is.
type Block = (Position, BlockHeader, Bytes);

/// Visits every operation from `from` on, in order, as far as the chain goes.
///
/// A block that no later one says to have been synced belongs to the chain only if `is_whole` says of each of its operations
/// that all of it is there: a batch that it refers to may never have reached its segment. It gets the block's place.
pub(crate) fn replay<D: Disk>(
    disk: &D,
    dir: &Path,
    from: Position,
    mark: Mark,
    is_whole: impl FnMut(Position, &LoggedOp) -> Result<bool, LogError>,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<Chain, LogError> {
    let segments = segment::list(disk, dir).during("list", dir)?;
    if segments.binary_search(&from.segment).is_err() {
        let path = segment::path(dir, from.segment);
        let lost = LogError::corrupt(&path, "the write-ahead log's segment that the checkpoint names is missing");
        return Ok(Chain { end: from, lost: Some(lost), segments: Vec::new(), tail: Vec::new() });
    }
    let mut at = from;
    let mut tail: Vec<Block> = Vec::new();
    while segments.binary_search(&at.segment).is_ok() {
        let path = segment::path(dir, at.segment);
        let file = disk.open(&path).during("open", &path)?;
        while let Some((header, payload)) = read_block(&file, &path, at, mark)? {
            let synced = tail.partition_point(|(_, earlier, _)| earlier.lsn < header.synced);
            for block in tail.drain(..synced) {
                operations(dir, &block, true)?.into_iter().try_for_each(&mut visit)?;
            }
            tail.push((at, header, payload));
            at.offset += header.block_len();
            at.lsn.0 += header.block_len();
        }
        // The chain goes on in the next segment, or it ends here.
        let next = Position { segment: at.segment + 1, offset: 0, ..at };
        if segments.binary_search(&next.segment).is_err() {
            break;
        }
        let path = segment::path(dir, next.segment);
        let file = disk.open(&path).during("open", &path)?;
        if read_block(&file, &path, next, mark)?.is_none() {
            break;
        }
        at = next;
    }
    if is_sealed(disk, dir, at, mark)? {
        for block in tail.drain(..) {
            operations(dir, &block, true)?.into_iter().try_for_each(&mut visit)?;
        }
    }
    at = end_of_tail(dir, at, &mut tail, is_whole, visit)?;
    let mut lost = None;
    for number in segments.iter().copied().filter(|n| *n >= at.segment) {
        let offset = if number == at.segment { at.offset } else { 0 };
        let found = judge_rest(disk, dir, Position { segment: number, offset, ..at }, mark)?;
        lost = lost.or(found);
    }
    let segments = segments.into_iter().filter(|n| (from.segment..=at.segment).contains(n)).collect();
    Ok(Chain { end: at, lost, segments, tail })
}

/// Visits the operations of blocks that nothing says to have been synced, up to one that is not whole, which is taken off
/// with all behind it. Returns where the chain ends.
fn end_of_tail(
    dir: &Path,
    end: Position,
    tail: &mut Vec<Block>,
    mut is_whole: impl FnMut(Position, &LoggedOp) -> Result<bool, LogError>,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<Position, LogError> {
    for n in 0..tail.len() {
        let (ops, at) = (operations(dir, &tail[n], false)?, tail[n].0);
        for op in &ops {
            if !is_whole(at, op)? {
                tail.truncate(n);
                return Ok(at);
            }
        }
        ops.into_iter().try_for_each(&mut visit)?;
    }
    Ok(end)
}

fn operations(dir: &Path, (at, header, payload): &Block, synced: bool) -> Result<Vec<LoggedOp>, LogError> {
    let mut payload = payload.clone();
    let unknown =
        || LogError::corrupt(&segment::path(dir, at.segment), format!("an unknown operation at LSN {}", at.lsn));
    (0..header.ops).map(|_| decode_op(&mut payload, synced).ok_or_else(unknown)).collect()
}

impl Chain {
    /// Makes the chain durable as it was read. The process before may have
    /// left it in memory only. What it may not have synced is written again: if a sync of that failed, the kernel
    /// believes that there is nothing left to write, and another sync succeeds without the bytes being on the disk.
    /// Bytes that are durable are replaced by the same ones, in blocks of their own pages, so that a crash meanwhile
    /// changes nothing.
    pub(crate) fn make_durable<D: Disk>(&self, disk: &D, dir: &Path) -> Result<(), LogError> {
        for (at, header, payload) in &self.tail {
            let path = segment::path(dir, at.segment);
            let zeroes = vec![0; header.block_len() as usize - HEADER - payload.len()];
            let block = header.encode();
            let parts = [IoSlice::new(&block), IoSlice::new(payload), IoSlice::new(&zeroes)];
            disk.open(&path).and_then(|file| file.write_at(&parts, at.offset)).during("write again", &path)?;
        }
        for number in &self.segments {
            let path = segment::path(dir, *number);
            disk.open(&path).and_then(|file| file.sync_data()).during("sync", &path)?;
        }
        disk.sync_dir(dir).during("sync", dir)
    }
}

/// The block at that position, if it is the one that belongs there. One of a newer version is refused.
fn read_block(
    file: &impl DiskFile,
    path: &Path,
    at: Position,
    mark: Mark,
) -> Result<Option<(BlockHeader, Bytes)>, LogError> {
    let len = file.len().during("measure", path)?;
    let mut header = [0; HEADER];
    if at.offset + HEADER as u64 > len {
        return Ok(None);
    }
    if !readable(read_exact_at(file, &mut header, at.offset)).during("read", path)? {
        return Ok(None);
    }
    let Some(header) = BlockHeader::decode(&header) else { return Ok(None) };
    let ours = header.nonce == mark.nonce && header.run == mark.run;
    let expected = ours && header.lsn == at.lsn && header.segment == at.segment;
    if !expected {
        return Ok(None);
    }
    FORMAT.known(header.version, path)?;
    if at.offset + HEADER as u64 + u64::from(header.payload_len) > len {
        return Ok(None);
    }
    let mut payload = vec![0; header.payload_len as usize];
    if !readable(read_exact_at(file, &mut payload, at.offset + HEADER as u64)).during("read", path)? {
        return Ok(None);
    }
    Ok((crc32c::crc32c(&payload) == header.payload_crc).then(|| (header, payload.into())))
}

/// Whether there is a seal that says of all before that position that it was synced.
fn is_sealed<D: Disk>(disk: &D, dir: &Path, at: Position, mark: Mark) -> Result<bool, LogError> {
    let path = segment::path(dir, at.segment);
    let file = disk.open(&path).during("open", &path)?;
    let mut header = [0; HEADER];
    Ok(at.offset + HEADER as u64 <= file.len().during("measure", &path)?
        && readable(read_exact_at(&file, &mut header, at.offset)).during("read", &path)?
        && BlockHeader::decode(&header) == Some(BlockHeader::seal(at.lsn, at.segment, mark)))
}

/// Where a block of this run begins at the end of the chain, or at the beginning of the next segment, that is not whole: it
/// was never finished, or it is the last one and damaged. Which of them nobody can tell.
pub(crate) fn torn<D: Disk>(
    disk: &D,
    dir: &Path,
    end: Position,
    mark: Mark,
) -> Result<Option<(PathBuf, u64)>, LogError> {
    for at in [end, Position { segment: end.segment + 1, offset: 0, ..end }] {
        let path = segment::path(dir, at.segment);
        if disk.exists(&path).during("look for", &path)? && begins_block(disk, &path, at, mark)? {
            return Ok(Some((path, at.offset)));
        }
    }
    Ok(None)
}

/// Whether what is there looks like the block that belongs there.
fn begins_block<D: Disk>(disk: &D, path: &Path, at: Position, mark: Mark) -> Result<bool, LogError> {
    let file = disk.open(path).during("open", path)?;
    let mut header = [0; HEADER];
    if at.offset + HEADER as u64 > file.len().during("measure", path)?
        || !readable(read_exact_at(&file, &mut header, at.offset)).during("read", path)?
        || header == [0; HEADER]
    {
        return Ok(false);
    }
    let (lsn, number) = (header[16..24] == at.lsn.0.to_le_bytes(), header[32..40] == at.segment.to_le_bytes());
    Ok(match BlockHeader::decode(&header) {
        Some(h) => h.nonce == mark.nonce && h.run == mark.run && lsn && number,
        None => lsn || number && header[..3] == FORMAT.family,
    })
}

/// Whether it could be read: where the disk gives nothing back there is no block.
fn readable(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Err(e) if is_unreadable(&e) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Looks behind the end of the chain for proof that more than the chain was durable once, or that nobody can tell.
fn judge_rest<D: Disk>(disk: &D, dir: &Path, end: Position, mark: Mark) -> Result<Option<LogError>, LogError> {
    let path = segment::path(dir, end.segment);
    let file = disk.open(&path).during("open", &path)?;
    let len = file.len().during("measure", &path)?;
    let mut at = end.offset;
    while at + HEADER as u64 <= len {
        let mut header = [0; HEADER];
        if !readable(read_exact_at(&file, &mut header, at)).during("read", &path)? {
            return Ok(Some(LogError::corrupt(
                &path,
                format!("the disk cannot read what may be a block at byte {at}"),
            )));
        }
        let ours = |h: &BlockHeader| h.nonce == mark.nonce && h.segment == end.segment;
        if let Some(h) = BlockHeader::decode(&header).filter(ours) {
            if h.run == mark.run && h.synced > end.lsn {
                let detail = format!(
                    "the write-ahead log is valid up to LSN {} only, but the block at byte {at} was written when all up \
                     to LSN {} was synced",
                    end.lsn, h.synced
                );
                return Ok(Some(LogError::corrupt(&path, detail)));
            }
            if h.run > mark.run {
                let detail = format!("it holds blocks of run {}, but the checkpoint is of run {}", h.run, mark.run);
                return Err(LogError::corrupt(&path, detail));
            }
        }
        at += ALIGN as u64;
    }
    Ok(None)
}
