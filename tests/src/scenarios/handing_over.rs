//! SIGTERM for a partition leader, and for the controller's, under load from an idempotent producer: what it leads is
//! handed over, so that a client hardly notices.

use super::failover::{controller_leader, one_round};
use super::{Settings, TimeLimit};
use crate::harness::cluster::Cluster;
use crate::harness::metadata::Metadata;
use crate::load::Load;
use crate::report::{Report, Table, median, ms};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

const TOPIC: &str = "handing-over";
const PARTITIONS: usize = 6;
/// The longest that any partition may go without an acknowledged write, as a median of rounds.
const LONGEST_GAP: TimeLimit = TimeLimit { target: Duration::from_millis(100), always: Duration::from_secs(5) };

/// Three rounds for each kind of leader, or as many as the settings say.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let usual = match settings {
        Settings { full: true, .. } => 25,
        Settings { quick: true, .. } => 1,
        _ => 3,
    };
    let rounds = settings.rounds.unwrap_or(usual);
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    let load = Load::start("a", &cluster.bootstrap(), TOPIC, PARTITIONS, 2_000)?;
    let mut table = Table::new("SIGTERM of a leader under load", &["stopped", "longest gap", "back in the ISR after"]);
    let mut gaps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds * 2 {
        let controller = controller_leader(&cluster, &settings.software)?;
        let (kind, victim) = match round % 2 {
            // One that does not lead the controller quorum, too.
            0 => {
                let leaders: Vec<usize> = (0..PARTITIONS).map(|p| metadata.leader(TOPIC, p)).collect::<Result<_>>()?;
                ("partition leader", leaders.into_iter().find(|id| *id != controller).unwrap_or((controller + 1) % 3))
            }
            _ => ("controller leader", controller),
        };
        let name = format!("round {}: SIGTERM of the {kind} (broker {victim})", round + 1);
        let outcome = one_round(&mut cluster, &metadata, (&load, TOPIC, PARTITIONS), victim, Cluster::stop);
        match &outcome {
            Ok(seen) => {
                table.row(vec![format!("{kind} {victim}"), ms(seen.gap), ms(seen.rejoined)]);
                gaps.entry(kind).or_default().push(seen.gap.as_secs_f64() * 1e3);
            }
            Err(_) => println!("kept: {}", cluster.keep().display()),
        }
        let failed = outcome.is_err();
        let state = outcome.map(|seen| seen.state).with_context(|| cluster.tails());
        report.check_result(format!("{name}: every acknowledged record is there once and in order"), state);
        if failed {
            break;
        }
    }
    report.table(table);
    for (kind, gaps) in gaps {
        let name = format!("SIGTERM of the {kind}: the longest gap between writes on any partition");
        LONGEST_GAP.check(settings, report, &name, median(&gaps), " as the median of rounds");
    }
    Ok(())
}
