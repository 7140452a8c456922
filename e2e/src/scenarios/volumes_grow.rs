//! A larger `storage.size`: where the storage class lets no volume grow, the resource says so; where it does, the claims
//! grow and the StatefulSet is made again around pods that go on. Volumes do not shrink.

use crate::brokers::Brokers;
use crate::environment::{self, Environment};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use serde_json::Value;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("volumes-grow"));
    let brokers = Brokers::make(&kubectl, "")?;
    let before = brokers.uids()?;
    let set = || kubectl.json(&["get", "statefulset", "demo"]);
    let first = set()?["metadata"]["uid"].clone();
    set_size(&kubectl, "2Gi")?;
    let message = until("a plan that says VolumeDoesNotGrow", || {
        let plan = kubectl.json(&["get", "chronikcluster", "demo"])?["status"]["plan"].clone();
        Ok((plan["reason"] == "VolumeDoesNotGrow").then(|| plan["message"].as_str().unwrap_or_default().to_owned()))
    })?;
    timeline.say(format!("refused by the storage class, and said: {message}"));
    set_size(&kubectl, "1Gi")?;
    until("no fault, with the size as it was", || {
        let (progress, degraded) = (brokers.condition("Progressing")?.1, brokers.condition("Degraded")?.0);
        Ok((progress == "UpToDate" && degraded == "False").then_some(()))
    })?;
    set_size(&kubectl, "2Gi")?;
    ensure!(message.contains("must support resize") && !message.contains("Status {"), "not in the API server's words");
    let grown = allow_growth(&kubectl, true).and_then(|()| {
        until("claims and a StatefulSet of the new size", || {
            let set = set()?;
            let size = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
            Ok((claims(&kubectl)? == ["2Gi", "2Gi", "2Gi"] && *size == "2Gi").then_some(set["metadata"]["uid"].clone()))
        })
    });
    // Other scenarios' clusters get the class as it came.
    allow_growth(&kubectl, false)?;
    ensure!(grown? != first, "a StatefulSet's volume claims cannot be changed, and it is the same one");
    until("UpToDate", || Ok((brokers.condition("Progressing")?.1 == "UpToDate").then_some(())))?;
    ensure!(brokers.uids()? == before, "pods were replaced");
    timeline.say("every claim and the StatefulSet say 2Gi, around the same pods");
    set_size(&kubectl, "1Gi")?;
    let message = until("the condition VolumesDoNotShrink", || {
        let (status, reason, message) = brokers.condition("Degraded")?;
        Ok((status == "True" && reason == "VolumesDoNotShrink").then_some(message))
    })?;
    ensure!(claims(&kubectl)? == ["2Gi", "2Gi", "2Gi"], "claims were changed");
    timeline.say(format!("a smaller size is not followed: {message}"));
    set_size(&kubectl, "2Gi")?;
    until("UpToDate", || Ok((brokers.condition("Progressing")?.1 == "UpToDate").then_some(())))?;
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

fn set_size(kubectl: &Kubectl, size: &str) -> anyhow::Result<()> {
    let patch = format!("{{\"spec\":{{\"storage\":{{\"size\":\"{size}\"}}}}}}");
    kubectl.run(&["patch", "chronikcluster", "demo", "--type=merge", "-p", &patch]).map(|_| ())
}

/// Whether kind's own storage class lets claims ask for more. Its provisioner gives them no more, but it does not look
/// at sizes at all.
fn allow_growth(kubectl: &Kubectl, allowed: bool) -> anyhow::Result<()> {
    let patch = format!("{{\"allowVolumeExpansion\":{allowed}}}");
    kubectl.run(&["patch", "storageclass", "standard", "-p", &patch]).map(|_| ())
}

/// What the claims ask for.
fn claims(kubectl: &Kubectl) -> anyhow::Result<Vec<String>> {
    let claims = kubectl.json(&["get", "pvc", "--selector=chronik.io/cluster=demo"])?;
    let size = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].as_str().map(str::to_owned);
    Ok(claims["items"].as_array().into_iter().flatten().filter_map(size).collect())
}
