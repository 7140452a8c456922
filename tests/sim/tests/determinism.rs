//! The simulation itself follows from its seed.

use chronik_sim::{Options, run};

#[test]
fn a_seed_always_has_the_same_trace_and_another_seed_another() {
    let hashes: Vec<u64> = (0..10).map(|seed| run(Options::new(seed)).trace_hash).collect();
    let again: Vec<u64> = (0..10).map(|seed| run(Options::new(seed)).trace_hash).collect();
    assert_eq!(hashes, again);
    let different: std::collections::BTreeSet<u64> = hashes.iter().copied().collect();
    assert_eq!(different.len(), hashes.len());
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let plain = run(Options { steps: 3_000, ..Options::new(3) });
    let kept = run(Options { steps: 3_000, trace: true, ..Options::new(3) });
    assert_eq!((plain.trace_hash, plain.lines.len()), (kept.trace_hash, 0));
    assert!(!kept.lines.is_empty());
}
