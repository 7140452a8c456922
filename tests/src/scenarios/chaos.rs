//! Random faults under idempotent producers and consumer groups of both protocols. What was acknowledged is there once
//! and in order, no group skips a record or gets one again that it had committed, and no committed offset goes back.

use super::Settings;
use crate::consuming::ConsumingGroup;
use crate::harness::cluster::Cluster;
use crate::harness::metadata::Metadata;
use crate::load::{Load, verify};
use crate::report::Report;
use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::thread;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
/// Records a second of each of two writers.
const RATE: u32 = 300;
/// After the last fault: until all is written, read and committed.
const RECOVERED_WITHIN: Duration = Duration::from_mins(2);

/// What to repeat.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The seed of the first round, to repeat its faults [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of one broker.
    Kill,
    /// SIGSTOP, and SIGCONT before or after its lease and its session are over.
    Pause,
    /// SIGTERM.
    Stop,
    /// `kill -9` of all brokers at once.
    KillAll,
}

/// Rounds of a minute each: five, or an hour of them with `--full`, or as many as `--rounds` says.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.full { 60 } else { 5 });
    let faults_for = Duration::from_secs(if settings.quick { 10 } else { 40 });
    let first = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let mut cluster = Cluster::of_three(&settings.software, &[("group.initial.rebalance.delay.ms", "300")])?;
    for round in 0..rounds as u64 {
        let seed = first + round;
        println!("round {} of {rounds}: --seed {seed}", round + 1);
        let outcome = one_round(report, &mut cluster, seed, faults_for).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(format!("seed {seed}: the round comes to its end"), outcome);
        if failed || report.has_failures() {
            println!("kept: {}", cluster.keep().display());
            break;
        }
    }
    Ok(())
}

fn one_round(report: &mut Report, cluster: &mut Cluster, seed: u64, faults_for: Duration) -> Result<String> {
    let topic = format!("chaos-{seed}");
    let bootstrap = cluster.bootstrap();
    Metadata::new(&bootstrap)?.create_topic(&topic, PARTITIONS as i32, 3, &[])?;
    let group =
        |protocol| ConsumingGroup::start(&bootstrap, &format!("{topic}-{protocol}"), protocol, &topic, PARTITIONS, 3);
    let groups = [("classic", group("classic")?), ("consumer", group("consumer")?)];
    let loads = [
        Load::start("a", &bootstrap, &topic, PARTITIONS, RATE)?,
        Load::start("b", &bootstrap, &topic, PARTITIONS, RATE)?,
    ];
    let faults = inflict(cluster, &mut StdRng::seed_from_u64(seed), faults_for)?;
    let healed = Instant::now();
    for load in &loads {
        load.wait_for_acknowledgements_after(healed, RECOVERED_WITHIN)?;
    }
    let resumed = healed.elapsed();
    for load in &loads {
        load.pause(RECOVERED_WITHIN)?;
    }
    let written = verify(&bootstrap, &loads.iter().collect::<Vec<_>>());
    report.check_result(format!("seed {seed}: what was acknowledged is there once and in order"), written);
    for (protocol, group) in groups {
        let name = format!("seed {seed}: a group of the protocol {protocol} skips nothing and goes back nowhere");
        report.check_result(name, group.end(RECOVERED_WITHIN));
    }
    cluster.check_alive()?;
    Ok(format!("{faults}; writes {} ms after the last", resumed.as_millis()))
}

/// Each kind of fault in a random order, and again. All brokers run when it is over.
fn inflict(cluster: &mut Cluster, random: &mut StdRng, length: Duration) -> Result<String> {
    let end = Instant::now() + length;
    let mut names = Vec::new();
    loop {
        let mut kinds = [Fault::Kill, Fault::Pause, Fault::Stop, Fault::Kill, Fault::Pause, Fault::KillAll];
        kinds.shuffle(random);
        for fault in kinds {
            // The moments are part of the stimulus: any.
            thread::sleep(Duration::from_millis(random.random_range(300..3_000)));
            if Instant::now() >= end {
                return Ok(names.join(", "));
            }
            let (victim, away) = (random.random_range(0..cluster.size()), random.random_range(100..6_000));
            names.push(format!("{fault:?} {victim} for {away} ms"));
            one_fault(cluster, fault, victim, Duration::from_millis(away))?;
        }
    }
}

fn one_fault(cluster: &mut Cluster, fault: Fault, victim: usize, away: Duration) -> Result<()> {
    match fault {
        Fault::Kill => cluster.kill(victim)?,
        Fault::Stop => cluster.stop(victim)?,
        Fault::Pause => {
            cluster.pause(victim)?;
            thread::sleep(away);
            return cluster.resume(victim);
        }
        Fault::KillAll => {
            cluster.kill_all()?;
            cluster.start_all()?;
            return Ok(());
        }
    }
    thread::sleep(away);
    cluster.start(victim).map(|_| ())
}
