//! What one connection has asked and not been answered yet.

use chronik_wire::RequestKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Below this length, what a request without records is decoded to is not worth counting.
pub(super) const UNCOUNTED: usize = 1024;

/// Requests of one connection that are begun.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Those whose answers are not written.
    requests: AtomicUsize,
    /// Bytes that Produce holds beside its records, until its reply is there.
    pending: AtomicUsize,
    /// Whether an answer to one but ApiVersions was begun to be written.
    served: AtomicBool,
    less: Notify,
}

impl Open {
    /// A request has begun.
    pub(super) fn begun(&self, pending: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.pending.fetch_add(pending, Ordering::Relaxed);
    }

    /// A request's reply is there.
    pub(super) fn replied(&self, pending: usize) {
        self.pending.fetch_sub(pending, Ordering::Relaxed);
        self.less.notify_one();
    }

    /// The answers of requests of these kinds are about to be written.
    pub(super) fn answers(&self, mut apis: impl Iterator<Item = RequestKind>) {
        if apis.any(|api| api != RequestKind::ApiVersions) {
            self.served.store(true, Ordering::Relaxed);
        }
    }

    /// A request's answer is written.
    pub(super) fn answered(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.less.notify_one();
    }

    /// Whether the client has had an answer to what it came for.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Waits until there is none.
    pub(super) async fn until_empty(&self) {
        self.until(Self::is_empty).await;
    }

    /// Waits until a request of that kind (Kafka's API key) and length may be read. Short requests and Produce may be
    /// read at once. Any other waits until all requests before it on the connection are answered, as Kafka does with
    /// every request: its memory is counted, and would be taken for as long as those before it wait, or the client
    /// reads no answers.
    pub(super) async fn admit(&self, api: i16, len: usize) {
        if api != RequestKind::Produce as i16 && len > UNCOUNTED {
            self.until_empty().await;
        }
    }

    /// Waits until Produce holds so many bytes at most beside its records.
    pub(super) async fn until_pending_is(&self, most: usize) {
        self.until(|open| open.pending.load(Ordering::Relaxed) <= most).await;
    }

    /// Waits until something is so. There is one who waits, in the task in which answers are written.
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            // In a box, as it would be a part of every idle connection otherwise.
            Box::pin(self.less.notified()).await;
        }
    }
}
