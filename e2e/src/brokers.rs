//! A `ChronikCluster` under test, and its pods.

use crate::kubectl::Kubectl;
use crate::wait::until;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A cluster of three brokers, or for a while more, in a namespace of its own.
pub(crate) struct Brokers<'a> {
    pub(crate) kubectl: &'a Kubectl,
    pub(crate) name: &'a str,
}

impl<'a> Brokers<'a> {
    /// A cluster of three brokers of 1 GiB each, in a namespace that is made for it, once it is ready; with more fields of
    /// its spec.
    pub(crate) fn make(kubectl: &'a Kubectl, spec: &str) -> anyhow::Result<Self> {
        kubectl.create_namespace()?;
        kubectl.apply(&format!(
            "{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: demo}}, \
             spec: {{storage: {{size: 1Gi}}, {spec}}}}}"
        ))?;
        let brokers = Self { kubectl, name: "demo" };
        brokers.wait_ready()?;
        Ok(brokers)
    }
}

impl Brokers<'_> {
    pub(crate) fn wait_ready(&self) -> anyhow::Result<()> {
        self.kubectl.wait(&["--for=condition=Ready", &format!("chronikcluster/{}", self.name)])
    }

    /// Every broker's own address, by commas: what a client needs that must not wait for readiness.
    pub(crate) fn addresses(&self) -> String {
        let address = |id| format!("{}-broker-{id}.{}.svc:9092", self.name, self.kubectl.namespace());
        (0..3).map(address).collect::<Vec<_>>().join(",")
    }

    /// Where clients connect first: the ready brokers.
    pub(crate) fn bootstrap(&self) -> String {
        format!("{}-bootstrap.{}.svc:9092", self.name, self.kubectl.namespace())
    }

    pub(crate) fn pod(&self, id: usize) -> anyhow::Result<Value> {
        self.kubectl.json(&["get", "pod", &format!("{}-{id}", self.name)])
    }

    /// The nodes that the three pods are on.
    pub(crate) fn nodes(&self) -> anyhow::Result<BTreeSet<String>> {
        (0..3).map(|id| Ok(self.pod(id)?["spec"]["nodeName"].as_str().context("on no node")?.to_owned())).collect()
    }

    /// The nodes that pods may be put on.
    pub(crate) fn workers(&self) -> anyhow::Result<Vec<String>> {
        let nodes = self.kubectl.json(&["get", "nodes", "--selector=!node-role.kubernetes.io/control-plane"])?;
        let name = |node: &Value| node["metadata"]["name"].as_str().map(str::to_owned);
        Ok(nodes["items"].as_array().into_iter().flatten().filter_map(name).collect())
    }

    /// Waits until the budget lets that many brokers be evicted.
    pub(crate) fn wait_budget(&self, allowed: u64) -> anyhow::Result<()> {
        until("the disruption budget", || {
            let budgets = self.kubectl.json(&["get", "pdb"])?;
            Ok((budgets["items"][0]["status"]["disruptionsAllowed"] == allowed).then_some(()))
        })
    }

    pub(crate) fn wait_pods(&self) -> anyhow::Result<()> {
        until("three pods", || {
            let pods = (0..3).map(|id| self.pod(id)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok((pods.len() == 3).then_some(()))
        })
    }

    /// Deletes these pods at once; returns when they are gone, with new ones on their way.
    pub(crate) fn delete_pods(&self, ids: &[usize]) -> anyhow::Result<()> {
        let before = self.uids()?;
        let names: Vec<_> = ids.iter().map(|id| format!("{}-{id}", self.name)).collect();
        let words = ["delete", "pod", "--wait=false"].into_iter().chain(names.iter().map(String::as_str));
        self.kubectl.run(&words.collect::<Vec<_>>())?;
        // Not kubectl's own wait: it takes a new pod of that name for the old one when it comes fast.
        until("the pods are gone", || {
            let pods = self.kubectl.json(&["get", "pods", &format!("--selector=chronik.io/cluster={}", self.name)])?;
            let mut there = pods["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
            let old = |m: &Value| {
                names
                    .iter()
                    .any(|name| m["name"] == **name && m["uid"].as_str() == before.get(name).map(String::as_str))
            };
            Ok((!there.any(old)).then_some(()))
        })
    }

    /// Deletes all pods at once; returns when the new ones are ready.
    pub(crate) fn replace_pods(&self) -> anyhow::Result<()> {
        self.delete_pods(&[0, 1, 2])?;
        self.wait_pods()?;
        self.kubectl.wait(&["--for=condition=Ready", "pod", &format!("--selector=chronik.io/cluster={}", self.name)])
    }

    /// The uid of each pod that there is and that is to stay, by name.
    pub(crate) fn uids(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let pods = self.kubectl.json(&["get", "pods", &format!("--selector=chronik.io/cluster={}", self.name)])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let staying = pods["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
        let staying = staying.filter(|metadata| metadata["deletionTimestamp"].is_null());
        Ok(staying.map(|metadata| (text(&metadata["name"]), text(&metadata["uid"]))).collect())
    }

    /// Waits for something, and fails as soon as fewer brokers than that are ready.
    pub(crate) fn watch_while(
        &self,
        least: usize,
        what: &str,
        mut ask: impl FnMut() -> anyhow::Result<Option<()>>,
    ) -> anyhow::Result<()> {
        let mut too_few = None;
        until(what, || {
            let pods = self.kubectl.json(&["get", "pods", &format!("--selector=chronik.io/cluster={}", self.name)])?;
            let ready = pods["items"].as_array().into_iter().flatten().filter(|pod| is_ready(pod)).count();
            if ready < least {
                too_few = Some(ready);
                return Ok(Some(()));
            }
            ask()
        })?;
        ensure!(too_few.is_none(), "{what}: only {too_few:?} brokers were ready meanwhile");
        Ok(())
    }

    /// Waits until another pod of that broker than the one with the uid is ready.
    pub(crate) fn wait_ready_again(&self, id: usize, uid: &Value) -> anyhow::Result<()> {
        until("a new pod that is ready", || {
            let now = self.pod(id)?;
            Ok((is_ready(&now) && now["metadata"]["uid"] != *uid).then_some(()))
        })
    }

    /// Fails if a broker's container was ever restarted: nothing here is to crash, or to be killed by a probe.
    pub(crate) fn never_restarted(&self) -> anyhow::Result<()> {
        for id in 0..3 {
            let pod = self.pod(id)?;
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
            ensure!(restarts == Some(0), "the container of {}-{id} was restarted: {restarts:?}", self.name);
        }
        Ok(())
    }

    /// The command line in a broker's pod, with its answer.
    pub(crate) fn chronik(&self, words: &[&str]) -> anyhow::Result<Value> {
        let pod = format!("{}-0", self.name);
        let said = self.kubectl.run(&[&["exec", &pod, "--", "/chronik"], words, &["--output", "json"]].concat())?;
        if said.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
    }

    pub(crate) fn condition(&self, kind: &str) -> anyhow::Result<(String, String, String)> {
        let cluster = self.kubectl.json(&["get", "chronikcluster", self.name])?;
        let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().find(|c| c["type"] == kind).with_context(|| format!("no condition {kind}"))?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason"), text("message")))
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
