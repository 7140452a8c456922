//! A deleted pod comes back on its volume, with its data, and into the in-sync set; so does the next, and the next: in
//! the end no broker is left that was not away, and every record is there.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::Environment;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use std::time::Duration;

const RECORDS: usize = 2_000;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&super::namespace("pod-comes-back"));
    kubectl.create_namespace()?;
    client::start(&kubectl, "client", &["idle"])?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
         spec: {storage: {size: 1Gi}, config: {num.partitions: 3}}}",
    )?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready(Duration::from_mins(1))?;
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
    produce()?;
    in_sync()?;
    timeline.say(format!("{RECORDS} records on three brokers"));
    let mut total = 0;
    for id in 0..3 {
        let before = brokers.pod(id)?;
        let (uid, claim) = (before["metadata"]["uid"].clone(), format!("data-demo-{id}"));
        let volume = kubectl.json(&["get", "pvc", &claim])?["spec"]["volumeName"].clone();
        kubectl.run(&["delete", "pod", &format!("demo-{id}"), "--wait=false"])?;
        // Writes go on while it is away.
        total = produce()?;
        until("a new pod that is ready", Duration::from_mins(1), || {
            let now = brokers.pod(id)?;
            let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            Ok((ready && now["metadata"]["uid"] != uid).then_some(()))
        })?;
        ensure!(kubectl.json(&["get", "pvc", &claim])?["spec"]["volumeName"] == volume, "it has another volume");
        in_sync()?;
        timeline.say(format!("broker {id} was deleted under writes, and is back in every in-sync set"));
    }
    let consumed =
        client::exec(&kubectl, "client", &["consume", "--bootstrap", &bootstrap, "--count", &total.to_string()])?;
    ensure!(consumed["count"] == total, "{consumed}");
    timeline.say(format!("all {total} records consumed, each once and in order"));
    kubectl.delete_namespace()
}
