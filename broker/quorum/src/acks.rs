//! Who has accepted this broker as the leader of the quorum lately.

use super::electorate::Electorate;
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// When each peer last accepted this broker as leader, as of the sending of what it answered. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Acks(Arc<Mutex<HashMap<BrokerId, (u64, Instant)>>>);

impl Acks {
    pub(super) fn accepted(&self, peer: BrokerId, term: u64, sent: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, (term, sent));
    }

    /// Whether a majority of the voters has accepted `me` as the leader of `term` lately, those left out that are not
    /// counted.
    pub(super) fn by_majority(
        &self,
        (me, term): (BrokerId, u64),
        electorate: &Electorate,
        counted: impl Fn(BrokerId) -> bool,
        lately: Duration,
    ) -> bool {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = |id: BrokerId| match acks.get(&id) {
            _ if id == me => true,
            Some((t, at)) => *t == term && at.elapsed() <= lately,
            None => false,
        };
        electorate.is_majority(|id| counted(id) && accepted(id))
    }

    /// When the peer had last accepted this broker as the leader of `term`.
    pub(super) fn of(&self, peer: BrokerId, term: u64) -> Option<Instant> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acks.get(&peer).filter(|(t, _)| *t == term).map(|(_, at)| *at)
    }
}
