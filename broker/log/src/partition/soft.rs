//! A partition's soft state: what its batches say of idempotent producers. It is as good as the batches, and would take
//! reading all of them; so snapshots of it are kept, and what is known at any place is the newest snapshot at or before
//! it and the batches from there on.
//!
//! Snapshots are taken by checkpoints, and listed in them: small ones are in the list itself, others in files beside the
//! segments, `<offset, 20 digits>.snapshot`: magic `CSN3` 4, CRC-32C of all but itself 4, offset 8, then the producers
//! as `chronik_core::producers` encodes them. A large one is taken when as many bytes have been appended as it has, so
//! that a checkpoint writes no more than twice of what was appended. Of each segment the last one stays, and the newest
//! few, so that a truncation reads one segment at most. Between two snapshots only the producers that wrote are kept in
//! memory. A snapshot that cannot be read costs more reading, and nothing else.

use super::{ReadError, folder, stay_if_full};
use crate::at_once::{several_at_once, syncs_at_once};
use crate::disk::{Disk, DiskFile, is_full, read_exact_at};
use crate::error::{IoContext, LogError};
use crate::format::{Format, PREFIX};
use crate::store::{Shared, Store};
use bytes::Bytes;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_core::record::BatchHeader;
use std::io::{self, IoSlice};
use std::sync::{Arc, LazyLock};

const FORMAT: Format = Format { name: "snapshot of a partition", family: *b"CSN", oldest: 3, newest: 3 };
/// Snapshots of up to so many bytes are part of the checkpoint: three producers or so.
const INLINE: usize = 512;
/// The newest snapshots that are kept, whatever their distance.
const NEWEST: usize = 3;
/// How often what is known is put together again because the log was cut meanwhile, or a snapshot was taken.
const ATTEMPTS: usize = 16;

/// The snapshot in which nobody is known, which is the first one of most logs: they share it.
static NOBODY: LazyLock<Arc<[u8]>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    Producers::of_part().encode(&mut bytes);
    bytes.into()
});

pub(crate) fn snapshot_name(at: Offset) -> String {
    format!("{:020}.snapshot", at.0)
}

/// What was known of the batches before `at`.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: Offset,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Inline(Arc<[u8]>),
    /// A file of so many bytes.
    File(u64),
}

impl Content {
    pub(crate) fn inline(bytes: &[u8]) -> Self {
        Self::Inline(if *bytes == **NOBODY { Arc::clone(&NOBODY) } else { bytes.into() })
    }
}

impl Snapshot {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.content, Content::File(_))
    }

    /// The name of its file, if it is one.
    pub(crate) fn file_name(&self) -> String {
        snapshot_name(self.at)
    }

    /// Whether it is larger than what a checkpoint has of a partition.
    fn belongs_in_a_file(&self) -> bool {
        matches!(&self.content, Content::Inline(bytes) if bytes.len() > INLINE)
    }

    /// Before its first batch a log knows nobody.
    fn nobody(at: Offset) -> Self {
        Self { at, content: Content::Inline(Arc::clone(&NOBODY)) }
    }
}

/// What is known of a partition's producers, and from where on.
#[derive(Debug)]
pub(crate) struct Soft {
    /// Ascending.
    snapshots: Vec<Snapshot>,
    /// `recent` tells of all batches from here on. If no snapshot is as new, the batches between are to be read.
    known_from: Offset,
    /// The offset after the last batch that was noted.
    end: Offset,
    recent: Producers,
    /// Bytes of the batches that were noted since the newest snapshot.
    bytes: u64,
    /// Counts the changes after which what was read before means nothing.
    generation: u64,
    /// Snapshots that are not needed any more, whose files go when no checkpoint names them.
    obsolete: Vec<Offset>,
    expiration_ms: i64,
    /// Who has not written from here on is forgotten with the next snapshot.
    forgotten: Offset,
}

impl Soft {
    /// That of an empty log.
    pub(crate) fn new(start: Offset, expiration_ms: i64) -> Self {
        Self { snapshots: vec![Snapshot::nobody(start)], ..Self::recovered(Vec::new(), start, expiration_ms) }
    }

    /// That of a log which ends at `end`, of which these snapshots are known, ascending.
    pub(crate) fn recovered(snapshots: Vec<Snapshot>, end: Offset, expiration_ms: i64) -> Self {
        // A checkpoint may be overtaken by the snapshots in it: what lies between is in the write-ahead log.
        let end = snapshots.last().map_or(end, |newest| newest.at.max(end));
        let (recent, obsolete) = (Producers::of_part(), Vec::new());
        Self {
            snapshots,
            known_from: end,
            end,
            recent,
            bytes: 0,
            generation: 0,
            obsolete,
            expiration_ms,
            forgotten: Offset::ZERO,
        }
    }

    /// Notes a batch that was appended.
    pub(crate) fn observe(&mut self, header: &BatchHeader) {
        if header.base_offset < self.known_from {
            return;
        }
        self.recent.observe(header);
        self.bytes += header.total_len as u64;
        self.end = header.end_offset();
    }

    /// The log was cut back to `to`.
    pub(crate) fn cut(&mut self, to: Offset) {
        if to >= self.end {
            return;
        }
        let kept = self.snapshots.partition_point(|s| s.at <= to);
        let gone = self.snapshots.split_off(kept);
        self.obsolete.extend(gone.iter().filter(|s| s.is_file()).map(|s| s.at));
        // A producer's last batches before the cut may have been forgotten for those that go.
        self.recent = Producers::of_part();
        (self.known_from, self.end, self.bytes) = (to, to, 0);
        self.forgotten = self.forgotten.min(to);
        self.generation += 1;
    }

    /// The log has lost all, and begins at `at`: the producers of the records before are known if `producers` has them.
    pub(crate) fn begin_at(&mut self, at: Offset, producers: Option<&Bytes>) {
        let files = self.snapshots.iter().filter(|s| s.is_file()).map(|s| s.at);
        let obsolete = files.chain(self.obsolete.iter().copied()).collect();
        *self = Self { generation: self.generation + 1, obsolete, ..Self::new(at, self.expiration_ms) };
        if let Some(valid) = producers.filter(|bytes| Producers::decode(bytes, self.expiration_ms).is_some()) {
            self.snapshots = vec![Snapshot { at, content: Content::inline(valid) }];
        }
    }

    /// The log's start moved: nobody asks for what was known before it. Producers outlive their batches.
    pub(crate) fn start_moved(&mut self, start: Offset) {
        let unneeded = self.snapshots.partition_point(|s| s.at <= start).saturating_sub(1);
        self.obsolete.extend(self.snapshots.drain(..unneeded).filter(Snapshot::is_file).map(|s| s.at));
    }

    /// Whether there is a file that a snapshot is in.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.snapshots.iter().any(|s| s.is_file() && snapshot_name(s.at) == name)
    }

    /// Whether there is anything that a checkpoint may have to write.
    fn has_changed(&self) -> bool {
        self.bytes > 0 || self.snapshots.iter().any(Snapshot::belongs_in_a_file)
    }

    pub(crate) fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Who has not written from `offset` on need not be known any more.
    pub(crate) fn forget_before(&mut self, offset: Offset) {
        self.forgotten = self.forgotten.max(offset.min(self.end));
    }

    /// About what this takes of the memory.
    pub(crate) fn memory(&self) -> usize {
        self.recent.memory()
    }

    /// The files that nothing refers to any more, once the next checkpoint is in place.
    pub(crate) fn obsolete(&self) -> &[Offset] {
        &self.obsolete
    }

    /// Takes over what was read of the batches from `from` on, which follow the snapshot at `base`, and is known of those
    /// after them: it need not be read again.
    fn fill(&mut self, base: Option<Offset>, from: Offset, recent: Producers, bytes: u64) {
        let readable = self.snapshots.partition_point(|s| base.is_some_and(|at| s.at <= at));
        let unreadable = self.snapshots.split_off(readable);
        self.obsolete.extend(unreadable.iter().filter(|s| s.is_file()).map(|s| s.at));
        if base.is_none() {
            self.add(Snapshot::nobody(from));
        }
        self.known_from = base.unwrap_or(from);
        self.recent = recent;
        self.bytes += bytes;
    }

    /// Takes over a snapshot that is newer than the others. There are few: no more room is taken than they need.
    fn add(&mut self, snapshot: Snapshot) {
        self.snapshots.reserve_exact(1);
        self.snapshots.push(snapshot);
    }

    /// Drops the snapshots that are too close to others. `bases` are those of the segments, ascending.
    fn thin(&mut self, start: Offset, bases: &[Offset]) {
        let segment = |s: &Snapshot| bases.partition_point(|base| *base <= s.at);
        let old = self.snapshots.len().saturating_sub(NEWEST);
        // No batch says what was before the log's start, to which it may be cut back: of that the last snapshot stays.
        let is_last_before_start = |pair: &[Snapshot]| pair[0].at <= start && pair[1].at > start;
        let is_unneeded = |pair: &[Snapshot]| segment(&pair[0]) == segment(&pair[1]) && !is_last_before_start(pair);
        let unneeded: Vec<bool> = self.snapshots.windows(2).take(old).map(is_unneeded).collect();
        let mut unneeded = unneeded.into_iter().chain(std::iter::repeat(false));
        let gone: Vec<_> = self.snapshots.extract_if(.., |_| unneeded.next() == Some(true)).collect();
        self.obsolete.extend(gone.iter().filter(|s| s.is_file()).map(|s| s.at));
    }
}

/// What a checkpoint needs to take a snapshot.
struct Due {
    base: Snapshot,
    recent: Producers,
    at: Offset,
    bytes: u64,
    generation: u64,
    forgotten: Offset,
}

impl<D: Disk> Store<D> {
    /// The producers as of the applied end: from memory and the newest snapshot, as far as that suffices.
    pub(crate) fn producers(&self, tp: TopicPartition) -> Result<Producers, ReadError> {
        self.producers_while(tp, || {})
    }

    /// The same; `meanwhile` is what others do between what is read of the disk and what is taken of memory.
    fn producers_while(&self, tp: TopicPartition, meanwhile: impl Fn()) -> Result<Producers, ReadError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let shared = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?;
            let (candidates, known_from, generation) = {
                let soft = shared.soft();
                let before = soft.snapshots.partition_point(|s| s.at <= soft.known_from);
                (soft.snapshots[..before].to_vec(), soft.known_from, soft.generation)
            };
            let expiration_ms = self.options.producer_expiration_ms;
            let start = shared.read().start;
            let base = candidates.iter().rev().find_map(|s| Some((s.at, self.load(tp, s)?)));
            // What a snapshot says of a producer may be out of date, if batches that followed it cannot be read any more.
            let base = base.filter(|(at, _)| *at == known_from || *at >= start);
            let known_at = base.as_ref().map(|(at, _)| *at);
            let from = known_at.unwrap_or(start);
            let mut known = base.map_or_else(|| Producers::new(expiration_ms), |(_, known)| known);
            let mut between = Producers::of_part();
            let (mut scanned, mut bytes) = (Ok(()), 0);
            if from < known_from {
                scanned = self.scan_range(tp, from, known_from, |header| {
                    bytes += header.total_len as u64;
                    between.observe(header);
                });
            }
            meanwhile();
            let mut soft = shared.soft();
            // Where a snapshot was taken meanwhile, memory has forgotten what is in it, and nothing was read of that.
            let is_as_it_was = soft.generation == generation && soft.known_from == known_from;
            if !is_as_it_was && attempt < ATTEMPTS {
                continue;
            }
            scanned?;
            if known_at.is_none() && start > Offset::ZERO {
                // Those who wrote only what is removed are not known.
                between.log_start_moved();
            }
            between.extend(&soft.recent);
            known.extend(&between);
            known.forget_before(soft.forgotten);
            if is_as_it_was && known_at != Some(known_from) {
                soft.fill(known_at, from, between, bytes);
            }
            return Ok(known);
        }
    }

    /// Where the batch begins that holds the partition's first offset.
    pub(crate) fn first_batch(&self, tp: TopicPartition) -> Result<Offset, ReadError> {
        let shared = self.partition(tp).ok_or(ReadError::UnknownPartition(tp))?;
        let (start, end, at_base) = {
            let state = shared.read();
            (state.start, state.end, state.segments.first().is_none_or(|s| s.base >= state.start))
        };
        if at_base || start >= end {
            return Ok(start);
        }
        let mut first = start;
        self.scan_range(tp, start, start.plus(1), |header| first = first.min(header.base_offset))?;
        Ok(first)
    }

    /// Takes a snapshot of each partition of which one is due. Each that is a file costs two syncs: many are taken at once.
    pub(crate) fn take_snapshots(&self, partitions: &[(TopicPartition, Arc<Shared>)]) -> Result<(), LogError> {
        let due: Vec<_> = partitions.iter().filter(|(_, shared)| shared.soft().has_changed()).collect();
        several_at_once(syncs_at_once::<D>(due.len()), &due, |(tp, shared)| {
            self.take_snapshot(*tp, shared)?;
            self.files.pulse.beat();
            Ok(())
        })
    }

    /// Takes a snapshot of a partition, if one is due. Runs beside the thread that writes.
    fn take_snapshot(&self, tp: TopicPartition, shared: &Shared) -> Result<(), LogError> {
        self.move_to_file(tp, shared)?;
        let Some(due) = due(shared) else { return Ok(()) };
        // What cannot be read now is found to be so by whoever needs it.
        let Some(mut known) = self.load(tp, &due.base) else { return Ok(()) };
        known.extend(&due.recent);
        known.forget_before(due.forgotten);
        let len = known.encoded_len();
        if len > INLINE && due.bytes < len as u64 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(len);
        known.encode(&mut bytes);
        let content = if len > INLINE {
            // If there is no room, there are still the batches that it would be taken of.
            let Some(content) = self.write_snapshot(tp, shared, due.at, &bytes)? else { return Ok(()) };
            content
        } else {
            Content::inline(&bytes)
        };
        let (start, bases) = {
            let state = shared.read();
            (state.start, state.segments.iter().map(|s| s.base).collect::<Vec<Offset>>())
        };
        let mut soft = shared.soft();
        let taken = Snapshot { at: due.at, content };
        if soft.generation != due.generation {
            // It was cut meanwhile, perhaps before that place.
            if taken.is_file() {
                soft.obsolete.push(due.at);
            }
            return Ok(());
        }
        soft.recent.retain_from(due.at);
        soft.known_from = due.at;
        soft.bytes = soft.bytes.saturating_sub(due.bytes);
        match soft.snapshots.last() {
            Some(newest) if newest.at == due.at => {}
            _ => soft.add(taken),
        }
        soft.thin(start, &bases);
        Ok(())
    }

    /// Takes files out of use that no snapshot is in.
    pub(crate) fn drop_snapshots(
        &self,
        tp: TopicPartition,
        shared: &Shared,
        unneeded: &[Offset],
    ) -> Result<(), LogError> {
        for at in unneeded {
            let name = snapshot_name(*at);
            if !shared.soft().has_file(&name) {
                stay_if_full(tp, self.set_out(&folder(&self.root, tp), &name, self.next_uid()))?;
            }
        }
        shared.soft().obsolete.retain(|at| !unneeded.contains(at));
        Ok(())
    }

    /// Puts a large snapshot from another broker into a file: it would be in every checkpoint otherwise.
    fn move_to_file(&self, tp: TopicPartition, shared: &Shared) -> Result<(), LogError> {
        let large = |s: &Snapshot| match &s.content {
            Content::Inline(bytes) if s.belongs_in_a_file() => Some((s.at, Arc::clone(bytes))),
            _ => None,
        };
        let (found, generation) = {
            let soft = shared.soft();
            (soft.snapshots.iter().find_map(large), soft.generation)
        };
        let Some((at, bytes)) = found else { return Ok(()) };
        let Some(content) = self.write_snapshot(tp, shared, at, &bytes)? else { return Ok(()) };
        let mut soft = shared.soft();
        match soft.snapshots.iter().position(|s| s.at == at).filter(|_| soft.generation == generation) {
            Some(n) => soft.snapshots[n].content = content,
            None => soft.obsolete.push(at),
        }
        Ok(())
    }

    /// Writes a snapshot to a file of its own; `None` if it cannot be, for want of room or of the partition.
    fn write_snapshot(
        &self,
        tp: TopicPartition,
        shared: &Shared,
        at: Offset,
        producers: &[u8],
    ) -> Result<Option<Content>, LogError> {
        let mut bytes = vec![0; PREFIX];
        bytes.extend_from_slice(&at.0.to_le_bytes());
        bytes.extend_from_slice(producers);
        FORMAT.seal(FORMAT.newest, &mut bytes);
        let dir = folder(&self.root, tp);
        let path = dir.join(snapshot_name(at));
        let write = || {
            let file = self.disk.create(&path).during("create", &path)?;
            file.write_at(&[IoSlice::new(&bytes)], 0).during("write", &path)?;
            file.sync_data().during("sync", &path)?;
            self.syncs.run(&dir, || self.disk.sync_dir(&dir))
        };
        match write() {
            Ok(()) => Ok(Some(Content::File(bytes.len() as u64))),
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(LogError::Io { source, .. }) if is_full(&source) => {
                shared.soft().obsolete.push(at);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn load(&self, tp: TopicPartition, snapshot: &Snapshot) -> Option<Producers> {
        let expiration_ms = self.options.producer_expiration_ms;
        let len = match &snapshot.content {
            Content::Inline(bytes) => return Producers::decode(bytes, expiration_ms),
            Content::File(len) => *len,
        };
        let path = folder(&self.root, tp).join(snapshot_name(snapshot.at));
        let read = || {
            let file = self.disk.open(&path)?;
            if file.len()? != len {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it does not have its length"));
            }
            let mut bytes = vec![0; len as usize];
            read_exact_at(&file, &mut bytes, 0).map(|()| bytes)
        };
        let known = match read() {
            Ok(bytes) => decode(&bytes, snapshot.at, expiration_ms),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "Cannot read a snapshot; batches are read instead");
                return None;
            }
        };
        if known.is_none() {
            tracing::warn!(path = %path.display(), "A snapshot is damaged; batches are read instead");
        }
        known
    }
}

/// What is wrong with a snapshot of a partition in that folder.
pub(crate) fn verify_snapshot<D: Disk>(
    disk: &D,
    dir: &std::path::Path,
    snapshot: &Snapshot,
) -> Result<Option<&'static str>, LogError> {
    let len = match &snapshot.content {
        Content::Inline(bytes) => {
            return Ok(Producers::decode(bytes, i64::MAX).is_none().then_some("a snapshot of producers is damaged"));
        }
        Content::File(len) => *len,
    };
    let path = dir.join(snapshot.file_name());
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("it is missing")),
        Err(source) => return Err(LogError::Io { action: "open", path, source }),
    };
    if file.len().during("measure", &path)? != len {
        return Ok(Some("it does not have its length"));
    }
    let mut bytes = vec![0; len as usize];
    read_exact_at(&file, &mut bytes, 0).during("read", &path)?;
    Ok(decode(&bytes, snapshot.at, i64::MAX).is_none().then_some("its checksum does not fit its content"))
}

fn due(shared: &Shared) -> Option<Due> {
    let soft = shared.soft();
    let base = soft.snapshots.last()?;
    // One at the same place would be written over the file that the durable checkpoint names.
    (soft.bytes > 0 && base.at == soft.known_from && soft.end > base.at).then(|| Due {
        base: base.clone(),
        recent: soft.recent.clone(),
        at: soft.end,
        bytes: soft.bytes,
        generation: soft.generation,
        forgotten: soft.forgotten,
    })
}

fn decode(bytes: &[u8], at: Offset, expiration_ms: i64) -> Option<Producers> {
    FORMAT.version(bytes).filter(|version| *version <= FORMAT.newest)?;
    let (offset, producers) = bytes[PREFIX..].split_first_chunk()?;
    (i64::from_le_bytes(*offset) == at.0).then(|| Producers::decode(producers, expiration_ms))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, Op, Options, SimulatedDisk};
    use chronik_core::ids::{LeaderEpoch, PartitionId, TopicId};
    use chronik_core::record::testing::BatchBuilder;
    use std::path::Path;

    #[test]
    fn the_last_snapshot_before_the_start_stays_as_no_batch_says_what_is_in_it() {
        let at = |at| Snapshot::nobody(Offset(at));
        let all: Vec<_> = [285, 290, 294, 298, 307].map(at).into();
        let mut soft = Soft::recovered(all, Offset(309), 1);
        soft.thin(Offset(293), &[Offset(200)]);
        let left = |soft: &Soft| soft.snapshots().iter().map(|s| s.at.0).collect::<Vec<_>>();
        assert_eq!(left(&soft), [290, 294, 298, 307]);
        soft.cut(Offset(293));
        assert_eq!(left(&soft), [290]);
    }

    #[test]
    fn those_in_a_snapshot_that_is_taken_while_producers_are_asked_for_are_known() {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = Log::open(disk, Path::new("/d"), Options::default()).expect("it opens");
        let tp = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        for id in 0..2 {
            let batch = BatchBuilder::new(1).payload(10).producer(id, 0, 0).build();
            let batch = batch.assign(Offset(id), LeaderEpoch(1));
            let op = [Op::Append { partition: tp, batch }];
            log.commit(&op).and_then(|()| log.apply(&op)).expect("the disk is whole");
        }
        let (store, shared) = (&log.store, log.store.partition(tp).expect("it is there"));
        let take = || store.take_snapshot(tp, &shared).expect("the disk is whole");
        let known = store.producers_while(tp, take).expect("it can be read");
        assert_eq!(known.iter().map(|p| p.id.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(shared.soft().snapshots.last().map(|s| s.at), Some(Offset(2)), "it was taken");
    }

    #[test]
    fn snapshots_take_no_more_room_than_they_need_and_that_of_nobody_is_there_once() {
        let (mut soft, other) = (Soft::new(Offset(0), 1), Soft::new(Offset(7), 1));
        for at in 1..4 {
            soft.add(Snapshot { at: Offset(at), content: Content::inline(b"somebody") });
            assert_eq!(soft.snapshots.capacity(), soft.snapshots.len());
        }
        let mut encoded = Vec::new();
        Producers::new(1).encode(&mut encoded);
        let read = Content::inline(&encoded);
        let all = [&soft.snapshots[0].content, &other.snapshots[0].content, &read].map(|content| match content {
            Content::Inline(bytes) => bytes.as_ptr(),
            Content::File(_) => std::ptr::null(),
        });
        assert_eq!(all, [NOBODY.as_ptr(); 3]);
    }
}
