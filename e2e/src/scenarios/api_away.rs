//! The API server is away for a minute: brokers, and who writes to them, do not notice; the operator goes on when it is
//! there again.

use crate::brokers::Brokers;
use crate::client::Load;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use std::thread::sleep;
use std::time::Duration;

const AWAY: Duration = Duration::from_mins(1);

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("api-away"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
    let before = brokers.uids()?;
    environment::pause(&environment.control_plane(), true)?;
    timeline.say("the API server is stopped");
    sleep(AWAY);
    environment::pause(&environment.control_plane(), false)?;
    until("the API server", || kubectl.run(&["get", "--raw", "/readyz"]).map(Some))?;
    brokers.wait_ready()?;
    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    kubectl.run(&["patch", "chronikcluster", "demo", "--type=merge", "-p", CHANGE])?;
    until("a change that the operator took up", || {
        let cluster = kubectl.json(&["get", "chronikcluster", "demo"])?;
        let taken = cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
        Ok((taken && brokers.condition("Progressing")?.1 == "UpToDate").then_some(()))
    })?;
    ensure!(brokers.uids()? == before, "pods were replaced");
    brokers.never_restarted()?;
    timeline.say("no pod was replaced, and the operator takes up changes");
    environment.discard(&kubectl)
}

/// Nothing restarts for it.
const CHANGE: &str = r#"{"spec":{"config":{"log.retention.ms":86400000}}}"#;
