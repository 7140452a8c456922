//! Syncs of many files. A file system's journal takes those together that come at the same time, and a disk its caches'
//! flushes: thousands of files that are synced one after the other cost ten times as long.

use crate::disk::Disk;
use crate::error::LogError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

/// So many are synced at once wherever there are as many: rounds of the write-ahead log are to find room between them.
const FEW: usize = 8;
/// Of more than that, each thread has so many.
const OF_MANY: usize = 16;

/// How many of so many syncs are done at once.
pub(crate) fn syncs_at_once<D: Disk>(files: usize) -> usize {
    (files / OF_MANY).max(FEW).min(D::SYNCS_AT_ONCE)
}

/// Does something for each, `at_once` of them at a time. Ends with the first error that it comes across; what others are at
/// then is done before it returns.
pub(crate) fn several_at_once<T: Sync>(
    at_once: usize,
    all: &[T],
    act: impl Fn(&T) -> Result<(), LogError> + Sync,
) -> Result<(), LogError> {
    let threads = at_once.min(all.len());
    if threads <= 1 {
        return all.iter().try_for_each(act);
    }
    let next = AtomicUsize::new(0);
    let work = || take_turns(&next, all, &act);
    thread::scope(|scope| {
        // Where there may be no more threads, those do it that there are, and this one.
        let spawned = (1..threads).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok());
        let spawned: Vec<_> = spawned.collect();
        let done = work();
        // They do not panic: a release build would end if they did.
        let others = spawned.into_iter().map(|thread| thread.join().unwrap_or(Err(LogError::Poisoned)));
        others.fold(done, Result::and)
    })
}

/// Does something for each that no other thread with the same `next` has begun with, until one fails.
fn take_turns<T>(next: &AtomicUsize, all: &[T], act: impl Fn(&T) -> Result<(), LogError>) -> Result<(), LogError> {
    while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
        act(one).inspect_err(|_| next.store(all.len(), Ordering::Relaxed))?;
    }
    Ok(())
}

/// What one of them is to do.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that stay, for what is done in each round: to begin and to end one costs more than to wake it. There are as many
/// as were needed at once so far, and they end with this.
#[derive(Default)]
pub(crate) struct Threads(pub(crate) Vec<(Sender<Job>, JoinHandle<()>)>);

impl Threads {
    /// Does `own` on this thread and, at the same time, something for each on others, `at_once` at most. This thread then
    /// does what nobody has begun with. Returns when all that was begun has ended, with an error if there was one.
    pub(crate) fn do_beside<T: Send + Sync + 'static>(
        &mut self,
        at_once: usize,
        all: Vec<T>,
        act: impl Fn(&T) -> Result<(), LogError> + Send + Sync + 'static,
        own: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let threads = at_once.min(all.len());
        while self.0.len() < threads {
            // Where there may be no more, those do it that there are, and this one.
            let Some(thread) = Self::begin() else { break };
            self.0.push(thread);
        }
        let work = Arc::new((AtomicUsize::new(0), all, act));
        let (tell, told) = mpsc::channel();
        let mut given = 0;
        for (jobs, _) in self.0.iter().take(threads) {
            let (work, tell) = (Arc::clone(&work), tell.clone());
            let job = Box::new(move || {
                let done = take_turns(&work.0, &work.1, &work.2);
                // No file stays open for a thread that is late.
                drop(work);
                // Somebody listens, unless that thread has panicked.
                let _ = tell.send(done);
            });
            // One that has panicked takes nothing.
            given += usize::from(jobs.send(job).is_ok());
        }
        drop(tell);
        let done = own().and_then(|()| take_turns(&work.0, &work.1, &work.2));
        // One that panics says nothing, and then nobody is left who could.
        (0..given).fold(done, |done, _| done.and(told.recv().unwrap_or(Err(LogError::Poisoned))))
    }

    fn begin() -> Option<(Sender<Job>, JoinHandle<()>)> {
        let (give, jobs) = mpsc::channel::<Job>();
        let work = move || {
            for job in jobs {
                job();
            }
        };
        Some((give, thread::Builder::new().spawn(work).ok()?))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for (jobs, thread) in self.0.drain(..) {
            drop(jobs);
            // It does not panic: a release build would end if it did.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealDisk, SimulatedDisk};
    use std::collections::{BTreeSet, HashSet};
    use std::path::Path;
    use std::sync::{Barrier, Condvar, Mutex};

    #[test]
    fn more_are_synced_at_once_where_there_are_more() {
        assert_eq!([1, 100, 128, 320, 100_000].map(syncs_at_once::<RealDisk>), [8, 8, 8, 20, 64]);
        assert_eq!([1, 100_000].map(syncs_at_once::<SimulatedDisk>), [1, 1], "the same calls in the same order");
    }

    #[test]
    fn each_is_done_once_and_as_many_as_may_be_at_the_same_time() {
        let all: Vec<_> = (0..40).collect();
        let (state, changed) = (Mutex::new((0, BTreeSet::new())), Condvar::new());
        several_at_once(4, &all, |n| {
            let mut now = state.lock().unwrap();
            now.0 += 1;
            assert!(now.1.insert(*n));
            changed.notify_all();
            // Four come, or nobody goes on.
            drop(changed.wait_while(now, |now| now.0 < 4).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(state.lock().unwrap().1.len(), 40);
    }

    #[test]
    fn the_first_error_ends_it() {
        let all: Vec<_> = (0..1000).collect();
        for at_once in [1, 4] {
            let done = AtomicUsize::new(0);
            let act = |n: &usize| {
                done.fetch_add(1, Ordering::Relaxed);
                if *n == 0 { Err(LogError::Poisoned) } else { Ok(()) }
            };
            assert!(matches!(several_at_once(at_once, &all, act), Err(LogError::Poisoned)), "{at_once}");
            assert!(at_once > 1 || done.load(Ordering::Relaxed) == 1);
        }
    }

    /// Does so many on threads of their own, and something on this one, all at the same time. Returns who they were.
    fn threads_of(threads: &mut Threads, count: usize) -> HashSet<thread::ThreadId> {
        let (all_come, ids) = (Arc::new(Barrier::new(count + 1)), Arc::new(Mutex::new(HashSet::new())));
        let act = {
            let (all_come, ids) = (Arc::clone(&all_come), Arc::clone(&ids));
            move |_: &usize| {
                ids.lock().unwrap().insert(thread::current().id());
                all_come.wait();
                Ok(())
            }
        };
        let own = || {
            all_come.wait();
            Ok(())
        };
        threads.do_beside(count, (0..count).collect(), act, own).unwrap();
        let ids = ids.lock().unwrap().clone();
        assert_eq!(ids.len(), count);
        assert!(!ids.contains(&thread::current().id()));
        ids
    }

    #[test]
    fn threads_that_stay_do_what_comes_next() {
        let mut threads = Threads::default();
        let first = threads_of(&mut threads, 3);
        assert_eq!(threads_of(&mut threads, 3), first);
        assert!(threads_of(&mut threads, 1).is_subset(&first), "one is enough for one");
        assert!(threads_of(&mut threads, 4).is_superset(&first), "another one is needed");
        assert_eq!(threads.0.len(), 4);
    }

    #[test]
    fn the_thread_that_waits_does_what_nobody_has_begun_with() {
        // Two come, or nobody goes on; there is one thread beside this one.
        let both_come = Barrier::new(2);
        let act = move |_: &usize| {
            both_come.wait();
            Ok(())
        };
        let mut threads = Threads::default();
        threads.do_beside(1, vec![0, 1, 2, 3], act, || Ok(())).unwrap();
        assert_eq!(threads.0.len(), 1);
    }

    #[test]
    fn whoever_fails_beside_it_is_heard_when_all_have_ended() {
        let mut threads = Threads::default();
        let failure =
            |n: usize| -> Result<(), LogError> { Err(LogError::corrupt(Path::new("a"), format!("number {n}"))) };
        for failing in 0..4 {
            let (all_come, ended) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)));
            let do_one = {
                let (all_come, ended) = (Arc::clone(&all_come), Arc::clone(&ended));
                move |n: &usize| {
                    all_come.wait();
                    ended.fetch_add(1, Ordering::Relaxed);
                    if *n == failing { failure(*n) } else { Ok(()) }
                }
            };
            let own = do_one.clone();
            let failed = threads.do_beside(3, vec![0, 1, 2], do_one, || own(&3)).unwrap_err().to_string();
            assert!(failed.contains(&format!("number {failing}")), "{failed}");
            assert_eq!(ended.load(Ordering::Relaxed), 4);
        }
        assert!(threads.do_beside(3, vec![0, 1, 2], |_| Ok(()), || Ok(())).is_ok(), "they are still there");
    }

    #[test]
    fn a_thread_beside_it_that_panics_is_heard() {
        let all_come = Arc::new(Barrier::new(4));
        let act = {
            let all_come = Arc::clone(&all_come);
            move |n: &usize| {
                all_come.wait();
                assert!(*n != 1, "this is to happen");
                Ok(())
            }
        };
        let own = || {
            all_come.wait();
            Ok(())
        };
        let done = Threads::default().do_beside(3, vec![0, 1, 2], act, own);
        assert!(matches!(done, Err(LogError::Poisoned)), "{done:?}");
    }
}
