//! Brokers that are far from each other: a packet between any two takes 25 ms, and one in a hundred is lost. They are set up
//! for that by their session, which the controller's elections and raft's timeouts follow. Clients write and read on, no
//! broker that lives is taken for gone, the controller's leader stays, and a broker that is killed is done without.

use super::{BROKERS, RATE, TOPICS, World};
use crate::harness::cluster::PATIENCE;
use crate::harness::network::Fault::Far;
use crate::harness::network::Host::Broker;
use crate::harness::network::{Network, Rule};
use crate::load::Load;
use crate::report::{Report, Table, ms};
use crate::scenarios::failover::controller_leadership;
use crate::scenarios::full_load::FENCES;
use crate::scenarios::{Settings, TimeLimit};
use anyhow::{Context as _, Result, ensure};
use std::thread;
use std::time::{Duration, Instant};

/// Three times the usual one. An entry of the metadata log has a twentieth of it to come to a voter and to be answered: with
/// the usual one that is 50 ms, which is the round trip.
const SESSION: (&str, &str) = ("broker.session.timeout.ms", "3000");
/// Records a second that are acknowledged at least: half of what the two writers offer.
const FLOOR: u32 = RATE;
/// The longest time without a write while all are there: a packet was lost twice over, which is sent again after a quarter of
/// a second and half a second.
const CALM: TimeLimit = TimeLimit { target: Duration::from_secs(2), always: Duration::from_secs(10) };
/// The same while a broker is gone: a session and two seconds.
const KILLED: TimeLimit = TimeLimit { target: Duration::from_secs(5), always: Duration::from_secs(15) };
/// From its start until it is in every ISR again.
const REJOINED: TimeLimit = TimeLimit { target: Duration::from_secs(10), always: Duration::from_secs(45) };

struct Seen {
    /// Acknowledged to the writers while all were there.
    records_per_second: f64,
    calm: Duration,
    /// The longest that a writer waited meanwhile.
    of_producer: Duration,
    killed: Duration,
    rejoined: Duration,
    /// How often brokers were fenced that were alive.
    fenced: usize,
    /// Term and leader of the controller quorum, at first and at last.
    controllers: [(u64, usize); 2],
    state: String,
}

pub(super) fn run(network: &Network, settings: &Settings, report: &mut Report) -> Result<()> {
    let lasts = Duration::from_secs(match settings {
        Settings { full: true, .. } => 60,
        Settings { quick: true, .. } => 4,
        _ => 10,
    });
    let mut world = World::new(network, settings, &[SESSION])?;
    let outcome = watch(&mut world, lasts).with_context(|| world.cluster.tails());
    let failed = outcome.is_err();
    let state = outcome.map(|seen| {
        judge(settings, &seen, report);
        seen.state
    });
    report.check_result("a wide area: what was acknowledged is there once and in order", state);
    if report.has_failures() {
        println!("kept: {}", world.cluster.keep().display());
    }
    if !failed {
        let name = "a wide area: the group skips nothing and goes back nowhere";
        report.check_result(name, world.group.end(PATIENCE));
    }
    Ok(())
}

fn judge(settings: &Settings, seen: &Seen, report: &mut Report) {
    let columns = [
        "records/s acknowledged",
        "nobody could write",
        "a producer's gap",
        "nobody could write after a kill -9",
        "in every ISR again after",
    ];
    let mut table = Table::new("Brokers with a round trip of 50 ms, and one packet in a hundred lost", &columns);
    table.row(vec![
        format!("{:.0}", seen.records_per_second),
        ms(seen.calm),
        ms(seen.of_producer),
        ms(seen.killed),
        ms(seen.rejoined),
    ]);
    report.table(table);
    let name = format!("a wide area: at least {FLOOR} records a second of {} are acknowledged", 2 * RATE);
    report.check(name, seen.records_per_second >= f64::from(FLOOR), format!("{:.0}", seen.records_per_second));
    report.check("a wide area: no broker that lives is fenced", seen.fenced == 0, seen.fenced);
    let [first, last] = seen.controllers;
    report.check("a wide area: the controller's leader stays", first == last, format!("{first:?}, {last:?}"));
    for (what, limit, took) in [
        ("the longest time in which nobody could write to a partition", CALM, seen.calm),
        ("the same after a kill -9", KILLED, seen.killed),
        ("until all replicas are in sync again", REJOINED, seen.rejoined),
    ] {
        limit.check(settings, report, &format!("a wide area: {what}"), took.as_secs_f64() * 1e3, "");
    }
}

fn watch(world: &mut World<'_>, lasts: Duration) -> Result<Seen> {
    world.wait_for_writes_after(Instant::now())?;
    let first = controller_leadership(&world.cluster)?;
    let victim = (first.1 + 1) % BROKERS;
    let partitions = world.metadata.partitions(TOPICS[1])?;
    ensure!(
        partitions.iter().any(|p| p.leader == Some(victim as i32)),
        "broker {victim} leads nothing: {partitions:?}"
    );
    println!("broker {} leads the controller: a wide area, and broker {victim} is killed", first.1);
    let fenced_before = fenced(world, None)?;
    world.network.set(&far_apart())?;
    // What was on its way before is acknowledged still.
    world.wait_for_writes_after(Instant::now() + Duration::from_secs(1))?;

    let (calm_from, acknowledged_before) = (Instant::now(), acknowledged(world));
    thread::sleep(lasts);
    let (calm_until, acknowledged_since) = (Instant::now(), acknowledged(world) - acknowledged_before);
    world.wait_for_writes_after(calm_until)?;
    let calm = world.probe.acknowledged.longest_gap(calm_from, calm_until);
    let gaps = world.loads.iter().flat_map(|load| load.longest_gaps(calm_from, calm_until));
    let of_producer = gaps.max().unwrap_or(Duration::MAX);

    let fenced_in_calm = fenced(world, None)? - fenced_before;
    let others_before = fenced(world, Some(victim))?;
    let killed_at = Instant::now();
    world.cluster.kill(victim)?;
    // A gap may begin a little after the end, with what was acknowledged but not yet seen.
    let gap_end = Instant::now() + Duration::from_secs(1);
    world.wait_for_writes_after(gap_end)?;
    let killed = world.probe.acknowledged.longest_gap(killed_at, gap_end);
    let back = world.cluster.start(victim)?;
    world.wait_for_all_in_sync()?;
    let rejoined = back.elapsed();
    world.cluster.check_alive()?;

    let last = controller_leadership(&world.cluster)?;
    let others_since = fenced(world, Some(victim))? - others_before;
    world.network.set(&[])?;
    let state = world.compare(Instant::now())?;
    Ok(Seen {
        records_per_second: acknowledged_since as f64 / calm_until.saturating_duration_since(calm_from).as_secs_f64(),
        calm,
        of_producer,
        killed,
        rejoined,
        fenced: fenced_in_calm + others_since,
        controllers: [first, last],
        state,
    })
}

fn far_apart() -> Vec<Rule> {
    let pairs = (0..BROKERS).flat_map(|from| (0..BROKERS).map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).map(|(from, to)| (Broker(from), Broker(to), Far)).collect()
}

/// How many records the writers have been acknowledged.
fn acknowledged(world: &World<'_>) -> usize {
    world.loads.iter().map(Load::acknowledged).sum()
}

/// How often brokers were fenced, all of them or all but one.
fn fenced(world: &World<'_>, but: Option<usize>) -> Result<usize> {
    let but = but.map(|id| format!("{FENCES} {id}:"));
    let is_of_it = |line: &str| but.as_deref().is_some_and(|but| line.contains(but));
    world.cluster.count_log_lines(|line| line.contains(FENCES) && !is_of_it(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broker_is_far_from_each_other_one() {
        let rules = far_apart();
        assert_eq!(rules.len(), BROKERS * (BROKERS - 1));
        for (from, to, fault) in &rules {
            assert_ne!(from, to);
            assert_eq!(*fault, Far);
            assert_eq!(rules.iter().filter(|rule| (rule.0, rule.1) == (*from, *to)).count(), 1);
        }
    }
}
