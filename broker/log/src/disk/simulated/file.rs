//! What can be done with an open file.

use super::SimulatedDisk;
use super::fault::{Call, Fault};
use super::inode::{Change, Inode, SECTOR, overlaps};
use super::state::{State, eio};
use crate::disk::DiskFile;
use std::io::{self, IoSlice};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open file of a [`SimulatedDisk`]; dead after a crash.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    boot: u64,
    /// The number of the inode's errors that were reported to this file, or were there before it was opened.
    reported: AtomicU64,
}

impl SimulatedFile {
    /// Opens the file that is there.
    pub(super) fn open(disk: &SimulatedDisk, state: &State, inode: usize) -> Self {
        let reported = AtomicU64::new(state.inodes[inode].errors);
        Self { disk: disk.clone(), inode, boot: state.boot, reported }
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.boot == self.boot { Ok(state) } else { Err(eio("the file was opened before the crash")) }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let fault = state.faults.take(Call::Read);
        state.faults.resets |= fault == Some(Fault::Reset);
        if state.faults.resets {
            return Err(Fault::Reset.error());
        }
        let len = state.inodes[self.inode].data.len();
        let from = len.min(usize::try_from(offset).unwrap_or(usize::MAX));
        let n = buffer.len().min(len - from);
        let garbled = match fault {
            Some(Fault::Garbled) => (n > 0).then(|| state.below(n)),
            Some(Fault::Lasting) if n > 0 => {
                let sector = (from + state.below(n)) as u64 / SECTOR;
                state.inodes[self.inode].bad.insert(sector);
                None
            }
            Some(fault) => return Err(fault.error()),
            None => None,
        };
        let Inode { data, bad, .. } = &state.inodes[self.inode];
        // What is not there can be read on a disk that is not whole.
        if n > 0 && bad.iter().any(|sector| overlaps(*sector, offset, n)) {
            return Err(rustix::io::Errno::IO.into());
        }
        buffer[..n].copy_from_slice(&data[from..from + n]);
        if let Some(byte) = garbled {
            buffer[byte] ^= 1 << (byte % 8);
        }
        state.bytes_read += n as u64;
        Ok(n)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        state.has_room(self.inode, offset + bytes.len() as u64)?;
        let failed = state.faults.check(Call::Write);
        if failed.is_err() {
            let written = state.below(bytes.len() + 1);
            bytes.truncate(written);
        }
        state.operate(|state| {
            state.inodes[self.inode].change(Change::Write(offset, bytes));
            failed
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.faults.check(Call::SetLen)?;
        state.operate(|state| {
            state.inodes[self.inode].change(Change::SetLen(len));
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if len <= state.inodes[self.inode].data.len() as u64 {
            return Ok(());
        }
        state.has_room(self.inode, len)?;
        state.operate(|state| {
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
            if fails || self.reported.swap(inode.errors, Ordering::Relaxed) < inode.errors {
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
