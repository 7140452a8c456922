//! Another image that works is taken up under load, and then the first one again: one broker is away at most, and the
//! status names the image that they run. What was acknowledged to an idempotent producer is there once and in order, and a
//! consumer group has seen it.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;

/// The other image is the same one by this tag: what is tested is how brokers change from one to another.
const TAG: &str = "e2e-other";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("roll-image"));
    let other = environment.tag_image(TAG)?;
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6}")?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
    client::follow(&load, "follow")?;
    timeline.say("a producer and a consumer group are at work");
    for image in [other.as_str(), environment.image()] {
        let before = brokers.uids()?;
        let begun = timeline.seconds();
        brokers.patch(&format!(r#"{{"image":"{image}"}}"#))?;
        brokers.wait_rolled(&before)?;
        let took = timeline.seconds() - begun;
        all_run(&brokers, image)?;
        load.wait_in_sync("client", "0,1,2")?;
        timeline.say(format!("all run {image} after {took:.1} s, one away at most"));
    }
    let (count, slowest) = load.stop_in_time("client", environment)?;
    timeline.say(format!("{count} records, each there once; the slowest was acknowledged after {slowest} ms"));
    client::wait_seen(&kubectl, "follow", count)?;
    timeline.say("the consumer group has seen every one");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// Fails unless every broker runs that image; the status is to name it.
fn all_run(brokers: &Brokers<'_>, image: &str) -> anyhow::Result<()> {
    for id in 0..3 {
        let pod = brokers.pod(id)?;
        let found = &pod["spec"]["containers"][0]["image"];
        ensure!(*found == *image, "broker {id} runs {found}, and not {image}");
    }
    until("the image in the status", || {
        let cluster = brokers.kubectl.json(&["get", "chronikcluster", brokers.name])?;
        Ok((cluster["status"]["image"] == *image).then_some(()))
    })
}
