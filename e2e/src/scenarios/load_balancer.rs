//! Load balancers that get their addresses late, and others later. kind makes none: the addresses are written into the
//! Services here. Clients that come through the listener are told of them, no broker is restarted, and clients inside still get
//! inside addresses.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;

/// The port that a listener has by itself.
const PORT: u16 = 9094;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("load-balancer"));
    let brokers = Brokers::make(&kubectl, "listeners: [{name: public, type: LoadBalancer}]")?;
    client::start(&kubectl, "client", &["idle"])?;
    let before = brokers.uids()?;
    until("a plan that waits for addresses", || {
        let plan = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["plan"]["reason"].take();
        Ok((plan == "NoAddress").then_some(()))
    })?;
    timeline.say("the brokers are ready, and their listener has no addresses yet");

    // Of a block that is nobody's.
    let mut addresses = [0, 1, 2].map(|id| format!("203.0.113.{}", 10 + id));
    for (id, address) in addresses.iter().enumerate() {
        give(&kubectl, id, "ip", address)?;
    }
    wait_told(&kubectl, &addresses)?;
    timeline.say("clients are told the addresses of the load balancers");
    "demo-1.example.com".clone_into(&mut addresses[1]);
    give(&kubectl, 1, "hostname", &addresses[1])?;
    wait_told(&kubectl, &addresses)?;
    timeline.say("one of them has got another address, which clients are told");

    let (bootstrap, inside) = (brokers.bootstrap(), brokers.addresses());
    until("inside addresses for clients inside", || {
        let answer = client::exec(&kubectl, "client", &["advertised", "--bootstrap", &bootstrap])?;
        Ok((answer["addresses"] == inside).then_some(()))
    })?;
    brokers.wait_ready()?;
    ensure!(brokers.uids()? == before, "brokers were restarted");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// The Service by which the listener of that broker is reached.
fn service(id: usize) -> String {
    format!("demo-public-{id}")
}

/// Gives the load balancer of a broker an address, in place of the one that it had: an `ip`, or a `hostname`.
fn give(kubectl: &Kubectl, id: usize, kind: &str, address: &str) -> anyhow::Result<()> {
    let patch = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"{kind}":"{address}"}}]}}}}}}"#);
    kubectl.run(&["patch", "service", &service(id), "--subresource=status", "--type=merge", "-p", &patch]).map(|_| ())
}

/// Waits until clients that come through the listener are told these addresses of the brokers, and the status lists them.
fn wait_told(kubectl: &Kubectl, addresses: &[String; 3]) -> anyhow::Result<()> {
    let all = addresses.each_ref().map(|address| format!("{address}:{PORT}"));
    // What balancers do is not there: the Service leads to the same port of the broker.
    let through = format!("{}.{}.svc:{PORT}", service(0), kubectl.namespace());
    let mut sorted = all.clone();
    sorted.sort();
    let (listed, told) = (all.join(","), sorted.join(","));
    until("the addresses of the load balancers", || {
        let listeners = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["endpoints"]["listeners"].take();
        let answer = client::exec(kubectl, "client", &["advertised", "--bootstrap", &through])?;
        Ok((answer["addresses"] == told && listeners[0]["bootstrap"] == listed).then_some(()))
    })
}
