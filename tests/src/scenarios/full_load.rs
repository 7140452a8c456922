//! Three brokers under all the load that two producers and a consumer group can make, for long: no broker that lives is fenced,
//! no voter misses its leader, and no write fails. A minute; an hour with `--full`; as many minutes as `--rounds` says. On a
//! machine that does more than this (without `--full` and `--strict`) who is fenced is only told.

use super::Settings;
use super::bench_client as client;
use crate::consuming::ConsumingGroup;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::load::{Load, verify};
use crate::report::{Report, Table};
use anyhow::{Context as _, Result};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "full-load";
const PARTITIONS: usize = 6;
const NEIGHBOUR: &str = "full-load-neighbour";
/// Records a second of the client whose records are looked at.
const RATE: u32 = 200;
const RECORD_BYTES: usize = 1024;
/// So that an hour needs no more of the disk than a minute.
const KEPT: [(&str, &str); 2] = [("retention.bytes", "200000000"), ("segment.bytes", "50000000")];
const MINUTE: Duration = Duration::from_mins(1);

/// What a broker logs when it takes another one for gone, and when it sees who leads the quorum.
pub(super) const FENCES: &str = "fencing broker";
const LEADS: &str = "leads the controller quorum";

/// The load, and what the brokers made of each other meanwhile.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let minutes = settings.rounds.unwrap_or(if settings.full { 60 } else { 1 });
    let round = if settings.quick { MINUTE / 4 } else { MINUTE };
    let mut cluster = Cluster::of_three(&settings.software, &[("log.retention.check.interval.ms", "1000")])?;
    let outcome = load(settings, &mut cluster, minutes, round, report).with_context(|| cluster.tails());
    if outcome.is_err() || report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome
}

fn load(
    settings: &Settings,
    cluster: &mut Cluster,
    minutes: usize,
    round: Duration,
    report: &mut Report,
) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let metadata = Metadata::new(&bootstrap)?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &KEPT)?;
    metadata.create_topic(NEIGHBOUR, PARTITIONS as i32, 3, &[])?;
    let group = ConsumingGroup::start(&bootstrap, NEIGHBOUR, "consumer", NEIGHBOUR, PARTITIONS, 3)?;
    let neighbour = Load::start("neighbour", &bootstrap, NEIGHBOUR, PARTITIONS, RATE)?;
    neighbour.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let count = |cluster: &Cluster, what: &str| cluster.count_log_lines(|line| line.contains(what));
    let before = [count(cluster, FENCES)?, count(cluster, LEADS)?];
    let begin = Instant::now();

    let mut speeds = Vec::new();
    for minute in 1..=minutes {
        let length = round * 5 / 6;
        let produce = |size| client::throughput(&bootstrap, TOPIC, PARTITIONS as i32, size, length);
        let (large, small) = thread::scope(|scope| {
            let small = scope.spawn(|| produce(RECORD_BYTES / 10));
            (produce(RECORD_BYTES), small.join())
        });
        let small = small.map_err(|_| anyhow::anyhow!("the producer of small records panicked"))?;
        let [large, small] = [large?, small?].map(|throughput| throughput.records_per_second);
        println!("minute {minute} of {minutes}: {large:.0} records/s of 1 KiB and {small:.0} of 100 B");
        speeds.push([large, small]);
        cluster.check_alive()?;
    }
    let took = begin.elapsed();

    let [fenced, led] = [count(cluster, FENCES)? - before[0], count(cluster, LEADS)? - before[1]];
    let mean = |n: usize| speeds.iter().map(|speed| speed[n]).sum::<f64>() / speeds.len().max(1) as f64;
    let mut table = Table::new(
        "Full load",
        &["minutes", "1 KiB, records/s", "100 B, records/s", "fenced", "leaders of the quorum"],
    );
    table.row(vec![
        format!("{:.1}", took.as_secs_f64() / 60.0),
        format!("{:.0}", mean(0)),
        format!("{:.0}", mean(1)),
        fenced.to_string(),
        led.to_string(),
    ]);
    report.table(table);
    if settings.full || settings.strict {
        report.check("no broker that lives is fenced", fenced == 0, fenced);
        report.check("the quorum's leader is missed by nobody", led == 0, led);
    }
    let gap = neighbour.longest_gaps(begin, begin + took).into_iter().max().unwrap_or(Duration::MAX);
    report.check(
        "the client beside it is acknowledged to again and again",
        gap < PATIENCE,
        format!("{} ms at most", gap.as_millis()),
    );
    neighbour.pause(PATIENCE)?;
    report.check("no write of it fails", neighbour.failures().is_empty(), format!("{:?}", neighbour.failures()));
    report.check_result("its records are there once and in order", verify(&bootstrap, &[&neighbour]));
    report.check_result("its consumer group skips nothing and goes back nowhere", group.end(PATIENCE));
    cluster.check_alive()
}
