//! Writing blocks, rolling to the next segment, and using old segments again.

use super::entry::{ALIGN, BlockHeader, Entry, HEADER, block_len, block_version};
use super::{Mark, Position, segment};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError, SYNC};
use chronik_core::ids::Lsn;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// A new segment grows by this much at a time.
const STEP: u64 = 1024 * 1024;
/// Superfluous segments that are kept for use; the rest are removed.
const MAX_FREE: usize = 8;

/// Zeroes are written in pieces of this length. What is written at once the kernel may keep as one piece of its page cache, of
/// megabytes, and for each page of it that a round writes later all of it counts as written to again, with who is slowed for
/// writing much too. Smaller ones cost large blocks more.
const PIECE: usize = 64 * 1024;

static ZEROES: [u8; PIECE] = [0; PIECE];

pub(crate) struct WalWriter<D: Disk> {
    disk: D,
    dir: PathBuf,
    segment_bytes: u64,
    mark: Mark,
    file: D::File,
    at: Position,
    /// The current file's length.
    allocated: u64,
    synced: Lsn,
    /// Superfluous segments, to be used again.
    free: Vec<u64>,
    /// Segments that the next checkpoint's position may make superfluous, ascending; the last is written.
    live: Vec<u64>,
    /// Files of this round that were left for the next segment.
    left: Vec<D::File>,
    /// The segment that comes next, if it is ready.
    next: Option<NextSegment<D>>,
}

/// A segment that is ready to be written, durably, at its full length: rounds find it, and its space, there.
pub(crate) struct NextSegment<D: Disk> {
    file: D::File,
    len: u64,
}

/// What came of a [`NextSegmentJob`].
pub(crate) struct MadeSegment<D: Disk> {
    number: u64,
    result: Result<NextSegment<D>, LogError>,
    /// The superfluous segment that it was given and has no use for.
    left: Option<u64>,
}

/// The making of the next segment, for another thread than the one that writes.
pub(crate) struct NextSegmentJob<D: Disk> {
    disk: D,
    dir: PathBuf,
    number: u64,
    /// A superfluous segment to be used again.
    old: Option<u64>,
    bytes: u64,
}

impl<D: Disk> NextSegmentJob<D> {
    /// Makes it. What failed for want of room may be tried again.
    pub(crate) fn run(mut self) -> MadeSegment<D> {
        let result = self.make();
        MadeSegment { number: self.number, result, left: self.old }
    }

    fn make(&mut self) -> Result<NextSegment<D>, LogError> {
        let path = segment::path(&self.dir, self.number);
        let file = if self.disk.exists(&path).during("look for", &path)? {
            self.disk.open(&path).during("open", &path)?
        } else {
            take_over(&self.disk, &self.dir, &mut self.old, self.number)?
        };
        let len = file.len().during("measure", &path)?;
        extend(&file, len, self.bytes).during("extend", &path)?;
        file.sync_data().during("sync", &path)?;
        self.disk.sync_dir(&self.dir).during("sync", &self.dir)?;
        Ok(NextSegment { file, len: len.max(self.bytes) })
    }
}

/// Writes zeroes from one byte to another, if that is behind it.
fn extend(file: &impl DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let n = (to - at).min(PIECE as u64);
        file.write_at(&[IoSlice::new(&ZEROES[..n as usize])], at)?;
        at += n;
    }
    Ok(())
}

/// The file of a new segment: a superfluous one's, which is used up then, or an empty one.
fn take_over<D: Disk>(disk: &D, dir: &Path, old: &mut Option<u64>, number: u64) -> Result<D::File, LogError> {
    let path = segment::path(dir, number);
    let Some(from) = old.map(|old| segment::path(dir, old)) else { return disk.create(&path).during("create", &path) };
    disk.rename(&from, &path).during("rename", &from)?;
    *old = None;
    disk.open(&path).during("open", &path)
}

impl<D: Disk> WalWriter<D> {
    /// Starts a run in a segment of its own, with a number above all `existing` ones, which it may use again
    /// after [`Self::recycle`]. The segment exists durably when this returns.
    pub(crate) fn start(
        disk: D,
        dir: PathBuf,
        segment_bytes: u64,
        mark: Mark,
        lsn: Lsn,
        existing: Vec<u64>,
    ) -> Result<Self, LogError> {
        let number = existing.last().map_or(0, |n| n + 1);
        let path = segment::path(&dir, number);
        let file = disk.create(&path).during("create", &path)?;
        disk.sync_dir(&dir).during("sync", &dir)?;
        let mut live = existing;
        live.push(number);
        Ok(Self {
            disk,
            dir,
            segment_bytes,
            mark,
            file,
            at: Position { lsn, segment: number, offset: 0 },
            allocated: 0,
            synced: lsn,
            free: Vec::new(),
            live,
            left: Vec::new(),
            next: None,
        })
    }

    /// Where the next block goes.
    pub(crate) fn position(&self) -> Position {
        self.at
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Extends a new segment by its first step of zeroes, durably, so that the sync of the first block changes no
    /// metadata of the file system: that waits for whatever others have written to the disk.
    pub(crate) fn prepare(&mut self) -> Result<(), LogError> {
        let step = STEP.min(self.segment_bytes);
        if self.allocated >= step {
            return Ok(());
        }
        let path = segment::path(&self.dir, self.at.segment);
        extend(&self.file, self.allocated, step).during("extend", &path)?;
        self.file.sync_data().during("sync", &path)?;
        self.allocated = step;
        Ok(())
    }

    /// What makes the next segment, if it is neither ready nor needed before anything is written to this one. The result
    /// goes to [`Self::has_next`] before the next job is asked for.
    pub(crate) fn next_job(&mut self) -> Option<NextSegmentJob<D>> {
        (self.next.is_none() && self.at.offset > 0).then(|| NextSegmentJob {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            number: self.at.segment + 1,
            old: self.free.pop(),
            bytes: self.segment_bytes,
        })
    }

    pub(crate) fn has_next(&mut self, made: MadeSegment<D>) -> Result<(), LogError> {
        self.free.extend(made.left);
        let next = made.result?;
        if made.number != self.at.segment + 1 {
            // Another one is written by that name: two files would be one, or one that nobody finds again.
            return Err(LogError::Poisoned);
        }
        self.next = Some(next);
        Ok(())
    }

    /// Whether a round of so many bytes may not fit the rest of the segment.
    pub(crate) fn is_short_of(&self, bytes: usize) -> bool {
        self.next.is_none() && block_len(bytes) as u64 > self.room()
    }

    /// What blocks may take of the rest of the segment: behind the last one is room for a seal.
    fn room(&self) -> u64 {
        self.segment_bytes.saturating_sub(self.at.offset + ALIGN as u64)
    }

    /// Writes operations without syncing them, and takes them off `ops`. What is left there after an error for want of
    /// room can be written later.
    pub(crate) fn write(&mut self, ops: &mut &[Entry<'_>]) -> Result<(), LogError> {
        while !ops.is_empty() {
            let room = self.room() as usize;
            let mut payload = 0;
            let fits = |op: &&Entry<'_>| {
                payload += op.len();
                block_len(payload) <= room
            };
            let n = ops.iter().take_while(fits).count();
            if n == 0 && self.at.offset > 0 {
                self.roll()?;
                continue;
            }
            // What is larger than a segment gets one to itself.
            let (now, later) = ops.split_at(n.max(1));
            self.write_block(now)?;
            *ops = later;
        }
        Ok(())
    }

    /// Makes all that was written durable: one sync, and one more for each segment that the round filled.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        for file in self.left.drain(..) {
            file.sync_data().during(SYNC, &self.dir)?;
        }
        self.file.sync_data().during_at(SYNC, || segment::path(&self.dir, self.at.segment))?;
        self.synced = self.at.lsn;
        Ok(())
    }

    /// Lets it be seen that the last block was synced: if it is not whole later, it is damaged and not torn. Nobody waits
    /// until that is durable, and the next block is written over it, or begins the next segment. Does nothing behind a block that
    /// is not synced.
    pub(crate) fn seal(&self) {
        if self.synced != self.at.lsn {
            // Some of a round that has no room for the rest, which says it itself.
            return;
        }
        let header = BlockHeader::seal(self.synced, self.at.segment, self.mark).encode();
        // A whole page, as the rest of it would have to be read from the disk otherwise.
        let parts = [IoSlice::new(&header), IoSlice::new(&ZEROES[..ALIGN - HEADER])];
        if let Err(error) = self.file.write_at(&parts, self.at.offset) {
            // Then damage to that block looks like a torn write; nothing else depends on it.
            tracing::debug!(segment = self.at.segment, %error, "cannot write behind the last block");
        }
    }

    /// Segments before `number` hold nothing that a recovery needs any more.
    pub(crate) fn recycle(&mut self, number: u64) -> Result<(), LogError> {
        let keep = self.live.partition_point(|n| *n < number);
        for n in self.live.drain(..keep) {
            let path = segment::path(&self.dir, n);
            let oversized = self.disk.open(&path).and_then(|f| f.len()).during("measure", &path)? > self.segment_bytes;
            if oversized || self.free.len() >= MAX_FREE {
                self.disk.remove(&path).during("remove", &path)?;
            } else {
                self.free.push(n);
            }
        }
        Ok(())
    }

    fn write_block(&mut self, ops: &[Entry<'_>]) -> Result<(), LogError> {
        let heads: Vec<_> = ops.iter().map(Entry::head).collect();
        let mut parts = Vec::with_capacity(2 * ops.len() + 2);
        parts.push(IoSlice::new(&[]));
        let (mut payload_len, mut payload_crc) = (0, 0);
        for (op, head) in ops.iter().zip(&heads) {
            let (head, body) = (head.bytes(), op.body());
            payload_crc = op.crc_after(crc32c::crc32c_append(payload_crc, head));
            payload_len += head.len() + body.len();
            parts.push(IoSlice::new(head));
            parts.push(IoSlice::new(body));
        }
        let header = BlockHeader {
            version: block_version(ops),
            payload_len: payload_len as u32,
            payload_crc,
            lsn: self.at.lsn,
            synced: self.synced,
            segment: self.at.segment,
            run: self.mark.run,
            ops: ops.len() as u32,
            nonce: self.mark.nonce,
        };
        let bytes = header.encode();
        parts[0] = IoSlice::new(&bytes);
        let end = self.at.offset + header.block_len();
        let with_seal = end + ALIGN as u64;
        parts.push(IoSlice::new(&ZEROES[..block_len(payload_len) - HEADER - payload_len]));
        let path = || segment::path(&self.dir, self.at.segment);
        if with_seal > self.allocated {
            // First, and under the block too: it would be one long write otherwise.
            let allocated = with_seal.next_multiple_of(STEP).min(self.segment_bytes).max(with_seal);
            extend(&self.file, self.allocated, allocated).during_at("extend", path)?;
            self.allocated = allocated;
        }
        self.file.write_at(&parts, self.at.offset).during_at("write", path)?;
        self.at.offset = end;
        self.at.lsn.0 += header.block_len();
        Ok(())
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let number = self.at.segment + 1;
        let NextSegment { file, len } = match self.next.take() {
            Some(next) => next,
            None => self.make_next(number)?,
        };
        self.allocated = len;
        self.left.push(std::mem::replace(&mut self.file, file));
        self.at.segment = number;
        self.at.offset = 0;
        self.live.push(number);
        Ok(())
    }
    /// The next segment in haste: as it is, to be extended as it is written.
    fn make_next(&mut self, number: u64) -> Result<NextSegment<D>, LogError> {
        let path = segment::path(&self.dir, number);
        let mut old = self.free.pop();
        let taken = take_over(&self.disk, &self.dir, &mut old, number);
        self.free.extend(old);
        let file = taken?;
        self.disk.sync_dir(&self.dir).during("sync", &self.dir)?;
        let len = file.len().during("measure", &path)?;
        Ok(NextSegment { file, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Call;
    use crate::{Op, SimulatedDisk};
    use chronik_core::ids::{PartitionId, TopicId, TopicPartition};

    fn written(segment_bytes: u64) -> WalWriter<SimulatedDisk> {
        let (disk, dir) = (SimulatedDisk::new(1), Path::new("/wal"));
        disk.create_dir(dir).unwrap();
        let mark = Mark { nonce: 1, run: 1 };
        let mut wal = WalWriter::start(disk, dir.into(), segment_bytes, mark, Lsn(0), Vec::new()).unwrap();
        write(&mut wal);
        wal
    }

    /// A block of a page.
    fn write<D: Disk>(wal: &mut WalWriter<D>) {
        let op = Op::Delete { partition: TopicPartition { topic: TopicId::default(), partition: PartitionId(0) } };
        wal.write(&mut &[Entry::Whole { op: &op, announces: false }][..]).unwrap();
    }

    /// Or each page that a round writes later would count as a megabyte.
    #[test]
    fn a_segment_is_made_in_pieces() {
        const PIECES: u64 = STEP / PIECE as u64;
        let (mut wal, writes) = (written(4 * STEP), |wal: &WalWriter<SimulatedDisk>| wal.disk.calls(Call::Write));
        assert_eq!(writes(&wal), PIECES + 1, "a first block");
        write(&mut wal);
        assert_eq!(writes(&wal), PIECES + 2, "there is room for the next one");
        let made = wal.next_job().unwrap().run();
        assert_eq!(writes(&wal), 5 * PIECES + 2, "the next segment");
        wal.has_next(made).unwrap();
        while wal.at.segment == 0 {
            write(&mut wal);
        }
        assert_eq!(wal.allocated, 4 * STEP);
        let (disk, dir) = (SimulatedDisk::new(1), Path::new("/wal"));
        disk.create_dir(dir).unwrap();
        let mark = Mark { nonce: 1, run: 1 };
        let mut wal = WalWriter::start(disk, dir.into(), 4 * STEP, mark, Lsn(0), Vec::new()).unwrap();
        wal.prepare().unwrap();
        assert_eq!(writes(&wal), PIECES, "before the first block");
        write(&mut wal);
        assert_eq!(writes(&wal), PIECES + 1);
    }

    /// Two files of one name would be written, and one of them found by nobody.
    #[test]
    fn a_segment_that_was_needed_before_it_was_ready_is_not_taken_for_the_next_one() {
        let mut wal = written(16 * 1024);
        let job = wal.next_job().unwrap();
        let number = job.number;
        // It is made in haste.
        while wal.position().segment < number {
            write(&mut wal);
        }
        assert!(matches!(wal.has_next(job.run()), Err(LogError::Poisoned)));
        assert!(wal.next.is_none());
        // One that is made in time is.
        let made = wal.next_job().unwrap().run();
        assert_eq!(made.number, number + 1);
        wal.has_next(made).unwrap();
        assert!(wal.next.is_some() && wal.next_job().is_none());
    }

    #[test]
    fn no_seal_is_written_behind_what_is_not_synced() {
        let mut wal = written(16 * 1024);
        let at = wal.position();
        let page = |wal: &WalWriter<SimulatedDisk>| {
            let mut page = [0; ALIGN];
            wal.file.read_at(&mut page, at.offset).unwrap();
            page
        };
        wal.seal();
        assert_eq!(page(&wal), [0; ALIGN]);
        wal.sync().unwrap();
        wal.seal();
        assert_eq!(page(&wal)[..HEADER], BlockHeader::seal(at.lsn, at.segment, wal.mark()).encode());
    }

    #[test]
    fn a_superfluous_segment_that_the_next_one_does_not_need_is_used_later() {
        let (disk, dir) = (SimulatedDisk::new(1), Path::new("/wal"));
        disk.create_dir(dir).unwrap();
        for number in 0..2 {
            disk.create(&segment::path(dir, number)).unwrap();
        }
        let mark = Mark { nonce: 1, run: 1 };
        let mut wal = WalWriter::start(disk.clone(), dir.into(), 16 * 1024, mark, Lsn(0), vec![0, 1]).unwrap();
        wal.recycle(2).unwrap();
        assert_eq!(wal.free, [0, 1]);
        let op = Op::Delete { partition: TopicPartition { topic: TopicId::default(), partition: PartitionId(0) } };
        wal.write(&mut &[Entry::Whole { op: &op, announces: false }][..]).unwrap();
        // It is renamed, and has no room to be extended.
        disk.set_capacity(Some(0));
        let made = wal.next_job().unwrap().run();
        assert!(wal.has_next(made).unwrap_err().is_full());
        assert_eq!(wal.free, [0]);
        disk.set_capacity(None);
        let made = wal.next_job().unwrap().run();
        wal.has_next(made).unwrap();
        assert_eq!(wal.free, [0], "the next one was there already");
        assert!(disk.exists(&segment::path(dir, 0)).unwrap());
    }
}
