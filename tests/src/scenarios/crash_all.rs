//! `kill -9` of every broker at once, again and again, under load from an idempotent producer.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::load::{Load, verify};
use crate::report::{Report, Table, ms};
use anyhow::{Context, Result};
use rand::Rng;
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "crash-all";
const PARTITIONS: usize = 6;

/// Ten rounds, twenty with `--full`, or as many as the settings say.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(match (settings.quick, settings.full) {
        (true, _) => 3,
        (false, false) => 10,
        (false, true) => 20,
    });
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    let mut loads = vec![Load::start("a", &cluster.bootstrap(), TOPIC, PARTITIONS, 3_000)?];
    let mut table = Table::new(
        "kill -9 of all three under load",
        &["round", "start → writes of a new client", "… of the old one", "state"],
    );
    for round in 1..=rounds {
        let outcome = one_round(&mut cluster, &mut loads);
        let failed = outcome.is_err();
        if let Ok(seen) = &outcome {
            table.row(vec![round.to_string(), ms(seen.fresh), ms(seen.written), seen.state.clone()]);
        }
        let detail = outcome.map(|seen| format!("{}; writes after {}", seen.state, ms(seen.written)));
        report.check_result(
            format!("round {round}: every acknowledged record is there once and in order"),
            detail.with_context(|| cluster.tails()),
        );
        if failed {
            println!("kept: {}", cluster.keep().display());
            break;
        }
    }
    report.table(table);
    Ok(())
}

struct Seen {
    /// From the restart until a client that has just come has written to every partition.
    fresh: Duration,
    /// From the restart until the old writer, who has been backing off from brokers that were gone, has got through.
    written: Duration,
    state: String,
}

fn one_round(cluster: &mut Cluster, loads: &mut Vec<Load>) -> Result<Seen> {
    let load = &loads[0];
    load.resume();
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    // The moment of the crash is the stimulus: any.
    thread::sleep(Duration::from_millis(rand::rng().random_range(100..1_000)));
    cluster.check_alive()?;
    cluster.kill_all()?;
    let started = cluster.start_all()?;
    let newcomer = Load::start(&format!("b{}", loads.len()), &cluster.bootstrap(), TOPIC, PARTITIONS, 600)?;
    newcomer.wait_for_acknowledgements_after(started, PATIENCE)?;
    let fresh = started.elapsed();
    newcomer.pause(PATIENCE)?;
    loads.push(newcomer);
    let load = &loads[0];
    load.wait_for_acknowledgements_after(started, PATIENCE)?;
    let written = started.elapsed();
    load.pause(PATIENCE)?;
    let state = verify(&cluster.bootstrap(), &loads.iter().collect::<Vec<_>>())?;
    Ok(Seen { fresh, written, state })
}
