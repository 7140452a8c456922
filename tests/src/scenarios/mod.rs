//! One question to a running cluster a file.

mod a_day;
pub mod bench;
mod bench_chart;
mod bench_client;
mod bench_parts;
mod bench_spread;
mod catching_up;
pub mod chaos;
pub mod cleaning;
pub mod cli;
mod cli_edges;
pub mod clients;
mod committer;
pub mod compaction;
pub mod connect;
pub mod crash_all;
pub mod damaged_disks;
mod elsewhere;
pub mod failover;
pub mod far_behind;
mod few_in_sync;
mod first_write;
pub mod full_disks;
pub mod full_load;
pub mod group_figures;
mod group_kills;
pub mod groups;
pub mod growing;
pub mod hostile;
mod hostile_frames;
mod hostile_talk;
pub mod hung_disk;
mod java_groups;
mod java_migration;
mod java_tools;
pub mod kafka_suite;
pub mod log_figures;
pub mod many_topics;
pub mod memory;
mod much_on_disk;
mod much_to_load;
mod mutate;
pub mod network;
mod old_directory;
pub mod operations;
pub mod profile;
pub mod racks;
pub mod readme;
pub mod reassign;
pub mod retention;
pub mod returning;
mod stale_leader;
pub mod start_orders;
mod stopped_coordinator;
pub mod stopped_leader;
pub mod streams;
mod waits;

use crate::harness::cluster::Software;
use crate::report::Report;
use std::time::Duration;

/// The settings of every scenario.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the brokers run.
    pub software: Software,
    /// Fewer repetitions, to see that it works.
    pub quick: bool,
    /// More repetitions, for figures to publish.
    pub full: bool,
    /// Times are compared with their targets, and not only with what even the slowest machine keeps to.
    pub strict: bool,
    /// Rounds, where a scenario has rounds.
    pub rounds: Option<usize>,
}

/// How long something may take.
#[derive(Clone, Copy, Debug)]
struct TimeLimit {
    /// On a machine that does nothing else.
    target: Duration,
    /// On one that others use too: what takes longer than this has waited for a timeout.
    always: Duration,
}

impl TimeLimit {
    /// What fails when it is missed.
    fn insisted_on(self, settings: &Settings) -> Duration {
        if settings.strict { self.target } else { self.always }
    }

    /// Says whether something that took so many milliseconds was fast enough.
    fn check(self, settings: &Settings, report: &mut Report, name: &str, took_ms: f64, of: &str) {
        let limit = self.insisted_on(settings);
        let name = format!("{name}: at most {} s", limit.as_secs_f64());
        let detail = format!("{took_ms:.0} ms{of}, with a target of {} s", self.target.as_secs_f64());
        report.check(name, took_ms <= limit.as_secs_f64() * 1e3, detail);
    }
}

/// One thing that is done to a world, and what it says when it went well.
type Step<W> = fn(&mut W) -> anyhow::Result<String>;

/// Does one after the other, up to the first that fails.
fn carry_out<W>(world: &mut W, steps: &[(&str, Step<W>)], report: &mut Report) {
    for (name, step) in steps {
        let outcome = step(world);
        let failed = outcome.is_err();
        report.check_result(*name, outcome);
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_insisted_on_when_asked_for_and_its_timeout_always() {
        let limit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(3) };
        for (took_ms, strict, passes) in
            [(900.0, true, true), (1100.0, true, false), (1100.0, false, true), (5000.0, false, false)]
        {
            let software = Software::Chronik("chronik".into());
            let settings = Settings { software, quick: false, full: false, strict, rounds: None };
            let mut report = Report::new("times");
            limit.check(&settings, &mut report, "it", took_ms, "");
            assert_eq!(!report.has_failures(), passes, "{took_ms} ms, strict: {strict}");
        }
    }
}
