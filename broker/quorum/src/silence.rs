//! How long the voters have heard no leader: with that a new leader of the quorum knows when the last leases end that its
//! predecessors gave.
//!
//! A leader gives a broker a lease only if a majority of the voters has accepted it as the leader lately: each of them
//! by an answer to something that was sent not longer ago than `confirmation` (see [`super::leader`]). The lease counts
//! from when the broker sent its heartbeat, so it ends `confirmation + lease` after the first of those messages was
//! sent, at the latest.
//!
//! Each voter notes when a leader's message reaches it, before raft sees it, and says with the vote that it gives how
//! long ago that was. A new leader was elected by a majority. That has a voter in common with the majority that
//! confirmed a lease of a former term. That voter accepted nothing of the former leader after it had given its vote, so
//! what it accepted was sent before the moment that it names. Hence the rule: **of all that gave this leader their vote,
//! itself included, take the one that heard a leader last. Leases of former terms end `confirmation + lease` after that.**
//! The leader does not have to know which of them the one in common is.
//!
//! * The former leader counts itself to its majority, and may be the one in common. So to give a lease is to hear a
//!   leader, oneself; and who has voted for another one gives no lease in a term that is not later than that vote, though
//!   raft may not have told it yet that it leads no more ([`Silence::allows_lease`]). Both are under one lock.
//! * While the voters change, a majority of those before and one of those after have one in common, as raft has it. Where
//!   they have been changed more than once since, a leader in between had a majority of each follow it, its own vote
//!   included, after it was elected and with that after the last lease was confirmed. Those, or who voted after them,
//!   say so to the next. So a leader also hears itself when it begins.
//! * A voter that has started has heard a leader just before, as far as it knows, and so has one of a version that says
//!   nothing, when its answer arrives.
//! * What is left are the clocks: the voter's that measures its silence, the former leader's, the broker's, and that of
//!   the leader that waits. A twentieth of the time is left for
//!   that they differ: each may be off by one part in fifty.
//! * A voter whose disk is replaced has forgotten its vote: see [`super::standing`] for when it is heard again.

use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Clocks may differ by this part of the time.
const CLOCKS: u32 = 20;

/// What leases rest upon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// A majority has accepted a leader that gives a lease not longer ago than this.
    pub(super) confirmation: Duration,
    /// A lease lasts for so long after the heartbeat that it is the answer to.
    pub(super) lease: Duration,
}

impl Bounds {
    /// When the leases of former terms have ended, in which a leader was heard last at `led_until`.
    pub(super) fn leases_end(self, led_until: Instant) -> Instant {
        let longest = self.confirmation + self.lease;
        led_until + longest + longest / CLOCKS
    }
}

/// What one broker knows of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Silence(Arc<Mutex<State>>);

struct State {
    /// When a leader was heard here last, this one included, or might have been.
    here: Instant,
    /// The latest term in which this voter has voted for another one.
    voted: u64,
    /// By voter, the latest term in which it has voted for this one, and when it had heard a leader last.
    by_voters: HashMap<BrokerId, (u64, Instant)>,
}

impl Silence {
    /// That of a broker that starts: what was before, it does not know.
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { here: now, voted: 0, by_voters: HashMap::new() })))
    }

    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A leader is heard here: called before raft accepts what it says.
    pub(super) fn ends(&self, now: Instant) {
        self.with(|state| state.here = state.here.max(now));
    }

    /// Whether the leader of that term, which is this broker, may give a lease for a heartbeat that came before `now`.
    pub(super) fn allows_lease(&self, term: u64, now: Instant) -> bool {
        self.with(|state| {
            // A term may have had a second candidate: who voted for it in the term that it leads leads no more.
            let allows = state.voted < term;
            if allows {
                state.here = state.here.max(now);
            }
            allows
        })
    }

    /// This voter has given another one its vote. For how long it has not heard a leader.
    pub(super) fn votes(&self, term: u64, now: Instant) -> Duration {
        self.with(|state| {
            state.voted = state.voted.max(term);
            now.saturating_duration_since(state.here)
        })
    }

    /// A voter has given this one its vote in that term, and says how long it has not heard a leader. `None`: it does not
    /// say.
    pub(super) fn told(&self, voter: BrokerId, term: u64, now: Instant, silence: Option<Duration>) {
        let heard = now.checked_sub(silence.unwrap_or_default()).unwrap_or(now);
        self.with(|state| {
            let known = state.by_voters.entry(voter).or_insert((term, heard));
            if term > known.0 {
                *known = (term, heard);
            } else if term == known.0 {
                // Asked twice, it may have started anew in between.
                known.1 = known.1.max(heard);
            }
        });
    }

    /// Since when the voters that made this broker the leader of that term have heard no leader of a former one.
    pub(super) fn since(&self, term: u64) -> Instant {
        self.with(|state| {
            let told = state.by_voters.values().filter(|(t, _)| *t == term).map(|(_, heard)| *heard);
            told.fold(state.here, Instant::max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_voter_that_has_started_has_heard_a_leader_just_before() {
        let start = Instant::now();
        let silence = Silence::new(start);
        assert_eq!(silence.votes(2, start + ms(30)), ms(30));
        silence.ends(start + ms(40));
        assert_eq!(silence.votes(3, start + ms(100)), ms(60));
        silence.ends(start + ms(20));
        assert_eq!(silence.votes(3, start + ms(100)), ms(60), "what is noted late was heard before");
        assert_eq!(silence.votes(3, start + ms(10)), ms(0));
    }

    #[test]
    fn who_has_voted_for_another_one_gives_no_lease_in_that_term_or_before() {
        let start = Instant::now();
        let silence = Silence::new(start);
        assert!(silence.allows_lease(5, start + ms(70)));
        assert_eq!(silence.votes(6, start + ms(100)), ms(30), "to give a lease is to hear a leader");
        for (term, allowed) in [(5, false), (6, false), (7, true)] {
            assert_eq!(silence.allows_lease(term, start + ms(200)), allowed, "{term}");
        }
        assert_eq!(silence.votes(4, start + ms(200)), ms(0));
        assert!(!silence.allows_lease(6, start + ms(300)), "a late vote of a former term changes nothing");
        assert_eq!(silence.votes(8, start + ms(300)), ms(100), "what is refused is no lease");
    }

    #[test]
    fn a_new_leader_reckons_from_who_heard_a_leader_last_of_those_that_voted_for_it() {
        let start = Instant::now();
        let at = |offset| start + ms(offset);
        let silence = Silence::new(start);
        silence.ends(at(100));
        silence.told(A, 4, at(500), Some(ms(350)));
        silence.told(B, 4, at(510), Some(ms(440)));
        assert_eq!(silence.since(4), at(150));
        assert_eq!(silence.since(5), at(100), "nobody has voted in that one");
        silence.told(A, 3, at(600), Some(ms(0)));
        assert_eq!(silence.since(4), at(150), "a late answer takes no place of a newer one, and is of no account");
        silence.told(A, 4, at(600), Some(ms(400)));
        silence.told(A, 4, at(600), Some(ms(500)));
        assert_eq!(silence.since(4), at(200));
        silence.told(B, 5, at(700), None);
        assert_eq!(silence.since(5), at(700), "who does not say may have heard one just now");
        silence.ends(at(800));
        assert_eq!(silence.since(5), at(800));
    }
}
