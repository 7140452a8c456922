//! A `ChronikCluster` under test, and its pods.

use crate::kubectl::Kubectl;
use crate::wait::until;
use anyhow::Context;
use serde_json::Value;
use std::time::Duration;

/// A cluster of three brokers in a namespace of its own.
pub(crate) struct Brokers<'a> {
    pub(crate) kubectl: &'a Kubectl,
    pub(crate) name: &'a str,
}

impl Brokers<'_> {
    pub(crate) fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let (limit, cluster) = (format!("--timeout={}s", limit.as_secs()), format!("chronikcluster/{}", self.name));
        self.kubectl.run(&["wait", "--for=condition=Ready", &cluster, &limit]).map(|_| ())
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

    pub(crate) fn wait_pods(&self, limit: Duration) -> anyhow::Result<()> {
        until("three pods", limit, || {
            let pods = (0..3).map(|id| self.pod(id)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok((pods.len() == 3).then_some(()))
        })
    }

    pub(crate) fn condition(&self, kind: &str) -> anyhow::Result<(String, String, String)> {
        let cluster = self.kubectl.json(&["get", "chronikcluster", self.name])?;
        let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().find(|c| c["type"] == kind).with_context(|| format!("no condition {kind}"))?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason"), text("message")))
    }
}
