//! How long the disk has been at what it is doing, known without its help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Since when a round has been under way without any progress, for whoever wonders whether it will end. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pulse {
    origin: Instant,
    /// Microseconds from the origin to the begin of the round, or to its last progress, plus one; 0 between rounds.
    since: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), since: Arc::default() }
    }
}

impl Pulse {
    /// How long ago the round that is under way began, or the disk last did a part of it; zero if there is none.
    pub fn age(&self) -> Duration {
        match self.since.load(Ordering::Relaxed).checked_sub(1) {
            Some(since) => self.origin.elapsed().saturating_sub(Duration::from_micros(since)),
            None => Duration::ZERO,
        }
    }

    /// A round begins, unless one is under way.
    pub fn begin(&self) {
        let _ = self.since.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The disk has done a part of the round, and is not at the same thing any more: a disk that is slow does not hang.
    pub(crate) fn beat(&self) {
        let since = self.since.load(Ordering::Relaxed);
        if since != 0 {
            // The round may end meanwhile: threads beside the writer's beat as well.
            let _ = self.since.compare_exchange(since, self.now(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// All that was begun is finished.
    pub fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ages_from_its_begin_to_its_end() {
        let pulse = Pulse::default();
        assert_eq!(pulse.age(), Duration::ZERO);
        pulse.begin();
        while pulse.age() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        pulse.begin();
        assert!(pulse.clone().age() >= Duration::from_millis(1), "it is the same round");
        pulse.end();
        assert_eq!(pulse.age(), Duration::ZERO);
    }
}
