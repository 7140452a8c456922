//! Answers that their clients have not taken yet, of all connections together.
//!
//! An answer may be many times as long as its request, and its client decides how long the broker keeps it. So what is
//! kept is counted, and when it is too much, who has taken nothing for the longest is given up: a client that reads is
//! never that one for long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Answers count for nothing while this is left of them at most. So much is beside the records of a Fetch, which count in
/// the memory for what is fetched.
const UNCOUNTED: usize = 4096;

/// The count. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    most: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    next: u64,
    /// Who has taken nothing for the longest comes first.
    by_progress: BTreeMap<u64, (usize, CancellationToken)>,
}

/// What one connection has not taken yet; forgotten when it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    unread: Unread,
    place: u64,
    given_up: CancellationToken,
}

impl Unread {
    /// Nothing is kept, of which there may be so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: Arc::default() }
    }

    /// Keeps so many bytes until they are taken. For their sake others may be given up, but not they themselves.
    pub(super) fn keep(&self, bytes: usize) -> Kept {
        let given_up = CancellationToken::new();
        let place = self.lock().insert(bytes, given_up.clone(), self.most);
        Kept { unread: self.clone(), place, given_up }
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics with the lock; if it did, the count would be wrong by one answer.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn insert(&mut self, bytes: usize, given_up: CancellationToken, most: usize) -> u64 {
        let place = self.next;
        self.next += 1;
        if bytes <= UNCOUNTED {
            return place;
        }
        while self.bytes.saturating_add(bytes) > most
            && let Some((_, (freed, oldest))) = self.by_progress.pop_first()
        {
            self.bytes -= freed;
            oldest.cancel();
        }
        self.bytes += bytes;
        self.by_progress.insert(place, (bytes, given_up));
        place
    }

    fn remove(&mut self, place: u64) -> bool {
        let removed = self.by_progress.remove(&place);
        self.bytes -= removed.as_ref().map_or(0, |(bytes, _)| *bytes);
        removed.is_some()
    }
}

impl Kept {
    /// The client has taken something, and so many bytes are left.
    pub(super) fn goes_on(&mut self, bytes: usize) {
        let mut waiting = self.unread.lock();
        if waiting.remove(self.place) {
            self.place = waiting.insert(bytes, self.given_up.clone(), self.unread.most);
        }
    }

    /// Waits until others need the memory more. The connection is to be closed then.
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.unread.lock().remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn is_given_up(kept: &Kept) -> bool {
        kept.given_up().now_or_never().is_some()
    }

    const KB: usize = 1000;

    #[test]
    fn who_has_taken_nothing_for_the_longest_gives_way() {
        let unread = Unread::new(100 * KB);
        let (mut first, second) = (unread.keep(50 * KB), unread.keep(40 * KB));
        first.goes_on(30 * KB);
        assert_eq!(unread.bytes(), 70 * KB);
        let third = unread.keep(60 * KB);
        assert_eq!([&first, &second, &third].map(is_given_up), [false, true, false]);
        assert_eq!(unread.bytes(), 90 * KB);
        drop((first, second, third));
        assert_eq!(unread.bytes(), 0);
    }

    #[test]
    fn one_answer_may_be_longer_than_all_may_be() {
        let unread = Unread::new(100 * KB);
        let (small, long) = (unread.keep(10 * KB), unread.keep(1000 * KB));
        assert_eq!([&small, &long].map(is_given_up), [true, false]);
        let next = unread.keep(10 * KB);
        assert_eq!([&long, &next].map(is_given_up), [true, false]);
        assert_eq!(unread.bytes(), 10 * KB);
    }

    #[test]
    fn who_keeps_nearly_nothing_is_never_given_up() {
        let unread = Unread::new(100 * KB);
        let (little, mut nearly) = (unread.keep(UNCOUNTED), unread.keep(50 * KB));
        nearly.goes_on(UNCOUNTED);
        assert_eq!(unread.bytes(), 0);
        let long = unread.keep(1000 * KB);
        assert_eq!([&little, &nearly, &long].map(is_given_up), [false, false, false]);
    }
}
