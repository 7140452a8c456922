//! The machine's file system.

use super::{Disk, DiskFile, Entry};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

/// Buffers that one `pwritev` takes at most (`IOV_MAX` on Linux).
const MAX_PARTS: usize = 1024;

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of it.
#[derive(Debug)]
pub struct RealFile(File);

/// Holds the lock on a directory's `LOCK` file; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

/// How often what finds no file descriptor is tried, and how long is left in between: two seconds together. Others close
/// theirs, and a log that ended for it would take its broker away for what is over in a moment. For who writes it is a disk
/// that hangs meanwhile, which others are told of.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Opens something, again while this process or the machine has no file descriptor left for it.
fn with_descriptor<T>(open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    tried(TRIES, PAUSE, open)
}

fn tried<T>(tries: u32, pause: Duration, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..tries {
        match open() {
            Err(e) if lacks_descriptors(&e) => thread::sleep(pause),
            opened => return opened,
        }
    }
    open()
}

fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;
    const SYNCS_AT_ONCE: usize = 64;

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        with_descriptor(|| OpenOptions::new().read(true).write(true).open(path)).map(RealFile)
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        with_descriptor(open).map(RealFile)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in with_descriptor(|| fs::read_dir(dir))? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // A sync that fails is not tried again.
        with_descriptor(|| File::open(dir))?.sync_all()
    }

    fn lock(&self, dir: &Path) -> io::Result<RealLock> {
        let path = dir.join("LOCK");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = with_descriptor(open)?;
        match file.try_lock() {
            Ok(()) => Ok(RealLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        // The kernel gives as few bytes as this whole.
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(u64::from_le_bytes(bytes))
    }
}

static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for chunk in parts.chunks(MAX_PARTS) {
            let mut rest = chunk.to_vec();
            let mut rest = rest.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.0, rest, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        IoSlice::advance_slices(&mut rest, n);
                        offset += n as u64;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => return other.map_err(Into::into),
        }
        let mut at = self.len()?;
        while at < len {
            let n = (len - at).min(ZEROES.len() as u64) as usize;
            self.write_at(&[IoSlice::new(&ZEROES[..n])], at)?;
            at += n as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.0.metadata()?.modified()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_descriptor_is_tried_until_there_is_one_and_nothing_else_is() {
        for (failures, errno, calls, opens) in [
            (0, Errno::MFILE, 1, true),
            (3, Errno::MFILE, 4, true),
            (3, Errno::NFILE, 4, true),
            (9, Errno::MFILE, 5, false),
            (1, Errno::IO, 1, false),
            (1, Errno::NOSPC, 1, false),
        ] {
            let mut called = 0;
            let open = || {
                called += 1;
                if called > failures { Ok(()) } else { Err(errno.into()) }
            };
            let opened = tried(5, Duration::ZERO, open);
            assert_eq!((called, opened.is_ok()), (calls, opens), "{failures} times {errno}");
        }
    }
}
