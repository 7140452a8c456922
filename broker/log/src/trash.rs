//! Files and folders that are out of use: renamed where they were, to be removed by and by.
//!
//! To remove a large file takes a disk long, and many small ones too, and whoever syncs meanwhile waits. So whoever
//! takes something out of use only renames it, to `<name>.<number in hex>.deleted`, and the removing is done elsewhere. What a
//! process leaves of it, the next one removes.

use crate::disk::{Disk, DiskFile};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SUFFIX: &str = ".deleted";
/// Bytes that are cut off a file at once.
const STEP: u64 = 64 * 1024 * 1024;
/// After each step, this many times as long as it took is left to others.
const PAUSES: u32 = 4;
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What is to be removed.
#[derive(Default)]
pub(crate) struct Trash {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    paths: VecDeque<PathBuf>,
    closed: bool,
}

/// The name of what is out of use.
pub(crate) fn name(of: &str, number: u64) -> String {
    format!("{of}.{number:x}{SUFFIX}")
}

/// Whether something of that name is out of use.
pub(crate) fn is_trash(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

impl Trash {
    /// Takes what has been renamed: a file, or a folder of files.
    pub(crate) fn push(&self, path: PathBuf) {
        self.lock().paths.push_back(path);
        self.wake.notify_one();
    }

    /// Removes until [`Self::close`] is called, in small steps and, while there is no hurry, with pauses.
    pub(crate) fn remove_slowly<D: Disk>(&self, disk: &D, hurry: impl Fn() -> bool) {
        loop {
            let begin = Instant::now();
            let path = {
                let mut queue = self.lock();
                while queue.paths.is_empty() && !queue.closed {
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.closed {
                    return;
                }
                queue.paths.pop_front()
            };
            if let Some(path) = path {
                self.step(disk, path);
            }
            if hurry() {
                continue;
            }
            let pause = (begin.elapsed() * PAUSES).min(MAX_PAUSE);
            let queue = self.lock();
            drop(self.wake.wait_timeout_while(queue, pause, |queue| !queue.closed));
        }
    }

    /// Removes everything now.
    pub(crate) fn remove_all<D: Disk>(&self, disk: &D) {
        loop {
            let Some(path) = self.lock().paths.pop_front() else { return };
            self.step(disk, path);
        }
    }

    /// Lets [`Self::remove_slowly`] end; what is left is removed by the next process.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Does a bit of it. What fails is left to the next process: nothing depends on it but space.
    fn step<D: Disk>(&self, disk: &D, path: PathBuf) {
        match remove_some(disk, &path) {
            Ok(true) => {}
            Ok(false) => self.lock().paths.push_front(path),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "Cannot remove what is out of use; the next start tries again");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a file, or a folder of files, at once.
pub(crate) fn remove_now<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    while !remove_some(disk, path)? {}
    Ok(())
}

/// Says whether nothing is left.
fn remove_some<D: Disk>(disk: &D, path: &Path) -> io::Result<bool> {
    match disk.list(path) {
        Ok(entries) => match entries.first() {
            Some(entry) => remove_file(disk, &path.join(&entry.name)).map(|_| false),
            None => disk.remove_dir(path).map(|()| true),
        },
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => remove_file(disk, path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

fn remove_file<D: Disk>(disk: &D, path: &Path) -> io::Result<bool> {
    let file = match disk.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let len = file.len()?;
    if len > STEP {
        return file.set_len(len - STEP).map(|()| false);
    }
    disk.remove(path).map(|()| true)
}
