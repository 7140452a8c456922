//! The known failures, each with the reason why it fails.

use super::outcome::{Ending, Outcome};
use super::reasons;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const HEADER: &str = "test\treason";

/// Test and reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest(BTreeMap<String, String>);

/// What outcomes come to beside a manifest.
#[derive(Debug, Default)]
pub(super) struct Judgement<'a> {
    pub(super) passed: usize,
    pub(super) failed_as_known: usize,
    pub(super) needs_internals: usize,
    pub(super) skipped: usize,
    /// Failed, and nobody knows of it.
    pub(super) unexpected: Vec<&'a Outcome>,
    /// Passed, and the manifest says otherwise.
    pub(super) mended: Vec<&'a Outcome>,
}

impl Manifest {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(content: &str) -> Result<Self> {
        let mut lines = content.lines();
        ensure!(lines.next() == Some(HEADER), "it begins with the names of its columns");
        let mut known = BTreeMap::new();
        for line in lines {
            let (test, reason) = line.split_once('\t').with_context(|| format!("no reason: {line}"))?;
            ensure!(!reason.trim().is_empty(), "no reason: {line}");
            ensure!(known.insert(test.to_owned(), reason.to_owned()).is_none(), "twice: {test}");
        }
        Ok(Self(known))
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (test, reason) in &self.0 {
            let _ = writeln!(text, "{test}\t{reason}");
        }
        text
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()).with_context(|| format!("write {}", path.display()))
    }

    /// Why a test fails, if it is known to.
    pub(super) fn reason(&self, test: &str) -> Option<&str> {
        self.0.get(test).map(String::as_str)
    }

    /// Whether a method, or one of its runs, is known to fail.
    pub(super) fn knows(&self, method: &str) -> bool {
        let runs = format!("{method}[");
        let next = self.0.range(runs.clone()..).next();
        self.0.contains_key(method) || next.is_some_and(|(test, _)| test.starts_with(&runs))
    }

    /// Holds outcomes against it.
    pub(super) fn judge<'a>(&self, outcomes: &'a [Outcome]) -> Judgement<'a> {
        let mut judgement = Judgement::default();
        for outcome in outcomes {
            match (outcome.ending, self.reason(&outcome.test)) {
                (Ending::Skipped, _) => judgement.skipped += 1,
                (Ending::Passed, None) => judgement.passed += 1,
                (Ending::Passed, Some(reason)) => {
                    judgement.passed += 1;
                    if !reasons::is_unsteady(reason) {
                        judgement.mended.push(outcome);
                    }
                }
                (_, Some(reason)) if reasons::is_internals(reason) => judgement.needs_internals += 1,
                (_, Some(_)) => judgement.failed_as_known += 1,
                (_, None) => judgement.unexpected.push(outcome),
            }
        }
        judgement
    }

    /// Takes in what was seen. Reasons that are there stay, unless they are to be found `anew`; those of internals and
    /// of unsteady tests stay always. With `everything` having been run, tests that are no more are dropped.
    pub(super) fn bless(&mut self, outcomes: &[Outcome], everything: bool, anew: bool) {
        for outcome in outcomes {
            let old = self.reason(&outcome.test);
            if old.is_some_and(reasons::is_unsteady) {
                continue;
            }
            match outcome.ending {
                Ending::Passed => {
                    self.0.remove(&outcome.test);
                }
                Ending::Failed | Ending::Internals
                    if old.is_none_or(|reason| anew && !reasons::is_internals(reason)) =>
                {
                    self.0.insert(outcome.test.clone(), reasons::of(outcome));
                }
                _ => {}
            }
        }
        if everything {
            let there: BTreeSet<_> = outcomes.iter().map(|o| o.test.as_str()).collect();
            self.0.retain(|test, _| there.contains(test.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Manifest, Outcome};

    fn outcome(test: &str, ending: Ending) -> Outcome {
        Outcome { ending, ..Outcome::missing(test, "AssertionError: no") }
    }

    fn manifest(lines: &str) -> Manifest {
        Manifest::parse(&format!("test\treason\n{lines}")).expect("a manifest")
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let known = manifest("A#a\tACLs\nA#b[2]\tinternals: KafkaBroker\n");
        assert_eq!(Manifest::parse(&known.text()).expect("a manifest"), known);
    }

    #[test]
    fn a_method_is_known_to_fail_when_one_of_its_runs_is() {
        let known = manifest("A#one\tx\nA#some[2]\tx\nA#someZ\tx\n");
        for (method, is_known) in
            [("A#one", true), ("A#some", true), ("A#someZ", true), ("A#on", false), ("A#som", false)]
        {
            assert_eq!(known.knows(method), is_known, "{method}");
        }
    }

    #[test]
    fn a_line_without_a_reason_or_a_test_that_is_there_twice_is_refused() {
        for lines in ["A#a", "A#a\t ", "A#a\tx\nA#a\ty"] {
            assert!(Manifest::parse(&format!("test\treason\n{lines}")).is_err(), "{lines}");
        }
    }

    #[test]
    fn every_outcome_counts_once_and_what_the_manifest_does_not_say_stands_out() {
        let known = manifest("A#known\tACLs\nA#inside\tinternals: x\nA#mended\tACLs\n");
        let outcomes = [
            outcome("A#known", Ending::Failed),
            outcome("A#inside", Ending::Internals),
            outcome("A#mended", Ending::Passed),
            outcome("A#good", Ending::Passed),
            outcome("A#new", Ending::Failed),
            outcome("A#broken", Ending::Error),
            outcome("A#skipped", Ending::Skipped),
        ];
        let judged = known.judge(&outcomes);
        let counts = (judged.passed, judged.failed_as_known, judged.needs_internals, judged.skipped);
        assert_eq!(counts, (2, 1, 1, 1));
        let names = |some: &[&Outcome]| some.iter().map(|o| o.test.clone()).collect::<Vec<_>>();
        assert_eq!(names(&judged.unexpected), ["A#new", "A#broken"]);
        assert_eq!(names(&judged.mended), ["A#mended"]);
    }

    #[test]
    fn blessing_keeps_reasons_and_drops_what_passes() {
        let mut known = manifest("A#kept\tby hand\nA#mended\tACLs\nA#not-run\tACLs\n");
        let seen = [
            outcome("A#kept", Ending::Failed),
            outcome("A#mended", Ending::Passed),
            outcome("A#new", Ending::Failed),
            outcome("A#broken", Ending::Error),
        ];
        known.bless(&seen, false, false);
        assert_eq!(known.reason("A#kept"), Some("by hand"));
        assert_eq!(known.reason("A#mended"), None);
        assert!(known.reason("A#new").is_some());
        assert_eq!(known.reason("A#broken"), None, "the suite's own failure is not the broker's");
        assert!(known.reason("A#not-run").is_some());
        known.bless(&seen, true, false);
        assert_eq!(known.reason("A#not-run"), None, "it is no more");
    }

    #[test]
    fn an_unsteady_test_may_pass_or_fail_and_stays_named() {
        let mut known = manifest("A#luck\tunsteady: a race of its own\n");
        for (ending, passed, failed) in [(Ending::Passed, 1, 0), (Ending::Failed, 0, 1)] {
            let seen = [outcome("A#luck", ending)];
            let judged = known.judge(&seen);
            assert_eq!((judged.passed, judged.failed_as_known, judged.mended.len()), (passed, failed, 0));
            known.bless(&seen, true, true);
            assert_eq!(known.reason("A#luck"), Some("unsteady: a race of its own"));
        }
    }

    #[test]
    fn reasons_found_anew_are_those_of_features_alone() {
        let mut known = manifest("A#old\tACLs\nA#inside\tinternals: x\n");
        known.bless(&[outcome("A#old", Ending::Failed), outcome("A#inside", Ending::Failed)], false, true);
        assert_ne!(known.reason("A#old"), Some("ACLs"));
        assert_eq!(known.reason("A#inside"), Some("internals: x"));
    }
}
