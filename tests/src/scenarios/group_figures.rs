//! What groups cost one broker: many members that join and leave, thousands that are idle, commits a second, and how long
//! a coordinator loads. And of three brokers: members that join while their coordinator is killed. `--software kafka` asks
//! Apache Kafka the same. A tenth of it by default; all of it with `--full`.

use super::{Settings, TimeLimit, much_to_load};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::member::{Member, coordinator};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, ms};
use anyhow::{Context, Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const TOPIC: &str = "groups";
/// Longer than everything: nobody's session ends.
const SESSION: Duration = Duration::from_mins(20);
const MEMBERS_EACH: usize = 10;
/// The most that a broker with all of the groups may have in memory, in bytes.
const MOST: u64 = 100_000_000;
/// Connections that commit, each for a group of its own, and commits of one that are on their way at once.
const COMMITTERS: usize = 16;
const AT_ONCE: i64 = 64;
/// Commits a second that are to be reached on a machine that does nothing else.
const COMMITS: f64 = 50_000.0;
/// Commits a second that are reached whatever else a machine does: a debug build among others' builds makes several
/// times as many.
const LEAST_COMMITS: f64 = 1_000.0;
/// Until all members are in one generation after a storm. The first one waits twice for
/// `group.initial.rebalance.delay.ms`.
const COMES_TO_REST: TimeLimit = TimeLimit { target: Duration::from_secs(4), always: Duration::from_secs(20) };
/// The same from the kill of their coordinator on.
const OUTLIVES: TimeLimit = TimeLimit { target: Duration::from_secs(4), always: Duration::from_secs(30) };
/// How long one question for a coordinator may take, and between two of them.
const REQUEST: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(20);
/// Between heartbeats of a member that takes part in a storm.
const BEAT: Duration = Duration::from_millis(50);

/// One broker, and one figure after the other.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    // Long enough for a group's members to come together, be the machine busy or not.
    let properties = [("group.initial.rebalance.delay.ms", "1000"), ("max.connections", "12000")];
    let mut cluster = Cluster::new(&settings.software, 1, &properties)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 1, &[])?;
    let port = cluster.ports(0).kafka;
    wait::until("a coordinator", PATIENCE, || {
        let mut first = Member::connect(coordinator(port, "first", PATIENCE)?, "first")?;
        first.join(SESSION)?;
        first.leave().map(Some)
    })?;
    storm(settings, port, report)?;
    idle(settings, &cluster, report)?;
    commits(settings, port, report)?;
    report.check_result("the broker lives", cluster.check_alive().map(|()| "yes".into()));
    drop(cluster);
    much_to_load::run(settings, report)?;
    killed(settings, report)
}

/// Whether what is measured is held to a limit: only Chronik is.
fn is_chronik(settings: &Settings) -> bool {
    matches!(settings.software, Software::Chronik(_))
}

fn idle(settings: &Settings, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let groups = if settings.full { 1_000 } else { 100 };
    let port = cluster.ports(0).kafka;
    let before = cluster.usage(0)?.rss_bytes;
    let mut members = Vec::with_capacity(groups * MEMBERS_EACH);
    for group in 0..groups {
        let name = format!("idle-{group}");
        for _ in 0..MEMBERS_EACH {
            let mut member = Member::connect(port, &name)?;
            member.send_join(SESSION)?;
            members.push(member);
        }
    }
    members.iter_mut().try_for_each(Member::joined)?;
    members.iter_mut().try_for_each(Member::send_sync)?;
    for member in &mut members {
        ensure!(member.synced()?, "a group rebalances again: its members came too slowly");
    }
    let after = cluster.usage(0)?.rss_bytes;
    // They are all there still.
    members.iter_mut().try_for_each(Member::send_heartbeat)?;
    for member in &mut members {
        ensure!(member.heartbeat_answer()?, "a group rebalances that nobody joins");
    }
    let (count, mb) = (members.len(), |bytes: u64| format!("{:.1}", bytes as f64 / 1e6));
    let each = format!("{:.1}", after.saturating_sub(before) as f64 / 1e3 / count as f64);
    let columns = ["groups", "members", "RSS MB before", "RSS MB with them", "kB a member and its connection"];
    let mut table = Table::new("Idle groups on one broker", &columns);
    table.row(vec![groups.to_string(), count.to_string(), mb(before), mb(after), each]);
    report.table(table);
    if is_chronik(settings) {
        let name = format!("a broker with {groups} idle groups takes at most {} MB", MOST / 1_000_000);
        report.check(name, after <= MOST, format!("{} MB", mb(after)));
    }
    Ok(())
}

fn commits(settings: &Settings, port: u16, report: &mut Report) -> Result<()> {
    let window = Duration::from_secs(if settings.full { 10 } else { 2 });
    let committers: Vec<_> = (0..COMMITTERS)
        .map(|n| {
            let mut member = Member::connect(port, &format!("commits-{n}"))?;
            member.join(SESSION)?;
            Ok(member)
        })
        .collect::<Result<_>>()?;
    let started = Instant::now();
    let threads: Vec<_> =
        committers.into_iter().map(|member| thread::spawn(move || commit(member, started + window))).collect();
    let answered = threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a committer panicked"))?);
    let answered: i64 = answered.collect::<Result<Vec<_>>>()?.iter().sum();
    let rate = answered as f64 / started.elapsed().as_secs_f64();
    let columns = ["connections", "on their way on each", "commits answered", "commits/s"];
    let mut table = Table::new("Commits of one partition each", &columns);
    table.row(vec![COMMITTERS.to_string(), AT_ONCE.to_string(), answered.to_string(), format!("{rate:.0}")]);
    report.table(table);
    let least = match settings.strict && settings.full {
        _ if !is_chronik(settings) => 0.0,
        true => COMMITS,
        false => LEAST_COMMITS,
    };
    let detail = format!("{rate:.0}/s, with a target of {COMMITS:.0}/s");
    report.check(format!("more than {least:.0} commits are answered in a second"), rate > least, detail);
    Ok(())
}

/// Commits one offset after the other, so many at once, and returns how many commits were answered.
fn commit(mut member: Member, until: Instant) -> Result<i64> {
    let (mut sent, mut answered) = (0, 0);
    while Instant::now() < until {
        while sent - answered < AT_ONCE {
            sent += 1;
            member.send_commit(TOPIC, sent)?;
        }
        member.committed_or_not()?.map_err(|e| anyhow!("a commit is refused: {e:?}"))?;
        answered += 1;
    }
    while answered < sent {
        member.committed_or_not()?.map_err(|e| anyhow!("a commit is refused: {e:?}"))?;
        answered += 1;
    }
    Ok(answered)
}

/// A member that takes part in every rebalance, in a thread of its own.
struct Storming {
    /// The generation that it has synced in last.
    generation: Arc<AtomicI32>,
    leave: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Storming {
    /// A member at the one broker that there is.
    fn start(port: u16, group: &'static str) -> Self {
        Self::run(move |generation, leave| {
            let mut member = Member::connect(port, group)?;
            while !leave.load(Ordering::Relaxed) {
                take_part(&mut member, generation)?;
            }
            member.leave()
        })
    }

    /// A member that looks for its coordinator again when that is gone.
    fn lasting(ports: &Arc<[u16]>, group: &'static str) -> Self {
        let ports = Arc::clone(ports);
        Self::run(move |generation, leave| {
            let mut asked = 0;
            let mut member = wait::until("a coordinator", PATIENCE, || {
                asked = (asked + 1) % ports.len();
                Member::connect(coordinator(ports[asked], group, REQUEST)?, group).map(Some)
            })?;
            while !leave.load(Ordering::Relaxed) {
                let Err(error) = take_part(&mut member, generation) else { continue };
                thread::sleep(AGAIN);
                asked = (asked + 1) % ports.len();
                // A broker that is down, or does not know yet, is not the last one to be asked.
                let Ok(port) = coordinator(ports[asked], group, REQUEST) else { continue };
                if error.to_string().contains("UnknownMemberId") {
                    generation.store(-1, Ordering::Relaxed);
                    member = Member::connect(port, group).unwrap_or(member);
                } else {
                    let _ = member.move_to(port, PATIENCE);
                }
            }
            // What is left ends with the cluster.
            let _ = member.leave();
            Ok(())
        })
    }

    fn run(live: impl FnOnce(&AtomicI32, &AtomicBool) -> Result<()> + Send + 'static) -> Self {
        let (generation, leave) = (Arc::new(AtomicI32::new(-1)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (generation, leave) = (Arc::clone(&generation), Arc::clone(&leave));
            move || live(&generation, &leave)
        });
        Self { generation, leave, thread }
    }
}

/// Joins, or says after a pause that it is there, and joins again if the group rebalances.
fn take_part(member: &mut Member, generation: &AtomicI32) -> Result<()> {
    if generation.load(Ordering::Relaxed) >= 0 {
        thread::sleep(BEAT);
        member.send_heartbeat()?;
        if member.heartbeat_answer()? {
            return Ok(());
        }
    }
    member.join(SESSION)?;
    generation.store(member.generation(), Ordering::Relaxed);
    Ok(())
}

fn storm(settings: &Settings, port: u16, report: &mut Report) -> Result<()> {
    let count = if settings.full { 100 } else { 20 };
    let mut table =
        Table::new(format!("{count} members join and leave").as_str(), &["what", "until stable", "generation"]);
    let mut slowest = Duration::ZERO;
    let mut row = |what: &str, since: Instant, generation: i32| {
        let took = since.elapsed();
        slowest = slowest.max(took);
        table.row(vec![what.to_owned(), ms(took), generation.to_string()]);
    };
    let started = Instant::now();
    let mut members: Vec<_> = (0..count).map(|_| Storming::start(port, "storm")).collect();
    let joined = stable(&members, 0)?;
    row("all join at once", started, joined);
    let left = Instant::now();
    let leaving = members.split_off(count / 2);
    for member in &leaving {
        member.leave.store(true, Ordering::Relaxed);
    }
    let fewer = stable(&members, joined)?;
    row("half of them leave at once", left, fewer);
    let again = Instant::now();
    members.extend((0..count / 2).map(|_| Storming::start(port, "storm")));
    row("as many join again", again, stable(&members, fewer)?);
    for member in &members {
        member.leave.store(true, Ordering::Relaxed);
    }
    for member in members.into_iter().chain(leaving) {
        member.thread.join().map_err(|_| anyhow!("a member panicked"))?.context("a member of the storm")?;
    }
    report.table(table);
    if is_chronik(settings) {
        let name = format!("{count} members come to rest after each storm");
        COMES_TO_REST.check(settings, report, &name, slowest.as_secs_f64() * 1e3, "");
    }
    Ok(())
}

/// Half of the members are there, as many join, and the coordinator of all is killed.
fn killed(settings: &Settings, report: &mut Report) -> Result<()> {
    const GROUP: &str = "killed";
    let count = if settings.full { 100 } else { 20 };
    let mut cluster = Cluster::of_three(&settings.software, &[("group.initial.rebalance.delay.ms", "1000")])?;
    let ports: Arc<[u16]> = (0..cluster.size()).map(|id| cluster.ports(id).kafka).collect();
    let at = wait::until("a coordinator", PATIENCE, || {
        let port = coordinator(ports[0], GROUP, REQUEST)?;
        let mut first = Member::connect(port, GROUP)?;
        first.join(SESSION)?;
        first.leave().map(|()| Some(port))
    })?;
    let mut members: Vec<_> = (0..count / 2).map(|_| Storming::lasting(&ports, GROUP)).collect();
    let joined = stable(&members, 0)?;
    let victim = ports.iter().position(|port| *port == at).context("a broker's port")?;
    members.extend((0..count / 2).map(|_| Storming::lasting(&ports, GROUP)));
    let since = Instant::now();
    cluster.kill(victim)?;
    let generation = stable(&members, joined).with_context(|| cluster.tails())?;
    let took = since.elapsed();
    let title = format!("The coordinator of {count} members is killed while half of them join");
    let mut table = Table::new(&title, &["until stable", "generation"]);
    table.row(vec![ms(took), generation.to_string()]);
    report.table(table);
    if is_chronik(settings) {
        let name = format!("{count} members come to rest after the kill of their coordinator");
        OUTLIVES.check(settings, report, &name, took.as_secs_f64() * 1e3, "");
    }
    for member in &members {
        member.leave.store(true, Ordering::Relaxed);
    }
    for member in members {
        member.thread.join().map_err(|_| anyhow!("a member panicked"))?.context("a member of the storm")?;
    }
    Ok(())
}

/// Waits until all of them are in one generation after that one, and says which.
fn stable(members: &[Storming], after: i32) -> Result<i32> {
    wait::until("one generation of all members", PATIENCE, || {
        ensure!(!members.iter().any(|member| member.thread.is_finished()), "a member has ended");
        let generations: Vec<_> = members.iter().map(|m| m.generation.load(Ordering::Relaxed)).collect();
        let first = generations.first().copied().unwrap_or_default();
        Ok((first > after && generations.iter().all(|other| *other == first)).then_some(first))
    })
}
