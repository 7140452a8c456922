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
//! * The former leader may have been configured with a longer session than this one, while a cluster is restarted with
//!   another `broker.session.timeout.ms`. So a leader says with its answers to heartbeats how long leases run that it
//!   gives, and a voter says with its vote how long those may run that it has been told of; the longest counts.
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
    /// How long after a voter has heard a leader leases may run that it gave.
    pub(super) fn longest(self) -> Duration {
        self.confirmation + self.lease
    }
}

/// What the voters that elected a leader say of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// When one of them heard a leader last.
    pub(super) led_until: Instant,
    /// When the leases of former terms have ended.
    pub(super) leases_end: Instant,
}

/// What a voter says with its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// For how long it has not heard a leader.
    pub(super) silence: Duration,
    /// How long after that leases may run.
    pub(super) leases_run: Duration,
}

/// What one broker knows of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Silence(Arc<Mutex<State>>);

struct State {
    /// As this broker is configured.
    own: Bounds,
    /// How long leases run of a leader that was configured otherwise, and until when they may.
    others: Option<(Duration, Instant)>,
    /// When a leader was heard here last, this one included, or might have been.
    here: Instant,
    /// The latest term in which this voter has voted for another one.
    voted: u64,
    /// By voter, the latest term in which it has voted for this one, when it had heard a leader last, and how long leases
    /// run as far as it knows.
    by_voters: HashMap<BrokerId, (u64, Instant, Duration)>,
}

impl State {
    fn leases_run(&self, now: Instant) -> Duration {
        let others = self.others.filter(|(_, until)| now <= *until).map(|(run, _)| run);
        self.own.longest().max(others.unwrap_or_default())
    }
}

/// With what clocks may differ.
fn with_clocks(duration: Duration) -> Duration {
    duration + duration / CLOCKS
}

impl Silence {
    /// That of a broker that starts: what was before, it does not know.
    pub(super) fn new(now: Instant, own: Bounds) -> Self {
        Self(Arc::new(Mutex::new(State { own, others: None, here: now, voted: 0, by_voters: HashMap::new() })))
    }

    /// What this broker gives as the leader.
    pub(super) fn own(&self) -> Bounds {
        self.with(|state| state.own)
    }

    /// A leader says how long the leases run that it gives.
    pub(super) fn leases_run(&self, now: Instant, run: Duration) {
        self.with(|state| {
            if run >= state.others.filter(|(_, until)| now <= *until).map_or(state.own.longest(), |(run, _)| run) {
                state.others = Some((run, now + with_clocks(run)));
            }
        });
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

    /// This voter has given another one its vote.
    pub(super) fn votes(&self, term: u64, now: Instant) -> Said {
        self.with(|state| {
            state.voted = state.voted.max(term);
            Said { silence: now.saturating_duration_since(state.here), leases_run: state.leases_run(now) }
        })
    }

    /// A voter has given this one its vote in that term, and says how long it has not heard a leader (0 if it does not
    /// say), and how long leases may run.
    pub(super) fn told(&self, voter: BrokerId, term: u64, now: Instant, Said { silence, leases_run }: Said) {
        let heard = now.checked_sub(silence).unwrap_or(now);
        self.with(|state| {
            let known = state.by_voters.entry(voter).or_insert((term, heard, leases_run));
            if term > known.0 {
                *known = (term, heard, leases_run);
            } else if term == known.0 {
                // Asked twice, it may have started anew in between.
                (known.1, known.2) = (known.1.max(heard), known.2.max(leases_run));
            }
        });
    }

    /// What the voters that made this broker the leader of that term say of those before it.
    pub(super) fn before(&self, term: u64, now: Instant) -> Before {
        self.with(|state| {
            let told = || state.by_voters.values().filter(|(t, ..)| *t == term);
            let led_until = told().map(|(_, heard, _)| *heard).fold(state.here, Instant::max);
            let run = told().map(|(.., run)| *run).fold(state.leases_run(now), Duration::max);
            Before { led_until, leases_end: led_until + with_clocks(run) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);

    const OWN: Bounds = Bounds { confirmation: Duration::from_millis(300), lease: Duration::from_millis(700) };

    fn said(silence_ms: u64) -> Said {
        Said { silence: ms(silence_ms), leases_run: Duration::ZERO }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_voter_that_has_started_has_heard_a_leader_just_before() {
        let start = Instant::now();
        let silence = Silence::new(start, OWN);
        assert_eq!(silence.votes(2, start + ms(30)).silence, ms(30));
        silence.ends(start + ms(40));
        assert_eq!(silence.votes(3, start + ms(100)).silence, ms(60));
        silence.ends(start + ms(20));
        assert_eq!(silence.votes(3, start + ms(100)).silence, ms(60), "what is noted late was heard before");
        assert_eq!(silence.votes(3, start + ms(10)).silence, ms(0));
    }

    #[test]
    fn who_has_voted_for_another_one_gives_no_lease_in_that_term_or_before() {
        let start = Instant::now();
        let silence = Silence::new(start, OWN);
        assert!(silence.allows_lease(5, start + ms(70)));
        assert_eq!(silence.votes(6, start + ms(100)).silence, ms(30), "to give a lease is to hear a leader");
        for (term, allowed) in [(5, false), (6, false), (7, true)] {
            assert_eq!(silence.allows_lease(term, start + ms(200)), allowed, "{term}");
        }
        assert_eq!(silence.votes(4, start + ms(200)).silence, ms(0));
        assert!(!silence.allows_lease(6, start + ms(300)), "a late vote of a former term changes nothing");
        assert_eq!(silence.votes(8, start + ms(300)).silence, ms(100), "what is refused is no lease");
    }

    #[test]
    fn a_new_leader_reckons_from_who_heard_a_leader_last_of_those_that_voted_for_it() {
        let start = Instant::now();
        let at = |offset| start + ms(offset);
        let silence = Silence::new(start, OWN);
        silence.ends(at(100));
        silence.told(A, 4, at(500), said(350));
        silence.told(B, 4, at(510), said(440));
        assert_eq!(silence.before(4, at(800)).led_until, at(150));
        assert_eq!(silence.before(5, at(800)).led_until, at(100), "nobody has voted in that one");
        silence.told(A, 3, at(600), said(0));
        assert_eq!(
            silence.before(4, at(800)).led_until,
            at(150),
            "a late answer takes no place of a newer one, and is of no account"
        );
        silence.told(A, 4, at(600), said(400));
        silence.told(A, 4, at(600), said(500));
        assert_eq!(silence.before(4, at(800)).led_until, at(200));
        silence.told(B, 5, at(700), said(0));
        assert_eq!(silence.before(5, at(800)).led_until, at(700), "who does not say may have heard one just now");
        silence.ends(at(800));
        assert_eq!(silence.before(5, at(800)).led_until, at(800));
    }

    #[test]
    fn leases_of_a_leader_with_a_longer_session_are_waited_for_by_a_successor_with_a_shorter_one() {
        let start = Instant::now();
        let at = |offset| start + ms(offset);
        let silence = Silence::new(start, OWN);
        let end = |silence: &Silence, term, now| silence.before(term, at(now)).leases_end;
        assert_eq!(end(&silence, 1, 100), at(1_050));
        silence.leases_run(at(100), ms(9_000));
        silence.leases_run(at(200), ms(1_000));
        assert_eq!(silence.votes(2, at(300)).leases_run, ms(9_000), "a shorter one since does not end a lease");
        assert_eq!(end(&silence, 2, 300), at(9_450));
        silence.ends(at(9_500));
        assert_eq!(end(&silence, 3, 9_560), at(9_500 + 1_050), "all of them have ended");
        let told = Said { silence: ms(60), leases_run: ms(4_000) };
        silence.told(A, 4, at(9_600), told);
        assert_eq!(end(&silence, 4, 9_600), at(9_540 + 4_200), "one that it was not told of itself");
        assert_eq!(end(&silence, 5, 9_600), at(9_500 + 1_050));
    }
}
