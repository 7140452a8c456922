//! How fast rounds may follow each other, so that checkpoints keep up.
//!
//! A start replays what came since the last finished checkpoint, which is bounded. Where checkpoints do not keep up with
//! what is written, rounds are not stopped at that bound: from half of it on each is followed by a pause, which grows until
//! no more is written than checkpoints are known to bring to the segments.

use std::time::{Duration, Instant};

/// Bytes that one round takes at most, but for an operation that is larger by itself.
const MAX_ROUND_BYTES: usize = 8 * 1024 * 1024;
/// The same while rounds are slowed, so that no pause is long.
const SLOWED_ROUND_BYTES: usize = 1024 * 1024;
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// How fast a log's checkpoints are, and what that means for its rounds.
pub(super) struct Pace {
    /// Bytes that a start may have to replay, but for one round.
    bound: u64,
    /// Bytes of the checkpoint that is under way, and when it began.
    begun: Option<(u64, Instant)>,
    /// Bytes a second that the last checkpoint brought to the segments.
    rate: Option<f64>,
}

impl Pace {
    /// `checkpoint_bytes` come between the begins of two checkpoints, at least.
    pub(super) fn new(checkpoint_bytes: u64) -> Self {
        Self { bound: checkpoint_bytes.saturating_mul(4), begun: None, rate: None }
    }

    /// A checkpoint of `unreplayed` bytes begins.
    pub(super) fn begins(&mut self, unreplayed: u64) {
        self.begun = Some((unreplayed, Instant::now()));
    }

    /// It has ended.
    pub(super) fn ends(&mut self) {
        if let Some((bytes, at)) = self.begun.take() {
            self.rate = Some(bytes as f64 / at.elapsed().as_secs_f64().max(1e-3));
        }
    }

    /// Whether rounds have to wait for the checkpoint that is under way.
    pub(super) fn is_overdue(&self, unreplayed: u64) -> bool {
        unreplayed >= self.bound
    }

    pub(super) fn max_round_bytes(&self, unreplayed: u64) -> usize {
        if self.slowed(unreplayed) > 0.0 { SLOWED_ROUND_BYTES } else { MAX_ROUND_BYTES }
    }

    /// What comes after a round of `bytes`.
    pub(super) fn pause(&self, bytes: usize, unreplayed: u64) -> Duration {
        let (slowed, Some(rate)) = (self.slowed(unreplayed), self.rate) else { return Duration::ZERO };
        Duration::from_secs_f64(slowed * bytes as f64 / rate.max(1.0)).min(MAX_PAUSE)
    }

    /// How far it is from half of the bound to the bound: 0 to 1.
    fn slowed(&self, unreplayed: u64) -> f64 {
        if self.begun.is_none() {
            return 0.0;
        }
        let half = (self.bound / 2).max(1);
        (unreplayed.saturating_sub(half) as f64 / half as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_slowed_from_half_of_the_bound_until_they_are_as_slow_as_checkpoints() {
        let mut pace = Pace::new(100);
        let slow = |pace: &Pace, unreplayed| pace.pause(1_000, unreplayed);
        pace.begins(100);
        assert_eq!(slow(&pace, 400), Duration::ZERO, "nothing is known of checkpoints yet");
        pace.rate = Some(20_000.0);
        assert_eq!([0, 200, 300, 400, 900].map(|n| slow(&pace, n).as_millis()), [0, 0, 25, 50, 50]);
        pace.rate = Some(1.0);
        assert_eq!(slow(&pace, 400), MAX_PAUSE);
        assert_eq!([200, 201].map(|n| pace.max_round_bytes(n)), [MAX_ROUND_BYTES, SLOWED_ROUND_BYTES]);
        assert_eq!([399, 400].map(|n| pace.is_overdue(n)), [false, true]);
        pace.ends();
        assert_eq!(slow(&pace, 400), Duration::ZERO, "there is no checkpoint to wait for");
    }
}
