//! Rules broken on purpose are noticed, each by the invariant that is there for it: a simulation that cannot fail shows
//! nothing, and one that fails by accident shows little more. What is broken here is around the replicas; their own rules
//! are broken by `cargo xtask mutants`.

use chronik_sim::{GroupRule, Invariant, Options, Plant, Violation, run};
use std::fs;
use std::path::Path;

/// Seeds that are tried in search of one that notices.
const SEEDS: u64 = 200;

/// Which invariant has to find it, and where the search begins: to pass dozens of seeds in vain each time helps nobody.
fn meant(plant: Plant) -> (Invariant, u64) {
    match plant {
        Plant::DiskLies => (Invariant::InSyncHoldsCommitted, 0),
        Plant::StaleIsrChange => (Invariant::InSyncHoldsCommitted, 45),
        Plant::DiskRots => (Invariant::LogRecovers, 0),
        Plant::StreamsRepeat => (Invariant::Converges, 470),
        Plant::UncleanElection => (Invariant::ElectedIsEligible, 0),
        Plant::ElectionInOldEpoch => (Invariant::OneLeaderAnEpoch, 0),
        Plant::FencedStaysInSync => (Invariant::MetadataIsSound, 0),
    }
}

/// The first seed at which that invariant notices. Others may have found something before: a broken rule may break more
/// than one promise.
fn noticed(plant: Plant) -> Option<(u64, Violation)> {
    let (invariant, from) = meant(plant);
    let violation = |seed| run(Options { plant: Some(plant), ..Options::new(seed) }).violation;
    (from..from + SEEDS).filter_map(|seed| Some((seed, violation(seed)?))).find(|(_, v)| v.invariant == invariant)
}

#[test]
fn every_planted_fault_is_noticed_by_the_invariant_that_is_meant_for_it() {
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        match noticed(plant) {
            Some((seed, violation)) => println!("{plant:?} is noticed by seed {seed}: {violation}"),
            None => missed.push((plant, meant(plant).0)),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// The invariants that the mutants' files name.
fn of_mutants() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let files = fs::read_dir(&folder).expect("the folder of the mutants").map(|entry| entry.expect("an entry").path());
    let invariant =
        |text: String| Some(text.split("Caught by: simulation ").nth(1)?.split_whitespace().next()?.to_owned());
    files.filter_map(|path| invariant(fs::read_to_string(path).expect("a patch"))).collect()
}

#[test]
fn every_invariant_has_a_planted_fault_or_a_mutant_to_find() {
    let mut tried = of_mutants();
    tried.extend(Plant::ALL.map(|plant| format!("{:?}", meant(plant).0)));
    let mut known: Vec<String> = Invariant::PLANTED.iter().map(|invariant| format!("{invariant:?}")).collect();
    known.extend(GroupRule::ALL.iter().map(|rule| format!("{rule:?}")));
    let untried: Vec<&String> = known.iter().filter(|name| !tried.contains(name)).collect();
    let unknown: Vec<&String> = tried.iter().filter(|name| !known.contains(name)).collect();
    assert!(untried.is_empty() && unknown.is_empty(), "not tried: {untried:?}, not known: {unknown:?}");
}
