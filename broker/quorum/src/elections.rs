//! When a voter stands for election, and when a leader gives up: raft's pre-vote, and its check of the quorum.
//!
//! openraft has neither. With its own election timer a voter that hears nobody stands for election again and again,
//! each time in a higher term; when it is heard again a leader that lives gives way to that term, as raft has it. So
//! openraft's timer is off, and this one asks first. A voter that has heard no leader for as long as openraft would
//! have waited asks the others whether they would vote for it (`Probe`), which changes nothing anywhere. Those that
//! hear a leader say no, and so do those whose log is longer. Only with a majority, its own word counted, it stands.
//! Who answers without saying so is of a version that does not know the question, and is taken to agree: its vote is
//! decided as before.
//!
//! Elections for a known reason go past this: the leader asked for it ([`super::handover`]), it is gone for a majority
//! ([`super::lost_leader`]), a majority knows of none after a restart ([`super::restart`]), or there never was one
//! ([`super::bootstrap`]).
//!
//! * A follower refuses a vote for `election_max` after it has heard its leader: openraft does that. A leader does it
//!   here, as long as a majority has accepted it within that time.
//! * A leader that no majority answers may still be heard by all (it is deaf), and with that keep everybody from an
//!   election. So it gives up, after some seconds; later, but not for ever, while those that it lacks are at an entry or a
//!   snapshot that is large, as raft there waits for the disk and answers nothing else meanwhile.
//! * Silence is counted in time that this process has seen pass. One that was paused, with all others or alone, waits
//!   for what has been sent meanwhile before it draws conclusions.
//!
//! There is an election whenever a majority of the voters is up and connected and follows nobody: of those, nobody
//! hears a leader after `election_max`, and the one with the longest log has all their answers.

use super::acks::Acks;
use super::bootstrap;
use super::electorate::Electorate;
use super::handover::forget_leader;
use super::links::Links;
use super::proto;
use super::raft_log::LogStore;
use super::restart::Past;
use super::types::{Raft, Vote};
use chronik_core::ids::BrokerId;
use rand::Rng as _;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

/// How often it is looked whether it is time, in the shortest election timeout.
const LOOKS: u32 = 6;
/// A leader without a majority gives up after this many `election_max`: its followers may be at something that takes
/// seconds, as a disk that hangs, and nobody else would be elected for it.
const GIVES_UP_AFTER: u32 = 10;
/// And after so long while a majority would be there with those that are at something large: a snapshot has to be sent and
/// installed meanwhile. Its peers' connections last, or they would not count: one that is gone, or answers no ping, is at
/// nothing.
const GIVES_UP_AT_LAST: Duration = Duration::from_secs(30);

/// After a refusal other voters have this part of the shortest election timeout to answer: one heartbeat of raft's.
const ANSWERS: u32 = 3;

/// Term, its leader, and index of a log's last entry: in the order in which openraft compares them.
pub(super) type LogEnd = Option<(u64, i32, u64)>;

/// A leadership of the quorum as a voter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LedBy {
    /// It follows nobody.
    Nobody,
    /// It follows another one, which it has not heard for so long.
    Another(Duration),
    /// It leads itself, and a majority has accepted that lately or has not.
    Itself(bool),
}

impl LedBy {
    /// Whether there is a leader, as far as a voter can tell that has waited for `election_max`.
    fn is_heard(self, election_max: Duration) -> bool {
        match self {
            Self::Nobody => false,
            Self::Another(silence) => silence <= election_max,
            Self::Itself(followed) => followed,
        }
    }
}

/// Whether a voter would vote for a candidate with that log.
fn would_vote(led: LedBy, election_max: Duration, own: LogEnd, candidate: LogEnd) -> bool {
    !led.is_heard(election_max) && candidate >= own
}

/// Whether a voter asks the others by now, with a random part of what it waits. The only voter asks nobody, and does
/// not wait, unless it stands already.
fn is_time(
    led: LedBy,
    quiet: Duration,
    (election_max, random): (Duration, Duration),
    alone: bool,
    stands: bool,
) -> bool {
    match led {
        LedBy::Nobody => (alone && !stands) || quiet >= random,
        LedBy::Another(silence) => silence >= election_max + random,
        LedBy::Itself(_) => false,
    }
}

/// Whether a leader gives up that has been without a majority for so long, and for so long without one together with those
/// that are at something large.
fn gives_up(unfollowed: Duration, silent: Duration, election_max: Duration) -> bool {
    let soon = election_max * GIVES_UP_AFTER;
    silent >= soon || unfollowed >= GIVES_UP_AT_LAST.max(soon)
}

/// How long something has not happened, in time that this process has seen pass.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    counted: Duration,
    at: Instant,
    /// A longer time between two looks is a pause of the process.
    step: Duration,
}

impl Quiet {
    fn new(now: Instant, step: Duration) -> Self {
        Self { counted: Duration::ZERO, at: now, step }
    }

    /// It happens.
    fn ends(&mut self, now: Instant) {
        (self.counted, self.at) = (Duration::ZERO, now);
    }

    fn is(&self, now: Instant) -> Duration {
        self.counted + now.saturating_duration_since(self.at).min(self.step)
    }

    /// Counts what has passed since it was looked at last.
    fn passes(&mut self, now: Instant) -> Duration {
        (self.counted, self.at) = (self.is(now), now);
        self.counted
    }
}

/// What this voter has heard of leaders, and what it says to those who would stand for election. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hearing {
    me: BrokerId,
    election_max: Duration,
    raft: Raft,
    log: LogStore,
    acks: Acks,
    electorate: Electorate,
    /// Since a leader was heard, or this voter's vote changed.
    quiet: Arc<Mutex<Quiet>>,
    /// The vote whose leader this voter has missed for so long that it would stand for election.
    missed: Arc<watch::Sender<Option<Vote>>>,
    promise: Arc<Mutex<Promise>>,
    /// How long a promise is kept.
    keeps: Duration,
}

/// To whom this voter has said last that it would vote for it, itself included, and until when nobody else hears that. So
/// one of those that ask at the same time gets a majority. Two that stood in one term could both be elected, one after the
/// other, as openraft lets a voter go on to the candidate with the greater id.
#[derive(Clone, Copy, Debug, Default)]
struct Promise(Option<(BrokerId, Instant)>);

impl Promise {
    /// Whether nobody else has one.
    fn give(&mut self, candidate: BrokerId, now: Instant, keeps: Duration) -> bool {
        if let Some((other, until)) = self.0
            && now < until
        {
            return other == candidate;
        }
        self.0 = Some((candidate, now + keeps));
        true
    }

    fn take_back(&mut self, candidate: BrokerId) {
        self.0.take_if(|(other, _)| *other == candidate);
    }
}

impl Hearing {
    /// A process that is not looked after for two thirds of `election_min` is taken for paused.
    pub(super) fn new(
        me: BrokerId,
        (election_min, election_max): (Duration, Duration),
        (raft, log, acks, electorate): (Raft, LogStore, Acks, Electorate),
    ) -> Self {
        let quiet = Arc::new(Mutex::new(Quiet::new(Instant::now(), election_min * 2 / 3)));
        let (missed, promise) = (Arc::new(watch::Sender::new(None)), Arc::default());
        Self { me, election_max, raft, log, acks, electorate, quiet, missed, promise, keeps: election_min }
    }

    fn quiet<T>(&self, what: impl FnOnce(&mut Quiet) -> T) -> T {
        what(&mut self.quiet.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A message of the leader with that vote arrives. One that was deposed, as far as this voter knows, is no leader.
    pub(super) fn hears(&self, leader: &Vote) {
        let current = self.raft.server_metrics().borrow().vote;
        if *leader >= current {
            self.quiet(|quiet| quiet.ends(Instant::now()));
            self.missed.send_if_modified(|missed| missed.take_if(|vote| *vote == *leader).is_some());
        }
    }

    /// This voter would stand for election, as it does not hear the leader with that vote. False if it was so before.
    fn misses(&self, leader: Vote) -> bool {
        self.missed.send_if_modified(|missed| missed.replace(leader) != Some(leader))
    }

    /// Who leads, as far as this voter knows: nobody, if it misses who led.
    pub(super) fn leader(&self) -> Option<BrokerId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.current_leader.filter(|_| *self.missed.borrow() != Some(metrics.vote))
    }

    /// Publishes who leads, and logs it.
    pub(super) async fn tell(self, leader: watch::Sender<Option<BrokerId>>) {
        let (mut metrics, mut missed) = (self.raft.server_metrics(), self.missed.subscribe());
        loop {
            let term = metrics.borrow_and_update().vote.leader_id().term;
            missed.mark_unchanged();
            let now = self.leader();
            if let (true, Some(id)) = (leader.send_if_modified(|known| std::mem::replace(known, now) != now), now) {
                tracing::info!(broker = %id, term, "broker {id} leads the controller quorum");
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                // It lasts as long as this.
                _ = missed.changed() => {}
            }
        }
    }

    /// The vote by now, and who leads by it.
    fn led(&self) -> (Vote, LedBy) {
        let metrics = self.raft.server_metrics();
        let (vote, leader) = {
            let metrics = metrics.borrow();
            (metrics.vote, metrics.current_leader)
        };
        let led = match leader {
            None => LedBy::Nobody,
            Some(id) if id == self.me => LedBy::Itself(self.is_followed(vote.leader_id().term)),
            Some(_) => LedBy::Another(self.quiet(|quiet| quiet.is(Instant::now()))),
        };
        (vote, led)
    }

    fn is_followed(&self, term: u64) -> bool {
        self.acks.by_majority((self.me, term), &self.electorate, |_| true, self.election_max)
    }

    /// Whether a majority follows the leader of that term, which is this voter, or is at something large that it was sent.
    fn is_followed_with_busy(&self, term: u64) -> bool {
        self.acks.by_majority_with_busy((self.me, term), &self.electorate, self.election_max)
    }

    /// Whether this voter leads in a term that it was not asked to end, and a majority follows it.
    pub(super) fn keeps_leading(&self, handed_over: Option<u64>) -> bool {
        let (vote, led) = self.led();
        led == LedBy::Itself(true) && handed_over != Some(vote.leader_id().term)
    }

    fn own_log(&self) -> LogEnd {
        self.log.last_log_id().map(|id| (id.leader_id.term, id.leader_id.node_id.0, id.index))
    }

    /// Whether this voter would vote for a candidate with that log, if its vote is believed. It says so to one at a time.
    pub(super) fn would_vote(&self, candidate: BrokerId, log: LogEnd) -> bool {
        would_vote(self.led().1, self.election_max, self.own_log(), log) && self.promises(candidate)
    }

    fn promises(&self, candidate: BrokerId) -> bool {
        self.promise(|promise| promise.give(candidate, Instant::now(), self.keeps))
    }

    fn promise<T>(&self, what: impl FnOnce(&mut Promise) -> T) -> T {
        what(&mut self.promise.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that stands for election, and gives up leading.
pub(super) struct Elections {
    pub(super) me: BrokerId,
    pub(super) past: Past,
    pub(super) election_min: Duration,
    pub(super) election_max: Duration,
    pub(super) electorate: Electorate,
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) links: Links,
    pub(super) hearing: Hearing,
    #[cfg(test)]
    pub(super) caller: crate::cuts::Caller,
}

impl Elections {
    /// Runs until it is stopped.
    pub(super) async fn run(self) {
        if let Some(until) = self.past.waits_until() {
            sleep_until(until).await;
            self.hearing.quiet(|quiet| quiet.ends(Instant::now()));
        }
        let look = self.election_min / LOOKS;
        let mut looks = interval(look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.hearing.led().0;
        let mut random = self.random();
        let step = self.hearing.quiet(|quiet| quiet.step);
        let (mut unfollowed, mut silent) = (Quiet::new(Instant::now(), step), Quiet::new(Instant::now(), step));
        loop {
            looks.tick().await;
            let (vote, led) = self.hearing.led();
            let now = Instant::now();
            if vote != seen {
                // As openraft counts: from the last vote on, whoever it was for.
                (seen, random) = (vote, self.random());
                self.hearing.quiet(|quiet| quiet.ends(now));
            }
            let quiet = self.hearing.quiet(|quiet| quiet.passes(now));
            if led == LedBy::Itself(false) {
                if self.hearing.is_followed_with_busy(vote.leader_id().term) {
                    silent.ends(now);
                }
                if gives_up(unfollowed.passes(now), silent.passes(now), self.election_max) {
                    tracing::warn!(
                        "no majority of the voters answers: this broker does not lead the controller quorum any more"
                    );
                    forget_leader(&self.raft, |current| *current == vote).await;
                    unfollowed.ends(now);
                    silent.ends(now);
                }
            } else {
                unfollowed.ends(now);
                silent.ends(now);
            }
            let alone = self.electorate.is_majority(|id| id == self.me);
            let stands = vote.leader_id().voted_for() == Some(self.me);
            if self.may_stand() && is_time(led, quiet, (self.election_max, random), alone, stands) {
                self.stand(vote).await;
            }
        }
    }

    /// Stands for election, if a majority would vote for this one and nothing changes while it is asked.
    async fn stand(&self, vote: Vote) {
        if vote.is_committed() && self.hearing.misses(vote) {
            tracing::info!("the leader of the controller quorum is not heard: asking for votes");
        }
        if !self.hearing.promises(self.me) {
            return;
        }
        if !self.majority_would_vote().await {
            self.hearing.promise(|promise| promise.take_back(self.me));
            // Who was refused as another asked at the same time asks at another.
            let pause = rand::rng().random_range(Duration::ZERO..self.election_min);
            sleep(pause).await;
        } else if self.is_unchanged(vote)
            && self.hearing.promises(self.me)
            && let Err(error) = self.raft.trigger().elect().await
        {
            tracing::debug!(%error, "raft has stopped");
        }
    }

    fn random(&self) -> Duration {
        rand::rng().random_range(self.election_min..self.election_max)
    }

    fn may_stand(&self) -> bool {
        self.electorate.is_voter(self.me) && self.log.standing().proven
    }

    /// Whether nobody was voted for, and no leader heard, while the others were asked.
    fn is_unchanged(&self, before: Vote) -> bool {
        let (vote, led) = self.hearing.led();
        vote == before && !led.is_heard(self.election_max)
    }

    /// Whether a majority of the voters, this one included, would vote for this one.
    async fn majority_would_vote(&self) -> bool {
        #[cfg(test)]
        self.caller.asks_for_votes();
        let mut agree = BTreeSet::from([self.me]);
        let mut asked = JoinSet::new();
        let candidacy = self.candidacy();
        for id in self.electorate.voters().into_iter().filter(|id| *id != self.me) {
            asked.spawn(bootstrap::asks(self.links.clone(), id, candidacy.clone(), self.election_min));
        }
        let mut may_agree = self.electorate.voters();
        // Each of them has that long, too.
        let mut until = Instant::now() + self.election_min;
        while !self.electorate.is_majority(|id| agree.contains(&id)) {
            match timeout_at(until, asked.join_next()).await {
                Ok(Some(Ok((id, true)))) => {
                    agree.insert(id);
                }
                Ok(Some(Ok((id, false)))) => {
                    may_agree.remove(&id);
                    // Who refuses has the longer log, or asks as well: nobody is refused meanwhile for the sake of this one, and
                    // the others, of which one may say nothing, are not waited for as long.
                    self.hearing.promise(|promise| promise.take_back(self.me));
                    until = until.min(Instant::now() + self.election_min / ANSWERS);
                }
                Ok(Some(Err(_))) => {}
                Err(_) | Ok(None) => return false,
            }
            if !self.electorate.is_majority(|id| may_agree.contains(&id)) {
                return false;
            }
        }
        true
    }

    fn candidacy(&self) -> proto::Candidacy {
        let last_log =
            self.hearing.own_log().map(|(term, leader, index)| proto::LogEnd { term, index, leader: Some(leader) });
        proto::Candidacy { last_log, founders: self.log.standing().founders_to_send() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = ms(300);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_voter_would_vote_for_a_log_that_is_not_behind_its_own_while_it_hears_no_leader() {
        let own = Some((5, 1, 10));
        for (what, led, candidate, expected) in [
            ("nobody leads", LedBy::Nobody, own, true),
            ("a longer log", LedBy::Nobody, Some((5, 1, 11)), true),
            ("a newer log", LedBy::Nobody, Some((6, 1, 1)), true),
            ("a shorter log", LedBy::Nobody, Some((5, 1, 9)), false),
            ("a longer log of the leader before in this term", LedBy::Nobody, Some((5, 0, 90)), false),
            ("a shorter log of the leader after in this term", LedBy::Nobody, Some((5, 2, 1)), true),
            ("an older log", LedBy::Nobody, Some((4, 1, 90)), false),
            ("no log", LedBy::Nobody, None, false),
            ("a leader that was heard", LedBy::Another(MAX), Some((6, 1, 1)), false),
            ("a leader that is missed", LedBy::Another(MAX + ms(1)), own, true),
            ("a leader that is missed, and a shorter log", LedBy::Another(MAX * 9), Some((5, 1, 9)), false),
            ("it leads", LedBy::Itself(true), Some((6, 1, 1)), false),
            ("it leads and nobody follows", LedBy::Itself(false), own, true),
        ] {
            assert_eq!(would_vote(led, MAX, own, candidate), expected, "{what}");
        }
        assert!(would_vote(LedBy::Nobody, MAX, None, None), "nobody has anything");
    }

    #[test]
    fn a_voter_promises_its_vote_to_one_at_a_time() {
        let (a, b, now) = (BrokerId(1), BrokerId(2), Instant::now());
        let mut promise = Promise::default();
        assert!(promise.give(a, now, ms(75)));
        assert!(promise.give(a, now + ms(50), ms(75)), "it asks again");
        assert!(!promise.give(b, now + ms(74), ms(75)));
        assert!(promise.give(b, now + ms(75), ms(75)), "what came of it would be known by now");
        promise.take_back(a);
        assert!(!promise.give(a, now + ms(80), ms(75)), "that was another's");
        promise.take_back(b);
        assert!(promise.give(a, now + ms(80), ms(75)));
    }

    #[test]
    fn a_voter_asks_after_as_long_as_openraft_waits() {
        let random = ms(200);
        for (what, led, quiet, alone, stands, expected) in [
            ("just voted", LedBy::Nobody, ms(199), false, false, false),
            ("nothing came of it", LedBy::Nobody, random, false, true, true),
            ("a leader that was heard", LedBy::Another(ms(499)), ms(499), false, false, false),
            ("a leader that is missed", LedBy::Another(ms(500)), ms(500), false, false, true),
            ("the only voter", LedBy::Nobody, ms(0), true, false, true),
            ("the only voter, which stands", LedBy::Nobody, ms(0), true, true, false),
            ("the only voter, led by one that goes", LedBy::Another(ms(0)), ms(0), true, false, false),
            ("a leader", LedBy::Itself(false), MAX * 9, false, false, false),
        ] {
            assert_eq!(is_time(led, quiet, (MAX, random), alone, stands), expected, "{what}");
        }
    }

    #[test]
    fn a_leader_waits_longer_for_who_is_at_something_large_and_not_for_ever() {
        for (unfollowed, silent, expected) in [
            (ms(2_999), ms(2_999), false),
            (ms(3_000), ms(3_000), true),
            (ms(3_000), ms(0), false),
            (ms(29_999), ms(2_999), false),
            (ms(30_000), ms(0), true),
        ] {
            assert_eq!(gives_up(unfollowed, silent, ms(300)), expected, "{unfollowed:?} {silent:?}");
        }
        assert!(!gives_up(ms(30_000), ms(0), ms(9_000)), "a long session is longer than that");
    }

    #[test]
    fn a_pause_of_the_process_is_no_silence_of_the_leader() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start, ms(100));
        assert_eq!(quiet.passes(start + ms(40)), ms(40));
        assert_eq!(quiet.is(start + ms(90)), ms(90), "between two looks");
        assert_eq!(quiet.passes(start + ms(90)), ms(90));
        assert_eq!(quiet.passes(start + ms(60_000)), ms(190), "it was not there");
        quiet.ends(start + ms(60_010));
        assert_eq!(quiet.passes(start + ms(60_030)), ms(20));
        assert_eq!(quiet.is(start), ms(20), "clocks of two threads");
    }
}
