//! Keeping aside what a repair or a recovery cuts off: peers may not have it, and one bad batch says nothing of those behind
//! it.
//!
//! What is kept is in `damaged/` beside `partitions/`, as `<partition>-<first offset, 20 digits>.log`: batches one
//! after the other, as in a segment, but for those that are damaged; what cannot be read is zeroes. Nothing reads or
//! removes these files but whoever recovers records by hand.

use super::{Segment, folder, log_name};
use crate::disk::{Disk, DiskFile, Entry, create_dir_all, is_unreadable};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Store};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// Bytes that are copied at once.
const PIECE: usize = 1024 * 1024;
/// Bytes that are lost together when a disk cannot read some.
const PAGE: usize = 4096;
/// What is not whole yet. A process that was killed may have left it.
const NEW: &str = "copy.new";

impl<D: Disk> Store<D> {
    /// Keeps in `dir` what a truncation to `to` is about to remove, as far as `dir` does not grow beyond the options'
    /// bound and half of what the disk has left: peers will send it all again. The partition cannot be read from there
    /// on.
    pub(crate) fn set_aside(&self, tp: TopicPartition, to: Offset, dir: &Path) -> Result<(), LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(()) };
        let state = shared.read().clone();
        if to >= state.end {
            return Ok(());
        }
        let cut = self.find_cut(tp, &state, to)?;
        let mut room = self.room_in(dir)?;
        for (i, segment) in state.segments.iter().enumerate().skip(cut.segment) {
            let path = folder(&self.root, tp).join(segment.log_name());
            let is_cut = i == cut.segment && cut.position > 0;
            let (first, position) = if is_cut { (cut.end, cut.position) } else { (segment.base, 0) };
            let bytes = self.len_of(&path)?.min(segment.len).saturating_sub(position);
            if !room.take(tp, &path, position, bytes) {
                continue;
            }
            let kept = self.free_name(dir, tp, &log_name(first))?;
            if is_cut {
                self.copy(tp, segment, cut.position, bytes, &kept)?;
            } else {
                self.disk.rename(&path, &kept).during("rename", &path)?;
                self.files.forget(segment.uid);
            }
            has_kept(tp, bytes, &kept);
        }
        self.sync_kept(tp, dir)
    }

    /// Keeps in `dir`, in the same way, what a partition has in its files behind its end, and in files that it does not refer
    /// to.
    pub(crate) fn set_tail_aside(&self, tp: TopicPartition, dir: &Path) -> Result<(), LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(()) };
        let state = shared.read().clone();
        let folder = folder(&self.root, tp);
        let mut room = self.room_in(dir)?;
        if let Some(last) = state.segments.last() {
            let path = folder.join(last.log_name());
            let bytes = self.len_of(&path)?.saturating_sub(last.len);
            if room.take(tp, &path, last.len, bytes) {
                let kept = self.free_name(dir, tp, &log_name(state.end))?;
                self.copy(tp, last, last.len, bytes, &kept)?;
                has_kept(tp, bytes, &kept);
            }
        }
        for entry in self.disk.list(&folder).during("list", &folder)? {
            let path = folder.join(&entry.name);
            let is_log = path.extension().is_some_and(|kind| kind == "log");
            if !is_log || state.segments.iter().any(|segment| segment.log_name() == entry.name) {
                continue;
            }
            let bytes = self.len_of(&path)?;
            if room.take(tp, &path, 0, bytes) {
                let kept = self.free_name(dir, tp, &entry.name)?;
                self.disk.rename(&path, &kept).during("rename", &path)?;
                has_kept(tp, bytes, &kept);
            }
        }
        self.sync_kept(tp, dir)
    }

    /// Keeps in `dir`, in the same way, batches of a partition that have no place in it.
    pub(crate) fn keep_batches(&self, tp: TopicPartition, batches: &[RecordBatch], dir: &Path) -> Result<(), LogError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let name = log_name(first.header().base_offset);
        let bytes = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
        if !self.room_in(dir)?.take(tp, Path::new(&name), 0, bytes) {
            return Ok(());
        }
        let kept = self.free_name(dir, tp, &name)?;
        let new = kept.with_file_name(NEW);
        let file = self.disk.create(&new).during("create", &new)?;
        let parts: Vec<_> = batches.iter().map(|batch| IoSlice::new(batch.bytes())).collect();
        file.write_at(&parts, 0).during("write", &new)?;
        file.sync_data().during("sync", &new)?;
        self.disk.rename(&new, &kept).during("rename", &new)?;
        has_kept(tp, bytes, &kept);
        self.disk.sync_dir(dir).during("sync", dir)
    }

    /// Moves the folder of a partition that the log does not know to `dir`, if all of it may be kept there. Says where it is.
    pub(crate) fn keep_folder(&self, tp: TopicPartition, dir: &Path) -> Result<Option<PathBuf>, LogError> {
        let from = folder(&self.root, tp);
        let bytes = self.bytes_in(&from)?;
        // One that has none is kept too: it says that there was a partition.
        let mut room = self.room_in(dir)?;
        if bytes > 0 && !room.take(tp, &from, 0, bytes) {
            return Ok(None);
        }
        let to = dir.join(format!("{tp}.{:x}", self.next_uid()));
        self.disk.rename(&from, &to).during("rename", &from)?;
        self.disk.sync_dir(dir).during("sync", dir)?;
        Ok(Some(to))
    }

    /// Makes durable what was put there.
    fn sync_kept(&self, tp: TopicPartition, dir: &Path) -> Result<(), LogError> {
        let folder = folder(&self.root, tp);
        self.disk.sync_dir(dir).during("sync", dir)?;
        self.disk.sync_dir(&folder).during("sync", &folder)
    }

    /// Makes the directory, if it is not there, and says what may be put there.
    fn room_in(&self, dir: &Path) -> Result<Room, LogError> {
        create_dir_all(&self.disk, dir).during("create", dir)?;
        let available = self.disk.available(dir).during("measure", dir)?;
        let bound = self.options.damaged_bytes.min(available / 2);
        Ok(Room { bound, left: bound.saturating_sub(self.bytes_in(dir)?) })
    }

    /// Bytes of a file, or 0 if it is not there.
    fn len_of(&self, path: &Path) -> Result<u64, LogError> {
        match self.disk.open(path).and_then(|file| file.len()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            len => len.during("measure", path),
        }
    }

    /// Bytes of the files in a directory, and of those in the folders of partitions there.
    fn bytes_in(&self, dir: &Path) -> Result<u64, LogError> {
        let of = |entry: Entry| {
            let path = dir.join(&entry.name);
            if entry.is_dir { self.bytes_in(&path) } else { self.len_of(&path) }
        };
        self.disk.list(dir).during("list", dir)?.into_iter().map(of).sum()
    }

    /// A name that nothing has: what was kept before stays.
    fn free_name(&self, dir: &Path, tp: TopicPartition, name: &str) -> Result<PathBuf, LogError> {
        let mut path = dir.join(format!("{tp}-{name}"));
        let mut n = 1;
        while self.disk.exists(&path).during("look for", &path)? {
            n += 1;
            path.set_file_name(format!("{tp}-{name}.{n}"));
        }
        Ok(path)
    }

    /// Copies so many of the segment's bytes from that position on.
    fn copy(
        &self,
        tp: TopicPartition,
        segment: &Segment,
        position: u64,
        bytes: u64,
        kept: &Path,
    ) -> Result<(), LogError> {
        let path = folder(&self.root, tp).join(segment.log_name());
        let from = self.file(tp, segment, Kind::Log).during("open", &path)?;
        let new = kept.with_file_name(NEW);
        let to = self.disk.create(&new).during("create", &new)?;
        let mut piece = vec![0; PIECE];
        let mut done = 0;
        while done < bytes {
            let piece = &mut piece[..PIECE.min((bytes - done) as usize)];
            read_what_can_be(&*from, piece, position + done).during("read", &path)?;
            to.write_at(&[IoSlice::new(piece)], done).during("write", &new)?;
            done += piece.len() as u64;
        }
        to.sync_data().during("sync", &new)?;
        self.disk.rename(&new, kept).during("rename", &new)
    }
}

/// How much may be kept.
struct Room {
    bound: u64,
    /// What is left of it.
    left: u64,
}

impl Room {
    /// Takes room for so many bytes of a file, if there are any, and there is some.
    fn take(&mut self, tp: TopicPartition, path: &Path, position: u64, bytes: u64) -> bool {
        if bytes > self.left {
            tracing::warn!(
                partition = %tp, path = %path.display(), position, bytes, bound = self.bound,
                "not kept before it is cut off: all that is kept may not have more bytes than the bound"
            );
            return false;
        }
        self.left -= bytes;
        bytes > 0
    }
}

/// Says where something is kept.
fn has_kept(tp: TopicPartition, bytes: u64, kept: &Path) {
    tracing::warn!(
        partition = %tp, bytes, path = %kept.display(),
        "kept before it is cut off: the records in it may be nowhere else"
    );
}

/// Reads, with zeroes in place of what cannot be read.
fn read_what_can_be(file: &impl DiskFile, piece: &mut [u8], at: u64) -> io::Result<()> {
    piece.fill(0);
    match file.read_at(piece, at) {
        Err(e) if is_unreadable(&e) => {}
        other => return other.map(drop),
    }
    let mut done = 0;
    while done < piece.len() {
        let n = PAGE.min(piece.len() - done);
        let part = &mut piece[done..done + n];
        match file.read_at(part, at + done as u64) {
            Err(e) if is_unreadable(&e) => part.fill(0),
            other => drop(other?),
        }
        done += n;
    }
    Ok(())
}
