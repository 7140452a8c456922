//! Cutting a partition back, moving its start, and deleting it. None needs to be atomic: all are in the write-ahead log
//! before they begin, and recovery does them again.
//!
//! This is done on the thread that writes, so it takes no longer for a large partition than for a small one: files are
//! renamed, and removed elsewhere (see `trash`). The file of the segment that a truncation cuts keeps its bytes until
//! the next checkpoint; until then, and ever after, nothing is appended to it, so that the checkpoint can cut it while
//! the log goes on.

use super::read::{Cursor, Failure, segment_of};
use super::{Dirty, Partition, Segment, folder};
use crate::disk::{Disk, is_full};
use crate::error::LogError;
use crate::store::{Kind, Store};
use crate::trash;
use bytes::Bytes;
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

impl Cut {
    /// Before everything there is.
    fn all(end: Offset) -> Self {
        Self { end, segment: 0, position: 0, damaged: false }
    }
}

/// Lets files stay that a full disk has no room to take out of use: nothing refers to them any more, and the next start
/// removes them.
pub(crate) fn stay_if_full(tp: TopicPartition, done: Result<(), LogError>) -> Result<(), LogError> {
    match done {
        Err(error) if error.is_full() => {
            tracing::warn!(partition = %tp, %error, "no room to take files out of use: they stay until the next start");
            Ok(())
        }
        other => other,
    }
}

impl<D: Disk> Store<D> {
    /// Removes all batches that hold offsets from `to` on; a batch that begins before `to` goes as a whole.
    /// If a recovery finds damage in the way, the log ends before it, and counts as damaged; what is damaged stays in the
    /// partition's folder.
    pub(crate) fn truncate(&self, tp: TopicPartition, to: Offset, dirty: &mut Dirty) -> Result<(), LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(()) };
        let _changing = self.change();
        let state = shared.read().clone();
        if to >= state.end {
            shared.soft().cut(to);
            let mut state = shared.write();
            state.damaged = state.damaged.filter(|offset| *offset < to);
            state.lost_end &= state.damaged.is_some();
            return Ok(());
        }
        let cut = if to < state.start { Cut::all(to) } else { self.find_cut(tp, &state, to)? };
        let mut new = state.clone();
        if cut.end < state.start {
            (new.start, new.end) = (cut.end, cut.end);
            new.segments.clear();
            new.epochs.clear();
        } else {
            new.end = cut.end;
            new.segments.truncate(cut.segment + 1);
            if let Some(last) = new.segments.last_mut() {
                last.len = cut.position;
                last.sealed = true;
                last.times.exact = false;
                if last.last_indexed > cut.position {
                    last.index_entries = self.slots_before(tp, last, cut.end);
                    last.last_indexed = cut.position;
                }
                if !cut.damaged {
                    dirty.cuts.insert((tp, last.base, last.uid));
                }
            }
            new.segments.pop_if(|last| last.len == 0);
            new.epochs.retain(|(_, start)| *start < cut.end);
        }
        new.cleaned_to = new.cleaned_to.min(new.end);
        new.damaged = new.damaged.filter(|offset| *offset < cut.end);
        if cut.damaged {
            if !self.recovering() {
                // It was whole up to there when it was asked where the truncation ends.
                let detail = format!("a truncation to {to} found damage at {}", cut.end);
                return Err(LogError::corrupt(&folder(&self.root, tp), detail));
            }
            // Not only what was to go is gone.
            new.damaged = new.damaged.or(Some(cut.end));
        }
        new.lost_end = cut.damaged;
        new.version += 1;
        new.cuts += 1;
        // Where damage is in the way, the segment that has it keeps its file, and all its bytes: they are kept aside when a
        // checkpoint says that something is lost (see `recovery`).
        let left = new.segments.len();
        let gone_from = if cut.damaged { left.max(cut.segment + 1) } else { left };
        state.segments[left..gone_from].iter().for_each(|segment| self.files.forget(segment.uid));
        let gone = state.segments[gone_from..].to_vec();
        // While the write-ahead log is applied again, the start may have been moved behind all that there is only so that none
        // of it is read: a log that really began anew is told of elsewhere (see `history`).
        let anew = cut.end < state.start && (to >= state.start || !self.recovering());
        // Readers first: from here on nobody looks at the bytes that go.
        if anew {
            shared.soft().begin_at(cut.end, None);
        } else {
            shared.soft().cut(cut.end);
        }
        *shared.write() = new;
        shared.forget_repeats();
        self.discard(tp, &gone, dirty)
    }

    /// Forgets all that lies before `to`, and removes the segments that lie there as a whole.
    pub(crate) fn advance_start(&self, tp: TopicPartition, to: Offset, dirty: &mut Dirty) -> Result<(), LogError> {
        let shared = match self.partition(tp) {
            Some(shared) => shared,
            None => self.create_partition(tp, to, dirty)?,
        };
        let _changing = self.change();
        let state = shared.read().clone();
        if to <= state.start {
            return Ok(());
        }
        let mut new = state.clone();
        (new.start, new.end) = (to, state.end.max(to));
        let gone = if to >= state.end {
            new.segments.len()
        } else {
            state.segments.partition_point(|s| s.base <= to).saturating_sub(1)
        };
        new.segments.drain(..gone);
        // The batches before `to` in its own segment are walked over by readers, who ask for their epochs.
        let first = new.segments.first().map_or(to, |s| s.base);
        let before = new.epochs.partition_point(|(_, start)| *start <= first).saturating_sub(1);
        new.epochs.drain(..before);
        new.damaged = state.damaged.filter(|_| to < state.end).map(|offset| offset.max(to));
        new.lost_end &= to < state.end;
        new.version += 1;
        new.cuts += u64::from(to > state.end);
        // While the write-ahead log is applied again, the batches between may still be to come (see `recovery`).
        if to > state.end && !self.recovering() {
            shared.soft().begin_at(to, None);
        } else {
            shared.soft().start_moved(to);
        }
        *shared.write() = new;
        self.discard(tp, &state.segments[..gone], dirty)
    }

    /// Lets a log that ends at `at` or before it begin there, after what these producers wrote.
    pub(crate) fn begin_at(
        &self,
        tp: TopicPartition,
        at: Offset,
        producers: &Bytes,
        dirty: &mut Dirty,
    ) -> Result<(), LogError> {
        // What it removes may find no room to leave: the log begins there all the same.
        let advanced = self.advance_start(tp, at, dirty);
        if let Some(shared) = self.partition(tp).filter(|shared| shared.read().end == at) {
            shared.soft().begin_at(at, Some(producers));
        }
        advanced
    }

    /// Takes the files of segments that nobody refers to any more out of use.
    fn discard(&self, tp: TopicPartition, segments: &[Segment], dirty: &mut Dirty) -> Result<(), LogError> {
        for gone in segments {
            self.files.forget(gone.uid);
            for name in [gone.log_name(), gone.index_name()] {
                self.set_out(&folder(&self.root, tp), &name, gone.uid)?;
            }
            dirty.folders.insert(tp);
        }
        Ok(())
    }

    /// Takes the files of segments out of use that compaction has replaced, now that a checkpoint says so.
    pub(crate) fn discard_replaced(
        &self,
        replaced: &[(TopicPartition, Segment)],
        dirty: &mut Dirty,
    ) -> Result<(), LogError> {
        for (tp, segment) in replaced {
            let Some(shared) = self.partition(*tp) else { continue };
            // After a truncation, another one may have its name.
            let has_name = |s: &Segment| s.log_name() == segment.log_name();
            if !shared.read().segments.iter().any(has_name) {
                stay_if_full(*tp, self.discard(*tp, std::slice::from_ref(segment), dirty))?;
            }
        }
        Ok(())
    }

    /// Renames what is to be removed by and by. That it is gone already is no error. Where a directory has no room for
    /// another name, it is removed at once.
    pub(crate) fn set_out(&self, dir: &Path, name: &str, number: u64) -> Result<(), LogError> {
        let (path, out) = (dir.join(name), dir.join(trash::name(name, number)));
        match self.disk.rename(&path, &out) {
            Ok(()) => self.trash.push(out),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if is_full(&e) && trash::remove_now(&self.disk, &path).is_ok() => {}
            Err(source) => return Err(LogError::Io { action: "rename", path, source }),
        }
        Ok(())
    }

    /// Takes the partition with all its files out of use.
    pub(crate) fn delete(&self, tp: TopicPartition, dirty: &mut Dirty) -> Result<(), LogError> {
        let Some(shared) = self.take(tp) else { return Ok(()) };
        let _changing = self.change();
        let segments = {
            let mut state = shared.write();
            state.version += 1;
            state.cuts += 1;
            std::mem::take(&mut state.segments)
        };
        for segment in segments {
            self.files.forget(segment.uid);
        }
        self.set_out(&self.root, &tp.to_string(), self.next_uid())?;
        dirty.folders.remove(&tp);
        dirty.root = true;
        Ok(())
    }

    /// Where a truncation to `to` ends: at the beginning of the batch that holds it. Where damage is in its way, it ends
    /// before that if it `repairs`; otherwise it is none, and the watcher of damage is called.
    pub(crate) fn cut_at(&self, tp: TopicPartition, to: Offset, repairs: bool) -> Result<Offset, LogError> {
        let Some(shared) = self.partition(tp) else { return Ok(to) };
        let state = shared.read().clone();
        if to < state.start || to >= state.end {
            return Ok(to);
        }
        let cut = self.find_cut(tp, &state, to)?;
        if cut.damaged && !repairs {
            tracing::warn!(partition = %tp, %to, damaged = %cut.end, "not truncated: damage is in the way");
            self.tell_damage(tp, cut.end);
            return Ok(state.end);
        }
        Ok(cut.end)
    }

    /// Where a truncation to `to` cuts. What fails is tried once more, as with all reads: what can be read in the end is no
    /// damage.
    pub(super) fn find_cut(&self, tp: TopicPartition, state: &Partition, to: Offset) -> Result<Cut, LogError> {
        match self.look_for_cut(tp, state, to) {
            Ok(cut) if !cut.damaged => Ok(cut),
            _ => {
                self.disk.pause();
                self.look_for_cut(tp, state, to)
            }
        }
    }

    fn look_for_cut(&self, tp: TopicPartition, state: &Partition, to: Offset) -> Result<Cut, LogError> {
        let damaged = |segment, end, position, detail: String| {
            tracing::warn!(partition = %tp, %to, %end, detail, "damage where a truncation is to end");
            Ok(Cut { end, segment, position, damaged: true })
        };
        let Some(segment) = segment_of(state, to) else {
            return Ok(Cut::all(state.start));
        };
        let n = state.segments.iter().position(|s| s.uid == segment.uid).unwrap_or(0);
        if to <= segment.base {
            // Nothing of it stays, and perhaps it is gone already.
            return Ok(Cut { end: to, segment: n, position: 0, damaged: false });
        }
        let path = folder(&self.root, tp).join(segment.log_name());
        let file = match self.file(tp, &segment, Kind::Log) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return damaged(n, segment.base, 0, "a segment's file is missing".into());
            }
            Err(source) => return Err(LogError::Io { action: "open", path, source }),
        };
        let from = |offset| Cursor::new(&*file, state, &segment, self.locate(tp, &segment, &file, offset));
        let mut cursor = from(Offset(to.0 - 1));
        let begin = cursor.offset;
        let mut sought = cursor.seek_start(to);
        if sought.is_ok() && cursor.offset == begin && begin > segment.base {
            // The log will end where the batch before ends, and not where a gap after it does.
            cursor = from(Offset(begin.0 - 1));
            sought = cursor.seek_start(to);
        }
        match sought {
            Ok(()) => Ok(Cut { end: cursor.offset, segment: n, position: cursor.position, damaged: false }),
            Err(Failure::Damaged(offset, detail)) => damaged(n, offset, cursor.damaged_at(offset), detail),
            Err(Failure::Io(source)) => Err(LogError::Io { action: "read", path, source }),
        }
    }
}
