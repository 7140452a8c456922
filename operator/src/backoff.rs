//! How long to wait before a failed reconcile is tried again.

use rand::Rng;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row, by object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: HashMap<K, u32>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: HashMap::new() }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Another failure: how long to wait. It doubles from 1 s to 5 min, less up to half of it by chance.
    pub fn failed(&mut self, key: K, random: &mut impl Rng) -> Duration {
        let failures = self.failures.entry(key).or_default();
        let ceiling = FIRST.saturating_mul(1 << (*failures).min(20)).min(LONGEST);
        *failures = failures.saturating_add(1);
        ceiling.mul_f64(random.random_range(0.5..=1.0))
    }

    /// A success: the next failure is a first one.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
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
        let (mut backoff, mut random) = (Backoff::default(), StdRng::seed_from_u64(1));
        for ceiling in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = backoff.failed("a", &mut random);
            let ceiling = Duration::from_secs(ceiling);
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} of {ceiling:?}");
        }
        backoff.forget(&"a");
        assert!(backoff.failed("a", &mut random) <= FIRST);
    }

    #[test]
    fn an_object_that_is_gone_leaves_nothing_behind() {
        let (mut backoff, mut random) = (Backoff::default(), StdRng::seed_from_u64(1));
        for key in ["a", "b"] {
            backoff.failed(key, &mut random);
        }
        backoff.retain(|key| *key == "b");
        assert_eq!(backoff.failures.into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn one_object_does_not_wait_for_anothers_failures() {
        let (mut backoff, mut random) = (Backoff::default(), StdRng::seed_from_u64(1));
        for _ in 0..10 {
            backoff.failed("a", &mut random);
        }
        assert!(backoff.failed("b", &mut random) <= FIRST);
    }
}
