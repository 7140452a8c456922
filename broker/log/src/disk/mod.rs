//! The disk as the log sees it: a real one, and one that forgets, tears and fails on demand.
//!
//! The rules that the rest of the crate goes by, and that [`SimulatedDisk`] enforces: what is written is
//! durable only after [`DiskFile::sync_data`]; that a name exists, is gone or was changed is durable only
//! after [`Disk::sync_dir`] of its directory; a sync that failed tells nothing about what reached the disk,
//! and no later one brings it back, in whatever process, until the same bytes are written again.

mod real;
mod simulated;

pub use real::{RealDisk, RealFile, RealLock};
pub use simulated::{Call, Fault, SimulatedDisk, SimulatedFile, SimulatedLock};

use std::io::{self, IoSlice};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What [`Disk::list`] found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name in its directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
}

/// A file system, or something that behaves like one. Clones are the same disk.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Keeps a directory locked until dropped.
    type Lock: Send + Sync + 'static;
    /// How many files are synced at once at most, where there are very many: a file system's journal takes them together.
    const SYNCS_AT_ONCE: usize;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates an empty file, or empties an existing one.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// The entries of a directory, by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing what had the new name, or a directory to a name that nothing has. From one directory to
    /// another it is durable when both are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates a directory; its parent exists. It is no error when it is there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks the directory against other processes; `WouldBlock` when another holds it.
    fn lock(&self, dir: &Path) -> io::Result<Self::Lock>;
    /// Bytes that can still be written where that directory is.
    fn available(&self, dir: &Path) -> io::Result<u64>;
    /// A number that nobody can foresee, that tells a log's own blocks from bytes that look like them.
    fn random(&self) -> io::Result<u64>;
    /// To be called before what failed is tried again: a controller that is reset fails all that it is asked meanwhile.
    fn pause(&self) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An open file. All methods take `&self`: positions are explicit, so that readers and the writer share it.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads what there is at `offset`, up to the buffer's length; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `parts`, one after the other, from `offset` on. A gap before it reads as zeroes.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Cuts the file, or extends it with zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file at least that long, in space that is the file's from then on, however full the disk becomes. What is
    /// added reads as zeroes.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes all that was written durable, and the length. An error is final: see the module's rules.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// When the file was last written to. A disk that has no clock does not know.
    fn modified(&self) -> io::Result<SystemTime> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Creates the directory and all that is missing above it, durably.
pub fn create_dir_all(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    if disk.exists(dir)? {
        // A process that was killed may have created it and not come to the sync; what is above it was synced.
        return match disk.sync_dir(parent) {
            // It is in a place that belongs to somebody else, who made it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    create_dir_all(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// Whether the disk has no room for what was to be written.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the disk cannot give back those bytes, as opposed to cannot be asked.
pub(crate) fn is_unreadable(e: &io::Error) -> bool {
    e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What a look finds, if one does. One look decides nothing else: two have to say that it is not there, or two to fail.
pub(crate) fn look_again<T, E>(
    disk: &impl Disk,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let (mut missed, mut failed) = (false, false);
    loop {
        match look() {
            Ok(None) if !missed => missed = true,
            Err(_) if !failed => {
                failed = true;
                disk.pause();
            }
            decided => return decided,
        }
    }
}

/// Reads exactly the buffer's length, or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &impl DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buffer, offset)? < buffer.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before what should be in it"));
    }
    Ok(())
}
