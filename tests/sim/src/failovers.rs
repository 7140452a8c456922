//! A controller that fails over, in some of the worlds: for a while there is none, and then another one begins with what the
//! metadata log says and nothing else. What its predecessor knew by itself is gone: who was heard and when, and who has yet
//! to hear of a leadership that it has lost.
//!
//! A command that was on its way is committed or not. Who has proposed it hears nothing either way.

use crate::activity::Activity;
use crate::options::{Kind, Options};
use crate::rng::Rng;
use crate::world::{Happening, World, note};

/// Between two of them at most.
const GAP_US: u64 = 4_000_000;
/// So long nobody is there, at most: longer than a session.
const AWAY_US: u64 = 1_500_000;

/// Whether and when. The chances are drawn apart from those of the world.
#[derive(Debug)]
pub(crate) struct Failovers {
    rng: Rng,
    some: bool,
    away_until_us: u64,
}

impl Failovers {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed.rotate_left(20) ^ 0x6661_696c_6f76_6572);
        let some = rng.per_mille(300) && options.has(Kind::Failovers);
        Self { rng, some, away_until_us: 0 }
    }

    /// The controller is there from now on.
    pub(crate) fn end(&mut self) {
        self.away_until_us = 0;
    }
}

impl World {
    pub(crate) fn first_failover(&mut self) {
        if self.failovers.some {
            self.next_failover();
        }
    }

    fn next_failover(&mut self) {
        let at = self.now_us.max(self.failovers.away_until_us) + self.failovers.rng.within(1_000, GAP_US);
        self.at(at, Happening::Failover);
    }

    /// The controller is gone.
    pub(crate) fn fail_over(&mut self) {
        if self.faults.over {
            return;
        }
        let longest = if self.failovers.rng.per_mille(700) { AWAY_US / 10 } else { AWAY_US };
        let away_us = self.failovers.rng.within(1_000, longest);
        note!(self, "the controller fails over, which takes {away_us} us");
        self.counts.note(Activity::ControllerFailover);
        self.failovers.away_until_us = self.now_us + away_us;
        self.controller.begin_anew(self.failovers.away_until_us);
        self.next_failover();
    }

    /// Whether nobody is there who hears brokers.
    pub(crate) fn is_controller_away(&self) -> bool {
        self.now_us < self.failovers.away_until_us
    }

    /// Whether what is asked for while the controller is away is committed, though nobody hears of it.
    pub(crate) fn commits_unheard(&mut self) -> bool {
        let committed = self.failovers.rng.per_mille(500);
        if committed {
            self.counts.note(Activity::CommittedUnheard);
        }
        committed
    }

    /// Whether the controller carries out what it is asked for: if it is away, perhaps.
    pub(crate) fn controller_takes(&mut self) -> bool {
        !self.is_controller_away() || self.commits_unheard()
    }
}
