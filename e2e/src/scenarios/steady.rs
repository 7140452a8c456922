//! Without a change nothing is written, and a restarted operator changes no object and no pod.

use crate::brokers::Brokers;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

const KINDS: &str = "chronikclusters,statefulsets,pods,services,configmaps,serviceaccounts,poddisruptionbudgets,\
                     networkpolicies,persistentvolumeclaims,controllerrevisions,endpointslices";
/// How long nothing is written for.
pub(super) const STEADY: Duration = Duration::from_secs(10);

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("steady"));
    kubectl.create_namespace()?;
    kubectl.apply(
        "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
         spec: {storage: {size: 1024Mi}, resources: {requests: {cpu: 10m, memory: 65536Ki}}}}",
    )?;
    let brokers = Brokers { kubectl: &kubectl, name: "demo" };
    brokers.wait_ready()?;
    let before = steady_versions(&kubectl)?;
    let before = stay(&kubectl, timeline, before)?;
    timeline.say(format!("{} objects, none written for {} s", before.len(), STEADY.as_secs()));

    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    operator.restart(OPERATOR)?;
    let reconciled = |text: String| {
        let success = "chronik_operator_reconciles_total{result=\"success\"} ";
        let count = text.lines().find_map(|line| line.strip_prefix(success));
        count.is_some_and(|count| count != "0")
    };
    until("the new operator's first reconcile", || {
        let pods = operator.json(&["get", "pods", "--selector=app.kubernetes.io/name=chronik-operator"])?;
        let live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let names =
            pods["items"].as_array().into_iter().flatten().filter(live).filter_map(|p| p["metadata"]["name"].as_str());
        for name in names {
            let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{name}:8080/proxy/metrics");
            if reconciled(operator.run(&["get", "--raw", &path])?) {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })?;
    stay(&kubectl, timeline, before)?;
    timeline.say("the operator was restarted, and no object was written");
    brokers.never_restarted()?;
    environment.discard(&kubectl)
}

/// Objects whose status says whether pods are ready.
const TELL_OF_READINESS: [&str; 5] = ["Pod", "EndpointSlice", "StatefulSet", "PodDisruptionBudget", "ChronikCluster"];

/// Waits for a while in which nothing is written, and returns the versions then. A machine that stalls makes probes late, and
/// then these objects are written: so where no other is, it is looked at three times.
pub(super) fn stay(
    kubectl: &Kubectl,
    timeline: &Timeline,
    mut before: BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut outcome = Ok(());
    for _ in 0..3 {
        sleep(STEADY);
        let now = versions(kubectl)?;
        outcome = unchanged(&before, &now);
        let Err(changed) = &outcome else { return Ok(now) };
        timeline.say(format!("{changed:#}"));
        unchanged(&but_for_readiness(&before), &but_for_readiness(&now))?;
        before = now;
    }
    outcome.map(|()| before)
}

/// The same versions, but of what tells of readiness only those of its spec.
fn but_for_readiness(versions: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let spec = |(name, version): (&String, &String)| {
        let tells = TELL_OF_READINESS.iter().any(|kind| name.split('/').next() == Some(*kind));
        let of = version.split_once('@').filter(|_| tells).map_or(version.as_str(), |(_, generation)| generation);
        (name.clone(), of.to_owned())
    };
    versions.iter().map(spec).collect()
}

/// The versions once they stay the same: Kubernetes' own controllers have caught up too.
pub(super) fn steady_versions(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, String>> {
    let mut last = versions(kubectl)?;
    until("objects that stay as they are", || {
        sleep(Duration::from_secs(3));
        let now = versions(kubectl)?;
        let same = now == last;
        last = now;
        Ok(same.then(|| last.clone()))
    })
}

/// The version of every object in a namespace, and behind an `@` that of its spec, by kind, name and identity. An
/// `EndpointSlice` has no spec.
pub(super) fn versions(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, String>> {
    let objects = kubectl.json(&["get", KINDS])?;
    let version = |object: &Value| {
        let (kind, metadata) = (object["kind"].as_str()?, &object["metadata"]);
        let name = format!("{kind}/{}/{}", metadata["name"].as_str()?, metadata["uid"].as_str()?);
        let spec = metadata["generation"].as_u64().filter(|_| kind != "EndpointSlice").unwrap_or_default();
        Some((name, format!("{}@{spec}", metadata["resourceVersion"].as_str()?)))
    };
    Ok(objects["items"].as_array().into_iter().flatten().filter_map(version).collect())
}

/// Fails if an object was written, made or removed between the two.
pub(super) fn unchanged(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let changed = before.iter().filter(|(name, version)| now.get(*name) != Some(version)).map(|(name, _)| name);
    let changed = changed.chain(now.keys().filter(|name| !before.contains_key(*name))).collect::<Vec<_>>();
    ensure!(changed.is_empty(), "written without a reason: {changed:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_readiness_may_be_written_but_not_its_spec() {
        let versions = |pod: &str, set: &str| {
            BTreeMap::from(
                [("Pod/a/1", pod), ("StatefulSet/b/2", set), ("Service/c/3", "1@0")].map(|(k, v)| (k.into(), v.into())),
            )
        };
        let before = but_for_readiness(&versions("1@1", "1@1"));
        assert!(unchanged(&before, &but_for_readiness(&versions("2@1", "3@1"))).is_ok());
        assert!(unchanged(&before, &but_for_readiness(&versions("1@1", "2@2"))).is_err());
    }
}
