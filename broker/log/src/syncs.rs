//! Syncs of files and folders that are in use, of whichever thread.
//!
//! When the kernel cannot write something back it says so once, to one of those who sync, and takes it for written from
//! then on: another sync succeeds, and nothing is on the disk. So the first failure, whoever met it, is the log's end:
//! nobody may vouch for anything after it. A checkpoint that has synced everything asks here before it is written, and
//! waits for what was being synced beside it.

use crate::error::{IoContext, LogError, SYNC};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Called with the failure.
type Watcher = Box<dyn Fn(LogError) + Send + Sync>;

/// Which syncs of what is in use are under way, and whether one has failed.
#[derive(Default)]
pub(crate) struct Syncs {
    state: Mutex<State>,
    ended: Condvar,
    watcher: OnceLock<Watcher>,
}

#[derive(Default)]
struct State {
    /// How many have begun.
    begun: u64,
    /// With the segment whose file it is.
    under_way: BTreeMap<u64, Option<u64>>,
    /// How many wait for some of them to end: to wake nobody is a system call too.
    waiting: usize,
    failed: Option<Failed>,
}

/// What can be said of the failure more than once.
struct Failed {
    path: PathBuf,
    kind: io::ErrorKind,
    code: Option<i32>,
    text: String,
}

impl Failed {
    fn error(&self) -> LogError {
        let source =
            self.code.map_or_else(|| io::Error::new(self.kind, self.text.clone()), io::Error::from_raw_os_error);
        LogError::Io { action: SYNC, path: self.path.clone(), source }
    }
}

impl Syncs {
    /// Has `watcher` called when one has failed. Only the first watcher is.
    pub(crate) fn watch(&self, watcher: impl Fn(LogError) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// Syncs what is in use. That it is not there any more is no failure.
    pub(crate) fn run(&self, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> Result<(), LogError> {
        self.run_for(None, path, sync)
    }

    /// The same of a segment's file.
    pub(crate) fn run_of(&self, uid: u64, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> Result<(), LogError> {
        self.run_for(Some(uid), path, sync)
    }

    fn run_for(&self, uid: Option<u64>, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> Result<(), LogError> {
        let number = {
            let mut state = self.lock();
            state.begun += 1;
            let number = state.begun;
            state.under_way.insert(number, uid);
            number
        };
        let done = sync();
        let mut state = self.lock();
        state.under_way.remove(&number);
        let failed = match &done {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let (kind, code) = (e.kind(), e.raw_os_error());
                let failed = Failed { path: path.to_path_buf(), kind, code, text: e.to_string() };
                Some(state.failed.get_or_insert(failed).error())
            }
            _ => None,
        };
        let is_waited_for = state.waiting > 0;
        drop(state);
        if is_waited_for {
            self.ended.notify_all();
        }
        if let (Some(error), Some(tell)) = (failed, self.watcher.get()) {
            tell(error);
        }
        done.during(SYNC, path)
    }

    /// Fails if one has failed.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.lock().failed.as_ref().map_or(Ok(()), |failed| Err(failed.error()))
    }

    /// Waits for the syncs that are under way, and fails if one has failed.
    pub(crate) fn wait_for_all(&self) -> Result<(), LogError> {
        self.wait_where(|_| true)
    }

    /// The same for the syncs of these segments' files alone.
    pub(crate) fn wait_for(&self, uids: &BTreeSet<u64>) -> Result<(), LogError> {
        self.wait_where(|uid| uid.is_some_and(|uid| uids.contains(&uid)))
    }

    fn wait_where(&self, concerns: impl Fn(Option<u64>) -> bool) -> Result<(), LogError> {
        let mut state = self.lock();
        let until = state.begun;
        let waits = |state: &mut State| state.under_way.range(..=until).any(|(_, uid)| concerns(*uid));
        state.waiting += 1;
        let mut state = self.ended.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        drop(state);
        self.check()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const EIO: fn() -> io::Result<()> = || Err(rustix::io::Errno::IO.into());

    #[test]
    fn after_one_has_failed_nothing_is_vouched_for() {
        let (syncs, path) = (Syncs::default(), Path::new("a"));
        let (sender, failures) = mpsc::channel();
        syncs.watch(move |error| sender.send(error.to_string()).unwrap_or_default());
        assert!(syncs.run(path, || Ok(())).is_ok());
        let gone = syncs.run(path, || Err(io::ErrorKind::NotFound.into()));
        assert!(gone.is_err() && syncs.wait_for_all().is_ok(), "a file that was removed meanwhile has lost nothing");
        let failed = syncs.run(path, EIO).unwrap_err();
        assert!(!failed.is_full() && failed.to_string().contains("os error 5"), "{failed}");
        assert_eq!(failures.try_iter().collect::<Vec<_>>(), [failed.to_string()]);
        assert!(syncs.run(path, || Ok(())).is_ok());
        for later in [syncs.check(), syncs.wait_for_all()] {
            assert_eq!(later.unwrap_err().to_string(), failed.to_string());
        }
    }

    #[test]
    fn one_that_is_under_way_is_waited_for() {
        let (syncs, path) = (&Syncs::default(), Path::new("a"));
        let ((begun, begins), (ends, end)) = (mpsc::channel(), mpsc::channel::<()>());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let sync = || {
                    begun.send(()).unwrap();
                    end.recv().unwrap();
                    EIO()
                };
                assert!(syncs.run_of(7, path, sync).is_err());
            });
            begins.recv().unwrap();
            assert!(syncs.check().is_ok(), "nothing has failed yet");
            assert!(syncs.wait_for(&[8].into()).is_ok(), "another file's is not waited for");
            let waiting = scope.spawn(|| (syncs.wait_for(&[7].into()), syncs.wait_for_all()));
            ends.send(()).unwrap();
            assert!(matches!(waiting.join().unwrap(), (Err(_), Err(_))));
        });
    }
}
