//! What is in a broker's folder.

use anyhow::Result;
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a block as `stat` counts them.
const BLOCK: u64 = 512;

/// Files below a folder. What vanishes meanwhile is not among them.
pub fn files(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for (path, metadata) in entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
            if metadata.is_dir() {
                folders.push(path);
            } else {
                found.push((path, metadata));
            }
        }
    }
    found
}

/// Bytes that the files below a folder take on the disk.
pub fn on_disk(folder: &Path) -> u64 {
    on_disk_by_use(folder).iter().sum()
}

/// Bytes of those that are in use, and of those that are about to be unlinked.
pub fn on_disk_by_use(folder: &Path) -> [u64; 2] {
    let mut bytes = [0; 2];
    for (path, metadata) in files(folder) {
        let out_of_use = path.extension().is_some_and(|extension| extension == "deleted");
        bytes[usize::from(out_of_use)] += metadata.blocks() * BLOCK;
    }
    bytes
}

/// Has the next reader of the files below a folder read the disk, and says how many bytes they are. Only what is synced
/// can go. Folders stay in memory: it would take root, and all that the machine has in its cache, to be rid of them.
pub fn drop_from_page_cache(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (path, metadata) in files(folder) {
        let file = File::open(&path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        bytes += metadata.len();
    }
    Ok(bytes)
}
