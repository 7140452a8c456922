//! A leader that hangs past its lease and then goes on where it stood: it may acknowledge nothing more.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::load::{Load, verify};
use crate::report::Report;
use anyhow::{Context, Result};
use std::time::Instant;

const TOPIC: &str = "stopped-leader";

/// SIGSTOP of the only partition's leader, writes through its successor, SIGCONT.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.quick { 1 } else { 3 });
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 3, &[])?;
    let mut loads = vec![Load::start("before", &cluster.bootstrap(), TOPIC, 1, 1_000)?];
    for round in 1..=rounds {
        let outcome = one_round(&mut cluster, &metadata, &mut loads).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(format!("round {round}: a leader resumed past its lease acknowledges nothing"), outcome);
        if failed {
            println!("kept: {}", cluster.keep().display());
            break;
        }
    }
    Ok(())
}

fn one_round(cluster: &mut Cluster, metadata: &Metadata, loads: &mut Vec<Load>) -> Result<String> {
    loads[0].resume();
    loads[0].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let leader = metadata.partitions(TOPIC)?[0].leader.context("a leader")? as usize;
    cluster.pause(leader)?;
    let written = write_through_the_successor(cluster, leader, loads);
    cluster.resume(leader)?;
    written?;
    // The first writer has been talking to the stopped leader all the time: its connection stayed open.
    loads[0].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    cluster.check_alive()?;
    loads.iter().try_for_each(|load| load.pause(PATIENCE))?;
    verify(&cluster.bootstrap(), &loads.iter().collect::<Vec<_>>())
}

/// A new writer, who knows the living brokers alone, fills the offsets that the stopped leader has in mind for
/// what waits in its sockets.
fn write_through_the_successor(cluster: &Cluster, stopped: usize, loads: &mut Vec<Load>) -> Result<()> {
    let others = (0..cluster.size()).filter(|id| *id != stopped);
    let addresses: Vec<_> = others.map(|id| format!("127.0.0.1:{}", cluster.ports(id).kafka)).collect();
    let metadata = Metadata::new(&addresses.join(","))?;
    wait::until("another leader", PATIENCE, || {
        Ok(metadata.partitions(TOPIC)?[0].leader.filter(|now| *now as usize != stopped))
    })?;
    let load = Load::start(&format!("after{}", loads.len()), &addresses.join(","), TOPIC, 1, 500)?;
    wait::until("100 records through the next leader", PATIENCE, || Ok((load.acknowledged() > 100).then_some(())))?;
    loads.push(load);
    Ok(())
}
