//! How long nobody has led the quorum when a new leader begins: voters say with their votes when they last heard a leader.
//!
//! A leader gives leases only while a majority, itself included, has lately followed it (see [`super::leader`]). One of that
//! majority is among those that elected its successor, and follows it no more since. So all leases of former leaders rest on
//! nothing later than what the last of those voters heard. A leader hears itself when it gives a lease, and gives none after
//! its vote for another.

use super::electorate::Electorate;
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What this voter knows of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Silence(Arc<Mutex<Heard>>);

struct Heard {
    here: Instant,
    /// The last term in which this voter voted for another.
    voted: u64,
    /// By whoever voted for this broker in that term.
    by_voters: HashMap<BrokerId, (u64, Instant)>,
}

impl Silence {
    /// That of a process that begins: it may have heard a leader just before.
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Heard { here: now, voted: 0, by_voters: HashMap::new() })))
    }

    /// A leader is heard. Said before raft hears it: a vote that is given later cannot miss it.
    pub(super) fn ends(&self, now: Instant) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.here = heard.here.max(now);
    }

    /// Whether this broker may still give a lease as the leader of that term.
    pub(super) fn allows_lease(&self, term: u64, now: Instant) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = heard.voted <= term;
        if allowed {
            heard.here = heard.here.max(now);
        }
        allowed
    }

    /// This voter has voted for another in that term, and says for how long it has heard no leader.
    pub(super) fn votes(&self, term: u64, now: Instant) -> Duration {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.voted = heard.voted.max(term);
        now.duration_since(heard.here)
    }

    /// A voter has voted for this broker in that term. When its answer came, it had heard no leader for `silence`.
    pub(super) fn told(&self, voter: BrokerId, term: u64, now: Instant, silence: Duration) {
        let Some(heard_at) = now.checked_sub(silence) else { return };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_voters.insert(voter, (term, heard_at));
    }

    /// When any of those that elected `me` in that term last heard a leader; `None` unless a majority has said so.
    pub(super) fn since(&self, me: BrokerId, term: u64, electorate: &Electorate) -> Option<Instant> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_term = |id: &BrokerId| heard.by_voters.get(id).filter(|(t, _)| *t == term).map(|(_, at)| *at);
        if !electorate.is_majority(|id| id == me || of_term(&id).is_some()) {
            return None;
        }
        heard.by_voters.keys().filter_map(of_term).chain([heard.here]).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StoredMembership;
    use openraft::Membership;
    use std::collections::BTreeSet;

    #[test]
    fn the_silence_of_those_who_elected_a_leader_began_when_the_last_of_them_heard_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let voters: BTreeSet<BrokerId> = (0..5).map(BrokerId).collect();
        let electorate = Electorate::new(StoredMembership::new(None, Membership::new(vec![voters], ())));
        let (me, silence) = (BrokerId(0), Silence::new(start));
        let since = |term| silence.since(me, term, &electorate);
        silence.ends(at(100));
        silence.ends(at(90));
        assert_eq!(silence.votes(5, at(600)), Duration::from_millis(500));
        silence.told(BrokerId(1), 7, at(610), Duration::from_millis(490));
        assert_eq!(since(7), None, "two of five");
        silence.told(BrokerId(2), 6, at(610), Duration::ZERO);
        silence.told(BrokerId(9), 7, at(610), Duration::ZERO);
        assert_eq!(since(7), None, "one voted in another term, and one is no voter");
        silence.told(BrokerId(2), 7, at(620), Duration::from_millis(540));
        silence.told(BrokerId(9), 7, at(620), Duration::from_millis(620));
        assert_eq!(since(7), Some(at(120)));
        assert_eq!(since(8), None);
        silence.ends(at(130));
        assert_eq!(since(7), Some(at(130)), "this one is among them");
    }

    #[test]
    fn a_leader_that_has_voted_for_another_gives_no_lease_and_says_when_it_gave_the_last_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let silence = Silence::new(start);
        assert!(silence.allows_lease(5, at(400)));
        assert_eq!(silence.votes(7, at(450)), Duration::from_millis(50));
        assert!(!silence.allows_lease(5, at(460)));
        assert_eq!(silence.votes(6, at(470)), Duration::from_millis(70));
        assert!(!silence.allows_lease(6, at(480)));
        assert!(silence.allows_lease(8, at(490)), "it was elected itself since");
    }
}
