//! What can be done by name.

use super::fault::Call;
use super::inode::{Change, Inode};
use super::names::{NameChange, Node, apply_name};
use super::{SimulatedDisk, SimulatedFile};
use crate::disk::{Disk, Entry};
use std::io;
use std::path::{Path, PathBuf};

/// Holds a directory's lock; a crash lets go of it.
#[derive(Debug)]
pub struct SimulatedLock {
    disk: SimulatedDisk,
    dir: PathBuf,
    boot: u64,
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;
    type Lock = SimulatedLock;
    // The same calls in the same order.
    const SYNCS_AT_ONCE: usize = 1;

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        state.alive()?;
        match state.names.get(path).copied() {
            Some(Node::File(inode)) => {
                state.faults.check(Call::Open)?;
                Ok(SimulatedFile::open(self, &state, inode))
            }
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
        state.alive()?;
        state.faults.check(Call::Create)?;
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
        Ok(SimulatedFile::open(self, &state, inode))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.alive()?;
        match state.names.get(dir) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
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
            Some(Node::File(_)) => {
                state.alive()?;
                state.faults.check(Call::Remove)?;
                state.operate(|s| {
                    s.change_name(NameChange::Remove(path.to_path_buf()));
                    Ok(())
                })
            }
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
        if state.names.contains_key(from) {
            state.alive()?;
            state.faults.check(Call::Rename)?;
        }
        match state.names.get(from).copied() {
            Some(node @ Node::File(_)) => state.operate(|s| {
                s.change_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), node));
                Ok(())
            }),
            Some(Node::Dir) => {
                if state.names.contains_key(to) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                state.operate(|s| {
                    let pending = s.pending_names.remove(from).unwrap_or_default();
                    let pending = pending.into_iter().map(|change| change.moved(from, to)).collect();
                    s.pending_names.insert(to.to_path_buf(), pending);
                    s.change_name(NameChange::RenameDir(from.to_path_buf(), to.to_path_buf(), s.inodes.len()));
                    Ok(())
                })
            }
            _ => state.alive().and(Err(io::ErrorKind::NotFound.into())),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(dir) {
            Some(Node::Dir) => state.alive(),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                state.alive()?;
                state.faults.check(Call::CreateDir)?;
                state.operate(|s| {
                    s.change_name(NameChange::Add(dir.to_path_buf(), Node::Dir));
                    Ok(())
                })
            }
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
        state.alive()?;
        state.faults.check(Call::SyncDir)?;
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

    fn pause(&self) {
        self.state().faults.resets = false;
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
