//! A restart is asked for, by the plugin of kubectl, while one broker's disk is so slow that the broker falls behind:
//! nothing is restarted, the plan and the plugin say what is waited for, and when the disk is as fast as before the restart
//! goes through. What was acknowledged to an idempotent producer is there once and in order, and a consumer group has seen
//! it.

use crate::brokers::Brokers;
use crate::client::{self, Load};
use crate::command::output;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::plugin::Plugin;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The broker with the slow disk.
const SLOW: usize = 1;
/// What it may write in a second, in bytes: far less than it has to, so that it is not in sync again for a moment.
const RATE: u64 = 10_000;
/// How long nothing is restarted for.
const SHUT: Duration = Duration::from_secs(15);
/// What the plan may wait for meanwhile.
const GATES: &[&str] =
    &["UnderReplicated", "BrokerBehind", "BrokerNotReady", "StopRefused", "PartitionsOffline", "BrokersUnknown"];

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("slow-disk"));
    kubectl.create_namespace()?;
    let disk = Disk::make(environment, &kubectl)?;
    let brokers = Brokers::make(&kubectl, "config: {num.partitions: 6, replica.lag.time.max.ms: 3s}")?;
    let bootstrap = brokers.bootstrap();
    let load = Load::begin(&kubectl, &bootstrap)?;
    client::follow(&load, "follow")?;
    let before = brokers.uids()?;
    let container = disk.container(&brokers)?;
    disk.limit(&container, RATE)?;
    until("a broker that falls behind", || Ok((brokers.condition("InSync")?.0 == "False").then_some(())))?;
    timeline.say(format!("the disk of broker {SLOW} takes {} kB/s, and it falls behind", RATE / 1_000));

    let plugin = Plugin::of(environment)?;
    plugin.run(&kubectl, &["roll", "demo"])?;
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
    let shown = plugin.run(&kubectl, &["status", "demo"])?;
    let next = shown.lines().find(|line| line.starts_with("next: restart broker ")).unwrap_or_default();
    ensure!(GATES.iter().any(|gate| next.contains(gate)), "kubectl chronik does not say what is waited for: {shown}");
    for reason in &said {
        until(reason, || {
            let events = kubectl.json(&["get", "events", &format!("--field-selector=reason={reason}")])?;
            Ok(events["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(()))
        })?;
    }
    disk.lift(&container)?;
    brokers.wait_rolled(&before)?;
    timeline.say("with a disk as fast as before, all were restarted, one away at most");
    // How long is not bounded here: what the slow broker leads waits for its disk, and the rest until it is out of the
    // in-sync sets, for as long as `replica.lag.time.max.ms` says.
    let (count, slowest) = load.stop("client")?;
    timeline.say(format!("{count} records, each there once; the slowest took {slowest} ms"));
    client::wait_seen(&kubectl, "follow", count)?;
    timeline.say("the consumer group has seen every one");
    brokers.never_restarted()?;
    environment.discard(&kubectl)?;
    disk.remove(environment)
}

/// A disk of the broker's own, in a file of a node. Bounds on the node's disk would hold up everybody else on it: a file
/// system's journal waits for whoever is slow.
struct Disk {
    node: String,
    /// Of the file, of the folder that it is mounted at, and of the volume.
    name: String,
}

impl Disk {
    /// Makes it, and the volume that the broker will get.
    fn make(environment: &Environment, kubectl: &Kubectl) -> anyhow::Result<Self> {
        let nodes = Brokers { kubectl, name: "demo" }.workers()?;
        let node = nodes.into_iter().next().context("there is no worker")?;
        let disk = Self { node, name: kubectl.namespace().to_owned() };
        let Self { node, name } = &disk;
        disk.run(&format!(
            "truncate --size 2G /var/{name}.img && mkfs.ext4 -q -F /var/{name}.img && mkdir -p /var/{name} &&
             mount -o loop /var/{name}.img /var/{name} && mkdir /var/{name}/data"
        ))?;
        let class = environment.kubectl.json(&["get", "storageclasses"])?;
        let class = class["items"][0]["metadata"]["name"].as_str().context("there is no storage class")?.to_owned();
        environment.kubectl.apply(&format!(
            "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: {class}
  claimRef: {{namespace: {name}, name: data-demo-{SLOW}}}
  local: {{path: /var/{name}/data}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
"
        ))?;
        Ok(disk)
    }

    /// The container of the broker, which must have got the disk.
    fn container(&self, brokers: &Brokers) -> anyhow::Result<String> {
        let pod = brokers.pod(SLOW)?;
        ensure!(pod["spec"]["nodeName"] == *self.node, "the broker is on another node than its disk");
        let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("no container")?;
        Ok(container.rsplit('/').next().unwrap_or_default().to_owned())
    }

    fn limit(&self, container: &str, bytes_per_second: u64) -> anyhow::Result<()> {
        self.bound(container, &bytes_per_second.to_string(), &format!("wbps={bytes_per_second}"))
    }

    fn lift(&self, container: &str) -> anyhow::Result<()> {
        self.bound(container, "0", "wbps=max")
    }

    /// Bounds what a container writes to it, in the words of the first and of the second version of control groups.
    fn bound(&self, container: &str, first: &str, second: &str) -> anyhow::Result<()> {
        self.run(&format!(
            "disk=$(mountpoint -d /var/{})
             found=
             for group in $(find /sys/fs/cgroup -type d -name '*{container}*'); do
               if [ -e $group/blkio.throttle.write_bps_device ]; then
                 echo \"$disk {first}\" > $group/blkio.throttle.write_bps_device && found=1
               elif [ -e $group/io.max ]; then
                 echo \"$disk {second}\" > $group/io.max && found=1
               fi
             done
             [ \"$found\" ]",
            self.name
        ))
    }

    /// The node keeps the mount for as long as a pod has it.
    fn remove(&self, environment: &Environment) -> anyhow::Result<()> {
        let name = &self.name;
        environment.kubectl.run(&["delete", "persistentvolume", name, "--wait=false"])?;
        self.run(&format!("umount --lazy /var/{name} && rm -r /var/{name} /var/{name}.img"))
    }

    fn run(&self, script: &str) -> anyhow::Result<()> {
        output(Command::new("docker").args(["exec", &self.node, "sh", "-c", script])).map(|_| ())
    }
}
