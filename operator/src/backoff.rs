//! How long to wait before a failed reconcile is tried again, whatever wakes it meanwhile.

use rand::Rng;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row, by object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: HashMap<K, Failure>,
}

#[derive(Debug)]
struct Failure {
    count: u32,
    until: Instant,
    /// The generation of the object that it failed with: another one may do better.
    generation: Option<i64>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: HashMap::new() }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Another failure: how long to wait. It doubles from 1 s to 5 min, less up to half of it by chance.
    pub fn failed(&mut self, key: K, generation: Option<i64>, now: Instant, random: &mut impl Rng) -> Duration {
        let count = self.failures.get(&key).map_or(0, |failure| failure.count);
        let ceiling = FIRST.saturating_mul(1 << count.min(20)).min(LONGEST);
        let wait = ceiling.mul_f64(random.random_range(0.5..=1.0));
        self.failures.insert(key, Failure { count: count.saturating_add(1), until: now + wait, generation });
        wait
    }

    /// How long this object, as it is now, is not to be tried yet; what woke it was its own status, or an object of its.
    pub fn holds(&self, key: &K, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let failure = self.failures.get(key).filter(|failure| failure.generation == generation)?;
        Some(failure.until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Whether it failed when it was tried last.
    pub fn failed_last(&self, key: &K) -> bool {
        self.failures.contains_key(key)
    }

    /// A success: the next failure is a first one.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// How many objects failed last.
    pub fn failing(&self) -> usize {
        self.failures.len()
    }

    /// Forgets the objects that are gone.
    pub fn retain(&mut self, exists: impl Fn(&K) -> bool) {
        self.failures.retain(|key, _| exists(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn waits_double_up_to_a_ceiling_and_start_over_after_a_success() {
        let (mut backoff, mut random, now) = (Backoff::default(), StdRng::seed_from_u64(1), Instant::now());
        for ceiling in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = backoff.failed("a", None, now, &mut random);
            let ceiling = Duration::from_secs(ceiling);
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} of {ceiling:?}");
        }
        backoff.forget(&"a");
        assert!(backoff.failed("a", None, now, &mut random) <= FIRST);
    }

    #[test]
    fn nothing_but_a_changed_spec_or_the_end_of_the_wait_lets_it_be_tried_again() {
        let (mut backoff, mut random, now) = (Backoff::default(), StdRng::seed_from_u64(1), Instant::now());
        let wait = backoff.failed("a", Some(1), now, &mut random);
        assert_eq!(backoff.holds(&"a", Some(1), now), Some(wait));
        assert_eq!(backoff.holds(&"a", Some(2), now), None);
        assert_eq!(backoff.holds(&"b", Some(1), now), None);
        assert_eq!(backoff.holds(&"a", Some(1), now + wait), None);
        backoff.forget(&"a");
        assert_eq!(backoff.holds(&"a", Some(1), now), None);
    }

    #[test]
    fn an_object_that_is_gone_leaves_nothing_behind() {
        let (mut backoff, mut random) = (Backoff::default(), StdRng::seed_from_u64(1));
        for key in ["a", "b"] {
            backoff.failed(key, None, Instant::now(), &mut random);
        }
        assert_eq!(backoff.failing(), 2);
        backoff.retain(|key| *key == "b");
        assert_eq!(backoff.failing(), 1);
        assert_eq!(backoff.failures.into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn one_object_does_not_wait_for_anothers_failures() {
        let (mut backoff, mut random) = (Backoff::default(), StdRng::seed_from_u64(1));
        for _ in 0..10 {
            backoff.failed("a", None, Instant::now(), &mut random);
        }
        assert!(backoff.failed("b", None, Instant::now(), &mut random) <= FIRST);
    }
}
