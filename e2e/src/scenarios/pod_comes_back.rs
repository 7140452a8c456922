//! A deleted pod comes back on its volume, with its data, and into the in-sync set; so does the next, and the next: in
//! the end no broker is left that was not away, and every record is there. Then all of them go at once: what is
//! consumed after that was on a disk, and by a client that knows only the
//! addresses that brokers advertised before.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;

const RECORDS: usize = 2_000;
const PARTITIONS: usize = 3;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("pod-comes-back"));
    kubectl.create_namespace()?;
    client::start(&kubectl, "client", &["idle"])?;
    kubectl.apply(&format!(
        "{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: demo}}, \
         spec: {{storage: {{size: 1Gi}}, config: {{num.partitions: {PARTITIONS}}}}}}}"
    ))?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    let bootstrap = brokers.bootstrap();
    let (mut produced, count) = (0, RECORDS.to_string());
    let mut produce = || {
        let from = produced.to_string();
        let words = ["produce", "--bootstrap", &bootstrap, "--count", &count, "--from", &from];
        produced += RECORDS;
        client::exec(&kubectl, "client", &words).map(|_| produced)
    };
    let in_sync =
        || client::exec(&kubectl, "client", &["in-sync", "--bootstrap", &bootstrap, "--brokers", "0,1,2"]).map(|_| ());
    let consume = |total: usize, from: &str| -> anyhow::Result<()> {
        let words = ["consume", "--bootstrap", from, "--count", &total.to_string()];
        let consumed = client::exec(&kubectl, "client", &words)?;
        ensure!(consumed["count"] == total, "{consumed}");
        Ok(())
    };
    produce()?;
    in_sync()?;
    timeline.say(format!("{RECORDS} records on three brokers"));
    let mut total = 0;
    for id in 0..3 {
        let before = Disk::of(&brokers, id)?;
        brokers.delete_pods(&[id])?;
        // Writes go on while it is away.
        total = produce()?;
        before.found_again(&brokers)?;
        in_sync()?;
        timeline.say(format!("broker {id} was deleted under writes, and is back in every in-sync set"));
    }
    consume(total, &bootstrap)?;
    timeline.say(format!("all {total} records consumed, each once and in order"));
    let advertised = until("addresses that outlive the pods", || {
        let answer = client::exec(&kubectl, "client", &["advertised", "--bootstrap", &bootstrap])?;
        Ok((answer["addresses"] == brokers.addresses()).then(|| brokers.addresses()))
    })?;
    let before = (0..3).map(|id| Disk::of(&brokers, id)).collect::<anyhow::Result<Vec<_>>>()?;
    brokers.delete_pods(&[0, 1, 2])?;
    before.iter().try_for_each(|disk| disk.found_again(&brokers))?;
    in_sync()?;
    consume(total, &advertised)?;
    timeline.say(format!(
        "all brokers were deleted at once; {total} records consumed by a client that knew their addresses from before"
    ));
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// A broker's volume, and the pod that has it.
struct Disk {
    id: usize,
    pod_uid: Value,
    volume: Value,
}

impl Disk {
    fn of(brokers: &Brokers<'_>, id: usize) -> anyhow::Result<Self> {
        let pod_uid = brokers.pod(id)?["metadata"]["uid"].clone();
        Ok(Self { id, pod_uid, volume: volume(brokers.kubectl, id)? })
    }

    /// Waits until another pod of the broker is ready, which must have the same volume and have found its log there.
    fn found_again(&self, brokers: &Brokers<'_>) -> anyhow::Result<()> {
        brokers.wait_ready_again(self.id, &self.pod_uid)?;
        ensure!(volume(brokers.kubectl, self.id)? == self.volume, "broker {} has another volume", self.id);
        let log = brokers.kubectl.run(&["logs", &format!("demo-{}", self.id)])?;
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let opened = lines.find(|line| line["message"] == "Opened the log");
        let opened = opened.with_context(|| format!("broker {} does not say that it opened its log", self.id))?;
        ensure!(opened["partitions"] == PARTITIONS, "broker {} found another log on its volume: {opened}", self.id);
        ensure!(!log.contains("The disk has lost"), "broker {} found its log damaged", self.id);
        Ok(())
    }
}

fn volume(kubectl: &Kubectl, id: usize) -> anyhow::Result<Value> {
    Ok(kubectl.json(&["get", "pvc", &format!("data-demo-{id}")])?["spec"]["volumeName"].clone())
}
