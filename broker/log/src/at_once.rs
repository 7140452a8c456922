//! Syncs of many files. A file system's journal takes those together that come at the same time, and a disk its caches'
//! flushes: thousands of files that are synced one after the other cost ten times as long.

use crate::disk::Disk;
use crate::error::LogError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
    let work = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(one).inspect_err(|_| next.store(all.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealDisk, SimulatedDisk};
    use std::collections::BTreeSet;
    use std::sync::{Condvar, Mutex};

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
}
