//! `test_acks_all`: three brokers started in every order and with every gap, and clients that were there first.
//!
//! Measured is the time from the start of the last broker that a majority needs (the second) to the first
//! acknowledged acks=all write; brokers that start together ("cold") are measured from the first one's start. The
//! clients begin with the first broker, know all three addresses, and keep all their default settings, so that
//! what they put back when an address refuses them is part of what is measured.

use super::first_write::{Client, TOPIC, VALUE, Writer};
use super::{Settings, TimeLimit};
use crate::harness::clients as programs;
use crate::harness::cluster::{Cluster, Software};
use crate::harness::metadata::Metadata;
use crate::load::read_all;
use crate::report::{Report, Table, median};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// From the last needed broker's start.
const LIMIT: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(4) };
/// From the first broker's start, when all start together.
const COLD_LIMIT: TimeLimit = TimeLimit { target: Duration::from_millis(500), always: Duration::from_secs(4) };
/// How many runs a median is taken of in the end, when few were above the target. In about one run of ten the
/// client happened to dial only addresses that refuse it, and sleeps while the needed broker starts: two such runs
/// of three say nothing of the median.
const ENOUGH_RUNS: usize = 9;
/// More groups than that are not above the target by chance.
const MANY_GROUPS: usize = 12;
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What to run of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Gaps between the starts, in seconds [default: 0,1,3,30; with --quick 0,1]
    #[arg(long, value_delimiter = ',')]
    gaps: Vec<u64>,
}

/// Measures, and judges the medians.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let python = match programs::python() {
        Ok(python) => Some(python),
        Err(e) => {
            report.could_not_run(format!("start-orders with kafka-python: {e:#}"));
            None
        }
    };
    let mut groups = Groups::new();
    carry_out(settings, &plans(settings, options, python.is_some()), python.as_deref(), &mut groups, report);
    if matches!(settings.software, Software::Chronik(_)) {
        carry_out(settings, &again(settings, &groups), python.as_deref(), &mut groups, report);
    }
    judge(settings, &groups, report);
    Ok(())
}

/// What is run again: each group whose few runs have a median above what is insisted on. With many such groups nothing
/// is: then it is no chance, and takes too long.
fn again(settings: &Settings, groups: &Groups) -> Vec<Plan> {
    let limit = millis(LIMIT.insisted_on(settings));
    let missed: Vec<_> = groups.iter().filter(|(_, runs)| median(&times(runs)) > limit).collect();
    if missed.len() > MANY_GROUPS {
        return Vec::new();
    }
    missed
        .into_iter()
        .flat_map(|(group, runs)| std::iter::repeat_n(group.plan(), ENOUGH_RUNS.saturating_sub(runs.len())))
        .collect()
}

type Groups = BTreeMap<Group, Vec<Run>>;

/// Every plan, in parallel where their busy times do not meet.
fn carry_out(settings: &Settings, plans: &[Plan], python: Option<&Path>, groups: &mut Groups, report: &mut Report) {
    let is_kafka = matches!(settings.software, Software::Kafka(_));
    let schedule = schedule(plans, if is_kafka { 20.0 } else { 1.0 });
    let base = Instant::now() + Duration::from_millis(100);
    let (results, inbox) = channel();
    thread::scope(|scope| {
        for (plan, start) in plans.iter().zip(schedule) {
            let results = results.clone();
            scope.spawn(move || {
                let start = base + Duration::from_secs_f64(start);
                let outcome = run_plan(settings, plan, python, start);
                // The inbox lives until every sender is gone.
                let _ = results.send((plan, outcome));
            });
        }
        drop(results);
        for (plan, outcome) in inbox {
            match outcome {
                Ok(run) => groups.entry(plan.group()).or_default().push(run),
                Err(e) => {
                    report.check(format!("{plan:?}"), false, format!("{e:#}"));
                }
            }
        }
    });
}

/// One run: who starts when, and who writes.
#[derive(Clone, Debug)]
struct Plan {
    client: Client,
    gap: Duration,
    /// The brokers in the order of their starts.
    order: Vec<usize>,
}

/// Runs that are repetitions of each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    never_started: bool,
    gap: Duration,
    client: Client,
    order: Vec<usize>,
}

impl Plan {
    fn group(&self) -> Group {
        Group { never_started: self.order.len() < 3, gap: self.gap, client: self.client, order: self.order.clone() }
    }
}

impl Group {
    fn plan(&self) -> Plan {
        Plan { client: self.client, gap: self.gap, order: self.order.clone() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first_write: Duration,
    third_in_sync: Option<Duration>,
}

fn plans(settings: &Settings, options: &Options, python: bool) -> Vec<Plan> {
    let gaps = match (&options.gaps[..], settings.quick) {
        ([], true) => vec![0, 1],
        ([], false) => vec![0, 1, 3, 30],
        (given, _) => given.to_vec(),
    };
    let repetitions = |gap: u64| match (gap, settings.quick, settings.full) {
        // Whoever is slow is run again, so once is enough to see that nobody waits for a timeout.
        (_, true, _) | (_, _, false) => 1,
        (30.., _, true) => 3,
        (_, _, true) => 10,
    };
    let clients = if python { &[Client::KafkaPython, Client::Librdkafka][..] } else { &[Client::Librdkafka] };
    let mut plans = Vec::new();
    for &client in clients {
        for &gap in &gaps {
            for order in ORDERS {
                let plan = Plan { client, gap: Duration::from_secs(gap), order: order.to_vec() };
                plans.extend(std::iter::repeat_n(plan, settings.rounds.unwrap_or_else(|| repetitions(gap))));
            }
        }
        // Each of the three is twice the one that never starts; who starts first does not say who leads.
        for &gap in &gaps {
            for order in ORDERS {
                plans.push(Plan { client, gap: Duration::from_secs(gap), order: order[..2].to_vec() });
            }
        }
    }
    plans
}

/// When each plan begins, in seconds from now: those whose brokers start together run alone, the others so that
/// two at most are busy at any time. `pace` stretches what a start costs, for slower brokers.
fn schedule(plans: &[Plan], pace: f64) -> Vec<f64> {
    const STEP: f64 = 0.1;
    let (launch, joining) = (1.0 * pace.sqrt(), 0.6 * pace);
    let mut busy: Vec<u8> = Vec::new();
    let mut starts = vec![0.0; plans.len()];
    let mut order: Vec<_> = (0..plans.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(plans[*i].gap));
    for i in order {
        let plan = &plans[i];
        let gap = plan.gap.as_secs_f64();
        let weight = if plan.gap.is_zero() { 2 } else { 1 };
        let slots: Vec<(usize, usize)> = (0..plan.order.len())
            .map(|n| (launch + gap * n as f64, joining))
            .chain([(0.0, launch)])
            .map(|(from, length)| ((from / STEP).round() as usize, ((from + length) / STEP).round() as usize))
            .collect();
        let slots = merged(slots);
        let fits = |start: usize| {
            slots.iter().all(|(a, b)| (start + a..start + b).all(|t| busy.get(t).copied().unwrap_or(0) + weight <= 2))
        };
        // Behind all that is planned there is always room.
        let start = (0..busy.len()).find(|start| fits(*start)).unwrap_or(busy.len());
        for (a, b) in slots {
            busy.resize(busy.len().max(start + b), 0);
            busy[start + a..start + b].iter_mut().for_each(|t| *t += weight);
        }
        starts[i] = start as f64 * STEP;
    }
    starts
}

/// The same intervals without overlaps.
fn merged(mut slots: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    slots.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (from, to) in slots {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn run_plan(settings: &Settings, plan: &Plan, python: Option<&Path>, start: Instant) -> Result<Run> {
    thread::sleep(start.saturating_duration_since(Instant::now()));
    let mut cluster = Cluster::new(&settings.software, 3, &[])?;
    let outcome = measure(&mut cluster, plan, python);
    if outcome.is_err() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome.with_context(|| cluster.tails())
}

fn measure(cluster: &mut Cluster, plan: &Plan, python: Option<&Path>) -> Result<Run> {
    let mut writer = Writer::prepare(plan.client, &cluster.bootstrap(), python)?;
    let first = cluster.start(plan.order[0])?;
    writer.write()?;
    // The gaps are the stimulus.
    thread::sleep(plan.gap);
    let second = cluster.start(plan.order[1])?;
    let third = |cluster: &mut Cluster| plan.order.get(2).map(|id| cluster.start(*id)).transpose();
    let (needed, written, third) = if plan.gap.is_zero() {
        let third = third(cluster)?;
        (first, writer.acknowledged()?, third)
    } else {
        let written = writer.acknowledged()?;
        if plan.order.len() > 2 {
            thread::sleep((second + plan.gap).saturating_duration_since(Instant::now()));
        }
        (second, written, third(cluster)?)
    };
    ensure!(written > second, "acknowledged before there was a second broker");
    cluster.check_alive()?;
    let in_sync = plan.order.len();
    Metadata::new(&cluster.bootstrap())?.wait_for_isr(TOPIC, 1, in_sync)?;
    let third_in_sync = third.map(|third| third.elapsed());
    let read = read_all(&cluster.bootstrap(), TOPIC, 1, Duration::from_secs(30))?;
    let found = read.iter().flatten().filter(|(_, value)| value == VALUE).count();
    let as_promised = if plan.client.is_idempotent() { found == 1 } else { found >= 1 };
    ensure!(as_promised, "the record is there {found} times");
    Ok(Run { first_write: written.saturating_duration_since(needed), third_in_sync })
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// From the needed start to the first write, in milliseconds.
fn times(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|r| millis(r.first_write)).collect()
}

fn judge(settings: &Settings, groups: &Groups, report: &mut Report) {
    let mut table = Table::new(
        "From the last needed broker's start to the first acks=all write (together: from the first start)",
        &["started", "gap", "client", "order", "runs", "median ms", "max ms", "over 1 s", "third in the ISR after, ms"],
    );
    let mut cold: BTreeMap<Client, Vec<f64>> = BTreeMap::new();
    let mut verdicts = Vec::new();
    for (group, runs) in groups {
        let times = times(runs);
        let joined: Vec<_> = runs.iter().filter_map(|r| r.third_in_sync).map(millis).collect();
        let max = times.iter().copied().fold(0.0, f64::max);
        table.row(vec![
            if group.never_started { "two of three" } else { "three" }.into(),
            if group.gap.is_zero() { "together".into() } else { format!("{} s", group.gap.as_secs()) },
            format!("{:?}", group.client),
            group.order.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            runs.len().to_string(),
            format!("{:.0}", median(&times)),
            format!("{max:.0}"),
            times.iter().filter(|t| **t > millis(LIMIT.target)).count().to_string(),
            if joined.is_empty() { "-".into() } else { format!("{:.0}", median(&joined)) },
        ]);
        if group.gap.is_zero() && !group.never_started {
            cold.entry(group.client).or_default().extend(&times);
        }
        verdicts.push((group, median(&times)));
    }
    report.table(table);
    for (group, median) in verdicts {
        let started = if group.never_started { "one never started" } else { "all started" };
        let name = format!("{:?}, gap {:?}, order {:?}, {started}", group.client, group.gap, group.order);
        LIMIT.check(settings, report, &name, median, " as the median");
    }
    for (client, times) in cold {
        let name = format!("{client:?}, cold start of three");
        COLD_LIMIT.check(settings, report, &name, median(&times), &format!(" as the median of {}", times.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(gap: u64) -> Plan {
        Plan { client: Client::Librdkafka, gap: Duration::from_secs(gap), order: vec![0, 1, 2] }
    }

    fn settings(strict: bool) -> Settings {
        Settings { software: Software::Chronik("chronik".into()), quick: false, full: false, strict, rounds: None }
    }

    /// What a run without options plans, for both clients.
    fn all_plans() -> Vec<Plan> {
        plans(&settings(false), &Options { gaps: Vec::new() }, true)
    }

    #[test]
    fn brokers_that_start_together_are_measured_alone() {
        let starts = schedule(&[plan(0), plan(0)], 1.0);
        assert!((starts[0] - starts[1]).abs() > 1.5, "{starts:?}");
    }

    #[test]
    fn long_gaps_overlap() {
        let last = schedule(&vec![plan(30); 12], 1.0).into_iter().fold(0.0, f64::max);
        assert!(last < 30.0, "the last begins after {last} s");
    }

    #[test]
    fn every_order_is_planned_with_every_gap_and_with_one_that_never_starts() {
        let groups: BTreeSet<_> = all_plans().iter().map(Plan::group).collect();
        // Two clients, six orders, four gaps, three brokers or two.
        assert_eq!(groups.len(), 2 * 6 * 4 * 2);
    }

    #[test]
    fn a_median_above_the_target_is_taken_of_more_runs_and_no_other() {
        let took = |ms: u64| Run { first_write: Duration::from_millis(ms), third_in_sync: None };
        for (runs, more) in [
            (vec![took(200)], 0),
            (vec![took(1200)], ENOUGH_RUNS - 1),
            (vec![took(1200), took(200), took(300)], 0),
            (vec![took(1200), took(200), took(1300)], ENOUGH_RUNS - 3),
            (vec![took(1200); ENOUGH_RUNS], 0),
        ] {
            let groups = Groups::from([(plan(1).group(), runs.clone())]);
            assert_eq!(again(&settings(true), &groups).len(), more, "{runs:?}");
            assert!(again(&settings(false), &groups).is_empty(), "none waited for a timeout: {runs:?}");
        }
        let groups = Groups::from([(plan(1).group(), vec![took(5000)])]);
        assert_eq!(again(&settings(false), &groups).len(), ENOUGH_RUNS - 1);
    }

    #[test]
    fn a_whole_run_is_planned_within_three_minutes() {
        let plans = all_plans();
        let starts = schedule(&plans, 1.0);
        let length = |p: &Plan| p.gap.as_secs_f64() * (p.order.len() - 1) as f64;
        let end = starts.iter().zip(&plans).map(|(start, plan)| start + length(plan)).fold(0.0, f64::max);
        assert!(end < 180.0, "the last broker starts after {end} s");
    }
}
