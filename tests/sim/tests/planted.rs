//! Rules broken on purpose are noticed: a simulation that cannot fail shows nothing.

use chronik_core::replication::Fault;
use chronik_sim::{Options, run};

/// The first seed that notices, and what it says.
fn noticed_by(fault: Fault, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| Some((seed, run(Options { plant: Some(fault), ..Options::new(seed) }).violation?)))
}

#[test]
fn every_planted_fault_is_noticed() {
    let mut missed = Vec::new();
    for (fault, seeds) in [
        (Fault::AcknowledgeBeforeDurable, 200),
        (Fault::TruncateByHighWatermark, 200),
        (Fault::NoEpochCheck, 200),
        (Fault::DuplicateAcknowledgedEarly, 200),
        (Fault::ShrinkWithoutController, 200),
        (Fault::HighWatermarkOverCommittedIsr, 200),
        (Fault::IgnoreLease, 200),
    ] {
        match noticed_by(fault, seeds) {
            Some((seed, how)) => println!("{fault:?} is noticed by seed {seed}: {how}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
