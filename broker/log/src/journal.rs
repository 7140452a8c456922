//! A small durable record log, for the metadata quorum's entries and votes: apart from the write-ahead log,
//! so that a sync of data never holds back a vote.
//!
//! One file, `journal`: blocks one after the other, each at a multiple of 512 bytes, padded with zeroes; the
//! file is extended with zeroes ahead of the writes so that most syncs change no metadata. [`Journal::rewrite`]
//! writes `journal.new`, syncs it and renames it over the old file.
//!
//! A block (little endian) is what one append wrote:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | magic `CJB3`, of which the last byte is the version (see `format`) |
//! | 4 | 4 | CRC-32C of the header's bytes 0 to 3 and from 8 on |
//! | 8 | 8 | generation: begins with a random number, counts rewrites |
//! | 16 | 8 | number of the block in this generation, from 0 |
//! | 24 | 4 | payload bytes |
//! | 28 | 4 | CRC-32C of the payload |
//! | 32 | … | payload: records, each a `u32` length and its bytes |
//!
//! The log ends before the first invalid block. Each append is synced before the next one begins, so an
//! invalid block is a torn tail when no valid block of this generation with a higher number follows it
//! anywhere in the file, and damage otherwise: then opening is refused. So that the last block is followed by one
//! as well, a block without records is written behind it once it is synced: the next append writes over that, and
//! nobody waits until it is durable. Block 0 is synced before the file gets its name: without it the file is damaged.
//!
//! All blocks of a generation are of one version: what was begun in version 2, whose CRC does not cover the magic, goes
//! on in it until it is rewritten.
//!
//! Who writes a record cannot make a part of it pass for a block that follows: the generation is nothing that
//! can be guessed.

use crate::disk::{Disk, DiskFile, create_dir_all, read_exact_at};
use crate::error::{IoContext, LogError, SYNC, lock};
use crate::format::Format;
use crate::offline::{NOT_WHOLE, Verified};
use bytes::Bytes;
use std::io::{IoSlice, Read};
use std::path::{Path, PathBuf};

const FORMAT: Format = Format { name: "journal", family: *b"CJB", oldest: 2, newest: 3 };
const HEADER: usize = 32;
const ALIGN: u64 = 512;
/// The file grows by this much at a time.
const STEP: u64 = 64 * 1024;

/// An append-only list of records. Every method returns when its effect is durable.
pub struct Journal<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    version: u8,
    generation: u64,
    next: u64,
    /// Where the next block goes.
    end: u64,
    /// The file's length.
    allocated: u64,
    poisoned: bool,
    _lock: D::Lock,
}

struct BlockHeader {
    version: u8,
    generation: u64,
    number: u64,
    len: u32,
    crc: u32,
}

impl BlockHeader {
    fn encode(&self) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[8..16].copy_from_slice(&self.generation.to_le_bytes());
        h[16..24].copy_from_slice(&self.number.to_le_bytes());
        h[24..28].copy_from_slice(&self.len.to_le_bytes());
        h[28..32].copy_from_slice(&self.crc.to_le_bytes());
        FORMAT.seal(self.version, &mut h);
        h
    }

    fn decode(h: &[u8; HEADER]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let version = FORMAT.version(h)?;
        Some(Self { version, generation: u64_at(8), number: u64_at(16), len: u32_at(24), crc: u32_at(28) })
    }
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in `dir`, creating both if they are not there, and returns its records in order.
    pub fn open(disk: D, dir: &Path) -> Result<(Self, Vec<Bytes>), LogError> {
        create_dir_all(&disk, dir).during("create", dir)?;
        let lock = lock(&disk, dir)?;
        let path = dir.join("journal");
        // What is seen here may be a rename that only memory knows of yet.
        disk.sync_dir(dir).during("sync", dir)?;
        if !disk.exists(&path).during("look for", &path)? {
            let generation = disk.random().during("draw a number for", &path)?;
            let New { file, end, allocated } = write_new(&disk, &path, generation, &[])?;
            let journal = Self {
                disk,
                path,
                file,
                version: FORMAT.newest,
                generation,
                next: 1,
                end,
                allocated,
                poisoned: false,
                _lock: lock,
            };
            return Ok((journal, Vec::new()));
        }
        let file = disk.open(&path).during("open", &path)?;
        let (replayed, len) = replay(&file, &path)?;
        let Replayed { version, generation, next, end, records, last: (at, block) } = replayed;
        // A torn block's bytes must never be taken for a part of what is written over them; and what was read
        // just now may be in memory only: it counts from here on, so it has to be durable. To sync is not enough
        // for the last block: if its own sync failed, the kernel believes that there is nothing left to write.
        // All before it were synced before it was written, and the first one before the file had its name.
        file.set_len(end).during("cut", &path)?;
        if at > 0 {
            file.write_at(&[IoSlice::new(&block)], at).during("write again", &path)?;
        }
        let ahead = ahead(end);
        file.write_at(&[IoSlice::new(&ahead)], end).during("extend", &path)?;
        file.sync_data().during("sync", &path)?;
        tracing::debug!(path = %path.display(), records = records.len(), end, len, "journal opened");
        let allocated = end + ahead.len() as u64;
        let journal =
            Self { disk, path, file, version, generation, next, end, allocated, poisoned: false, _lock: lock };
        if block.len() > HEADER {
            journal.seal();
        }
        Ok((journal, records))
    }

    /// Adds records at the end: all of them or, if the process ends meanwhile, perhaps none. An error is final, but for want
    /// of room ([`LogError::is_full`]): then nothing was added.
    pub fn append(&mut self, records: &[&[u8]]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        self.poisoned = true;
        let block = encode_block(self.version, self.generation, self.next, records);
        let end = self.end + block.len() as u64;
        let mut parts = vec![IoSlice::new(&block)];
        let ahead = if end > self.allocated { ahead(end) } else { Vec::new() };
        parts.push(IoSlice::new(&ahead));
        // Nothing of it counts, as it is not the whole block or not synced; it is written over.
        self.file
            .write_at(&parts, self.end)
            .during("write", &self.path)
            .inspect_err(|e| self.poisoned = !e.is_full())?;
        self.file.sync_data().during(SYNC, &self.path)?;
        self.allocated = self.allocated.max(end + ahead.len() as u64);
        self.end = end;
        self.next += 1;
        self.poisoned = false;
        self.seal();
        Ok(())
    }

    /// Lets it be seen that the last block was synced: if it is not whole later, it is damaged and not torn.
    fn seal(&self) {
        let block = encode_block(self.version, self.generation, self.next, &[]);
        if let Err(error) = self.file.write_at(&[IoSlice::new(&block)], self.end) {
            // Then damage to that block looks like a torn write; nothing else depends on it.
            tracing::debug!(path = %self.path.display(), %error, "cannot write behind the journal's last block");
        }
    }

    /// Replaces all records by these, atomically. An error is final, but for want of room ([`LogError::is_full`]): then
    /// nothing was replaced.
    pub fn rewrite(&mut self, records: &[&[u8]]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        self.poisoned = true;
        let generation = self.generation.wrapping_add(1);
        let written = write_new(&self.disk, &self.path, generation, records);
        let New { file, end, allocated } = written.inspect_err(|e| self.poisoned = !e.is_full())?;
        self.file = file;
        self.version = FORMAT.newest;
        self.generation = generation;
        self.next = 1;
        self.end = end;
        self.allocated = allocated;
        self.poisoned = false;
        Ok(())
    }

    /// Bytes of the journal's blocks: what a rewrite could save.
    pub fn bytes(&self) -> u64 {
        self.end
    }
}

fn encode_block(version: u8, generation: u64, number: u64, records: &[&[u8]]) -> Vec<u8> {
    let len: usize = records.iter().map(|r| 4 + r.len()).sum();
    let mut block = Vec::with_capacity((HEADER + len).next_multiple_of(ALIGN as usize));
    block.resize(HEADER, 0);
    for record in records {
        block.extend_from_slice(&(record.len() as u32).to_le_bytes());
        block.extend_from_slice(record);
    }
    let crc = crc32c::crc32c(&block[HEADER..]);
    block[..HEADER].copy_from_slice(&BlockHeader { version, generation, number, len: len as u32, crc }.encode());
    block.resize(block.len().next_multiple_of(ALIGN as usize), 0);
    block
}

/// The zeroes that a file which ends at `end` is extended by.
fn ahead(end: u64) -> Vec<u8> {
    vec![0; (end.next_multiple_of(STEP) - end) as usize]
}

/// Checks every block of the journal in `dir`.
pub(crate) fn verify<D: Disk>(disk: &D, dir: &Path, verified: &mut Verified) -> Result<(), LogError> {
    let path = dir.join("journal");
    if !disk.exists(&path).during("look for", &path)? {
        return Ok(());
    }
    let file = disk.open(&path).during("open", &path)?;
    let len = file.len().during("measure", &path)?;
    let (mut end, mut next) = (0, 0);
    while let Some((header, payload)) = read_block(&file, end, len).during("read", &path)?
        && header.number == next
    {
        end = (end + HEADER as u64 + payload.len() as u64).next_multiple_of(ALIGN);
        next += 1;
    }
    match replay(&file, &path) {
        Ok((log, len)) => {
            let mut header = [0; HEADER];
            if log.end + HEADER as u64 <= len {
                read_exact_at(&file, &mut header, log.end).during("read", &path)?;
            }
            if header != [0; HEADER] {
                verified.find(&path, log.end, NOT_WHOLE);
                verified.recovery.push("what is behind the journal's last whole block is cut off".into());
            }
            Ok(())
        }
        Err(LogError::Corrupt { detail, .. }) => {
            verified.find(&path, end, detail);
            verified.recovery.push("the journal is not opened: the broker does not start".into());
            Ok(())
        }
        Err(other) => Err(other),
    }
}

/// A journal that was written whole.
struct New<F> {
    file: F,
    end: u64,
    allocated: u64,
}

/// Writes a whole journal beside the current one and puts it in its place, durably.
fn write_new<D: Disk>(disk: &D, path: &Path, generation: u64, records: &[&[u8]]) -> Result<New<D::File>, LogError> {
    let new = path.with_extension("new");
    let file = disk.create(&new).during("create", &new)?;
    let block = encode_block(FORMAT.newest, generation, 0, records);
    let end = block.len() as u64;
    let ahead = ahead(end);
    file.write_at(&[IoSlice::new(&block), IoSlice::new(&ahead)], 0).during("write", &new)?;
    file.sync_data().during("sync", &new)?;
    disk.rename(&new, path).during("rename", &new)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    // The old file has no name any more, and a power cut may give it back: whatever the reason, nobody may write to either.
    disk.sync_dir(dir).during(SYNC, dir)?;
    Ok(New { file, end, allocated: end + ahead.len() as u64 })
}

struct Replayed {
    version: u8,
    generation: u64,
    next: u64,
    end: u64,
    records: Vec<Bytes>,
    /// The last block, and where it begins.
    last: (u64, Vec<u8>),
}

/// Reads block after block, and judges what follows the last valid one. Returns the file's length too.
fn replay(file: &impl DiskFile, path: &Path) -> Result<(Replayed, u64), LogError> {
    let len = file.len().during("measure", path)?;
    let mut log = Replayed { version: 0, generation: 0, next: 0, end: 0, records: Vec::new(), last: (0, Vec::new()) };
    let mut last = None;
    while let Some((header, payload)) = read_block(file, log.end, len).during("read", path)? {
        let continues = header.generation == log.generation && header.version == log.version;
        if header.number != log.next || (log.next > 0 && !continues) {
            break;
        }
        log.version = FORMAT.known(header.version, path)?;
        log.generation = header.generation;
        log.next += 1;
        let begin = log.end;
        log.end = (log.end + HEADER as u64 + payload.len() as u64).next_multiple_of(ALIGN);
        split_records(&payload, &mut log.records)
            .ok_or_else(|| LogError::corrupt(path, format!("block {} holds no whole records", header.number)))?;
        last = Some((begin, header, payload));
    }
    let Some((begin, header, payload)) = last else {
        return Err(LogError::corrupt(path, "its first block is invalid"));
    };
    log.last = (begin, [&header.encode(), &payload[..]].concat());
    let mut at = log.end;
    while at + HEADER as u64 <= len {
        let mut header = [0; HEADER];
        read_exact_at(file, &mut header, at).during("read", path)?;
        if let Some(h) = BlockHeader::decode(&header)
            && h.generation == log.generation
            && h.number > log.next
        {
            let detail = format!(
                "block {} at byte {} is invalid, but block {} follows, which was written after it was synced",
                log.next, log.end, h.number
            );
            return Err(LogError::corrupt(path, detail));
        }
        at += ALIGN;
    }
    Ok((log, len))
}

/// The block at `at`, if it is valid.
fn read_block(file: &impl DiskFile, at: u64, len: u64) -> std::io::Result<Option<(BlockHeader, Bytes)>> {
    let mut header = [0; HEADER];
    if at + HEADER as u64 > len {
        return Ok(None);
    }
    read_exact_at(file, &mut header, at)?;
    let Some(header) = BlockHeader::decode(&header) else { return Ok(None) };
    if at + HEADER as u64 + u64::from(header.len) > len {
        return Ok(None);
    }
    let mut payload = vec![0; header.len as usize];
    read_exact_at(file, &mut payload, at + HEADER as u64)?;
    if crc32c::crc32c(&payload) != header.crc {
        return Ok(None);
    }
    Ok(Some((header, payload.into())))
}

fn split_records(payload: &Bytes, records: &mut Vec<Bytes>) -> Option<()> {
    let mut rest = &payload[..];
    while !rest.is_empty() {
        let mut len = [0; 4];
        rest.read_exact(&mut len).ok()?;
        let len = u32::from_le_bytes(len) as usize;
        let (record, more) = rest.split_at_checked(len)?;
        records.push(payload.slice_ref(record));
        rest = more;
    }
    Some(())
}
