//! Reading the chain of blocks back, and judging what follows its end.

use super::entry::{ALIGN, BlockHeader, FORMAT, HEADER, LoggedOp, decode_op};
use super::{Mark, Position, segment};
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::error::{IoContext, LogError};
use bytes::Bytes;
use std::io::IoSlice;
use std::path::Path;

/// The chain of blocks that a replay has read.
pub(crate) struct Chain {
    /// Where it ends.
    pub(crate) end: Position,
    /// Its blocks that no later block says to have been synced, where they are, as they were read.
    tail: Vec<(Position, BlockHeader, Bytes)>,
}

/// Visits every operation from `from` on, in order. Refuses a log of which something durable is missing.
pub(crate) fn replay<D: Disk>(
    disk: &D,
    dir: &Path,
    from: Position,
    mark: Mark,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<Chain, LogError> {
    let segments = segment::list(disk, dir).during("list", dir)?;
    if segments.binary_search(&from.segment).is_err() {
        let path = segment::path(dir, from.segment);
        return Err(LogError::corrupt(&path, "the write-ahead log's segment that the checkpoint names is missing"));
    }
    let mut at = from;
    let mut tail: Vec<(Position, BlockHeader, Bytes)> = Vec::new();
    while segments.binary_search(&at.segment).is_ok() {
        let path = segment::path(dir, at.segment);
        let file = disk.open(&path).during("open", &path)?;
        while let Some((header, mut payload)) = read_block(&file, &path, at, mark)? {
            tail.retain(|(_, earlier, _)| earlier.lsn >= header.synced);
            tail.push((at, header, payload.clone()));
            for _ in 0..header.ops {
                let op = decode_op(&mut payload)
                    .ok_or_else(|| LogError::corrupt(&path, format!("an unknown operation at LSN {}", at.lsn)))?;
                visit(op)?;
            }
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
    for number in segments.into_iter().filter(|n| *n >= at.segment) {
        let offset = if number == at.segment { at.offset } else { 0 };
        judge_rest(disk, dir, Position { segment: number, offset, ..at }, mark)?;
    }
    Ok(Chain { end: at, tail })
}

impl Chain {
    /// Makes the chain, which begins in the segment `first`, durable as it was read. The process before may have
    /// left it in memory only. What it may not have synced is written again: if a sync of that failed, the kernel
    /// believes that there is nothing left to write, and another sync succeeds without the bytes being on the disk.
    /// Bytes that are durable are replaced by the same ones, in blocks of their own pages, so that a crash meanwhile
    /// changes nothing.
    pub(crate) fn settle<D: Disk>(&self, disk: &D, dir: &Path, first: u64) -> Result<(), LogError> {
        for (at, header, payload) in &self.tail {
            let path = segment::path(dir, at.segment);
            let zeroes = vec![0; header.block_len() as usize - HEADER - payload.len()];
            let block = header.encode();
            let parts = [IoSlice::new(&block), IoSlice::new(payload), IoSlice::new(&zeroes)];
            disk.open(&path).and_then(|file| file.write_at(&parts, at.offset)).during("write again", &path)?;
        }
        for number in first..=self.end.segment {
            let path = segment::path(dir, number);
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
    read_exact_at(file, &mut header, at.offset).during("read", path)?;
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
    read_exact_at(file, &mut payload, at.offset + HEADER as u64).during("read", path)?;
    Ok((crc32c::crc32c(&payload) == header.payload_crc).then(|| (header, payload.into())))
}

/// Looks behind the end of the chain for proof that more than the chain was durable once.
fn judge_rest<D: Disk>(disk: &D, dir: &Path, end: Position, mark: Mark) -> Result<(), LogError> {
    let path = segment::path(dir, end.segment);
    let file = disk.open(&path).during("open", &path)?;
    let len = file.len().during("measure", &path)?;
    let mut at = end.offset;
    while at + HEADER as u64 <= len {
        let mut header = [0; HEADER];
        read_exact_at(&file, &mut header, at).during("read", &path)?;
        let ours = |h: &BlockHeader| h.nonce == mark.nonce && h.segment == end.segment;
        if let Some(h) = BlockHeader::decode(&header).filter(ours) {
            if h.run == mark.run && h.synced > end.lsn {
                let detail = format!(
                    "the write-ahead log is valid up to LSN {} only, but the block at byte {at} was written when all up \
                     to LSN {} was synced",
                    end.lsn, h.synced
                );
                return Err(LogError::corrupt(&path, detail));
            }
            if h.run > mark.run {
                let detail = format!("it holds blocks of run {}, but the checkpoint is of run {}", h.run, mark.run);
                return Err(LogError::corrupt(&path, detail));
            }
        }
        at += ALIGN as u64;
    }
    Ok(())
}
