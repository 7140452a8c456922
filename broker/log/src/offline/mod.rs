//! Looking at a log that no broker has open: every checksum in it, and what a start would make of it. Nothing is changed.
//!
//! What a checkpoint vouches for is checked as far as no operation of the write-ahead log since has replaced it. The rest
//! is in the write-ahead log, and checked there. Where the checkpoint itself is not whole, every segment's file is read by
//! itself, so that people know what there is to be had.

mod dump;
mod segments;
mod without_checkpoint;

pub use dump::{LoggedOperation, batches, operations};

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError, lock};
use crate::history::History;
use crate::log::{partitions_dir, wal_dir};
use crate::partition::{Partition, Referred, batch_at, folder, log_name, parse_folder};
use crate::wal::entry::{LoggedKind, LoggedOp, Place};
use crate::wal::{replay, segment};
use crate::{checkpoint, journal, trash};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{BatchHeader, HeaderError, RecordBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub path: PathBuf,
    /// The byte at which the batch, block, entry or file begins that is not whole.
    pub position: u64,
    /// What is wrong with it.
    pub detail: String,
}

/// What there is of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPartition {
    /// Which.
    pub partition: TopicPartition,
    /// The first offset, as of the checkpoint; without one, that of the first batch there is.
    pub start: Offset,
    /// The offset after the last one, as of the checkpoint; without one, after the last whole batch.
    pub end: Offset,
    /// Bytes of batches that were checked.
    pub bytes: u64,
    /// The first offset that cannot be read.
    pub damaged: Option<Offset>,
}

/// What [`verify`] has found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// All that is wrong.
    pub findings: Vec<Finding>,
    /// Each partition of the checkpoint; without one, each that has a folder.
    pub partitions: Vec<VerifiedPartition>,
    /// Bytes of the write-ahead log that a start would apply again.
    pub replay_bytes: u64,
    /// Operations in them.
    pub replay_operations: u64,
    /// What a start would do beyond that, a sentence each.
    pub recovery: Vec<String>,
}

impl Verified {
    pub(crate) fn find(&mut self, path: &Path, position: u64, detail: impl Into<String>) {
        self.findings.push(Finding { path: path.to_path_buf(), position, detail: detail.into() });
    }
}

/// Of the block at the end of a chain.
pub(crate) const NOT_WHOLE: &str =
    "the block there is not whole: it was never finished, or it is the last one and damaged";

/// Called with how many bytes are checked, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Reads all of the log in `log`, and the journal in `journal`, and says what of them is not as it was written. Fails only
/// when the disk does, another process has them open, or a newer broker has written them.
pub fn verify<D: Disk>(disk: &D, log: &Path, journal: &Path, progress: Progress<'_>) -> Result<Verified, LogError> {
    let mut verified = Verified::default();
    if disk.exists(journal).during("look for", journal)? {
        let _lock = lock(disk, journal)?;
        journal::verify(disk, journal, &mut verified)?;
    }
    if !disk.exists(log).during("look for", log)? {
        verified.recovery.push(format!("{} is not there: a start makes an empty log", log.display()));
        return Ok(verified);
    }
    let _lock = lock(disk, log)?;
    let at = checkpoint::path(log);
    let mut uid = 0;
    let number = || {
        uid += 1;
        uid
    };
    let checkpoint = match checkpoint::read(disk, log, number) {
        Ok(checkpoint) => checkpoint,
        Err(LogError::Corrupt { detail, .. }) => {
            verified.find(&at, 0, detail);
            without_checkpoint::verify(disk, log, &mut verified, progress)?;
            return Ok(verified);
        }
        Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            verified.find(&at, 0, "it is missing");
            without_checkpoint::verify(disk, log, &mut verified, progress)?;
            return Ok(verified);
        }
        Err(other) => return Err(other),
    };
    if checkpoint.wal_lost {
        verified.recovery.push(
            "the write-ahead log lost something before, and nobody has accepted that yet: all partitions are doubted"
                .into(),
        );
    }
    let known: BTreeMap<_, _> = checkpoint.partitions.iter().map(|(tp, partition, _)| (*tp, partition)).collect();
    let (mut histories, missing) = if checkpoint.mark.run > 0 {
        verify_wal(disk, log, &checkpoint, &known, &mut verified)?
    } else {
        Replayed::default()
    };
    histories.values_mut().for_each(History::finish);
    segments::verify(disk, log, &checkpoint, &histories, &mut verified, progress)?;
    for (tp, header, place) in missing {
        let gone = |end| histories.get(&tp).and_then(|h| h.whole.as_ref()).is_none_or(|whole| end <= whole.start);
        if let Ok(header) = header.as_ref()
            && gone(header.end_offset())
        {
            continue;
        }
        let path = folder(&partitions_dir(log), tp).join(log_name(place.base));
        verified.find(
            &path,
            place.position,
            "a batch that the write-ahead log refers to is not there, or cannot be read",
        );
    }
    unknown_folders(disk, log, &known, &histories, &mut verified)?;
    Ok(verified)
}

/// What the write-ahead log says of each partition, and the batches that it refers to and that are not there.
type Replayed = (BTreeMap<TopicPartition, History>, Vec<(TopicPartition, Result<BatchHeader, HeaderError>, Place)>);

/// Reads the write-ahead log as far as a start would.
fn verify_wal<D: Disk>(
    disk: &D,
    log: &Path,
    checkpoint: &Checkpoint,
    known: &BTreeMap<TopicPartition, &Partition>,
    verified: &mut Verified,
) -> Result<Replayed, LogError> {
    let (mut histories, mut missing) = Replayed::default();
    let mut count = 0;
    let wal = wal_dir(log);
    let root = partitions_dir(log);
    let mut unreadable = 0;
    let referred = |op: &LoggedOp| match &op.kind {
        LoggedKind::Reference { header, place } => batch_at(disk, &root, op.partition, header, *place).map(Some),
        _ => Ok(None),
    };
    let chain = replay::replay(
        disk,
        &wal,
        checkpoint.wal,
        checkpoint.mark,
        |op| Ok(!matches!(referred(op)?, Some(Referred::Missing))),
        |op| {
            count += 1;
            if let LoggedKind::Append { batch, .. } = &op.kind
                && RecordBatch::check(batch.clone()).is_err()
            {
                unreadable += 1;
                return Ok(());
            }
            if let LoggedKind::Reference { header, place } = &op.kind
                && !matches!(referred(&op)?, Some(Referred::Whole(_)))
            {
                missing.push((op.partition, BatchHeader::read(header), *place));
            }
            if matches!(op.kind, LoggedKind::Delete) {
                missing.retain(|(tp, ..)| *tp != op.partition);
            }
            let history =
                histories.entry(op.partition).or_insert_with(|| History::after(known.get(&op.partition).copied()));
            history.observe(count, &op.kind).map_err(|e| LogError::corrupt(&wal, e.to_string()))
        },
    );
    match chain {
        Ok(chain) => {
            if let Some(lost) = chain.lost {
                let LogError::Corrupt { detail, .. } = lost else { return Err(lost) };
                let torn = replay::torn(disk, &wal, chain.end, checkpoint.mark)?;
                let (path, at) = torn.unwrap_or_else(|| (segment::path(&wal, chain.end.segment), chain.end.offset));
                verified.find(&path, at, detail);
                verified.recovery.push(
                    "a broker with peers opens the write-ahead log as far as it goes, and has all partitions filled \
                     from them; one without peers does not start"
                        .into(),
                );
            } else if let Some((path, at)) = replay::torn(disk, &wal, chain.end, checkpoint.mark)? {
                verified.find(&path, at, NOT_WHOLE);
                verified.recovery.push("what is behind the write-ahead log's last whole block is not used".into());
            }
            verified.replay_bytes = chain.end.lsn.0 - checkpoint.wal.lsn.0;
            verified.replay_operations = count;
        }
        Err(LogError::Corrupt { path, detail }) => verified.find(&path, 0, detail),
        Err(other) => return Err(other),
    }
    if unreadable > 0 {
        verified.find(&wal, 0, format!("{unreadable} batches in whole blocks are not whole"));
    }
    Ok((histories, missing))
}

/// Says what becomes of folders that no partition has.
fn unknown_folders<D: Disk, P>(
    disk: &D,
    log: &Path,
    known: &BTreeMap<TopicPartition, P>,
    histories: &BTreeMap<TopicPartition, History>,
    verified: &mut Verified,
) -> Result<(), LogError> {
    let root = partitions_dir(log);
    for entry in disk.list(&root).during("list", &root)? {
        if trash::is_trash(&entry.name) {
            continue;
        }
        let used = parse_folder(&entry.name).is_none_or(|tp| known.contains_key(&tp) || histories.contains_key(&tp));
        if !used {
            verified.recovery.push(format!("{}: left of a deleted partition, is removed", entry.name));
        }
    }
    Ok(())
}

/// Bytes of a file, or 0 if it is not there.
fn len<D: Disk>(disk: &D, path: &Path) -> Result<u64, LogError> {
    match disk.open(path) {
        Ok(file) => file.len().during("measure", path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(LogError::Io { action: "open", path: path.to_path_buf(), source }),
    }
}
