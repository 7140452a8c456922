//! A restart is asked for while one broker's disk is so slow that the broker falls behind: nothing is restarted, the plan
//! says what is waited for, and when the disk is as fast as before the restart goes through. What an idempotent producer was
//! told to be written is there once and in order.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::command::output;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The broker with the slow disk.
const SLOW: usize = 1;
/// What it may write in a second, in bytes: less than it has to.
const RATE: u64 = 40_000;
/// How long nothing is restarted for.
const SHUT: Duration = Duration::from_secs(15);
/// What the plan may wait for meanwhile.
const GATES: &[&str] = &["UnderReplicated", "BrokerBehind", "BrokerNotReady", "StopRefused"];

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("slow-disk"));
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6, replica.lag.time.max.ms: 3s}")?;
    client::start(&kubectl, "client", &["idle"])?;
    let bootstrap = brokers.bootstrap();
    let load = Load { kubectl: &kubectl, bootstrap: &bootstrap, topic: "load" };
    load.start()?;
    load.wait_in_sync("client", "0,1,2")?;
    let before = brokers.uids()?;
    let slow = Throttle::of(&brokers)?;
    slow.limit(RATE)?;
    until("a broker that falls behind", || Ok((brokers.condition("InSync")?.0 == "False").then_some(())))?;
    timeline.say(format!("the disk of broker {SLOW} takes {} kB/s, and it falls behind", RATE / 1_000));

    kubectl.run(&["annotate", "chronikcluster", "demo", "chronik.io/restart=asked-for"])?;
    let mut said = BTreeSet::new();
    let plan = || anyhow::Ok(kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["plan"].clone());
    until("a plan that waits", || {
        Ok(plan()?["reason"].as_str().is_some_and(|why| GATES.contains(&why)).then_some(()))
    })?;
    let begun = Instant::now();
    while begun.elapsed() < SHUT {
        let plan = plan()?;
        let reason = plan["reason"].as_str().unwrap_or_default();
        ensure!(GATES.contains(&reason), "the plan is {plan}");
        said.insert(reason.to_owned());
        ensure!(brokers.uids()? == before, "a broker was restarted while another one was behind");
        sleep(Duration::from_millis(500));
    }
    timeline.say(format!(
        "nothing was restarted for {} s: {}, {}",
        SHUT.as_secs(),
        plan()?["action"],
        plan()?["message"]
    ));
    for reason in &said {
        until(reason, || {
            let events = kubectl.json(&["get", "events", &format!("--field-selector=reason={reason}")])?;
            Ok(events["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(()))
        })?;
    }
    slow.lift()?;
    brokers.wait_rolled(&before)?;
    timeline.say("with a disk as fast as before, all were restarted, one away at most");
    let (count, slowest) = load.stop("client")?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// The bound on what a broker's container writes, in its node's control groups.
struct Throttle {
    node: String,
    container: String,
}

impl Throttle {
    fn of(brokers: &Brokers<'_>) -> anyhow::Result<Self> {
        let pod = brokers.pod(SLOW)?;
        let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("no container")?;
        let container = container.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { node: pod["spec"]["nodeName"].as_str().context("on no node")?.to_owned(), container })
    }

    fn limit(&self, bytes_per_second: u64) -> anyhow::Result<()> {
        self.write(&bytes_per_second.to_string(), &format!("wbps={bytes_per_second}"))
    }

    fn lift(&self) -> anyhow::Result<()> {
        self.write("0", "wbps=max")
    }

    /// In the words of the first and of the second version of control groups.
    fn write(&self, first: &str, second: &str) -> anyhow::Result<()> {
        let script = format!(
            "disk=$(mountpoint -d /var)
             [ ! -e /sys/dev/block/$disk/partition ] || disk=$(cat /sys/dev/block/$disk/../dev)
             found=
             for group in $(find /sys/fs/cgroup -type d -name '*{}*'); do
               if [ -e $group/blkio.throttle.write_bps_device ]; then
                 echo \"$disk {first}\" > $group/blkio.throttle.write_bps_device && found=1
               elif [ -e $group/io.max ]; then
                 echo \"$disk {second}\" > $group/io.max && found=1
               fi
             done
             [ \"$found\" ]",
            self.container
        );
        output(Command::new("docker").args(["exec", &self.node, "sh", "-c", &script])).map(|_| ())
    }
}
