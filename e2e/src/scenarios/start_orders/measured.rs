//! How long starts took, and whether that is what is promised.

use anyhow::ensure;
use std::fmt;
use std::time::Duration;

/// The orders in which three brokers can be started.
pub(super) const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
/// Between the start of the first broker and that of the second, where they are started one after another.
pub(super) const LONG_GAP: Duration = Duration::from_secs(30);
/// What the median of the runs may take, in milliseconds.
pub(super) const MEDIAN_MAX_MS: i64 = 1_000;
/// What 95 % of the starts of all at once may take, in milliseconds.
const MOST_MAX_MS: i64 = 2_000;
/// How often all are started at once before a promise counts as broken: 95 % means nothing for less.
const ENOUGH_AT_ONCE: usize = 20;
/// The same for one order of brokers that are started one after another: one slow run does not tell what it takes, as
/// kube-proxy takes up changes once a second, whatever they are, and the machine may be busy.
const ENOUGH_APART: usize = 5;
/// What counts on a machine that others use too: nothing may have waited for a name.
const SHARED_MAX_MS: i64 = 10_000;

/// How the three brokers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    AtOnce,
    /// In this order, the second one [`LONG_GAP`] after the first.
    Apart([usize; 3]),
}

/// How long starts took, run by run.
pub(super) struct Measured {
    starts: Starts,
    /// Milliseconds; none where nothing was acknowledged, or the run failed.
    ms: Vec<Option<i64>>,
}

impl Measured {
    pub(super) fn new(starts: Starts) -> Self {
        Self { starts, ms: Vec::new() }
    }

    pub(super) fn push(&mut self, ms: Option<i64>) {
        self.ms.push(ms);
    }

    pub(super) fn runs(&self) -> usize {
        self.ms.len()
    }

    /// Whether the promise is not kept so far, and more runs may show that it is.
    pub(super) fn is_worth_another_run(&self) -> bool {
        let enough = match self.starts {
            Starts::AtOnce => ENOUGH_AT_ONCE,
            Starts::Apart(_) => ENOUGH_APART,
        };
        let mut at_best = Self { starts: self.starts, ms: self.ms.clone() };
        at_best.ms.resize(enough.max(self.runs()), Some(0));
        self.runs() < enough && !self.keeps_promise() && at_best.keeps_promise()
    }

    fn keeps_promise(&self) -> bool {
        let late = self.ms.iter().flatten().filter(|ms| **ms > MOST_MAX_MS).count();
        let most = self.starts != Starts::AtOnce || late * 20 <= self.runs();
        self.succeeded() && self.median() <= Some(MEDIAN_MAX_MS) && most
    }

    fn succeeded(&self) -> bool {
        !self.ms.is_empty() && self.ms.iter().all(Option::is_some)
    }

    /// The middle one, or the greater one of the two in the middle.
    fn median(&self) -> Option<i64> {
        median(self.ms.iter().flatten().copied())
    }

    /// What 95 % took at most.
    fn most(&self) -> Option<i64> {
        let mut all = self.ms.iter().flatten().copied().collect::<Vec<_>>();
        all.sort_unstable();
        let beyond = all.len() / 20;
        all.iter().rev().nth(beyond).copied()
    }
}

fn median(all: impl Iterator<Item = i64>) -> Option<i64> {
    let mut all = all.collect::<Vec<_>>();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |ms: &Option<i64>| ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let all = self.ms.iter().map(said).collect::<Vec<_>>().join(", ");
        match self.starts {
            Starts::AtOnce => write!(f, "at once        {all}")?,
            Starts::Apart([a, b, c]) => write!(f, "{a} {b} {c}  {:>3} s   {all}", LONG_GAP.as_secs())?,
        }
        if self.runs() > 1 {
            write!(f, "; median {}", said(&self.median()))?;
        }
        if self.runs() > 1 && self.starts == Starts::AtOnce {
            write!(f, ", 95 % within {}", said(&self.most()))?;
        }
        Ok(())
    }
}

/// A start after which nothing was acknowledged fails always; only how long the others took is judged less strictly.
pub(super) fn judge(at_once: &Measured, apart: &[Measured], strict: bool) -> anyhow::Result<()> {
    let all = || std::iter::once(at_once).chain(apart);
    let those = |wanted: fn(&Measured) -> bool| {
        all().filter(|measured| wanted(measured)).map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let failed = those(|measured| !measured.succeeded());
    ensure!(failed.is_empty(), "no write was acknowledged, or the run failed: {failed}");
    let late = those(|measured| !measured.keeps_promise());
    ensure!(
        late.is_empty() || !strict,
        "more than {MEDIAN_MAX_MS} ms, or than {MOST_MAX_MS} ms in more than 5 % of the starts at once: {late}"
    );
    let of_apart = median(apart.iter().filter_map(Measured::median));
    for most in [at_once.median(), of_apart] {
        ensure!(most <= Some(SHARED_MAX_MS), "most starts took more than {SHARED_MAX_MS} ms");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(starts: Starts, ms: &[i64]) -> Measured {
        Measured { starts, ms: ms.iter().copied().map(Some).collect() }
    }

    fn orders(ms: [&[i64]; 6]) -> [Measured; 6] {
        std::array::from_fn(|i| measured(Starts::Apart(ORDERS[i]), ms[i]))
    }

    /// So many starts at once that took so long each.
    fn at_once(times: &[(usize, i64)]) -> Measured {
        let ms = times.iter().flat_map(|(count, ms)| vec![*ms; *count]).collect::<Vec<_>>();
        measured(Starts::AtOnce, &ms)
    }

    #[test]
    fn of_starts_at_once_half_take_a_second_and_95_percent_two() {
        for (times, keeps) in [
            (&[(20, 1_000)][..], true),
            (&[(11, 1_000), (9, 2_000)], true),
            (&[(10, 1_000), (10, 1_001)], false),
            (&[(19, 500), (1, 9_000)], true),
            (&[(18, 500), (2, 2_001)], false),
            (&[(5, 500), (1, 2_001)], false),
        ] {
            let judged = judge(&at_once(times), &orders([&[1]; 6]), true);
            assert_eq!(judged.is_ok(), keeps, "{times:?}: {judged:?}");
        }
    }

    #[test]
    fn the_median_of_an_orders_runs_is_what_counts() {
        let quick: &[i64] = &[500];
        let one_of = |ms| judge(&at_once(&[(1, 1)]), &orders([quick, quick, ms, quick, quick, quick]), true).is_ok();
        assert!(one_of(&[1_500, 200, 900]));
        assert!(one_of(&[5_000, 200, 900]));
        assert!(!one_of(&[1_500, 1_001, 900]));
    }

    #[test]
    fn what_is_slow_is_run_again_until_enough_runs_say_so_or_none_can_help() {
        let again = |ms: &[i64]| measured(Starts::Apart(ORDERS[0]), ms).is_worth_another_run();
        assert!(!again(&[1_000]));
        assert!(again(&[1_001]));
        assert!(again(&[1_001, 500]));
        assert!(!again(&[1_001, 500, 500]));
        assert!(again(&[1_001, 500, 500, 1_001]));
        assert!(!again(&[1_001, 500, 500, 1_001, 1_001]));
        assert!(!again(&[1_001, 1_001, 1_001]), "two more runs are no majority");
        for (times, again) in [
            (&[(6, 500)][..], false),
            (&[(5, 500), (1, 3_000)], true),
            (&[(4, 500), (2, 3_000)], false),
            (&[(2, 500), (4, 1_500)], true),
            (&[(9, 500), (10, 1_500)], false),
            (&[(18, 500), (2, 3_000)], false),
        ] {
            assert_eq!(at_once(times).is_worth_another_run(), again, "{times:?}");
        }
    }

    #[test]
    fn only_the_milliseconds_are_relaxed() {
        let (quick, slow, never): (&[i64], &[i64], &[i64]) = (&[500], &[20_000], &[]);
        for (first, times, strict, relaxed) in [
            (quick, [quick; 6], true, true),
            (&[5_000], [quick; 6], false, true),
            (slow, [quick; 6], false, false),
            (quick, [quick, quick, &[5_000], quick, slow, quick], false, true),
            (quick, [quick, quick, slow, slow, slow, slow], false, false),
            (quick, [quick, quick, quick, quick, quick, never], false, false),
        ] {
            let judged = |strict| judge(&measured(Starts::AtOnce, first), &orders(times), strict).is_ok();
            assert_eq!((judged(true), judged(false)), (strict, relaxed), "{first:?} {times:?}");
        }
        let mut failed = at_once(&[(19, 1)]);
        failed.push(None);
        assert!(judge(&failed, &orders([quick; 6]), false).is_err());
        assert!(!failed.is_worth_another_run());
    }

    #[test]
    fn what_95_percent_took_is_said() {
        let said = |times: &[(usize, i64)]| at_once(times).to_string();
        assert!(said(&[(19, 500), (1, 9_000)]).ends_with("; median 500 ms, 95 % within 500 ms"));
        assert!(said(&[(18, 500), (2, 2_500)]).ends_with("; median 500 ms, 95 % within 2500 ms"));
        assert!(said(&[(5, 500), (1, 900)]).ends_with("; median 500 ms, 95 % within 900 ms"));
    }
}
