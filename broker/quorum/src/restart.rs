//! A voter that comes back. Usually all that there were come back, or one whose place nobody has taken yet: so who led
//! when it stopped stands for election as soon as a majority says that nobody leads, and the others leave it that
//! chance. When all of them stood at once, votes would be split, and be repeated after a timeout.
//!
//! openraft has a voter that follows a leader refuse others for `election_max`: a leader that was heard that lately is
//! there. A voter keeps to it across a restart, reckoned from its start, but for the leader itself: who asks to be elected
//! leads no more.

use super::bootstrap;
use super::electorate::Electorate;
use super::links::Links;
use super::types::Raft;
use chronik_core::ids::BrokerId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Between probes of one voter.
const PAUSE: Duration = Duration::from_millis(20);

/// What a voter knows of the time before it stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    me: BrokerId,
    /// Who led, if anybody did.
    led_by: Option<BrokerId>,
    /// Until when a leader that is another broker is waited for.
    until: Instant,
}

impl Past {
    pub(super) fn new(me: BrokerId, led_by: Option<BrokerId>, wait: Duration) -> Self {
        Self { me, led_by, until: Instant::now() + wait }
    }

    /// Whether this voter was led by another one, which may come back.
    fn waits(&self) -> bool {
        self.led_by.is_some_and(|leader| leader != self.me)
    }

    /// Until when, if it was.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.waits().then_some(self.until)
    }

    /// Whether that one is still waited for, and is not the candidate.
    pub(super) fn waits_for_another_than(&self, candidate: BrokerId) -> bool {
        self.led_by != Some(candidate) && self.waits() && Instant::now() < self.until
    }

    /// Whether nobody else than this one led when this voter stopped, as far as it knows.
    pub(super) fn was_led_by_none_but(&self, candidate: BrokerId) -> bool {
        self.led_by.is_none_or(|leader| leader == candidate)
    }
}

/// The task of a voter that has come back.
pub(super) struct Restart {
    pub(super) me: BrokerId,
    pub(super) past: Past,
    /// The shortest election timeout.
    pub(super) election_min: Duration,
    pub(super) electorate: Electorate,
    pub(super) raft: Raft,
    pub(super) links: Links,
}

impl Restart {
    /// Stands for election if this one led and nobody does now. After that it is a voter like any other.
    pub(super) async fn run(self) {
        if self.past.led_by == Some(self.me) && self.electorate.is_voter(self.me) && self.nobody_leads().await {
            // It fails only when raft has stopped.
            let _ = self.raft.trigger().elect().await;
        }
    }

    /// Whether a majority of the voters knows of no leader, and of none after this one. Asks for as long as a voter waits
    /// that nobody led.
    async fn nobody_leads(&self) -> bool {
        let deadline = Instant::now() + self.election_min;
        let mut probes = JoinSet::new();
        for id in self.electorate.voters().into_iter().filter(|id| *id != self.me) {
            probes.spawn(bootstrap::probe(self.links.clone(), id, Duration::ZERO));
        }
        let mut leaderless = BTreeSet::from([self.me]);
        // The only voter is a majority by itself.
        if self.electorate.is_majority(|id| leaderless.contains(&id)) {
            return true;
        }
        while let Ok(Some(Ok((id, answer)))) = timeout_at(deadline, probes.join_next()).await {
            match answer {
                Some(answer) if !answer.leaderless => return false,
                Some(_) => {
                    leaderless.insert(id);
                }
                None => {
                    probes.spawn(bootstrap::probe(self.links.clone(), id, PAUSE));
                }
            }
            if self.electorate.is_majority(|id| leaderless.contains(&id)) {
                return self.raft.server_metrics().borrow().current_leader.is_none();
            }
        }
        false
    }
}
