//! All that a disk is, and how an operation changes it.

use super::fault::Faults;
use super::inode::Inode;
use super::names::{NameChange, Node, apply_name};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: u64,
    /// Counts restarts: what was open before is dead.
    pub(super) boot: u64,
    pub(super) down: bool,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    /// Bytes that were read so far.
    pub(super) bytes_read: u64,
    pub(super) stop_at: Option<(u64, Stop)>,
    pub(super) fail_sync_at: Option<u64>,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    /// Writes so far that made a file longer.
    pub(super) growths: u64,
    /// The disk is full from that one on.
    pub(super) fill_at: Option<u64>,
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<PathBuf, Node>,
    pub(super) durable_names: BTreeMap<PathBuf, Node>,
    /// Unsynced changes by directory, in order.
    pub(super) pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    pub(super) locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    PowerCut,
    Kill,
}

impl State {
    /// That of an empty disk.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            boot: 0,
            down: false,
            operations: 0,
            syncs: 0,
            bytes_read: 0,
            stop_at: None,
            fail_sync_at: None,
            faults: Faults::default(),
            capacity: None,
            growths: 0,
            fill_at: None,
            inodes: Vec::new(),
            names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
            durable_names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
            pending_names: BTreeMap::new(),
            locks: BTreeSet::new(),
        }
    }

    /// The next pseudo-random number (splitmix64).
    pub(super) fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound as u64).max(1)) as usize
    }

    pub(super) fn size(&self, node: Node) -> u64 {
        match node {
            Node::Dir => 0,
            Node::File(inode) => self.inodes[inode].data.len() as u64,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|n| self.size(*n)).sum()
    }

    /// Whether a file may be that long: the disk has a capacity, and may be told to be full from some growth on.
    pub(super) fn has_room(&mut self, inode: usize, len: u64) -> io::Result<()> {
        self.alive()?;
        let grows = len.saturating_sub(self.inodes[inode].data.len() as u64);
        if grows == 0 {
            return Ok(());
        }
        let used = self.used();
        if self.fill_at == Some(self.growths) {
            self.fill_at = None;
            self.capacity = Some(used);
        }
        self.growths += 1;
        match self.capacity {
            Some(capacity) if used + grows > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.down { Err(eio("the simulated disk is down")) } else { Ok(()) }
    }

    /// Does an operation that changes something, and crashes in it if that was planned.
    pub(super) fn operate<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
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

    pub(super) fn stops_now(&self) -> Option<Stop> {
        self.stop_at.filter(|(at, _)| *at == self.operations).map(|(_, stop)| stop)
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        let path = match &change {
            NameChange::Add(path, _)
            | NameChange::Remove(path)
            | NameChange::RemoveDir(path, _)
            | NameChange::Rename(path, ..)
            | NameChange::RenameDir(path, ..) => path,
        };
        let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        apply_name(&mut self.names, &change);
        self.pending_names.entry(dir).or_default().push(change);
    }
}

pub(super) fn eio(why: &'static str) -> io::Error {
    io::Error::other(why)
}
