//! `kill -9` of coordinators under 200 groups. Each group has a member that commits, and that speaks the protocol itself
//! and asks again at once: so the time until it goes on is the brokers' alone. A member stays one: it goes on in its
//! generation, with no rebalance. `--software kafka` gives the same figures of Apache Kafka, which is held to no limit.

use super::Settings;
use super::committer::{Commits, Committer};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::member::{Member, coordinator};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, ms, percentile};
use anyhow::{Context, Result, bail};
use kafka_protocol::ResponseError;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "groups";
const OFFSETS: &str = "__consumer_offsets";
const GROUPS: usize = 200;
/// From the moment when all partitions of the offsets topic have leaders again to the next commit of each group.
const GOES_ON: super::TimeLimit = super::TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(5) };
/// Longer than any kill takes: nobody is expected to join again.
const SESSION: Duration = Duration::from_mins(1);
/// Between commits of one group, and between tries.
const PAUSE: Duration = Duration::from_millis(100);
const TRIES_EACH: Duration = Duration::from_millis(20);
/// How long one try may take: a broker that was killed says nothing more.
const REQUEST: Duration = Duration::from_secs(5);

/// `kill -9` of one broker after the other, once or five times.
pub(super) fn run(settings: &Settings, report: &mut Report, cluster: &mut Cluster) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let ports: Arc<[u16]> = (0..cluster.size()).map(|id| cluster.ports(id).kafka).collect();
    let start = |n| {
        let (ports, name) = (Arc::clone(&ports), format!("member-{n}"));
        let group = name.clone();
        Committer::start(name, move |commits| commit(&ports, &group, commits))
    };
    let groups: Vec<_> = (0..GROUPS).map(start).collect();
    let title = format!("kill -9 of a coordinator under {GROUPS} groups that commit every {} ms", PAUSE.as_millis());
    let columns = ["killed", "new leaders after", "next commit, median", "slowest group", "slowest after the leaders"];
    let mut table = Table::new(&title, &columns);
    let (mut slowest, mut failed) = (Duration::ZERO, false);
    let rounds = settings.rounds.unwrap_or(if settings.full { 5 } else { 1 });
    let brokers = cluster.size();
    for victim in (0..rounds).flat_map(|_| 0..brokers) {
        let outcome = one_kill(cluster, &metadata, &groups, victim);
        failed = outcome.is_err();
        if let Ok(seen) = &outcome {
            let worst = seen.gaps.iter().max().copied().unwrap_or_default();
            let after = worst.saturating_sub(seen.leaders);
            let millis: Vec<_> = seen.gaps.iter().map(|gap| gap.as_secs_f64() * 1e3).collect();
            let median = format!("{:.0} ms", percentile(&millis, 50.0));
            table.row(vec![format!("broker {victim}"), ms(seen.leaders), median, ms(worst), ms(after)]);
            slowest = slowest.max(after);
        }
        let outcome = outcome.map(|_| format!("{GROUPS} groups commit")).with_context(|| cluster.tails());
        report.check_result(format!("kill -9 of broker {victim}: members of {GROUPS} groups go on"), outcome);
        if failed {
            break;
        }
    }
    report.table(table);
    if !failed && matches!(settings.software, Software::Chronik(_)) {
        let name = format!("the slowest of {GROUPS} groups after the new leaders");
        GOES_ON.check(settings, report, &name, slowest.as_secs_f64() * 1e3, "");
    }
    let ends: Vec<_> = groups.into_iter().map(|group| group.end(|name| committed(&ports, name))).collect();
    let bad: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).map(|e| format!("{e:#}")).collect();
    let commits: i64 = ends.iter().flatten().sum();
    let detail =
        if bad.is_empty() { format!("{commits} commits answered") } else { bad[..bad.len().min(5)].join("; ") };
    report.check("no committed offset of a member goes back", bad.is_empty() && commits > 0, detail);
    Ok(())
}

struct Seen {
    /// From the kill until every partition of the offsets topic is led by somebody else.
    leaders: Duration,
    /// From the kill to the next commit, for each group.
    gaps: Vec<Duration>,
}

fn one_kill(cluster: &mut Cluster, metadata: &Metadata, groups: &[Committer], victim: usize) -> Result<Seen> {
    for group in groups {
        group.wait_for_commit_after(Instant::now())?;
    }
    let killed = Instant::now();
    cluster.kill(victim)?;
    wait::until("new leaders", PATIENCE, || {
        let led = |state: &crate::harness::metadata::PartitionState| {
            state.leader.is_some_and(|leader| leader as usize != victim)
        };
        Ok(metadata.partitions(OFFSETS)?.iter().all(led).then_some(()))
    })?;
    let leaders = killed.elapsed();
    let after = groups.iter().map(|group| group.wait_for_commit_after(killed)).collect::<Result<Vec<_>>>()?;
    cluster.start(victim)?;
    let partitions = metadata.partitions(OFFSETS)?.len();
    metadata.wait_for_isr(OFFSETS, partitions, cluster.size())?;
    Ok(Seen { leaders, gaps: after.into_iter().map(|at| at.saturating_duration_since(killed)).collect() })
}

/// A member that commits one offset after the other.
fn commit(ports: &[u16], name: &str, commits: &Commits) -> Result<()> {
    let mut asked = 0;
    let mut member = wait::until("a member", PATIENCE, || {
        let mut member = Member::connect(coordinator(ports[0], name, REQUEST)?, name)?;
        member.join(SESSION)?;
        Ok(Some(member))
    })?;
    let mut next = 0;
    while commits.goes_on() {
        // A commit that failed may have been carried out: its offset is not used again.
        next += 1;
        // The time of a group counts from the first try on, whatever the broker that was asked makes of it.
        let begun = Instant::now();
        while commits.goes_on() {
            match member.commit(TOPIC, next) {
                Ok(Ok(())) => {
                    commits.committed(next, begun);
                    break;
                }
                Ok(Err(e)) if is_lost(e) => bail!("{name} is no member any more: {e:?} in its generation"),
                Ok(Err(_)) | Err(_) => {
                    thread::sleep(TRIES_EACH);
                    asked = (asked + 1) % ports.len();
                    // A broker that is down, or does not know yet, is not the last one to be asked.
                    if let Ok(port) = coordinator(ports[asked], name, REQUEST) {
                        let _ = member.move_to(port, REQUEST);
                    }
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The offset that a group has committed, as its coordinator says.
fn committed(ports: &[u16], group: &str) -> Result<Option<i64>> {
    let port = coordinator(ports[0], group, REQUEST)?;
    Member::connect(port, group)?.committed(TOPIC).map(Some)
}

/// What tells a member that the group does not know it as it was.
fn is_lost(error: ResponseError) -> bool {
    matches!(
        error,
        ResponseError::UnknownMemberId | ResponseError::IllegalGeneration | ResponseError::RebalanceInProgress
    )
}
