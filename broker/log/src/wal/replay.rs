//! Reading the chain of blocks back, and judging what follows its end.

use super::entry::{ALIGN, BlockHeader, FORMAT, HEADER, LoggedOp, decode_op};
use super::{Mark, Position, segment};
use crate::disk::{Disk, DiskFile, is_unreadable, look_again, read_exact_at};
use crate::error::{IoContext, LogError};
use bytes::Bytes;
use chronik_core::ids::Lsn;
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
/// that all of it is there: a batch that it refers to may never have reached its segment.
pub(crate) fn replay<D: Disk>(
    disk: &D,
    dir: &Path,
    from: Position,
    mark: Mark,
    is_whole: impl FnMut(&LoggedOp) -> Result<bool, LogError>,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<Chain, LogError> {
    let mut blocks = Blocks::new(disk, dir, from, mark)?;
    if !blocks.has_segment(from.segment) {
        let path = segment::path(dir, from.segment);
        let lost = LogError::corrupt(&path, "the write-ahead log's segment that the checkpoint names is missing");
        return Ok(Chain { end: from, lost: Some(lost), segments: Vec::new(), tail: Vec::new() });
    }
    let mut tail: Vec<Block> = Vec::new();
    while let Some(block) = blocks.next()? {
        let synced = tail.partition_point(|(_, earlier, _)| earlier.lsn < block.1.synced);
        for block in tail.drain(..synced) {
            operations(dir, &block)?.into_iter().try_for_each(&mut visit)?;
        }
        tail.push(block);
    }
    let Blocks { at, segments, unreadable, .. } = blocks;
    let sealed = is_sealed(disk, dir, at, mark)?;
    // What can be read after all, and is the seal, is no block.
    let mut lost = unreadable.into_iter().find(|(place, _)| !sealed || *place != at).map(|(_, error)| error);
    if sealed {
        for block in tail.drain(..) {
            operations(dir, &block)?.into_iter().try_for_each(&mut visit)?;
        }
    }
    let at = end_of_tail(dir, at, &mut tail, is_whole, visit)?;
    for number in segments.iter().copied().filter(|n| *n >= at.segment) {
        let offset = if number == at.segment { at.offset } else { 0 };
        let found = judge_rest(disk, dir, Position { segment: number, offset, ..at }, mark)?;
        lost = lost.or(found);
    }
    let segments = segments.into_iter().filter(|n| (from.segment..=at.segment).contains(n)).collect();
    Ok(Chain { end: at, lost, segments, tail })
}

/// Visits the operations again that a replay has visited, which found the chain's end at `end`. All of them have to be there
/// still: whoever went on without the last of them would pass for a log that never had them.
pub(crate) fn replay_again<D: Disk>(
    disk: &D,
    dir: &Path,
    from: Position,
    end: Position,
    mark: Mark,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let mut blocks = Blocks::new(disk, dir, from, mark)?;
    while blocks.at.lsn < end.lsn {
        let at = blocks.at;
        let Some(block) = blocks.next()? else {
            let source = io::Error::other(format!("the block at LSN {}, byte {}, was there before", at.lsn, at.offset));
            return Err(LogError::Io { action: "read again", path: segment::path(dir, at.segment), source });
        };
        operations(dir, &block)?.into_iter().try_for_each(&mut visit)?;
    }
    Ok(())
}

/// Reads the blocks of a chain, one after the other.
struct Blocks<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    mark: Mark,
    /// Those that are there.
    segments: Vec<u64>,
    /// The one that was read last.
    file: Option<(u64, D::File)>,
    /// Where the next block begins, unless that is in the next segment.
    at: Position,
    /// Where nobody knows whether there is another block, and why, when there seems to be none.
    unreadable: Vec<(Position, LogError)>,
}

impl<'a, D: Disk> Blocks<'a, D> {
    /// Those of the chain that has one at `from`, if it is not empty.
    fn new(disk: &'a D, dir: &'a Path, from: Position, mark: Mark) -> Result<Self, LogError> {
        let segments = segment::list(disk, dir).during("list", dir)?;
        Ok(Self { disk, dir, mark, segments, file: None, at: from, unreadable: Vec::new() })
    }

    /// Whether there is a segment of that number.
    fn has_segment(&self, number: u64) -> bool {
        self.segments.binary_search(&number).is_ok()
    }

    /// The next block, if the chain goes on: behind the last one, or in the next segment.
    fn next(&mut self) -> Result<Option<Block>, LogError> {
        for at in [self.at, Position { segment: self.at.segment + 1, offset: 0, ..self.at }] {
            if let Some((header, payload)) = self.read(at)? {
                let len = header.block_len();
                self.at = Position { lsn: Lsn(at.lsn.0 + len), offset: at.offset + len, ..at };
                self.unreadable.clear();
                return Ok(Some((at, header, payload)));
            }
        }
        Ok(None)
    }

    /// The block at that position. What is not there is looked for once more: a cable, a controller, a bit in memory, and a
    /// chain that ends there would be believed to. What cannot be read twice is no block that was never finished.
    fn read(&mut self, at: Position) -> Result<Option<(BlockHeader, Bytes)>, LogError> {
        if !self.has_segment(at.segment) {
            return Ok(None);
        }
        let path = segment::path(self.dir, at.segment);
        let (_, file) = match self.file.take() {
            Some(open) if open.0 == at.segment => self.file.insert(open),
            _ => self.file.insert((at.segment, self.disk.open(&path).during("open", &path)?)),
        };
        match look_again(self.disk, || read_block(file, &path, at, self.mark)) {
            Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
                let detail = format!("the disk cannot read what may be a block at byte {}", at.offset);
                self.unreadable.push((at, LogError::corrupt(&path, detail)));
                Ok(None)
            }
            other => other,
        }
    }
}

/// Visits the operations of blocks that nothing says to have been synced, up to one that is not whole, which is taken off
/// with all behind it. Returns where the chain ends.
fn end_of_tail(
    dir: &Path,
    end: Position,
    tail: &mut Vec<Block>,
    mut is_whole: impl FnMut(&LoggedOp) -> Result<bool, LogError>,
    mut visit: impl FnMut(LoggedOp) -> Result<(), LogError>,
) -> Result<Position, LogError> {
    for n in 0..tail.len() {
        let (ops, at) = (operations(dir, &tail[n])?, tail[n].0);
        for op in &ops {
            if !is_whole(op)? {
                tail.truncate(n);
                return Ok(at);
            }
        }
        ops.into_iter().try_for_each(&mut visit)?;
    }
    Ok(end)
}

fn operations(dir: &Path, (at, header, payload): &Block) -> Result<Vec<LoggedOp>, LogError> {
    let mut payload = payload.clone();
    let unknown =
        || LogError::corrupt(&segment::path(dir, at.segment), format!("an unknown operation at LSN {}", at.lsn));
    (0..header.ops).map(|_| decode_op(&mut payload).ok_or_else(unknown)).collect()
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

/// Whether there is a seal that says of all before that position that it was synced.
fn is_sealed<D: Disk>(disk: &D, dir: &Path, at: Position, mark: Mark) -> Result<bool, LogError> {
    let path = segment::path(dir, at.segment);
    let file = disk.open(&path).during("open", &path)?;
    if at.offset + HEADER as u64 > file.len().during("measure", &path)? {
        return Ok(false);
    }
    let look = || {
        let mut header = [0; HEADER];
        read_exact_at(&file, &mut header, at.offset)?;
        Ok::<_, io::Error>(
            BlockHeader::decode(&header).filter(|found| *found == BlockHeader::seal(at.lsn, at.segment, mark)),
        )
    };
    match look_again(disk, look) {
        Err(e) if is_unreadable(&e) => Ok(false),
        other => other.map(|seal| seal.is_some()).during("read", &path),
    }
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
        let look = || {
            let mut header = [0; HEADER];
            read_exact_at(&file, &mut header, at)?;
            let found = BlockHeader::decode(&header);
            // Zeroes are none. All else may be one that was read wrong.
            Ok::<_, io::Error>((found.is_some() || header == [0; HEADER]).then_some(found))
        };
        let found = match look_again(disk, look) {
            Err(e) if is_unreadable(&e) => {
                let detail = format!("the disk cannot read what may be a block at byte {at}");
                return Ok(Some(LogError::corrupt(&path, detail)));
            }
            found => found.during("read", &path)?.flatten(),
        };
        let ours = |h: &BlockHeader| h.nonce == mark.nonce && h.segment == end.segment;
        if let Some(h) = found.filter(ours) {
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
