//! A disk in memory that loses what was not synced, as unkindly as a real one may.
//!
//! At a crash each file keeps what was synced, and of what was not, by the seed: nothing, everything, the
//! writes up to some point with the last one torn, or any subset of its 512-byte sectors and length
//! changes. Of each directory's unsynced changes any subset survives, a rename whole or not at all; a
//! directory that is lost takes its content with it. After a failed sync the unsynced writes can still be
//! read, are lost at the next crash, and a later sync that succeeds does not bring them back (as on Linux).
//! The same seed and the same calls give the same outcome.

mod crash;
mod disk;
mod fault;
mod file;
mod inode;
mod names;
mod state;

pub use disk::SimulatedLock;
pub use fault::{Call, Fault};
pub use file::SimulatedFile;

use inode::SECTOR;
use names::Node;
use state::{State, Stop};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    /// An empty disk. The seed decides what survives crashes.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// Cuts the power: of what is not synced, the seed decides what survives. All I/O fails until
    /// [`Self::restart`].
    pub fn crash(&self) {
        self.state().crash();
    }

    /// Whether the disk crashed, and was not restarted.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// Turns the power on again. Files opened before stay dead, planned faults are forgotten.
    pub fn restart(&self) {
        let mut state = self.state();
        state.down = false;
        state.boot += 1;
        state.stop_at = None;
        state.fail_sync_at = None;
        state.faults.planned.clear();
        state.faults.resets = false;
        state.fill_at = None;
        state.locks.clear();
    }

    /// Operations so far that change something: writes, length changes, syncs, changes of names.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Bytes that were read of files so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// Crashes in the `n`-th such operation from now (0 is the next). The operation itself fails, and what it
    /// did is as unsynced as the rest.
    pub fn crash_after(&self, n: u64) {
        let mut state = self.state();
        state.stop_at = Some((state.operations + n, Stop::PowerCut));
    }

    /// Kills the process, and not the machine, in the `n`-th such operation from now: all I/O fails until
    /// [`Self::restart`], after which everything written can be read and is no more durable than before.
    pub fn kill_after(&self, n: u64) {
        let mut state = self.state();
        state.stop_at = Some((state.operations + n, Stop::Kill));
    }

    /// Fails the `n`-th sync of a file from now (0 is the next) with EIO. Nothing that it should have made
    /// durable ever will be.
    pub fn fail_sync_after(&self, n: u64) {
        let mut state = self.state();
        state.fail_sync_at = Some(state.syncs + n);
    }

    /// Fails the `n`-th call of that kind from now (0 is the next), and no other. Of a write, some of its bytes are
    /// written.
    pub fn fail_after(&self, call: Call, n: u64, fault: Fault) {
        self.state().faults.plan(call, n, fault);
    }

    /// Calls of that kind so far.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().faults.calls(call)
    }

    /// Fails to write a file back, as the kernel does in the background: what is not synced never will be durable, and
    /// the next sync through each file that is open now fails with EIO. Who opens the file later learns nothing.
    /// Returns false when there is no such file.
    pub fn fail_writeback(&self, path: &Path) -> bool {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.get(path).copied() else { return false };
        state.inodes[inode].pending.clear();
        state.inodes[inode].errors += 1;
        true
    }

    /// Makes the sector of that byte unreadable, with EIO, until something is written to it. Returns false when there
    /// is no such byte.
    pub fn spoil(&self, path: &Path, byte: u64) -> bool {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.get(path).copied() else { return false };
        state.inodes[inode].bad.insert(byte / SECTOR);
        byte < state.inodes[inode].data.len() as u64
    }

    /// Refuses to let all files together grow beyond this many bytes (ENOSPC); `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Writes so far that made a file longer.
    pub fn growths(&self) -> u64 {
        self.state().growths
    }

    /// Is full from the `n`-th write on, from now, that would make a file longer (0 is the next), until
    /// [`Self::set_capacity`] says otherwise.
    pub fn fill_after(&self, n: u64) {
        let mut state = self.state();
        state.fill_at = Some(state.growths + n);
    }

    /// Flips one bit of a file, durably. Returns false when there is no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.get(path).copied() else { return false };
        let (at, mask) = (byte as usize, 1 << (bit % 8));
        let inode = &mut state.inodes[inode];
        let Some(b) = inode.data.get_mut(at) else { return false };
        *b ^= mask;
        if let Some(b) = inode.durable.get_mut(at) {
            *b ^= mask;
        }
        true
    }

    /// Cuts a file short, durably, as damage would. Returns false when there is no such file.
    pub fn cut_file(&self, path: &Path, len: u64) -> bool {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.get(path).copied() else { return false };
        state.inodes[inode].data.truncate(len as usize);
        state.inodes[inode].durable.truncate(len as usize);
        true
    }

    /// Every file there is, with its length.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let file = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(inode) => Some((path.clone(), state.inodes[*inode].data.len() as u64)),
            Node::Dir => None,
        };
        state.names.iter().filter_map(file).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
