//! A changed config is taken up under load: one broker is away at most, whatever becomes of the operator meanwhile. What
//! was acknowledged to an idempotent producer is there once, and a consumer group has seen it.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment, OPERATOR_NAMESPACE};
use crate::timeline::Timeline;
use anyhow::ensure;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("roll"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let load = Load { kubectl: &kubectl, bootstrap: &bootstrap, topic: "e2e" };
    load.start()?;
    client::follow(&load, "follow")?;
    timeline.say("a producer and a consumer group are at work");

    let before = brokers.uids()?;
    brokers.patch(r#"{"config":{"num.partitions":7}}"#)?;
    let begun = timeline.seconds();
    let first = || Ok(brokers.uids()?.iter().any(|(pod, uid)| before.get(pod) != Some(uid)).then_some(()));
    brokers.watch_while(2, "the first new pod", first)?;
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    let words = ["delete", "pods", "--selector=app.kubernetes.io/name=chronik-operator", "--wait=false"];
    operator.run(&[&words[..], &["--grace-period=0", "--force"]].concat())?;
    timeline.say("the first broker was restarted, and the operator killed");
    brokers.wait_rolled(&before)?;
    let took = timeline.seconds() - begun;
    timeline.say(format!("three brokers were restarted in {took:.1} s, one away at most"));

    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("{count} records, each there once; the slowest was acknowledged after {slowest} ms"));
    client::wait_seen(&kubectl, "follow", count)?;
    timeline.say("the consumer group has seen every one");
    let maps = kubectl.json(&["get", "configmaps", "--selector=chronik.io/cluster=demo"])?;
    ensure!(maps["items"].as_array().map(Vec::len) == Some(1), "the former configuration is not gone: {maps}");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}
