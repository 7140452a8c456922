//! A `ChronikCluster` under test, and its pods.

use crate::environment::OPERATOR_NAMESPACE;
use crate::kubectl::Kubectl;
use crate::wait::until;
use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A machine that stalls makes probes of a broker late, and so its pod unready, for so long at most.
const LATE_PROBES: Duration = Duration::from_secs(10);

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

    /// The node that a broker is on.
    pub(crate) fn node(&self, id: usize) -> anyhow::Result<String> {
        Ok(self.pod(id)?["spec"]["nodeName"].as_str().context("on no node")?.to_owned())
    }

    /// The nodes that the three pods are on.
    pub(crate) fn nodes(&self) -> anyhow::Result<BTreeSet<String>> {
        (0..3).map(|id| self.node(id)).collect()
    }

    /// Evicts the brokers on a node, which takes no pods until it is uncordoned.
    pub(crate) fn drain_node(&self, node: &str, timeout: &str) -> anyhow::Result<()> {
        let (selector, timeout) =
            (format!("--pod-selector=chronik.io/cluster={}", self.name), format!("--timeout={timeout}"));
        self.kubectl.run(&["drain", node, "--ignore-daemonsets", &selector, &timeout]).map(|_| ())
    }

    /// The broker, if there is one, that shares its node with the operator: who loses this node loses both. Else the last.
    pub(crate) fn beside_operator(&self) -> anyhow::Result<usize> {
        let operator = self.kubectl.within(OPERATOR_NAMESPACE);
        let pods = operator.json(&["get", "pods", "--selector=app.kubernetes.io/name=chronik-operator"])?;
        let node = &pods["items"][0]["spec"]["nodeName"];
        for id in 0..3 {
            if self.pod(id)?["spec"]["nodeName"] == *node {
                return Ok(id);
            }
        }
        Ok(2)
    }

    /// The nodes that pods may be put on.
    pub(crate) fn workers(&self) -> anyhow::Result<Vec<String>> {
        let nodes = self.kubectl.json(&["get", "nodes", "--selector=!node-role.kubernetes.io/control-plane"])?;
        let name = |node: &Value| node["metadata"]["name"].as_str().map(str::to_owned);
        Ok(nodes["items"].as_array().into_iter().flatten().filter_map(name).collect())
    }

    /// Waits until the budget lets that many brokers be evicted.
    pub(crate) fn wait_budget(&self, allowed: u64) -> anyhow::Result<()> {
        until("the disruption budget", || Ok((self.may_be_evicted()? == allowed).then_some(())))
    }

    /// How many brokers the budget lets be evicted now.
    pub(crate) fn may_be_evicted(&self) -> anyhow::Result<Value> {
        Ok(self.kubectl.json(&["get", "pdb", self.name])?["status"]["disruptionsAllowed"].clone())
    }

    /// How many brokers are ready.
    pub(crate) fn ready(&self) -> anyhow::Result<usize> {
        Ok(self.pods()?.iter().filter(|pod| is_ready(pod)).count())
    }

    fn pods(&self) -> anyhow::Result<Vec<Value>> {
        let pods = self.kubectl.json(&["get", "pods", &format!("--selector=chronik.io/cluster={}", self.name)])?;
        Ok(pods["items"].as_array().cloned().unwrap_or_default())
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

    /// Waits for something, and fails as soon as fewer brokers than that are ready. One whose container runs on as it did when
    /// it was ready may be unready for a moment.
    pub(crate) fn watch_while(
        &self,
        least: usize,
        what: &str,
        mut ask: impl FnMut() -> anyhow::Result<Option<()>>,
    ) -> anyhow::Result<()> {
        let mut seen: BTreeMap<(String, u64), Instant> = BTreeMap::new();
        let mut too_few = None;
        until(what, || {
            let pods = self.pods()?;
            let now = Instant::now();
            seen.extend(pods.iter().filter(|pod| is_ready(pod)).map(|pod| (incarnation(pod), now)));
            let was_ready = |pod: &&Value| seen.get(&incarnation(pod)).is_some_and(|at| now - *at < LATE_PROBES);
            let there =
                pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).filter(was_ready).count();
            if there < least {
                too_few = Some(there);
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

    /// When the broker's process wrote its first line, as the line itself says: Kubernetes tells a container's start in
    /// whole seconds only, and the container runtime may see the line after what the broker did next.
    pub(crate) fn started(&self, id: usize) -> anyhow::Result<Timestamp> {
        until(&format!("{}-{id} to start", self.name), || {
            let log = self.kubectl.run(&["logs", &format!("{}-{id}", self.name)])?;
            let first: Value = serde_json::from_str(log.lines().next().context("no line yet")?)?;
            Ok(Some(first["timestamp"].as_str().context("a line without a time")?.parse()?))
        })
    }

    /// Waits until every broker runs as the spec says, and no pod is one of these any more. Fails as soon as more than one
    /// broker is away.
    pub(crate) fn wait_rolled(&self, before: &BTreeMap<String, String>) -> anyhow::Result<()> {
        self.watch_while(before.len() - 1, "the end of the roll", || {
            let now = self.uids()?;
            let new = now.len() == before.len() && now.iter().all(|(pod, uid)| before.get(pod) != Some(uid));
            Ok((new && self.condition("Progressing")?.1 == "UpToDate").then_some(()))
        })
    }

    /// Changes the spec.
    pub(crate) fn patch(&self, spec: &str) -> anyhow::Result<()> {
        let patch = format!(r#"{{"spec":{spec}}}"#);
        self.kubectl.run(&["patch", "chronikcluster", self.name, "--type=merge", "-p", &patch]).map(|_| ())
    }

    /// Fails if a broker's container was ever restarted: nothing here is to crash, or to be killed by a probe.
    pub(crate) fn never_restarted(&self) -> anyhow::Result<()> {
        for id in 0..3 {
            let pod = self.pod(id)?;
            let containers = pod["status"]["containerStatuses"].as_array().context("no containers")?;
            let restarts = containers.iter().map(|container| &container["restartCount"]).collect::<Vec<_>>();
            ensure!(restarts.iter().all(|count| **count == 0), "{}-{id} was restarted: {restarts:?}", self.name);
        }
        Ok(())
    }

    /// The command line in a broker's pod, with its answer.
    pub(crate) fn chronik(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.chronik_at(0, words)
    }

    /// The same in the pod of that broker.
    pub(crate) fn chronik_at(&self, id: usize, words: &[&str]) -> anyhow::Result<Value> {
        let pod = format!("{}-{id}", self.name);
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

/// The run of a pod's container: another pod, and a container that was restarted, is another one.
fn incarnation(pod: &Value) -> (String, u64) {
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
    (pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), restarts)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
