//! How much room the disk has left, and who may still write to it.
//!
//! A thread asks the file system now and then. What was accepted since, and is not in the segments yet, is counted against
//! its answer twice, as it is written twice: so this broker itself does not run through its floor, however fast it is. When
//! others fill the disk, the *ballast* is given up: a file that does nothing but take space, and is made again when there
//! is room.

use crate::disk::{Disk, DiskFile};
use chronik_core::space::Room;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the file system is asked.
const EVERY: Duration = Duration::from_millis(200);
/// How often it is asked at once, at most, when much is written meanwhile.
const MEASURES: u32 = 3;
/// From one attempt to write to a full disk to the next.
pub(crate) const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How much room a log's disk has left. Clones are the same.
#[derive(Clone, Debug)]
pub struct Space(Arc<Inner>);

/// What must be written whether or not there is room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Wal,
    Segment,
    Checkpoint,
}

#[derive(Debug)]
struct Inner {
    floor: u64,
    room: AtomicU8,
    available: AtomicU64,
    refused: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of batches, since the start, that were accepted, and those of them that are in their segments.
    accepted: u64,
    applied: u64,
    /// How many were applied when the disk was asked last.
    applied_then: u64,
    /// What must be written and has no room, by [`Need`].
    lacking: [bool; 3],
    closed: bool,
}

impl Space {
    pub(crate) fn new(floor: u64) -> Self {
        let inner = Inner {
            floor,
            room: AtomicU8::new(Room::Ample as u8),
            available: AtomicU64::new(u64::MAX),
            refused: AtomicU64::new(0),
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        Self(Arc::new(inner))
    }

    /// Who may write now.
    pub fn room(&self) -> Room {
        match self.0.room.load(Ordering::Relaxed) {
            0 => Room::None,
            1 => Room::Internal,
            _ => Room::Ample,
        }
    }

    /// Bytes that the disk had left when it was asked last.
    pub fn available(&self) -> u64 {
        self.0.available.load(Ordering::Relaxed)
    }

    /// Bytes that are kept free.
    pub fn floor(&self) -> u64 {
        self.0.floor
    }

    /// Batches that were refused for want of room so far.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Counts a batch that is refused.
    pub fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accept(&self, bytes: usize) {
        let mut state = self.lock();
        state.accepted += bytes as u64;
        self.decide(&state);
    }

    pub(crate) fn applied(&self, bytes: usize) {
        self.lock().applied += bytes as u64;
    }

    /// Notes whether that must be written and waits for room.
    pub(crate) fn lack(&self, need: Need, lacks: bool) {
        let mut state = self.lock();
        if lacks {
            self.0.available.store(0, Ordering::Relaxed);
        }
        if std::mem::replace(&mut state.lacking[need as usize], lacks) != lacks {
            self.decide(&state);
        }
    }

    /// Notes that a write found no room. What the disk had when it was asked last is not believed any more: what is given
    /// up for those that must write would be taken by others.
    pub(crate) fn exhausted(&self) {
        let state = self.lock();
        self.0.available.store(0, Ordering::Relaxed);
        self.decide(&state);
    }

    /// Whether that waits for room.
    pub(crate) fn lacks(&self, need: Need) -> bool {
        self.lock().lacking[need as usize]
    }

    /// Waits before another attempt to write to a full disk; false when nobody should wait any more.
    pub(crate) fn wait_for_room(&self) -> bool {
        self.pause(TRY_AGAIN)
    }

    /// Ends [`watch`], and all waiting.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.0.wake.notify_all();
    }

    fn measured(&self, available: u64, applied_then: u64) {
        let mut state = self.lock();
        state.applied_then = applied_then;
        self.0.available.store(available, Ordering::Relaxed);
        self.decide(&state);
    }

    fn decide(&self, state: &State) {
        let owed = state.accepted.saturating_sub(state.applied_then).saturating_mul(2);
        let left = self.available().saturating_sub(owed);
        let before = self.room();
        let room = if state.lacking.contains(&true) { Room::None } else { before.with(left, self.0.floor) };
        if room != before {
            self.0.room.store(room as u8, Ordering::Relaxed);
            let (available, floor) = (self.available(), self.0.floor);
            match room {
                Room::Ample => tracing::info!(available, "The disk has room again: everything is written"),
                Room::Internal => tracing::warn!(available, floor, "The disk is nearly full: producers are refused"),
                Room::None => tracing::error!(available, floor, "The disk is full: nothing is appended"),
            }
        }
    }

    fn pause(&self, time: Duration) -> bool {
        let waited = self.0.wake.wait_timeout_while(self.lock(), time, |state| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file that takes up space to be given up.
pub(crate) struct Ballast<D> {
    disk: D,
    path: PathBuf,
    bytes: u64,
}

impl<D: Disk> Ballast<D> {
    pub(crate) fn new(disk: D, dir: &Path, bytes: u64) -> Self {
        Self { disk, path: dir.join("ballast"), bytes }
    }

    /// Gives it up.
    pub(crate) fn release(&self) {
        match self.disk.remove(&self.path) {
            Ok(()) => tracing::warn!(bytes = self.bytes, "The disk is full: its ballast is given up"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "Cannot remove the ballast"),
        }
    }

    /// Gives it up before a log is opened on a disk that has less left than that: to recover takes room.
    pub(crate) fn release_if_needed(&self) {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.disk.available(dir).is_ok_and(|available| available < self.bytes) {
            self.release();
        }
    }

    fn is_there(&self) -> io::Result<bool> {
        Ok(self.disk.exists(&self.path)? && self.disk.open(&self.path)?.len()? >= self.bytes)
    }

    fn make(&self) -> io::Result<()> {
        if self.bytes == 0 || self.is_there()? {
            return Ok(());
        }
        self.disk.create(&self.path)?.allocate(self.bytes)
    }
}

/// Asks the file system how much is left.
pub(crate) fn measure<D: Disk>(space: &Space, disk: &D, dir: &Path) -> Option<u64> {
    match measure_by(space, || disk.available(dir)) {
        Ok(available) => Some(available),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "Cannot tell how much room the disk has");
            None
        }
    }
}

/// What is applied while the disk is asked may be in its answer, and counts as if it were not. Where that is much, as this
/// thread or the disk had to wait, it is asked again: a disk with room would close.
fn measure_by(space: &Space, mut ask: impl FnMut() -> io::Result<u64>) -> io::Result<u64> {
    let mut tries = 1..MEASURES;
    loop {
        let applied = space.lock().applied;
        let available = ask()?;
        let meanwhile = space.lock().applied - applied;
        if meanwhile <= space.floor() / 16 || tries.next().is_none() {
            space.measured(available, applied);
            return Ok(available);
        }
    }
}

/// Asks the file system how much is left, until [`Space::close`], and keeps the ballast while there is room for it.
pub(crate) fn watch<D: Disk>(space: &Space, ballast: &Ballast<D>, dir: &Path) {
    loop {
        if let Some(available) = measure(space, &ballast.disk, dir) {
            // What others than this log write there (the metadata log, whoever shares the disk) goes on.
            if available < ballast.bytes / 4 {
                ballast.release();
            } else if space.room() == Room::Ample
                && available.saturating_sub(space.floor() / 4 * 5) >= ballast.bytes
                && let Err(error) = ballast.make()
            {
                tracing::debug!(%error, "no ballast");
            }
        }
        if !space.pause(EVERY) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_while_the_disk_is_asked_does_not_close_it() {
        let space = Space::new(100);
        let mut left = 1000;
        let mut write = |bytes| {
            space.accept(bytes);
            space.applied(bytes);
            left -= 2 * bytes as u64;
            left
        };
        let mut slow = [200, 0].into_iter();
        let available = measure_by(&space, || Ok(write(slow.next().unwrap_or_default())));
        assert_eq!((available.unwrap(), space.room()), (600, Room::Ample));
        // What counts twice is taken off twice, and the disk seems to be full.
        let available = measure_by(&space, || Ok(write(50)));
        assert_eq!((available.unwrap(), space.room()), (300, Room::Ample));
        let available = measure_by(&space, || Ok(write(45)));
        assert_eq!((available.unwrap(), space.room()), (30, Room::None), "it is not asked for ever");
    }

    #[test]
    fn after_a_write_found_no_room_the_disk_is_asked_before_anybody_writes() {
        for need in [Some(Need::Wal), Some(Need::Segment), Some(Need::Checkpoint), None] {
            let space = Space::new(100);
            space.measured(1000, 0);
            match need {
                Some(need) => {
                    space.lack(need, true);
                    // The ballast made room for what had to be written.
                    space.lack(need, false);
                }
                None => space.exhausted(),
            }
            assert_eq!(space.room(), Room::None, "{need:?}");
            space.measured(70, 0);
            assert_eq!(space.room(), Room::None, "{need:?}");
            space.measured(1000, 0);
            assert_eq!(space.room(), Room::Ample, "{need:?}");
        }
    }
}
