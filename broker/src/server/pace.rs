//! How fast a client must send what it has begun, and take what it has asked for.

use std::time::Duration;
use tokio::time::Instant;

/// What a frame must bring, and how much of an answer must be taken, in the long run, in bytes a second. Far below what
/// any link that records are sent over has; but what is held of the broker's memory costs its holder something.
pub(super) const MIN_RATE: usize = 8 << 10;

/// How fast bytes come or go.
pub(super) struct Pace {
    /// When they began to; later by what the broker made them wait.
    started: Instant,
    moved: usize,
    stall: Duration,
}

impl Pace {
    /// Begins now. `stall` is how long nothing may move, and how far all may lag behind [`MIN_RATE`].
    pub(super) fn new(stall: Duration) -> Self {
        Self { started: Instant::now(), moved: 0, stall }
    }

    /// So many bytes have come, or gone.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
    }

    /// When the next bytes must move. What is in a hurry gets no more time for what it has moved.
    pub(super) fn next_by(&self, hurry: bool) -> Instant {
        let earned = Duration::from_millis((self.moved / (MIN_RATE / 1000)) as u64);
        let in_all = self.started + self.stall + if hurry { Duration::ZERO } else { earned };
        in_all.min(Instant::now() + self.stall)
    }

    /// Waits for the broker, which does not count.
    pub(super) async fn pause<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let got = wait.await;
        self.started += begin.elapsed();
        got
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_what_has_moved_only() {
        let (started, stall) = (Instant::now(), Duration::from_secs(30));
        let pace = |moved| Pace { started, moved, stall };
        assert!(pace(5).next_by(false) <= started + stall + Duration::from_secs(1));
        // The silence before it is bounded as well, however much has come.
        assert!(pace(100 << 20).next_by(false) <= Instant::now() + stall);
        assert!(pace(100 << 20).next_by(true) <= started + stall);
        let begun_earlier = |moved| Pace { started: started - stall, moved, stall };
        assert!(begun_earlier(0).next_by(false) <= started);
        assert!(begun_earlier(MIN_RATE * 10).next_by(false) >= started + Duration::from_secs(10));
    }
}
