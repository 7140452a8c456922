//! The memory that requests in flight may take, for all connections together.
//!
//! A connection takes its share as the bytes arrive, never for what a frame claims to be. So that connections
//! which hold half a frame each cannot wait for each other, one of them at a time may go beyond the budget: what
//! is held never exceeds the budget by more than one request.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
    total: usize,
}

/// What one request holds of the budget; given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// As many permits as it has bytes.
    permits: Option<OwnedSemaphorePermit>,
    /// It is the one share that may go beyond the budget.
    overdraft: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let total = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { bytes: Arc::new(Semaphore::new(total)), overdraft: Arc::new(Semaphore::new(1)), total }
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.total - self.bytes.available_permits().min(self.total)
    }

    /// Adds bytes to a share, waiting until they are there.
    pub(crate) async fn grow(&self, share: &mut Share, bytes: usize) {
        if share.overdraft.is_some() {
            return;
        }
        let bytes = bytes.min(self.total) as u32;
        if let Ok(permit) = Arc::clone(&self.bytes).try_acquire_many_owned(bytes) {
            return share.add(permit);
        }
        if share.permits.is_none() {
            // Who holds nothing keeps nobody waiting.
            if let Ok(permit) = Arc::clone(&self.bytes).acquire_many_owned(bytes).await {
                share.add(permit);
            }
            return;
        }
        tokio::select! {
            biased;
            Ok(permit) = Arc::clone(&self.bytes).acquire_many_owned(bytes) => share.add(permit),
            Ok(permit) = Arc::clone(&self.overdraft).acquire_owned() => share.overdraft = Some(permit),
        }
    }

    /// Takes up to `bytes`, a quarter of what is there now at most: however many hold on to theirs, there is something
    /// for the next one.
    pub(crate) fn take_up_to(&self, bytes: usize) -> (usize, Share) {
        let mut share = Share::default();
        let bytes = bytes.min(self.bytes.available_permits() / 4);
        match Arc::clone(&self.bytes).try_acquire_many_owned(bytes as u32) {
            Ok(permit) => share.add(permit),
            Err(_) => return (0, share),
        }
        (bytes, share)
    }
}

impl Share {
    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permits) = &mut self.permits {
            let surplus = permits.num_permits().saturating_sub(bytes);
            drop(permits.split(surplus));
        }
    }

    /// Divides it: what is returned holds `bytes`, or as many as there are.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let permits = self.permits.as_mut().and_then(|permits| permits.split(bytes.min(permits.num_permits())));
        Self { permits, overdraft: None }
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Whether this is the one share that went beyond the budget.
    pub(crate) fn overdrawn(&self) -> bool {
        self.overdraft.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_share_is_given_back_when_it_is_dropped() {
        let budget = Budget::new(100);
        let mut share = Share::default();
        budget.grow(&mut share, 60).now_or_never().expect("60 of 100 are there");
        assert_eq!(budget.used(), 60);
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_holds_nothing_waits_and_one_who_holds_something_may_overdraw() {
        let budget = Budget::new(100);
        let (mut first, mut second, mut third) = (Share::default(), Share::default(), Share::default());
        budget.grow(&mut first, 50).now_or_never().expect("there");
        budget.grow(&mut second, 50).now_or_never().expect("there");
        assert!(budget.grow(&mut third, 1).now_or_never().is_none());
        budget.grow(&mut first, 1).now_or_never().expect("the overdraft is free");
        assert!(first.overdrawn());
        assert!(budget.grow(&mut second, 1).now_or_never().is_none(), "there is one overdraft only");
        drop(first);
        budget.grow(&mut second, 1).now_or_never().expect("50 came back");
        assert!(!second.overdrawn());
    }

    #[test]
    fn those_who_take_what_they_can_leave_something_for_the_next() {
        let budget = Budget::new(100);
        let (got, mut share) = budget.take_up_to(70);
        assert_eq!(got, 25);
        let (rest, _held) = budget.take_up_to(70);
        assert_eq!(rest, 18);
        let (all, _held) = budget.take_up_to(10);
        assert_eq!(all, 10);
        share.shrink_to(10);
        assert_eq!(budget.used(), 38);
    }

    #[test]
    fn a_share_that_is_divided_is_given_back_part_by_part() {
        let budget = Budget::new(100);
        let mut share = Share::default();
        budget.grow(&mut share, 60).now_or_never().expect("60 of 100 are there");
        let part = share.split(20);
        drop(share);
        assert_eq!(budget.used(), 20);
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
