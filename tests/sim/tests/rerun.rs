//! A broken rule is not lost because the same seed, run again for its trace, goes another way.

use chronik_sim::{Invariant, Options, Plant, confirmed, run, run_and_explain};

/// The first seed at which a disk that lies is noticed.
fn broken() -> Options {
    let lies = |seed| Options { plant: Some(Plant::DiskLies), ..Options::new(seed) };
    let seed = (0..200).find(|seed| run(lies(*seed)).violation.is_some()).expect("a seed that notices");
    lies(seed)
}

#[test]
fn a_broken_rule_comes_with_its_trace() {
    let report = run_and_explain(&broken());
    assert_eq!(report.violation, run(broken()).violation);
    assert!(!report.lines.is_empty());
}

#[test]
fn a_run_that_does_not_come_out_the_same_again_is_said_to_be_that() {
    let first = run(broken());
    let found = first.violation.clone().expect("a planted fault");
    let kept_all_rules = run(Options { steps: 500, ..Options::new(0) });
    let mut otherwise = first.clone();
    otherwise.trace_hash += 1;
    for again in [kept_all_rules, otherwise] {
        let violation = confirmed(&first, again).violation.expect("one of the two broke a rule");
        assert_eq!(violation.invariant, Invariant::Deterministic);
        assert!(violation.how.contains(&found.to_string()), "{violation}");
    }
}
