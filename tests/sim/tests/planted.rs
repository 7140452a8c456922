//! Rules broken on purpose are noticed, each by the invariant that is there for it: a simulation that cannot fail shows
//! nothing, and one that fails by accident shows little more.

use chronik_core::replication::Fault;
use chronik_sim::{Invariant, Options, Plant, Violation, run};

/// Seeds that are tried in search of one that notices.
const SEEDS: u64 = 200;

/// Which invariant has to find it; `None` for what core's own tests show (`replication/tests/planted.rs`), as another
/// check stands before it, or none of hundreds of seeds noticed.
fn meant(plant: Plant) -> Option<Invariant> {
    let invariant = match plant {
        Plant::Replica(fault) => return of_replica(fault),
        Plant::DiskLies | Plant::StaleIsrChange => Invariant::InSyncHoldsCommitted,
        Plant::DiskRots => Invariant::LogRecovers,
        Plant::StreamsRepeat => Invariant::Settles,
        Plant::UncleanElection => Invariant::ElectedIsEligible,
        Plant::ElectionInOldEpoch => Invariant::OneLeaderAnEpoch,
        Plant::FencedStaysInSync => Invariant::MetadataIsSound,
    };
    Some(invariant)
}

fn of_replica(fault: Fault) -> Option<Invariant> {
    Some(match fault {
        Fault::AcknowledgeBeforeDurable
        | Fault::ShrinkWithoutController
        | Fault::HighWatermarkOverCommittedIsr
        | Fault::CommitBelowMinInsync
        | Fault::JoinsBehind => Invariant::InSyncHoldsCommitted,
        Fault::TruncateByHighWatermark => Invariant::Truncation,
        Fault::SubscriptionWithoutEpoch => Invariant::CommittedOrder,
        Fault::FollowerForgetsEpochs => Invariant::EpochsAgree,
        Fault::DuplicateAcknowledgedEarly => Invariant::AcknowledgedIsCommitted,
        Fault::IgnoreLease => Invariant::LeaseHolds,
        Fault::ReadsIgnoreLease | Fault::ReadBeforeEpochStart | Fault::HighWatermarkGoesBack => {
            Invariant::HighWatermarkMonotone
        }
        Fault::ReadBeyondHighWatermark => Invariant::ReadersSeeCommitted,
        // Nothing unsafe comes of these: someone waits, or is missing, for ever.
        Fault::NeverRejoins | Fault::EndIsNotTold => Invariant::Settles,
        Fault::SequenceGapAccepted | Fault::DuplicateAppended => Invariant::ProducerOrder,
        Fault::DuplicateRefused => Invariant::RightRefusals,
        Fault::AnsweredTwice => Invariant::AnsweredOnce,
        // Messages out of time: connections keep their order, a stream is told from the next, and what slips through is
        // cut off within milliseconds, unless it is acknowledged before.
        Fault::FollowerTakesAnyEpoch
        | Fault::FollowerTakesAnyStream
        | Fault::FollowerTakesAnything
        | Fault::FollowerTakesBatchesOfAnyEpoch
        | Fault::LeaderTakesAnyEpoch
        | Fault::LeaderTakesAnyStream
        | Fault::LeaderTakesAnything
        | Fault::ReadOfAnyEpoch => return None,
    })
}

/// Where the search begins, for what few seeds notice: to pass dozens in vain each time helps nobody.
fn begin(plant: Plant) -> u64 {
    match plant {
        Plant::Replica(Fault::HighWatermarkOverCommittedIsr) => 26,
        Plant::StaleIsrChange => 45,
        Plant::StreamsRepeat => 60,
        _ => 0,
    }
}

/// The first seed at which that invariant notices. Others may have found something before: a broken rule may break more
/// than one promise.
fn noticed_by(plant: Plant, invariant: Invariant) -> Option<(u64, Violation)> {
    let seeds = begin(plant)..begin(plant) + SEEDS;
    let violation = |seed| run(Options { plant: Some(plant), ..Options::new(seed) }).violation;
    seeds.filter_map(|seed| Some((seed, violation(seed)?))).find(|(_, v)| v.invariant == invariant)
}

#[test]
fn every_planted_fault_is_noticed_by_the_invariant_that_is_meant_for_it() {
    let mut missed = Vec::new();
    for plant in Plant::all() {
        let Some(invariant) = meant(plant) else { continue };
        match noticed_by(plant, invariant) {
            Some((seed, violation)) => println!("{plant:?} is noticed by seed {seed}: {violation}"),
            None => missed.push((plant, invariant)),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn every_invariant_has_a_planted_fault_to_find() {
    let tried: Vec<Invariant> = Plant::all().filter_map(meant).collect();
    let untried: Vec<Invariant> = Invariant::PLANTED.into_iter().filter(|i| !tried.contains(i)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}
