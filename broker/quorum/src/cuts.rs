//! Messages that get lost on their way from one broker to another, in tests: one way or both ways. Connections stay, and
//! nobody is refused.

use chronik_core::ids::BrokerId;
use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, PoisonError};

/// Ways that are cut, from and to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeSet<(BrokerId, BrokerId)>>>);

impl Cuts {
    /// What the one sends does not arrive at the other.
    pub(crate) fn cut(&self, from: BrokerId, to: BrokerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((from, to));
    }

    /// All arrives again.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn loses(&self, from: BrokerId, to: BrokerId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(from, to))
    }
}

/// One broker's calls. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller(pub(crate) Option<(BrokerId, Cuts)>);

impl Caller {
    /// The answer to a call, unless it or the call is lost.
    pub(crate) async fn call<T>(self, peer: BrokerId, call: impl Future<Output = T>) -> T {
        let Self(Some((me, cuts))) = self else { return call.await };
        if cuts.loses(me, peer) {
            return pending().await;
        }
        let answer = call.await;
        if cuts.loses(peer, me) { pending().await } else { answer }
    }
}
