//! A disk in memory that loses what was not synced, as unkindly as a real one may.
//!
//! At a crash each file keeps what was synced, and of what was not, by the seed: nothing, everything, the
//! writes up to some point with the last one torn, or any subset of its 512-byte sectors and length
//! changes. Of each directory's unsynced changes any subset survives, a rename whole or not at all; a
//! directory that is lost takes its content with it. After a failed sync the unsynced writes can still be
//! read, are lost at the next crash, and a later sync that succeeds does not bring them back (as on Linux).
//! The same seed and the same calls give the same outcome.

use super::{Disk, DiskFile, Entry};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: u64 = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimulatedDisk`]; dead after a crash.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    boot: u64,
    /// The errors of the inode that this file was told of, or that were there before it.
    told: AtomicU64,
}

/// Holds a directory's lock; a crash lets go of it.
#[derive(Debug)]
pub struct SimulatedLock {
    disk: SimulatedDisk,
    dir: PathBuf,
    boot: u64,
}

#[derive(Debug)]
struct State {
    random: u64,
    /// Counts restarts: what was open before is dead.
    boot: u64,
    down: bool,
    operations: u64,
    syncs: u64,
    stop_at: Option<(u64, Stop)>,
    fail_sync_at: Option<u64>,
    capacity: Option<u64>,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    /// Unsynced changes by directory, in order.
    pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    PowerCut,
    Kill,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    /// With the number of inodes there were: the files in a later directory of that name are younger.
    RemoveDir(PathBuf, usize),
    Rename(PathBuf, PathBuf, Node),
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Failures to write it back.
    errors: u64,
    /// Sectors that cannot be read until they are written again.
    bad: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let (from, to) = (*offset as usize, *offset as usize + bytes.len());
                if data.len() < to {
                    data.resize(to, 0);
                }
                data[from..to].copy_from_slice(bytes);
            }
            Self::SetLen(len) => data.resize(*len as usize, 0),
        }
    }

    /// The change in pieces that survive or not by themselves.
    fn sectors(&self) -> Vec<Self> {
        let Self::Write(offset, bytes) = self else { return vec![self.clone()] };
        let mut pieces = Vec::new();
        let (mut at, mut rest) = (*offset, bytes.as_slice());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min((SECTOR - at % SECTOR) as usize));
            pieces.push(Self::Write(at, piece.to_vec()));
            at += piece.len() as u64;
            rest = more;
        }
        pieces
    }
}

impl SimulatedDisk {
    /// An empty disk. The seed decides what survives crashes.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random: seed,
                boot: 0,
                down: false,
                operations: 0,
                syncs: 0,
                stop_at: None,
                fail_sync_at: None,
                capacity: None,
                inodes: Vec::new(),
                names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
                durable_names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
                pending_names: BTreeMap::new(),
                locks: BTreeSet::new(),
            })),
        }
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

    fn opened(&self, state: &State, inode: usize) -> SimulatedFile {
        let told = AtomicU64::new(state.inodes[inode].errors);
        SimulatedFile { disk: self.clone(), inode, boot: state.boot, told }
    }
}

fn overlaps(sector: u64, at: u64, bytes: usize) -> bool {
    at < (sector + 1) * SECTOR && sector * SECTOR < at + bytes as u64
}

fn eio(why: &'static str) -> io::Error {
    io::Error::other(why)
}

impl State {
    /// The next pseudo-random number (splitmix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound as u64).max(1)) as usize
    }

    fn size(&self, node: Node) -> u64 {
        match node {
            Node::Dir => 0,
            Node::File(inode) => self.inodes[inode].data.len() as u64,
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|n| self.size(*n)).sum()
    }

    fn alive(&self) -> io::Result<()> {
        if self.down { Err(eio("the simulated disk is down")) } else { Ok(()) }
    }

    /// Does an operation that changes something, and crashes in it if that was planned.
    fn operate<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.alive()?;
        let stop = self.stops_now();
        self.operations += 1;
        let result = act(self);
        match stop {
            None => return result,
            Some(Stop::PowerCut) => self.crash(),
            Some(Stop::Kill) => self.down = true,
        }
        Err(eio("the simulated disk stopped"))
    }

    fn stops_now(&self) -> Option<Stop> {
        self.stop_at.filter(|(at, _)| *at == self.operations).map(|(_, stop)| stop)
    }

    fn change_name(&mut self, change: NameChange) {
        let path = match &change {
            NameChange::Add(path, _)
            | NameChange::Remove(path)
            | NameChange::RemoveDir(path, _)
            | NameChange::Rename(path, ..) => path,
        };
        let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        apply_name(&mut self.names, &change);
        self.pending_names.entry(dir).or_default().push(change);
    }

    fn crash(&mut self) {
        self.down = true;
        for i in 0..self.inodes.len() {
            let pending = std::mem::take(&mut self.inodes[i].pending);
            if !pending.is_empty() {
                for change in self.surviving(&pending) {
                    change.apply(&mut self.inodes[i].durable);
                }
            }
            let inode = &mut self.inodes[i];
            inode.data.clone_from(&inode.durable);
        }
        let pending = std::mem::take(&mut self.pending_names);
        for change in pending.into_values().flatten() {
            if self.below(2) == 0 {
                apply_name(&mut self.durable_names, &change);
            }
        }
        // What lost its directory is lost too.
        let dirs: BTreeSet<PathBuf> =
            self.durable_names.iter().filter(|(_, n)| **n == Node::Dir).map(|(p, _)| p.clone()).collect();
        self.durable_names.retain(|path, _| path.ancestors().skip(1).all(|a| dirs.contains(a)));
        self.names = self.durable_names.clone();
        // Nobody can reach the others any more.
        let reachable = |node: &Node| if let Node::File(inode) = node { Some(*inode) } else { None };
        let reachable: BTreeSet<usize> = self.names.values().filter_map(reachable).collect();
        for (i, inode) in self.inodes.iter_mut().enumerate() {
            if !reachable.contains(&i) {
                *inode = Inode::default();
            }
        }
    }

    fn surviving(&mut self, pending: &[Change]) -> Vec<Change> {
        match self.below(4) {
            0 => Vec::new(),
            1 => pending.to_vec(),
            2 => {
                let cut = self.below(pending.len() + 1);
                let mut kept = pending[..cut].to_vec();
                if let Some(torn) = pending.get(cut) {
                    let pieces = torn.sectors();
                    let n = self.below(pieces.len() + 1);
                    kept.extend_from_slice(&pieces[..n]);
                }
                kept
            }
            _ => {
                let pieces: Vec<Change> = pending.iter().flat_map(Change::sectors).collect();
                pieces.into_iter().filter(|_| self.below(2) == 0).collect()
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::RemoveDir(path, inodes) => {
            names.remove(path);
            names.retain(|p, node| p.parent() != Some(path) || !matches!(node, Node::File(i) if *i < *inodes));
        }
        NameChange::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;
    type Lock = SimulatedLock;

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        let state = self.state();
        state.alive()?;
        match state.names.get(path) {
            Some(Node::File(inode)) => Ok(self.opened(&state, *inode)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let existing = match state.names.get(path) {
            Some(Node::File(inode)) => Some(*inode),
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => None,
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        if state.names.get(parent) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.operate(|state| {
            if let Some(inode) = existing {
                state.inodes[inode].change(Change::SetLen(0));
                return Ok(inode);
            }
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.change_name(NameChange::Add(path.to_path_buf(), Node::File(inode)));
            Ok(inode)
        })?;
        Ok(self.opened(&state, inode))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.alive()?;
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entry = |(path, node): (&PathBuf, &Node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            (path.parent() == Some(dir)).then_some(Entry { name, is_dir: *node == Node::Dir })
        };
        Ok(state.names.iter().filter_map(entry).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(path) {
            Some(Node::File(_)) => state.operate(|s| {
                s.change_name(NameChange::Remove(path.to_path_buf()));
                Ok(())
            }),
            _ => state.alive().and(Err(io::ErrorKind::NotFound.into())),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.names.keys().any(|p| p.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        match state.names.get(path) {
            Some(Node::Dir) => state.operate(|s| {
                // It can still turn out not to be removed, with any of these done.
                for change in s.pending_names.remove(path).unwrap_or_default() {
                    if s.below(2) == 0 {
                        apply_name(&mut s.durable_names, &change);
                    }
                }
                s.change_name(NameChange::RemoveDir(path.to_path_buf(), s.inodes.len()));
                Ok(())
            }),
            _ => state.alive().and(Err(io::ErrorKind::NotFound.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(from).copied() {
            Some(node @ Node::File(_)) => state.operate(|s| {
                s.change_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), node));
                Ok(())
            }),
            _ => state.alive().and(Err(io::ErrorKind::NotFound.into())),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(dir) {
            Some(Node::Dir) => state.alive(),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => state.operate(|s| {
                s.change_name(NameChange::Add(dir.to_path_buf(), Node::Dir));
                Ok(())
            }),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.names.contains_key(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.names.get(dir) != Some(&Node::Dir) {
            return state.alive().and(Err(io::ErrorKind::NotFound.into()));
        }
        if state.stops_now().is_some() {
            return state.operate(|_| Ok(()));
        }
        state.operate(|state| {
            for change in state.pending_names.remove(dir).unwrap_or_default() {
                apply_name(&mut state.durable_names, &change);
            }
            Ok(())
        })
    }

    fn lock(&self, dir: &Path) -> io::Result<SimulatedLock> {
        let mut state = self.state();
        state.alive()?;
        if !state.locks.insert(dir.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimulatedLock { disk: self.clone(), dir: dir.to_path_buf(), boot: state.boot })
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().next())
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locks.remove(&self.dir);
        }
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        match &change {
            Change::Write(at, bytes) => self.bad.retain(|s| !overlaps(*s, *at, bytes.len())),
            Change::SetLen(len) => self.bad.retain(|s| s * SECTOR < *len),
        }
        change.apply(&mut self.data);
        self.pending.push(change);
    }
}

impl SimulatedFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.boot == self.boot { Ok(state) } else { Err(eio("the file was opened before the crash")) }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state()?;
        let Inode { data, bad, .. } = &state.inodes[self.inode];
        if bad.iter().any(|sector| overlaps(*sector, offset, buffer.len())) {
            return Err(rustix::io::Errno::IO.into());
        }
        let from = data.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let n = buffer.len().min(data.len() - from);
        buffer[..n].copy_from_slice(&data[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let end = offset + bytes.len() as u64;
        if let Some(capacity) = state.capacity {
            let used = state.used();
            let grows = end.saturating_sub(state.inodes[self.inode].data.len() as u64);
            if grows > 0 && used + grows > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.operate(|state| {
            state.inodes[self.inode].change(Change::Write(offset, bytes));
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state()?.operate(|state| {
            state.inodes[self.inode].change(Change::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fails = state.fail_sync_at == Some(state.syncs);
        state.syncs += 1;
        if state.stops_now().is_some() {
            return state.operate(|_| Ok(()));
        }
        state.operate(|state| {
            let inode = &mut state.inodes[self.inode];
            let pending = std::mem::take(&mut inode.pending);
            if fails || self.told.swap(inode.errors, Ordering::Relaxed) < inode.errors {
                return Err(eio("simulated EIO of a sync"));
            }
            for change in pending {
                change.apply(&mut inode.durable);
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[self.inode].data.len() as u64)
    }
}
