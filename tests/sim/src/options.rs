//! What a run is made of.

use crate::activity::Counts;
use crate::checker::Violation;
use crate::plant::Plant;

/// One run.
#[derive(Clone, Debug)]
pub struct Options {
    /// All chance follows from it.
    pub seed: u64,
    /// Events before the faults stop.
    pub steps: u64,
    /// Keep a line for each thing that happens.
    pub trace: bool,
    /// What the brokers keep their logs on.
    pub disks: Disks,
    /// A rule to break on purpose.
    pub plant: Option<Plant>,
    /// Faults that never happen, whatever the seed says. Without those that are newer than a seed, it means what it meant.
    pub without: Vec<Kind>,
}

/// Faults that can be left out. The chances of each are drawn apart from those of the world: without it, or where a seed has
/// none, the world is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// What a disk has lost, with the power or while its broker runs, and what it cannot read for a while.
    Damage,
    /// Several things that go wrong together: a bridge, a deaf or a mute leader, two slow disks, clocks that go wrong.
    Patterns,
    /// One broker that never gets well; the others have to do without it.
    Outsider,
    /// Leaders that were not eligible, where nobody else could lead.
    Unclean,
    /// A controller that another one succeeds.
    Failovers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Damage, Self::Patterns, Self::Outsider, Self::Unclean, Self::Failovers];
}

/// What the brokers keep their logs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// A model, that is right by being simple.
    Model,
    /// The real log on a disk that loses and tears what is not synced.
    Simulated,
}

impl Options {
    /// A run of that seed with a usual length.
    pub fn new(seed: u64) -> Self {
        Self { seed, steps: 12_000, trace: false, disks: Disks::Simulated, plant: None, without: Vec::new() }
    }

    /// Whether there may be such faults. None where a rule is broken on purpose: there it is known which seeds notice.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.plant.is_none() && !self.without.contains(&kind)
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// Two runs of one seed have the same.
    pub trace_hash: u64,
    /// Events in all.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Batches that were acknowledged.
    pub acknowledged: usize,
    /// Leaderships that there were.
    pub elections: usize,
    /// Faults that were injected.
    pub faults: usize,
    /// What happened how often.
    pub counts: Counts,
    /// The broken rule, if one was seen.
    pub violation: Option<Violation>,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
}
