//! A client outside of the Kubernetes cluster, which can neither resolve nor reach what is inside, produces to all brokers
//! and consumes through the ports of the nodes, also after a broker's pod was replaced. Clients inside still get
//! inside addresses.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;

/// One for each broker, so that every one of them is written to.
const PARTITIONS: usize = 3;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("external"));
    let spec = format!("listeners: [{{name: nodes, type: NodePort}}], config: {{num.partitions: {PARTITIONS}}}");
    let brokers = Brokers::make(&kubectl, &spec)?;
    client::start(&kubectl, "client", &["idle"])?;
    let outside = until("an address of each broker on the nodes", || {
        let listeners = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["endpoints"]["listeners"].take();
        let address = listeners[0]["bootstrap"].as_str().filter(|text| text.split(',').count() == 3);
        Ok(address.map(str::to_owned))
    })?;
    timeline.say(format!("reached from outside at {outside}"));
    let count = |from: usize, to: usize| ((to - from).to_string(), from.to_string());
    let produce = |from: usize, to: usize| {
        let (count, from) = count(from, to);
        client::outside(environment, &["produce", "--bootstrap", &outside, "--count", &count, "--from", &from])
    };
    produce(0, 1_000)?;
    let uid = brokers.pod(1)?["metadata"]["uid"].clone();
    brokers.delete_pods(&[1])?;
    produce(1_000, 2_000)?;
    brokers.wait_ready_again(1, &uid)?;
    client::outside(environment, &["in-sync", "--bootstrap", &outside, "--brokers", "0,1,2"])?;
    let consumed = client::outside(environment, &["consume", "--bootstrap", &outside, "--count", "2000"])?;
    ensure!(consumed["count"] == 2_000, "{consumed}");
    timeline.say("2000 records from outside, each there once, and a broker was replaced meanwhile");
    let inside =
        client::exec(&kubectl, "client", &["consume", "--bootstrap", &brokers.bootstrap(), "--count", "2000"])?;
    ensure!(inside["count"] == 2_000, "{inside}");
    environment.discard(&kubectl)
}
