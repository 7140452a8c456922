//! A broker whose volume is lost comes back empty, is not believed, and catches up from the others.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use anyhow::ensure;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("lost-volume"));
    let brokers = Brokers::make(&kubectl, "")?;
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let words = ["--bootstrap", &bootstrap, "--count", "2000"];
    client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    let claim = || kubectl.json(&["get", "pvc", "data-demo-2"]).map(|claim| claim["metadata"]["uid"].clone());
    let (lost, pod) = (claim()?, brokers.pod(2)?["metadata"]["uid"].clone());
    // The claim goes when its pod does.
    kubectl.run(&["delete", "pvc", "data-demo-2", "--wait=false"])?;
    brokers.delete_pods(&[2])?;
    brokers.wait_ready_again(2, &pod)?;
    ensure!(claim()? != lost, "the broker has its old volume");
    client::exec(&kubectl, "client", &["in-sync", "--bootstrap", &bootstrap, "--brokers", "0,1,2"])?;
    timeline.say("a broker came back with an empty volume, and caught up");
    // What it caught up with is all that is left of these.
    brokers.delete_pods(&[0, 1])?;
    brokers.wait_ready()?;
    client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    timeline.say("2000 records, each there once");
    environment.discard(&kubectl)
}
