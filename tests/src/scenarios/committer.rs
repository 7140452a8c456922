//! A group that commits one offset after the other in a thread of its own, by whatever client, and which of its commits
//! were answered.

use crate::harness::cluster::PATIENCE;
use crate::harness::wait;
use anyhow::{Result, anyhow, ensure};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// What the thread that commits and those who watch it share.
#[derive(Debug, Default)]
pub(super) struct Commits {
    answered: AtomicI64,
    /// When the last commit that was answered began and ended.
    last: Mutex<Option<(Instant, Instant)>>,
    stop: AtomicBool,
}

impl Commits {
    /// Whether to go on.
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The last offset whose commit was answered.
    pub(super) fn answered(&self) -> i64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// A commit was answered, which was sent at that moment.
    pub(super) fn committed(&self, offset: i64, begun: Instant) {
        self.answered.store(offset, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((begun, Instant::now()));
    }
}

/// A group of one client, whose commits grow.
pub(super) struct Committer {
    pub(super) name: String,
    commits: Arc<Commits>,
    thread: JoinHandle<Result<()>>,
}

impl Committer {
    /// Lets `commit` commit, until it is to stop.
    pub(super) fn start(name: String, commit: impl FnOnce(&Commits) -> Result<()> + Send + 'static) -> Self {
        let commits = Arc::new(Commits::default());
        let thread = std::thread::spawn({
            let commits = Arc::clone(&commits);
            move || commit(&commits)
        });
        Self { name, commits, thread }
    }

    /// When the first commit ended that was begun after that moment.
    pub(super) fn wait_for_commit_after(&self, moment: Instant) -> Result<Instant> {
        wait::until(&format!("a commit of {}", self.name), PATIENCE, || {
            ensure!(!self.thread.is_finished(), "{} has ended", self.name);
            let last = *self.commits.last.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(last.filter(|(begun, _)| *begun > moment).map(|(_, ended)| ended))
        })
    }

    /// Stops, and compares the committed offset (`committed`) with the last commit that was answered. Returns how many
    /// commits there were.
    pub(super) fn end(self, committed: impl Fn(&str) -> Result<Option<i64>>) -> Result<i64> {
        self.commits.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("{} panicked", self.name))??;
        let answered = self.commits.answered();
        let found = wait::until("the committed offset", PATIENCE, || committed(&self.name))?;
        ensure!(found >= answered, "{}: the commit of {answered} was answered, and {found} is committed", self.name);
        Ok(answered)
    }
}
