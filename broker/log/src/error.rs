//! Why the log cannot go on.

use chronik_core::ids::{Offset, TopicPartition};
use std::io;
use std::path::{Path, PathBuf};

/// Why opening or writing failed. After an error from a write the log is poisoned: the process should end,
/// and recovery says what is durable.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Bytes that were durable are gone or changed.
    #[error(
        "{} is damaged: {detail}. Synced data is missing, so nothing was opened or changed. Restore the disk, or \
         move all of data_dir away, never a part of it, and let the broker come back empty to be filled from its peers: \
         beside an identity.json that stays, an empty log would pass for a whole one",
        path.display()
    )]
    Corrupt {
        /// Where.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// What was found was written by a newer version of this program.
    #[error(
        "{} is in version {found} of the {format}'s format, and this broker knows versions {oldest} to {newest}: it was \
         written by a newer broker, which must go on with it. Nothing was opened or changed",
        path.display()
    )]
    NewerFormat {
        /// Where.
        path: PathBuf,
        /// Which format.
        format: &'static str,
        /// The version found.
        found: u8,
        /// The oldest version that is known.
        oldest: u8,
        /// The newest.
        newest: u8,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process: two brokers must not share a data directory", dir.display())]
    Locked {
        /// Which.
        dir: PathBuf,
    },
    /// A write or sync failed before; what is durable is unknown until the log is opened again.
    #[error("an earlier write failed: the log must be opened again")]
    Poisoned,
    /// A batch that does not continue its partition. Nothing of the round was written.
    #[error("a batch for {partition} starts at offset {found}, where {expected} comes next")]
    OutOfOrder {
        /// The partition.
        partition: TopicPartition,
        /// Its log end.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
}

/// What is said of a sync of files or folders that are in use.
pub(crate) const SYNC: &str = "sync what was written to";

impl LogError {
    /// Whether it failed for want of room on the disk, and may be tried again: not a sync of what is in use. After that has
    /// failed, whatever the reason, another one may succeed though the data is not on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { action, source, .. } if *action != SYNC && crate::disk::is_full(source))
    }

    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), detail: detail.into() }
    }
}

/// Says in an I/O error what was tried on which path.
pub(crate) trait IoContext<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, LogError>;

    /// The same where nobody else needs the path: it is made if something failed.
    fn during_at(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, LogError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, LogError> {
        self.during_at(action, || path.to_path_buf())
    }

    fn during_at(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, LogError> {
        self.map_err(|source| LogError::Io { action, path: path(), source })
    }
}

/// Locks the directory, or says who cannot.
pub(crate) fn lock<D: crate::Disk>(disk: &D, dir: &Path) -> Result<D::Lock, LogError> {
    disk.lock(dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked { dir: dir.to_path_buf() },
        _ => LogError::Io { action: "lock", path: dir.to_path_buf(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_finds_no_room_is_not_tried_again() {
        let full = |action| {
            let failed: io::Result<()> = Err(io::ErrorKind::StorageFull.into());
            failed.during(action, Path::new("a")).unwrap_err().is_full()
        };
        assert_eq!(["write", "create", SYNC].map(full), [true, true, false]);
    }
}
