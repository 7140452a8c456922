//! The least that it takes: an idle broker whose pod is deleted is back in every in-sync set, and three idle brokers are
//! restarted one at a time. `--strict` insists on what is meant.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use anyhow::{Context, ensure};
use jiff::Timestamp;

/// From the first line of a broker's process until it is in sync everywhere, in milliseconds.
const IN_SYNC_MAX_MS: i64 = 1_000;
/// From the request until every broker was restarted, in seconds.
const ROLL_MAX: f64 = 15.0;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("idle-roll"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let client = |words: &[&str]| client::exec(&kubectl, "client", &[words, &["--bootstrap", &bootstrap]].concat());
    client(&["produce", "--count", "2000"])?;
    client(&["in-sync", "--brokers", "0,1,2"])?;
    let mut took = Vec::new();
    for id in 0..3 {
        // It has left the in-sync sets when its pod is gone: it hands over before it ends.
        brokers.delete_pods(&[id])?;
        let said = client(&["in-sync", "--brokers", "0,1,2"])?;
        let back: Timestamp = said["at"].as_str().context("no time")?.parse()?;
        took.push(back.as_millisecond() - brokers.started(id)?.as_millisecond());
    }
    timeline.say(format!("from a broker's start until it is in sync everywhere: {took:?} ms"));
    ensure!(took.iter().all(|ms| *ms > 0), "a broker was in sync before it was started: {took:?}");
    let slowest = took.iter().copied().max().unwrap_or_default();
    ensure!(slowest <= IN_SYNC_MAX_MS || !environment.start_orders.strict, "that is more than {IN_SYNC_MAX_MS} ms");

    brokers.wait_ready()?;
    brokers.wait_budget(1)?;
    let before = brokers.uids()?;
    kubectl.run(&["annotate", "chronikcluster", "demo", "chronik.io/restart=asked-for"])?;
    let begun = timeline.seconds();
    brokers.wait_rolled(&before)?;
    let roll = timeline.seconds() - begun;
    timeline.say(format!("three idle brokers were restarted in {roll:.1} s, one away at most"));
    ensure!(roll <= ROLL_MAX || !environment.start_orders.strict, "that is more than {ROLL_MAX} s");
    client(&["in-sync", "--brokers", "0,1,2"])?;
    client(&["consume", "--count", "2000"])?;
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}
