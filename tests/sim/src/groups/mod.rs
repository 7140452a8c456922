//! Group coordinators in a simulated world: the real shard of one partition of `__consumer_offsets`, members of both
//! protocols, and between them requests that are late or lost, appends that are not committed
//! or not for long, failovers that load what
//! is committed and nothing else, clocks that disagree and processes that stand still. All of it follows from a seed.

mod classic;
mod consumer;
mod consumer_protocol;
mod coordinator;
mod log;
mod member;
mod rules;
mod world;

pub use rules::{GroupRule, GroupViolation};

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct GroupOptions {
    /// All chance follows from it.
    pub seed: u64,
    /// Events before the faults stop.
    pub steps: u64,
    /// Keep a line for each thing that happens.
    pub trace: bool,
}

impl GroupOptions {
    /// A run of that seed with a usual length.
    pub fn new(seed: u64) -> Self {
        Self { seed, steps: 3_000, trace: false }
    }
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Coordinators that another one took the place of.
    pub failovers: u64,
    /// Appends that were lost with their coordinator.
    pub lost_appends: u64,
    /// Processes of clients that ended without a word.
    pub crashes: u64,
    /// Requests that were given up before they were answered.
    pub timeouts: u64,
    /// Offset commits that were answered without an error.
    pub commits: u64,
    /// Assignments that members got.
    pub assignments: u64,
    /// Groups that went from the classic protocol to the consumer protocol.
    pub upgrades: u64,
    /// Groups that went from the consumer protocol to the classic protocol.
    pub downgrades: u64,
    /// Times at which too few replicas were in sync for appends to be committed.
    pub too_few_in_sync: u64,
}

impl GroupCounts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            failovers: self.failovers + other.failovers,
            lost_appends: self.lost_appends + other.lost_appends,
            crashes: self.crashes + other.crashes,
            timeouts: self.timeouts + other.timeouts,
            commits: self.commits + other.commits,
            assignments: self.assignments + other.assignments,
            upgrades: self.upgrades + other.upgrades,
            downgrades: self.downgrades + other.downgrades,
            too_few_in_sync: self.too_few_in_sync + other.too_few_in_sync,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// The run's seed.
    pub seed: u64,
    /// Events in all.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// What happened how often.
    pub counts: GroupCounts,
    /// The broken rule, if one was seen.
    pub violation: Option<GroupViolation>,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed.
pub fn run_groups(options: GroupOptions) -> GroupReport {
    world::World::new(options).run()
}
