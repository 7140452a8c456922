//! Groups while the coordinators' topic has fewer in-sync replicas than its minimum: what is committed is read, members
//! heartbeat, what would be written is refused at once, and all go on in their generation when the replica is back.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::member::{Member, coordinator};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::Report;
use anyhow::{Context, Result, anyhow, ensure};
use kafka_protocol::ResponseError;
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "groups";
const OFFSETS: &str = "__consumer_offsets";
const CONFIGS: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("compression.type", "producer")];
/// Shorter than the time without the replica: members live by their heartbeats.
const SESSION: Duration = Duration::from_secs(20);
const WITHOUT: Duration = Duration::from_secs(24);
const BEAT: Duration = Duration::from_millis(500);
const REQUEST: Duration = Duration::from_secs(5);

pub(super) fn run(settings: &Settings, report: &mut Report, cluster: &mut Cluster) {
    let rounds = if settings.full { 3 } else { 1 };
    for round in 1..=rounds {
        let outcome = one_round(cluster, round).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(format!("round {round}: groups while too few replicas are in sync"), outcome);
        if failed {
            break;
        }
    }
}

fn one_round(cluster: &mut Cluster, round: i64) -> Result<String> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let ports: Vec<_> = (0..cluster.size()).map(|id| cluster.ports(id).kafka).collect();
    let (at, mut quiet) = joined(&ports, &format!("quiet-{round}"), |_| true)?;
    // Of the same coordinator, as the broker that is killed coordinates neither.
    let mut names = (0..).map(|n| format!("busy-{round}-{n}"));
    let mut busy = loop {
        let name = names.next().context("a name")?;
        if wait::until("a coordinator", PATIENCE, || coordinator(ports[0], &name, REQUEST).map(Some))? == at {
            break joined(&ports, &name, |port| port == at)?.1;
        }
    };
    ensure!(quiet.commit(TOPIC, 5)?.is_ok() && busy.commit(TOPIC, 5)?.is_ok(), "the first commits are refused");
    let victim = ports.iter().position(|port| *port != at).context("another broker")?;
    let least = cluster.size().to_string();
    metadata.set_configs(OFFSETS, &[&CONFIGS[..], &[("min.insync.replicas", &least)]].concat())?;
    cluster.kill(victim)?;
    let mut next = 5;
    let mut answered = 5;
    wait::until("a commit that is refused", PATIENCE, || {
        next += 1;
        match busy.commit(TOPIC, next)? {
            Ok(()) => answered = next,
            Err(ResponseError::CoordinatorNotAvailable) => return Ok(Some(Ok(()))),
            Err(other) => return Ok(Some(Err(anyhow!("a commit is refused with {other:?}")))),
        }
        Ok(None)
    })??;
    // Longer than a session.
    let since = Instant::now();
    while since.elapsed() < WITHOUT {
        for member in [&mut quiet, &mut busy] {
            member.send_heartbeat()?;
            ensure!(member.heartbeat_answer()?, "a group rebalances");
        }
        ensure!(quiet.committed(TOPIC)? == 5, "what was committed before is not there");
        let refused = quiet.commit(TOPIC, 6)?;
        ensure!(refused == Err(ResponseError::CoordinatorNotAvailable), "a commit is answered with {refused:?}");
        thread::sleep(BEAT);
    }
    cluster.start(victim)?;
    let partitions = metadata.partitions(OFFSETS)?.len();
    metadata.wait_for_isr(OFFSETS, partitions, cluster.size())?;
    for (name, member) in [("quiet", &mut quiet), ("busy", &mut busy)] {
        wait::until("a commit of both groups", PATIENCE, || match member.commit(TOPIC, next + 1)? {
            Ok(()) => Ok(Some(Ok(()))),
            Err(ResponseError::CoordinatorNotAvailable) => Ok(None),
            Err(other) => Ok(Some(Err(anyhow!("a commit of {name} is refused with {other:?}")))),
        })??;
    }
    metadata.set_configs(OFFSETS, &CONFIGS)?;
    let found = busy.committed(TOPIC)?;
    ensure!(found == next + 1 && found > answered, "{found} is committed");
    quiet.leave()?;
    busy.leave()?;
    Ok("commits refused, heartbeats and committed offsets answered, and nobody had to join again".into())
}

/// A member of the group, at a coordinator that is as it should be.
fn joined(ports: &[u16], group: &str, fits: impl Fn(u16) -> bool) -> Result<(u16, Member)> {
    wait::until("a member", PATIENCE, || {
        let port = coordinator(ports[0], group, REQUEST)?;
        ensure!(fits(port), "its coordinator has moved");
        let mut member = Member::connect(port, group)?;
        member.join(SESSION)?;
        Ok(Some((port, member)))
    })
}
