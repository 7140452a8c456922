//! The example of the README: applied, ready, and used by a client that knows the bootstrap address alone. `--strict` insists on
//! how soon that is.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use anyhow::ensure;
use std::fs;

/// From the resource until a record is acknowledged by all in-sync replicas and the cluster is ready, in seconds.
const FIRST_MAX: f64 = 5.0;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("produce-consume"));
    kubectl.create_namespace()?;
    client::start(&kubectl, "client", &["idle"])?;
    kubectl.apply(&fs::read_to_string(environment.root.join("examples/minimal.yaml"))?)?;
    let applied = timeline.seconds();
    timeline.say("examples/minimal.yaml applied");
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    let bootstrap = brokers.bootstrap();
    client::exec(&kubectl, "client", &["produce-first", "--bootstrap", &bootstrap, "--topic", "first"])?;
    brokers.wait_ready()?;
    let took = timeline.seconds() - applied;
    timeline.say(format!("ready, and a first record acknowledged, after {took:.1} s"));
    ensure!(took <= FIRST_MAX || !environment.start_orders.strict, "that is more than {FIRST_MAX} s");
    let words = ["--bootstrap", &bootstrap, "--count", "10000"];
    let produced = client::exec(&kubectl, "client", &[&["produce"], &words[..]].concat())?;
    ensure!(produced["count"] == 10_000, "{produced}");
    timeline.say("10000 records acknowledged by all in-sync replicas");
    let consumed = client::exec(&kubectl, "client", &[&["consume"], &words[..]].concat())?;
    ensure!(consumed["count"] == 10_000, "{consumed}");
    timeline.say("10000 records consumed, each once and in order");
    let nodes = brokers.nodes()?;
    ensure!(nodes.len() == 3, "three brokers are to be on three nodes, and not on {nodes:?}");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}
