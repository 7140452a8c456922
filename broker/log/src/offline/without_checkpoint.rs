//! Checking files that no checkpoint speaks of any more. Which of them count, and up to where, only the checkpoint says; so
//! the report is of what can be read.

use super::{Progress, Verified, VerifiedPartition, batches, len};
use crate::disk::Disk;
use crate::error::{IoContext, LogError};
use crate::log::partitions_dir;
use crate::partition::parse_folder;
use crate::trash;
use chronik_core::ids::{Offset, TopicPartition};
use std::path::{Path, PathBuf};

pub(super) fn verify<D: Disk>(
    disk: &D,
    log: &Path,
    verified: &mut Verified,
    progress: Progress<'_>,
) -> Result<(), LogError> {
    let partitions = segment_files(disk, &partitions_dir(log))?;
    let total = partitions.iter().flat_map(|(_, files)| files).map(|(_, len)| len).sum();
    let mut done = 0;
    progress(done, total);
    for (partition, files) in partitions {
        let mut found: Option<VerifiedPartition> = None;
        for (path, len) in files {
            let last = done;
            let rest = batches(disk, &path, |at, batch| {
                let header = batch.header();
                let (start, end) = (header.base_offset, header.end_offset());
                let known = VerifiedPartition { partition, start, end, bytes: 0, damaged: None };
                let known = found.get_or_insert(known);
                // Compaction may have left a file beside those that it replaces.
                known.start = known.start.min(start);
                known.end = known.end.max(end);
                known.bytes += header.total_len as u64;
                progress(last + at, total);
                true
            })?;
            if let Some((at, detail)) = rest {
                verified.find(&path, at, format!("there is no whole batch from here on: {detail}"));
                let known = found.get_or_insert(VerifiedPartition {
                    partition,
                    start: Offset::ZERO,
                    end: Offset::ZERO,
                    bytes: 0,
                    damaged: None,
                });
                known.damaged.get_or_insert(known.end);
            }
            done += len;
            progress(done, total);
        }
        verified.partitions.extend(found);
    }
    verified.recovery.push(format!(
        "without its checkpoint a log is not opened{}, and its write-ahead log cannot be checked: with peers, a broker that \
         starts with an empty data directory is filled from them; without peers, restore it from a copy. `chronik log dump` \
         prints the batches of a segment's file",
        if verified.partitions.is_empty() { " unless it holds nothing else" } else { "" }
    ));
    Ok(())
}

type Files = Vec<(PathBuf, u64)>;

/// The files of batches of each partition, in the order of their offsets, with their lengths.
fn segment_files<D: Disk>(disk: &D, root: &Path) -> Result<Vec<(TopicPartition, Files)>, LogError> {
    let mut partitions = Vec::new();
    if !disk.exists(root).during("look for", root)? {
        return Ok(partitions);
    }
    for folder in disk.list(root).during("list", root)? {
        let Some(partition) = parse_folder(&folder.name).filter(|_| !trash::is_trash(&folder.name)) else { continue };
        let dir = root.join(&folder.name);
        let mut files = Vec::new();
        for entry in disk.list(&dir).during("list", &dir)? {
            let path = dir.join(&entry.name);
            if path.extension().is_some_and(|kind| kind == "log") && !trash::is_trash(&entry.name) {
                let len = len(disk, &path)?;
                files.push((path, len));
            }
        }
        files.sort();
        partitions.push((partition, files));
    }
    partitions.sort_by_key(|(partition, _)| *partition);
    Ok(partitions)
}
