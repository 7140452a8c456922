//! Single calls that fail, while the disk goes on.

use std::collections::BTreeMap;
use std::io;

/// What can be made to fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Opening a file that is there.
    Open,
    /// Creating one, or emptying it.
    Create,
    /// Reading.
    Read,
    /// Writing, of which some is done.
    Write,
    /// Changing a file's length.
    SetLen,
    /// Renaming a file or a directory.
    Rename,
    /// Creating a directory that is not there.
    CreateDir,
    /// Removing a file.
    Remove,
    /// Making a directory's entries durable.
    SyncDir,
}

/// What it fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
    /// EDQUOT.
    OverQuota,
    /// Of a read: EIO, and one of the sectors read stays unreadable until something is written to it.
    Lasting,
    /// Of a read: it succeeds, with one bit of it wrong. The next one gets what is there.
    Garbled,
    /// Of a read: EIO, as of all reads until somebody waits before the next.
    Reset,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Full => rustix::io::Errno::NOSPC.into(),
            Self::OverQuota => rustix::io::Errno::DQUOT.into(),
            Self::Broken | Self::Lasting | Self::Garbled | Self::Reset => rustix::io::Errno::IO.into(),
        }
    }
}

/// Which calls are to fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: BTreeMap<Call, u64>,
    pub(super) planned: BTreeMap<(Call, u64), Fault>,
    /// See [`Fault::Reset`].
    pub(super) resets: bool,
}

impl Faults {
    pub(super) fn calls(&self, call: Call) -> u64 {
        self.calls.get(&call).copied().unwrap_or(0)
    }

    pub(super) fn plan(&mut self, call: Call, n: u64, fault: Fault) {
        self.planned.insert((call, self.calls(call) + n), fault);
    }

    /// Counts a call, and says how it fails, if it does.
    pub(super) fn take(&mut self, call: Call) -> Option<Fault> {
        let calls = self.calls.entry(call).or_default();
        let fault = self.planned.remove(&(call, *calls));
        *calls += 1;
        fault
    }

    /// The same, of a call that can only fail as a whole.
    pub(super) fn check(&mut self, call: Call) -> io::Result<()> {
        self.take(call).map_or(Ok(()), |fault| Err(fault.error()))
    }
}
