//! Cutting a partition back, and deleting it. Neither needs to be atomic: both are in the write-ahead log
//! before they begin, and recovery does them again.

use super::read::{Cursor, Failure, segment_of};
use super::{Dirty, Partition, folder, index_name, log_name};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::store::{Kind, Store};
use chronik_core::ids::{Offset, TopicPartition};
use std::io;
use std::path::Path;

/// Where a partition is cut.
pub(super) struct Cut {
    pub(super) end: Offset,
    /// The last segment that stays, and its length then.
    pub(super) segment: usize,
    pub(super) position: u64,
    /// Whether the cut is where it is because what follows cannot be read.
    damaged: bool,
}

impl<D: Disk> Store<D> {
    /// Removes all batches that hold offsets from `to` on; a batch that begins before `to` goes as a whole.
    /// If damage is in the way, the log ends before it.
    pub(crate) fn truncate(&self, tp: TopicPartition, to: Offset, dirty: &mut Dirty) -> Result<(), LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(()) };
        let state = shared.read().clone();
        if to >= state.end {
            let mut state = shared.write();
            state.damaged = state.damaged.filter(|offset| *offset < to);
            return Ok(());
        }
        let mut new = state.clone();
        let mut damaged = false;
        if to < state.start {
            new.segments.clear();
            (new.start, new.end) = (to, to);
        } else {
            let cut = self.find_cut(tp, &state, to)?;
            new.end = cut.end;
            damaged = cut.damaged;
            new.segments.truncate(cut.segment + 1);
            if let Some(last) = new.segments.last_mut() {
                last.len = cut.position;
                if last.last_indexed > cut.position {
                    last.index_entries = self.entries_before(tp, last, cut.position);
                    last.last_indexed = cut.position;
                }
            }
            new.segments.pop_if(|last| last.len == 0);
        }
        let end = new.end;
        new.epochs.retain(|(_, start)| *start < end);
        new.damaged = new.damaged.filter(|offset| *offset < end);
        if damaged && self.recovering() {
            // Not only what was to go is gone. (A truncation asked for now says so by where it ends.)
            new.damaged = new.damaged.or(Some(end));
        }
        new.version += 1;
        let kept = new.segments.len();
        // Readers first: from here on nobody looks at the bytes that go.
        *shared.write() = new.clone();
        if let Some(last) = new.segments.last() {
            let path = folder(&self.root, tp).join(log_name(last.base));
            match self.file(tp, last, Kind::Log) {
                Ok(file) => {
                    self.keep_until_synced(last.uid, &file)?;
                    file.set_len(last.len).during("cut", &path)?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LogError::Io { action: "open", path, source }),
            }
            dirty.segments.insert((tp, last.base, last.uid));
        }
        for gone in &state.segments[kept..] {
            self.files.forget(gone.uid);
            for name in [log_name(gone.base), index_name(gone.base)] {
                remove_if_there(&self.disk, &folder(&self.root, tp).join(name))?;
            }
            dirty.folders.insert(tp);
        }
        Ok(())
    }

    /// Removes the partition with all its files.
    pub(crate) fn delete(&self, tp: TopicPartition, dirty: &mut Dirty) -> Result<(), LogError> {
        let Some(shared) = self.take(tp) else { return Ok(()) };
        let segments = {
            let mut state = shared.write();
            state.version += 1;
            std::mem::take(&mut state.segments)
        };
        for segment in segments {
            self.files.forget(segment.uid);
        }
        self.remove_folder(tp)?;
        dirty.folders.remove(&tp);
        dirty.root = true;
        Ok(())
    }

    /// Removes the partition's folder, whatever is in it.
    pub(crate) fn remove_folder(&self, tp: TopicPartition) -> Result<(), LogError> {
        let dir = folder(&self.root, tp);
        if !self.disk.exists(&dir).during("look for", &dir)? {
            return Ok(());
        }
        for entry in self.disk.list(&dir).during("list", &dir)? {
            remove_if_there(&self.disk, &dir.join(entry.name))?;
        }
        self.disk.remove_dir(&dir).during("remove", &dir)
    }

    /// Where a truncation to `to` would end: at the beginning of the batch that holds it.
    pub(crate) fn cut_at(&self, tp: TopicPartition, to: Offset) -> Result<Offset, LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(to) };
        let state = shared.read().clone();
        if to < state.start || to >= state.end { Ok(to) } else { Ok(self.find_cut(tp, &state, to)?.end) }
    }

    pub(super) fn find_cut(&self, tp: TopicPartition, state: &Partition, to: Offset) -> Result<Cut, LogError> {
        let damaged = |segment, end, position, detail: String| {
            tracing::warn!(partition = %tp, %to, %end, detail, "truncated to before the first unreadable batch");
            Ok(Cut { end, segment, position, damaged: true })
        };
        let Some(segment) = segment_of(state, to) else {
            return Ok(Cut { end: state.start, segment: 0, position: 0, damaged: false });
        };
        let n = state.segments.iter().position(|s| s.uid == segment.uid).unwrap_or(0);
        let path = folder(&self.root, tp).join(log_name(segment.base));
        let file = match self.file(tp, &segment, Kind::Log) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return damaged(n, segment.base, 0, "a segment's file is missing".into());
            }
            Err(source) => return Err(LogError::Io { action: "open", path, source }),
        };
        let mut cursor = Cursor::new(&*file, state, &segment, self.locate(tp, &segment, &file, to));
        match cursor.seek_start(to) {
            Ok(()) => Ok(Cut { end: cursor.offset, segment: n, position: cursor.position, damaged: false }),
            Err(Failure::Damaged(offset, detail)) => damaged(n, offset, cursor.position, detail),
            Err(Failure::Io(source)) => Err(LogError::Io { action: "read", path, source }),
        }
    }
}

/// Removes a file; that it is gone already is no error.
pub(crate) fn remove_if_there(disk: &impl Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.during("remove", path),
    }
}
