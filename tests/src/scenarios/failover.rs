//! `kill -9` of a partition leader, and of the controller's, under load from an idempotent producer.

use super::{Settings, TimeLimit};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::load::{Load, verify};
use crate::report::{Report, Table, median, ms};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

const TOPIC: &str = "failover";
const PARTITIONS: usize = 6;
/// The longest that any partition may go without an acknowledged write, as a median of rounds.
const LONGEST_GAP: TimeLimit = TimeLimit { target: Duration::from_secs(2), always: Duration::from_secs(10) };

/// Five rounds for each kind of leader, or as many as the settings say.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.quick { 1 } else { 5 });
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    let load = Load::start("a", &cluster.bootstrap(), TOPIC, PARTITIONS, 2_000)?;
    let mut table = Table::new("kill -9 of a leader under load", &["killed", "longest gap", "back in the ISR after"]);
    let mut gaps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds * 2 {
        let (kind, victim) = match round % 2 {
            0 => ("partition leader", metadata.leader(TOPIC, (round / 2) % PARTITIONS)?),
            _ => ("controller leader", controller_leader(&cluster, &settings.software)?),
        };
        let name = format!("round {}: kill -9 of the {kind} (broker {victim})", round + 1);
        let outcome = one_round(&mut cluster, &metadata, (&load, TOPIC, PARTITIONS), victim, Cluster::kill);
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
        let name = format!("kill -9 of the {kind}: the longest gap between writes on any partition");
        LONGEST_GAP.check(settings, report, &name, median(&gaps), " as the median of rounds");
    }
    Ok(())
}

pub(super) struct Seen {
    pub(super) gap: Duration,
    pub(super) rejoined: Duration,
    pub(super) state: String,
}

/// Ends a broker in the way given while there is load on a topic of so many partitions, and starts it again.
pub(super) fn one_round(
    cluster: &mut Cluster,
    metadata: &Metadata,
    (load, topic, partitions): (&Load, &str, usize),
    victim: usize,
    end: fn(&mut Cluster, usize) -> Result<()>,
) -> Result<Seen> {
    load.resume();
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let ended = Instant::now();
    end(cluster, victim)?;
    // A gap may begin a little after the end, with what was acknowledged but not yet seen; and end late.
    let settled = Instant::now() + Duration::from_secs(1);
    load.wait_for_acknowledgements_after(settled, PATIENCE)?;
    let gap = load.longest_gaps(ended, settled).into_iter().max().unwrap_or(Duration::MAX);
    let restarted = cluster.start(victim)?;
    metadata.wait_for_isr(topic, partitions, 3)?;
    let rejoined = restarted.elapsed();
    cluster.check_alive()?;
    load.pause(PATIENCE)?;
    let state = verify(&cluster.bootstrap(), &[load])?;
    Ok(Seen { gap, rejoined, state })
}

/// Which broker leads the controller quorum: the one that the brokers' logs name with the highest term.
pub(super) fn controller_leader(cluster: &Cluster, software: &Software) -> Result<usize> {
    if let Software::Kafka(_) = software {
        // Kafka names it to its own tools alone; which of its brokers is killed here does not matter.
        return Ok(cluster.size() - 1);
    }
    let logs: Vec<_> = (0..cluster.size()).map(|id| fs::read(cluster.log(id))).collect::<Result<_, _>>()?;
    let text = logs.iter().map(|log| String::from_utf8_lossy(log)).collect::<String>();
    let leader = text.lines().filter_map(leadership).max().context("no log says who leads the controller quorum")?.1;
    ensure!(cluster.is_running(leader), "broker {leader} leads the controller quorum and does not run");
    Ok(leader)
}

/// Term and broker, from a line like `… broker 2 leads the controller quorum … term=7`.
fn leadership(line: &str) -> Option<(u64, usize)> {
    let (before, after) = line.split_once(" leads the controller quorum")?;
    let broker = before.rsplit(' ').next()?.parse().ok()?;
    let digits = after.split_once("term=")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits[..end].parse().ok()?, broker))
}

#[cfg(test)]
mod tests {
    use super::leadership;

    #[test]
    fn a_log_line_names_the_controller_leader_and_its_term() {
        let line = "2026-01-01T00:00:00Z  INFO broker 2 leads the controller quorum broker=2 term=17";
        assert_eq!(leadership(line), Some((17, 2)));
        assert_eq!(leadership("INFO the leader changed term=3"), None);
    }
}
