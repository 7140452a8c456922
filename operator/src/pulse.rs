//! Whether the operator gets on: what `/livez` says.
//!
//! A restart cures a loop that hangs, and nothing else: an API server that does not answer is no reason for one, as every
//! request has a deadline and its failure is progress too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any wait between two reconciles of a cluster, and than any of them may take.
pub const STUCK_AFTER: Duration = Duration::from_mins(12);
/// The same for an instance that stands by, which looks at its Lease every few seconds.
pub const STANDBY_STUCK_AFTER: Duration = Duration::from_mins(2);

/// The last sign of progress of each loop, by its name, and how long it may take until the next. Cheap to clone; all
/// clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    loops: Arc<Mutex<BTreeMap<String, State>>>,
}

#[derive(Debug)]
struct State {
    last: Instant,
    within: Option<Duration>,
}

impl Pulse {
    /// There was progress; the next is expected within that time, or never if there is nothing to do.
    pub fn beat(&self, name: &str, now: Instant, within: Option<Duration>) {
        self.lock().insert(name.to_owned(), State { last: now, within });
    }

    /// There is something to do from now on, or not any more. That is no progress.
    pub fn expect(&self, name: &str, now: Instant, within: Option<Duration>) {
        let mut loops = self.lock();
        let expected = loops.get(name).is_some_and(|state| state.within.is_some());
        if expected != within.is_some() {
            loops.insert(name.to_owned(), State { last: now, within });
        }
    }

    /// Whether progress of any loop is overdue.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let overdue =
            |state: &State| state.within.is_some_and(|within| now.saturating_duration_since(state.last) > within);
        self.lock().values().any(overdue)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_when_progress_is_expected_and_does_not_come() {
        let (pulse, start, minute) = (Pulse::default(), Instant::now(), Duration::from_mins(1));
        assert!(!pulse.is_stuck(start + 100 * minute), "nothing to do");
        pulse.expect("loop", start, Some(minute));
        pulse.expect("loop", start + minute, Some(minute));
        assert!(pulse.is_stuck(start + 2 * minute), "to expect is no progress");
        pulse.beat("loop", start + 2 * minute, Some(minute));
        assert!(!pulse.is_stuck(start + 3 * minute));
        assert!(pulse.is_stuck(start + 3 * minute + Duration::from_secs(1)));
        pulse.expect("loop", start + 4 * minute, None);
        assert!(!pulse.is_stuck(start + 100 * minute), "nothing to do any more");
    }

    #[test]
    fn one_loop_that_is_stuck_is_enough() {
        let (pulse, start, minute) = (Pulse::default(), Instant::now(), Duration::from_mins(1));
        pulse.beat("one", start, Some(minute));
        pulse.beat("other", start + minute, Some(minute));
        assert!(!pulse.is_stuck(start + minute));
        assert!(pulse.is_stuck(start + 2 * minute));
    }
}
