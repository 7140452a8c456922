//! Versions of what is on the disk.
//!
//! Whatever is checked as a whole (a checkpoint, a block of the write-ahead log, a block of a journal) begins with a
//! magic of four bytes and a CRC-32C. The magic's first three bytes say what it is, the fourth is its version, as a
//! digit. From version 3 on the CRC covers the magic too, so that a damaged version does not pass for another one.
//! That much holds for all versions to come: a reader can tell one that it does not know from damage, and refuses it.

use crate::error::LogError;
use std::path::Path;

/// Bytes of magic and CRC.
pub(crate) const PREFIX: usize = 8;

/// One of the formats, and the versions of it that can be read.
pub(crate) struct Format {
    /// What it is, in an error's words.
    pub(crate) name: &'static str,
    pub(crate) family: [u8; 3],
    /// The oldest version that is known.
    pub(crate) oldest: u8,
    /// The newest, which is written.
    pub(crate) newest: u8,
}

impl Format {
    /// Puts magic and CRC in front of what follows them in `bytes`, of which the first [`PREFIX`] are free.
    pub(crate) fn seal(&self, version: u8, bytes: &mut [u8]) {
        let [a, b, c] = self.family;
        bytes[..4].copy_from_slice(&[a, b, c, b'0' + version]);
        let crc = checksum(version, bytes);
        bytes[4..PREFIX].copy_from_slice(&crc.to_le_bytes());
    }

    /// The version of what `bytes` hold, known or not; `None` when they are not of this format, or damaged.
    pub(crate) fn version(&self, bytes: &[u8]) -> Option<u8> {
        let [a, b, c, digit, crc @ ..] = bytes.first_chunk::<PREFIX>()?;
        let version = digit.checked_sub(b'0').filter(|version| *version >= self.oldest && *version <= 9)?;
        let valid = [*a, *b, *c] == self.family && *crc == checksum(version, bytes).to_le_bytes();
        valid.then_some(version)
    }

    /// Refuses a version that is not known.
    pub(crate) fn known(&self, version: u8, path: &Path) -> Result<u8, LogError> {
        if version <= self.newest {
            return Ok(version);
        }
        Err(LogError::NewerFormat {
            path: path.to_path_buf(),
            format: self.name,
            found: version,
            oldest: self.oldest,
            newest: self.newest,
        })
    }
}

fn checksum(version: u8, bytes: &[u8]) -> u32 {
    let magic = if version >= 3 { &bytes[..4] } else { &[] };
    crc32c::crc32c_append(crc32c::crc32c(magic), &bytes[PREFIX..])
}
