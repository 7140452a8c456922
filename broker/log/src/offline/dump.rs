//! The contents of files, as they are: batch by batch, operation by operation.

use super::len;
use crate::checkpoint;
use crate::disk::{Disk, read_exact_at};
use crate::error::{IoContext, LogError, lock};
use crate::log::wal_dir;
use crate::wal::entry::LoggedKind;
use crate::wal::replay::replay;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::{BatchHeader, HEADER_LEN, RecordBatch};
use std::path::Path;

/// Visits the batches of a segment's file, with the byte where each begins, as long as they are whole. Returns where that
/// ends, and why, if the file goes on there with something else.
pub fn batches<D: Disk>(
    disk: &D,
    path: &Path,
    mut visit: impl FnMut(u64, &RecordBatch) -> bool,
) -> Result<Option<(u64, String)>, LogError> {
    let file = disk.open(path).during("open", path)?;
    let (len, mut at) = (len(disk, path)?, 0);
    while at < len {
        let mut header = vec![0; HEADER_LEN.min((len - at) as usize)];
        read_exact_at(&file, &mut header, at).during("read", path)?;
        let header = match BatchHeader::read(&header) {
            Ok(header) if header.total_len as u64 <= len - at => header,
            Ok(header) => return Ok(Some((at, format!("a batch of {} bytes is cut short", header.total_len)))),
            Err(error) => return Ok(Some((at, error.to_string()))),
        };
        let mut bytes = vec![0; header.total_len];
        read_exact_at(&file, &mut bytes, at).during("read", path)?;
        match RecordBatch::check(bytes.into()) {
            Ok(batch) if visit(at, &batch) => at += header.total_len as u64,
            Ok(_) => return Ok(None),
            Err(error) => return Ok(Some((at, error.to_string()))),
        }
    }
    Ok(None)
}

/// An operation of the write-ahead log that a start would apply again.
#[derive(Clone, Debug)]
pub enum LoggedOperation {
    /// A batch is appended.
    Append(RecordBatch),
    /// A batch is appended that is in its segment already: its header, the segment's base offset, and the byte in it.
    Reference(BatchHeader, Offset, u64),
    /// The partition is cut back to that end.
    Truncate(Offset),
    /// It starts there from then on.
    AdvanceStart(Offset),
    /// It begins there, with nothing before.
    BeginAt(Offset),
    /// It is deleted.
    Delete,
}

/// Visits the operations of the write-ahead log of the log in `dir` that its checkpoint does not cover.
pub fn operations<D: Disk>(
    disk: &D,
    dir: &Path,
    mut visit: impl FnMut(TopicPartition, LoggedOperation),
) -> Result<(), LogError> {
    let _lock = lock(disk, dir)?;
    let checkpoint = checkpoint::read(disk, dir, || 0)?;
    if checkpoint.mark.run == 0 {
        return Ok(());
    }
    let wal = wal_dir(dir);
    let corrupt = |e: &dyn std::fmt::Display| LogError::corrupt(&wal, e.to_string());
    replay(
        disk,
        &wal,
        checkpoint.wal,
        checkpoint.mark,
        |_| Ok(true),
        |op| {
            let operation = match op.kind {
                LoggedKind::Append { batch, .. } => {
                    LoggedOperation::Append(RecordBatch::check(batch).map_err(|e| corrupt(&e))?)
                }
                LoggedKind::Reference { header, place } => {
                    let header = BatchHeader::read(&header).map_err(|e| corrupt(&e))?;
                    LoggedOperation::Reference(header, place.base, place.position)
                }
                LoggedKind::Truncate(to) => LoggedOperation::Truncate(to),
                LoggedKind::AdvanceStart(to) => LoggedOperation::AdvanceStart(to),
                LoggedKind::BeginAt(at, _) => LoggedOperation::BeginAt(at),
                LoggedKind::Delete => LoggedOperation::Delete,
            };
            visit(op.partition, operation);
            Ok(())
        },
    )?;
    Ok(())
}
