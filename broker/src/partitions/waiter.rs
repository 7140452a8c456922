//! Readers that wait for something new, and hear which of their partitions may have it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// What has changed for one request.
#[derive(Debug, Default)]
pub struct Changes {
    /// The places of partitions, as the request numbers them: one for each waiter at most.
    places: Mutex<Vec<usize>>,
    notify: Notify,
}

/// One partition's way to a request. Held weakly: gone with its request.
#[derive(Clone, Debug)]
pub struct Waiter {
    changes: Weak<Changes>,
    place: usize,
}

impl Changes {
    /// A waiter for the partition at that place.
    pub fn waiter(self: &Arc<Self>, place: usize) -> Waiter {
        Waiter { changes: Arc::downgrade(self), place }
    }

    /// Waits until something has changed; returns the places of what has since the last call.
    pub async fn wait(&self) -> Vec<usize> {
        loop {
            let places = std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
            if !places.is_empty() {
                return places;
            }
            // What changes in between leaves a permit behind.
            self.notify.notified().await;
        }
    }
}

impl Waiter {
    /// The answer to the same question may be another one now.
    pub fn wake(&self) {
        if let Some(changes) = self.changes.upgrade() {
            changes.places.lock().unwrap_or_else(PoisonError::into_inner).push(self.place);
            changes.notify.notify_one();
        }
    }

    /// Whether its request is still there.
    pub fn is_wanted(&self) -> bool {
        self.changes.strong_count() > 0
    }

    /// The same for waiters that would tell the same request the same thing.
    pub fn key(&self) -> (usize, usize) {
        (self.changes.as_ptr().addr(), self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_request_hears_of_each_change_once_whether_it_waits_already_or_not() {
        let changes = Arc::new(Changes::default());
        let (third, fifth) = (changes.waiter(3), changes.waiter(5));
        fifth.wake();
        third.wake();
        assert_eq!(changes.wait().now_or_never(), Some(vec![5, 3]));
        assert_eq!(changes.wait().now_or_never(), None);
        let mut waiting = Box::pin(changes.wait());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        third.wake();
        assert_eq!(waiting.now_or_never(), Some(vec![3]));
        drop(changes);
        third.wake();
        assert!(!third.is_wanted());
    }
}
