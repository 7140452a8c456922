//! Keeping aside what a repair or a recovery cuts off: peers may not have it, and one bad batch says nothing of those behind
//! it.
//!
//! What is kept is in `damaged/` beside `partitions/`, as `<partition>-<first offset, 20 digits>.log`: batches one
//! after the other, as in a segment, but for those that are damaged; what cannot be read is zeroes. Nothing reads or
//! removes these files but whoever recovers records by hand.
//!
//! All that is kept together is measured once, and its names are synced once, whatever number of partitions it is of. What
//! the disk has no room for is not kept, and ends nothing: it is cut off all the same, and the rest is kept.

use super::{Partition, Segment, folder, log_name};
use crate::at_once::{several_at_once, syncs_at_once};
use crate::disk::{Disk, DiskFile, Entry, create_dir_all, is_unreadable};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Store};
use crate::trash;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

/// Bytes that are copied at once.
const PIECE: usize = 1024 * 1024;
/// Bytes that are lost together when a disk cannot read some.
const PAGE: usize = 4096;
/// What is not whole yet. A process that was killed may have left it.
const NEW: &str = "copy.new";

impl<D: Disk> Store<D> {
    /// Keeps what truncations of these partitions, to these offsets, are about to remove, as far as `damaged/` does not grow
    /// beyond the options' bound and half of what the disk has left: peers will send it all again. The partitions cannot be
    /// read from there on.
    pub(crate) fn set_aside(&self, cuts: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        let mut cut = Vec::new();
        for (tp, to) in cuts {
            cut.extend(self.before_cut(*tp, *to).map(|state| (*tp, *to, state)));
        }
        let Some(mut room) = self.room_for(!cut.is_empty())? else { return Ok(()) };
        for (tp, to, state) in &cut {
            for part in self.cut_off(*tp, state, *to)? {
                self.keep(&mut room, *tp, &part, |kept| {
                    if part.position > 0 {
                        return self.copy(*tp, &part, kept, &|| true);
                    }
                    self.disk.rename(&part.path, kept).during("rename", &part.path)?;
                    self.files.forget(part.segment.uid);
                    Ok(())
                })?;
            }
        }
        self.sync_kept(&room, cut.iter().map(|(tp, ..)| *tp))
    }

    /// The same for one partition that is in use: copies are kept, and nothing of it changes. `goes_on` is asked again and
    /// again: what is copied when nobody waits for it any more may have been cut meanwhile.
    pub(crate) fn copy_aside(
        &self,
        tp: TopicPartition,
        to: Offset,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), LogError> {
        let Some(state) = self.before_cut(tp, to).filter(|_| goes_on()) else { return Ok(()) };
        let Some(mut room) = self.room_for(true)? else { return Ok(()) };
        // It is there twice until the repair is done, and no producer is to be refused for that.
        let floor = self.options.reserve_bytes;
        let floor = floor.saturating_add(floor / 4);
        for part in self.cut_off(tp, &state, to)? {
            let available = self.disk.available(&room.dir).during("measure", &room.dir)?;
            room.left = room.left.min(available.saturating_sub(floor));
            self.keep(&mut room, tp, &part, |kept| self.copy(tp, &part, kept, goes_on))?;
        }
        self.sync_kept(&room, [])
    }

    /// Keeps, in the same way, what partitions have in their files behind their ends, and in files that they do not refer to.
    pub(crate) fn set_tails_aside(&self, partitions: impl Iterator<Item = TopicPartition>) -> Result<(), LogError> {
        let known: Vec<_> = partitions.filter_map(|tp| Some((tp, self.partition(tp)?.read().clone()))).collect();
        let Some(mut room) = self.room_for(!known.is_empty())? else { return Ok(()) };
        for (tp, state) in &known {
            let folder = folder(&self.root, *tp);
            if let Some(last) = state.segments.last() {
                let path = folder.join(last.log_name());
                let bytes = self.len_of(&path)?.saturating_sub(last.len);
                let part = Part { segment: *last, name: log_name(state.end), path, position: last.len, bytes };
                self.keep(&mut room, *tp, &part, |kept| self.copy(*tp, &part, kept, &|| true))?;
            }
            for entry in self.disk.list(&folder).during("list", &folder)? {
                let path = folder.join(&entry.name);
                let is_log = path.extension().is_some_and(|kind| kind == "log");
                if !is_log || state.segments.iter().any(|segment| segment.log_name() == entry.name) {
                    continue;
                }
                let bytes = self.len_of(&path)?;
                let part = Part { segment: Segment::new(0, state.end), name: entry.name, path, position: 0, bytes };
                self.keep(&mut room, *tp, &part, |kept| {
                    self.disk.rename(&part.path, kept).during("rename", &part.path)
                })?;
            }
        }
        self.sync_kept(&room, known.iter().map(|(tp, _)| *tp))
    }

    /// Keeps, in the same way, batches of partitions that have no place in them.
    pub(crate) fn keep_batches(&self, dropped: &BTreeMap<TopicPartition, Vec<RecordBatch>>) -> Result<(), LogError> {
        let Some(mut room) = self.room_for(!dropped.is_empty())? else { return Ok(()) };
        for (tp, batches) in dropped {
            let Some(first) = batches.first() else { continue };
            let name = log_name(first.header().base_offset);
            let bytes = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
            let segment = Segment::new(0, first.header().base_offset);
            let part = Part { segment, path: PathBuf::from(&name), name, position: 0, bytes };
            self.keep(&mut room, *tp, &part, |kept| {
                self.make(kept, |file, new| {
                    let parts: Vec<_> = batches.iter().map(|batch| IoSlice::new(batch.bytes())).collect();
                    file.write_at(&parts, 0).during("write", new)
                })
            })?;
        }
        self.sync_kept(&room, [])
    }

    /// Moves the folders of partitions that the log does not know to `damaged/`, if all of a folder may be kept there. The
    /// others get names that no partition has: a later start removes them.
    pub(crate) fn keep_folders(&self, unknown: &[TopicPartition]) -> Result<(), LogError> {
        let mut room = self.room_for(!unknown.is_empty())?;
        for tp in unknown {
            let from = folder(&self.root, *tp);
            let bytes = self.bytes_in(&from)?;
            // One that has none is kept too: it says that there was a partition.
            let room = room.as_mut().filter(|room| bytes == 0 || room.has(*tp, &from, 0, bytes));
            let kept = match room {
                Some(room) => {
                    let to = room.dir.join(format!("{tp}.{:x}", self.next_uid()));
                    let moved = or_full(*tp, &from, self.disk.rename(&from, &to).during("rename", &from))?;
                    room.left -= if moved { bytes } else { 0 };
                    moved.then_some(to)
                }
                None => None,
            };
            if let Some(path) = kept {
                tracing::warn!(path = %path.display(), "kept what may be a partition that the write-ahead log has lost");
                continue;
            }
            // A partition that is made anew would find files there that pass for its own.
            let path = self.root.join(trash::name(&tp.to_string(), self.next_uid()));
            if !or_full(*tp, &from, self.disk.rename(&from, &path).during("rename", &from))? {
                // It stays where it is: a later start removes it.
                continue;
            }
            tracing::warn!(
                partition = %tp, path = %path.display(),
                "this may be a partition that the write-ahead log has lost, and there is no room to keep it aside: copy it \
                 now if no other broker has it, as a later start removes it"
            );
        }
        room.map_or(Ok(()), |room| self.sync_kept(&room, []))
    }

    /// What a partition is before it is cut there, if that removes anything.
    fn before_cut(&self, tp: TopicPartition, to: Offset) -> Option<Partition> {
        let state = self.partition(tp).map(|shared| shared.read().clone());
        state.filter(|state| to < state.end)
    }

    /// What a cut there removes, of each segment.
    fn cut_off(&self, tp: TopicPartition, state: &Partition, to: Offset) -> Result<Vec<Part>, LogError> {
        let cut = self.find_cut(tp, state, to)?;
        let mut parts = Vec::new();
        for (i, segment) in state.segments.iter().enumerate().skip(cut.segment) {
            let path = folder(&self.root, tp).join(segment.log_name());
            let is_cut = i == cut.segment && cut.position > 0;
            let (first, position) = if is_cut { (cut.end, cut.position) } else { (segment.base, 0) };
            let bytes = self.len_of(&path)?.min(segment.len).saturating_sub(position);
            parts.push(Part { segment: *segment, name: log_name(first), path, position, bytes });
        }
        Ok(parts)
    }

    /// Keeps a part by `how`, which is given the path to keep it at, if there is any of it, and room for it.
    fn keep(
        &self,
        room: &mut Room<'_>,
        tp: TopicPartition,
        part: &Part,
        how: impl FnOnce(&Path) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let Part { path, position, bytes, .. } = part;
        if *bytes == 0 || !room.has(tp, path, *position, *bytes) {
            return Ok(());
        }
        let kept = self.free_name(&room.dir, tp, &part.name)?;
        if or_full(tp, path, how(&kept))? {
            room.left -= bytes;
            tracing::warn!(
                partition = %tp, bytes, path = %kept.display(),
                "kept before it is cut off: the records in it may be nowhere else"
            );
        }
        Ok(())
    }

    /// Makes durable what was put there, and that it is gone from those partitions' folders.
    fn sync_kept(&self, room: &Room<'_>, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), LogError> {
        match self.disk.sync_dir(&room.dir).during("sync", &room.dir) {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "what is kept aside may not outlast a power cut");
            }
            other => other?,
        }
        let folders: Vec<_> = partitions.into_iter().map(|tp| folder(&self.root, tp)).collect();
        several_at_once(syncs_at_once::<D>(folders.len()), &folders, |folder| {
            self.disk.sync_dir(folder).during("sync", folder)
        })
    }

    /// Makes the directory, if it is not there, and says what may be put there, unless nothing is to be: nobody else puts
    /// anything there meanwhile. `None` too if the disk has no room for the directory.
    fn room_for(&self, something: bool) -> Result<Option<Room<'_>>, LogError> {
        if !something {
            return Ok(None);
        }
        let held = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.root.with_file_name("damaged");
        match create_dir_all(&self.disk, &dir).during("create", &dir) {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "what is damaged is cut off, with no room to keep it");
                return Ok(None);
            }
            other => other?,
        }
        // It counts for nothing, and nobody can use it.
        self.drop_half_done(&dir.join(NEW));
        let available = self.disk.available(&dir).during("measure", &dir)?;
        let bound = self.options.damaged_bytes.min(available / 2);
        let left = bound.saturating_sub(self.bytes_in(&dir)?);
        Ok(Some(Room { dir, bound, left, _held: held }))
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

    /// Copies a part of a segment, unless that is given up meanwhile.
    fn copy(&self, tp: TopicPartition, part: &Part, kept: &Path, goes_on: &dyn Fn() -> bool) -> Result<(), LogError> {
        let from = self.file(tp, &part.segment, Kind::Log).during("open", &part.path)?;
        self.make(kept, |to, new| {
            let mut piece = vec![0; PIECE];
            let mut done = 0;
            while done < part.bytes {
                let piece = &mut piece[..PIECE.min((part.bytes - done) as usize)];
                read_what_can_be(&*from, piece, part.position + done).during("read", &part.path)?;
                // After the read: it may have been cut since.
                if !goes_on() {
                    return Err(io::Error::from(io::ErrorKind::TimedOut)).during("go on copying", &part.path);
                }
                to.write_at(&[IoSlice::new(piece)], done).during("write", new)?;
                done += piece.len() as u64;
            }
            Ok(())
        })
    }

    /// Makes a file that `write` writes: it is there as a whole, or not at all.
    fn make(&self, kept: &Path, write: impl FnOnce(&D::File, &Path) -> Result<(), LogError>) -> Result<(), LogError> {
        let new = kept.with_file_name(NEW);
        let made = || {
            let file = self.disk.create(&new).during("create", &new)?;
            write(&file, &new)?;
            file.sync_data().during("sync", &new)?;
            self.disk.rename(&new, kept).during("rename", &new)
        };
        made().inspect_err(|_| self.drop_half_done(&new))
    }

    /// Takes away what was not finished, if it is there. It would take room that there is none of.
    fn drop_half_done(&self, new: &Path) {
        match self.disk.remove(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %new.display(), %error, "Cannot remove a copy that was not finished");
            }
            _ => {}
        }
    }
}

/// What is to be kept, and where it is.
struct Part {
    /// The segment, where it is one of a partition's.
    segment: Segment,
    path: PathBuf,
    /// What it is called when it is kept, behind its partition.
    name: String,
    position: u64,
    bytes: u64,
}

/// How much may be kept.
struct Room<'a> {
    dir: PathBuf,
    bound: u64,
    /// What is left of it.
    left: u64,
    _held: MutexGuard<'a, ()>,
}

impl Room<'_> {
    /// Whether there is room for so many bytes of a file.
    fn has(&self, tp: TopicPartition, path: &Path, position: u64, bytes: u64) -> bool {
        if bytes > self.left {
            tracing::warn!(
                partition = %tp, path = %path.display(), position, bytes, bound = self.bound,
                "not kept before it is cut off: all that is kept may not have more bytes than the bound"
            );
        }
        bytes <= self.left
    }
}

/// Whether something was kept aside: the disk may have no room for it after all.
fn or_full(tp: TopicPartition, path: &Path, done: Result<(), LogError>) -> Result<bool, LogError> {
    match done {
        Err(error) if error.is_full() => {
            tracing::warn!(partition = %tp, path = %path.display(), %error, "not kept before it is cut off");
            Ok(false)
        }
        other => other.map(|()| true),
    }
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
