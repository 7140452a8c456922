//! The deterministic simulator: brokers with their real replicas, controller and logs, in a world whose time,
//! network, disks and chance follow from a seed. Rules of the contract are looked at after every step.

mod activity;
mod checker;
mod clients;
mod compaction;
mod controller;
mod damage;
mod disk_errors;
mod elections;
mod eras;
mod failovers;
mod faults;
mod groups;
mod invariants;
mod links;
mod membership;
mod network;
mod node;
mod options;
mod outsider;
mod passing;
mod patterns;
mod plant;
mod reassignments;
mod rerun;
mod rng;
mod shell;
mod storage;
mod trace;
mod unclean;
mod world;

pub use activity::{Activity, Counts};
pub use checker::{Invariant, Violation};
pub use groups::{GroupCounts, GroupOptions, GroupReport, GroupRule, GroupViolation, run_groups};
pub use options::{Disks, Kind, Options, Report};
pub use plant::Plant;
pub use rerun::{confirmed, run_and_explain};
pub use world::World;

/// Runs one seed.
pub fn run(options: Options) -> Report {
    World::new(options).run()
}
