//! The shell of a shard: what the broker's `coordinators/shard` does, without its log and clock.

use crate::rng::Rng;
use chronik_core::groups::{Command, Config, Event, Now, Request, Shard, Ticket};
use chronik_core::time::Instant;
use std::collections::BTreeMap;

/// A request that a coordinator has and has not answered.
#[derive(Debug)]
pub(super) struct Asked {
    /// Whose.
    pub(super) client: usize,
    /// Which of this client's requests.
    pub(super) sequence: u64,
    pub(super) request: Request,
    /// Where the committed log ended when it came.
    pub(super) since: usize,
}

/// One leadership of the partition.
#[derive(Debug)]
pub(super) struct Coordinator {
    /// Events of earlier ones are recognised by it.
    pub(super) number: u64,
    shard: Shard,
    /// Its monotonic clock when the simulation's shows 0.
    origin_us: u64,
    /// How far its wall clock is ahead.
    ahead_ms: i64,
    next_ticket: u64,
    pub(super) asked: BTreeMap<Ticket, Asked>,
    pub(super) loaded: bool,
    /// The process stands still until then.
    pub(super) paused_until: u64,
}

impl Coordinator {
    pub(super) fn new(number: u64, config: Config, rng: &mut Rng) -> Self {
        Self {
            number,
            shard: Shard::new(config),
            origin_us: rng.within(0, 1 << 40),
            ahead_ms: i64::try_from(rng.within(0, 1_200_000)).unwrap_or(0) - 600_000,
            next_ticket: 0,
            asked: BTreeMap::new(),
            loaded: false,
            paused_until: 0,
        }
    }

    /// Names a request.
    pub(super) fn ticket(&mut self, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.asked.insert(ticket, asked);
        ticket
    }

    /// Takes a step at that time of the simulation's.
    pub(super) fn step(&mut self, now_us: u64, event: Event) -> Vec<Command> {
        let now = Now {
            monotonic: Instant(self.origin_us + now_us),
            wall_ms: 1_700_000_000_000 + self.ahead_ms + i64::try_from(now_us / 1_000).unwrap_or(0),
        };
        let mut out = Vec::new();
        self.shard.step(now, event, &mut out);
        out
    }

    /// A moment of its clock, by the simulation's.
    pub(super) fn simulated(&self, at: Instant) -> u64 {
        at.0.saturating_sub(self.origin_us)
    }
}
