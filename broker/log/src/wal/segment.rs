//! Names of WAL segments.

use crate::disk::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

/// The segments in the directory, ascending. Other names are not ours, and left alone.
pub(crate) fn list(disk: &impl Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &str| u64::from_str_radix(name.strip_suffix(".wal").filter(|n| n.len() == 16)?, 16).ok();
    let mut numbers: Vec<u64> = disk.list(dir)?.iter().filter_map(|e| number(&e.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
