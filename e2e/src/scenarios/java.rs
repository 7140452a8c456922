//! A Java client that never goes back to `bootstrap.servers` survives that every pod is replaced, one after another and then
//! all at once: the addresses that it got outlive their pods.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::java;
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};

const TOPIC: &str = "stay";
/// So many records a second are written. After so many it has asked for metadata again, and brokers say their names.
const UNTIL_NAMES: u64 = 3_000;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    java::build(environment, timeline)?;
    environment.load(&[java::IMAGE])?;
    let kubectl = environment.kubectl.within(&environment::namespace("java"));
    let brokers = Brokers::make(&kubectl, "")?;
    brokers.chronik(&["topic", "create", TOPIC, "--partitions", "1"])?;
    let bootstrap = brokers.bootstrap();
    client::start_image(&kubectl, "java", java::IMAGE, &[&bootstrap, TOPIC])?;
    wait_for_more(&kubectl, UNTIL_NAMES)?;
    timeline.say("a producer and a consumer of Kafka 3.7 are at work");

    let before = brokers.uids()?;
    kubectl.run(&["annotate", "chronikcluster", "demo", "chronik.io/restart=asked-for"])?;
    brokers.wait_rolled(&before)?;
    wait_for_more(&kubectl, UNTIL_NAMES)?;
    timeline.say("every pod was replaced, one after another, and they go on");

    brokers.replace_pods()?;
    wait_for_more(&kubectl, 500)?;
    timeline.say("every pod was replaced at once, and they go on");

    let java = ["/jre/bin/java", "-XX:-UsePerfData", "-Xmx64m", "-cp", "/app:/app/*", "Stay"];
    kubectl.run(&[&["exec", "java", "--"], &java[..], &[&bootstrap, TOPIC, "end"]].concat())?;
    kubectl.wait(&["--for=jsonpath={.status.phase}=Succeeded", "pod/java"])?;
    let said = client::printed(&kubectl, "java")?.pop().context("it said nothing")?;
    ensure!(said["event"] == "done", "it did not end by itself: {said}");
    timeline
        .say(format!("{} records were acknowledged, and {} read, none left out", said["acknowledged"], said["read"]));
    environment.discard(&kubectl)
}

/// Waits until so many more records were read.
fn wait_for_more(kubectl: &Kubectl, more: u64) -> anyhow::Result<()> {
    let read = || {
        let said = client::printed(kubectl, "java")?;
        anyhow::Ok(said.last().and_then(|said| said["read"].as_u64()).unwrap_or(0))
    };
    let before = read()?;
    until("records that come through", || Ok((read()? >= before + more).then_some(())))
}
