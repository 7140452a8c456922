//! A coordinator that hangs past its session and then goes on where it stood: to what waited for it, and to what it is
//! asked then, it may not answer as if it still led. Its group goes on with its successor.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::member::{Member, coordinator};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const TOPIC: &str = "groups";
const OFFSETS: &str = "__consumer_offsets";
/// Longer than everything: nobody is expected to join again.
const SESSION: Duration = Duration::from_mins(5);
const REQUEST: Duration = Duration::from_secs(5);

/// SIGSTOP of a group's coordinator, commits through its successor, SIGCONT.
pub(super) fn run(settings: &Settings, report: &mut Report, cluster: &Cluster) {
    let rounds = if settings.full { 5 } else { 1 };
    for round in 1..=rounds {
        let outcome = one_round(cluster, round).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(format!("round {round}: a coordinator resumed past its lease says nothing"), outcome);
        if failed {
            break;
        }
    }
}

fn one_round(cluster: &Cluster, round: i64) -> Result<String> {
    let group = format!("stopped-{round}");
    let ports: Vec<_> = (0..cluster.size()).map(|id| cluster.ports(id).kafka).collect();
    let (old, mut member) = wait::until("a member", PATIENCE, || {
        let port = coordinator(ports[0], &group, REQUEST)?;
        let mut member = Member::connect(port, &group)?;
        member.join(SESSION)?;
        Ok(Some((port, member)))
    })?;
    let stopped = ports.iter().position(|port| *port == old).context("a broker's port")?;
    ensure!(member.commit(TOPIC, 1)?.is_ok(), "the first commit is refused");
    let mut late = member.again_at(old)?;
    cluster.pause(stopped)?;
    let moved = move_on(cluster, stopped, &ports, &group, &mut member);
    cluster.resume(stopped)?;
    let successor = moved?;
    // What waited while it hung, and what it is asked when it goes on.
    let beat = member.heartbeat_answer();
    ensure!(beat.is_err(), "the old coordinator answered a heartbeat as if it led");
    let commit = member.committed_or_not()?;
    ensure!(commit.is_err(), "the old coordinator took a commit as if it led");
    late.send_heartbeat()?;
    let beat = late.heartbeat_answer();
    ensure!(beat.is_err(), "the old coordinator answered a new heartbeat as if it led");
    let (later, read) = (late.commit(TOPIC, 3)?, late.committed(TOPIC));
    ensure!(later.is_err(), "the old coordinator took a new commit as if it led");
    ensure!(read.is_err(), "the old coordinator says that {read:?} is committed, and does not lead");
    let mut member = member.again_at(successor)?;
    member.send_heartbeat()?;
    ensure!(member.heartbeat_answer()?, "the group rebalances");
    let found = member.committed(TOPIC)?;
    ensure!(found == 100, "the commit of 100 was answered, and {found} is committed");
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let partitions = metadata.partitions(OFFSETS)?.len();
    metadata.wait_for_isr(OFFSETS, partitions, cluster.size())?;
    Ok(format!("a commit that waited was refused with {commit:?}, and one after it with {later:?}"))
}

/// Asks the coordinator that hangs for a heartbeat and a commit, and goes on with its successor, whose port it says.
fn move_on(cluster: &Cluster, stopped: usize, ports: &[u16], group: &str, member: &mut Member) -> Result<u16> {
    member.send_heartbeat()?;
    member.send_commit(TOPIC, 2)?;
    let other = ports[(stopped + 1) % ports.len()];
    let successor = wait::until("another coordinator", PATIENCE, || {
        Ok(Some(coordinator(other, group, REQUEST)?).filter(|port| *port != ports[stopped]))
    })?;
    let mut moved = member.again_at(successor)?;
    wait::until("a heartbeat in the same generation", PATIENCE, || {
        moved.send_heartbeat()?;
        moved.heartbeat_answer().map(Some)
    })?;
    wait::until("a commit", PATIENCE, || Ok(moved.commit(TOPIC, 100)?.ok()))?;
    ensure!(cluster.is_paused(stopped)?, "broker {stopped} does not hang");
    ensure!(member.waits()?, "broker {stopped} has answered although it hangs");
    Ok(successor)
}
