//! Who has accepted this broker as the leader of the quorum lately, and who is at something large that it was sent.

use super::electorate::Electorate;
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What peers' answers say. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Acks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// When each peer last accepted this broker as leader, and in which term, as of the sending of what it answered.
    accepted: HashMap<BrokerId, (u64, Instant)>,
    /// How many large messages are on their way to each peer, and when it was last at one.
    large: HashMap<BrokerId, (usize, Instant)>,
}

impl State {
    fn has_accepted(&self, id: BrokerId, term: u64, lately: Duration) -> bool {
        self.accepted.get(&id).is_some_and(|(t, at)| *t == term && at.elapsed() <= lately)
    }

    fn is_busy(&self, id: BrokerId, lately: Duration) -> bool {
        self.large.get(&id).is_some_and(|(under_way, at)| *under_way > 0 || at.elapsed() <= lately)
    }
}

/// A large message to a peer, from when it is sent over a connection until it is answered or given up.
pub(super) struct Large {
    acks: Acks,
    peer: BrokerId,
}

impl Drop for Large {
    fn drop(&mut self) {
        if let Some((under_way, at)) = self.acks.state().large.get_mut(&self.peer) {
            (*under_way, *at) = (under_way.saturating_sub(1), Instant::now());
        }
    }
}

impl Acks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accepted(&self, peer: BrokerId, term: u64, sent: Instant) {
        let mut state = self.state();
        let last = state.accepted.entry(peer).or_insert((term, sent));
        // What was long on its way is answered after what was sent later.
        *last = (*last).max((term, sent));
    }

    /// A large message is on its way to a peer until what is returned is dropped. The peer may be at it for long, and
    /// answers nothing else meanwhile.
    pub(super) fn sends_large(&self, peer: BrokerId) -> Large {
        self.state().large.entry(peer).or_insert_with(|| (0, Instant::now())).0 += 1;
        Large { acks: self.clone(), peer }
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
        let state = self.state();
        electorate.is_majority(|id| counted(id) && (id == me || state.has_accepted(id, term, lately)))
    }

    /// Whether it would be a majority with those that are at something large, or were lately.
    pub(super) fn by_majority_with_busy(
        &self,
        (me, term): (BrokerId, u64),
        electorate: &Electorate,
        lately: Duration,
    ) -> bool {
        let state = self.state();
        electorate.is_majority(|id| id == me || state.has_accepted(id, term, lately) || state.is_busy(id, lately))
    }

    /// When the peer had last accepted this broker as the leader of `term`.
    pub(super) fn of(&self, peer: BrokerId, term: u64) -> Option<Instant> {
        self.state().accepted.get(&peer).filter(|(t, _)| *t == term).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::StoredMembership;
    use super::*;
    use std::collections::BTreeSet;

    const LATELY: Duration = Duration::from_mins(1);

    fn of_three() -> Electorate {
        let voters: BTreeSet<BrokerId> = (0..3).map(BrokerId).collect();
        Electorate::new(StoredMembership::new(None, openraft::Membership::new(vec![voters], ())))
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_takes_no_place_of_a_later_one() {
        let (acks, peer, now) = (Acks::default(), BrokerId(1), Instant::now());
        let later = now + Duration::from_millis(1);
        acks.accepted(peer, 5, later);
        acks.accepted(peer, 5, now);
        assert_eq!(acks.of(peer, 5), Some(later));
        acks.accepted(peer, 6, now);
        assert_eq!((acks.of(peer, 5), acks.of(peer, 6)), (None, Some(now)), "another term counts anew");
    }

    #[test]
    fn who_is_at_something_large_is_waited_for_and_has_accepted_nothing() {
        let (acks, voters, me) = (Acks::default(), of_three(), (BrokerId(0), 5));
        let accepted = || acks.by_majority(me, &voters, |_| true, LATELY);
        let with_busy = |lately| acks.by_majority_with_busy(me, &voters, lately);
        assert!(!with_busy(LATELY));
        drop(acks.sends_large(BrokerId(7)));
        assert!(!with_busy(LATELY), "an observer makes no majority");
        let (first, second) = (acks.sends_large(BrokerId(1)), acks.sends_large(BrokerId(1)));
        assert!(with_busy(Duration::ZERO) && !accepted());
        drop(first);
        assert!(with_busy(Duration::ZERO), "there is another one");
        drop(second);
        assert!(with_busy(LATELY), "what comes next is on its way");
        let ended = Instant::now();
        while ended.elapsed() <= Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        assert!(!with_busy(Duration::from_millis(1)), "that was long ago");
        acks.accepted(BrokerId(1), 5, Instant::now());
        assert!(accepted() && with_busy(LATELY));
    }
}
