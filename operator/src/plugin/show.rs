//! Resources as text for a person.

use crate::status::DEGRADED;
use chronik_crds::{ChronikCluster, ChronikTopic};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use std::fmt::Write;

/// A broker's pod that is ready.
pub(super) fn ready_pod(cluster: &ChronikCluster) -> Option<String> {
    let status = cluster.status.as_ref()?;
    status.brokers.iter().find(|broker| broker.ready).map(|broker| broker.pod.clone())
}

/// What a cluster is, does next and waits for.
pub(super) fn cluster(cluster: &ChronikCluster) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let mut text =
        format!("{}: {} of {} brokers ready", cluster.name_any(), status.ready_replicas, cluster.spec.replicas);
    if let Some(partitions) = &status.partitions {
        let (total, under, offline) = (partitions.total, partitions.under_replicated, partitions.offline);
        let _ = write!(text, "; of {total} partitions {under} are under-replicated, {offline} offline");
    }
    let blocking = status.conditions.iter().find(|c| c.type_ == DEGRADED && c.status == "True" && holds_up(c));
    let _ = match (&status.plan, blocking) {
        (_, Some(condition)) => writeln!(text, "\nnext: nothing ({}): {}", condition.reason, condition.message),
        (Some(plan), None) => writeln!(text, "\nnext: {} ({}): {}", plan.action, plan.reason, plan.message),
        (None, None) if cluster.spec.paused => writeln!(text, "\nnext: nothing, as spec.paused is true"),
        (None, None) => writeln!(text, "\nnext: nothing"),
    };
    if let (Some(level), Some(newer)) = (status.metadata_version, status.available_metadata_version) {
        let name = cluster.name_any();
        let _ = writeln!(
            text,
            "metadata version: {level}, and all brokers know {newer}; once none is to go back to the release before: kubectl \
             chronik shell {name} -- features upgrade"
        );
    }
    if !status.drained_brokers.is_empty() {
        let drained = status.drained_brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "drained: {drained}");
    }
    if status.observed_generation != cluster.metadata.generation {
        text.push_str("this is old: the operator has not looked at the spec as it is now\n");
    }
    let leader = status.controller.as_ref().and_then(|controller| controller.leader);
    let broker = |broker: &chronik_crds::BrokerStatus| {
        let controller = if leader == Some(broker.id) { "leader" } else { "" };
        let known = |known: Option<bool>| known.map_or("unknown", yes).to_owned();
        let count = |count: Option<i64>| count.map_or("?".to_owned(), |count| count.to_string());
        let why = broker.reason.clone().unwrap_or_default();
        vec![
            broker.id.to_string(),
            broker.pod.clone(),
            yes(broker.ready).to_owned(),
            known(broker.in_sync),
            known(broker.fenced),
            count(broker.leaders),
            count(broker.replicas),
            count(broker.damaged),
            controller.to_owned(),
            why,
        ]
    };
    text.push('\n');
    text.push_str(&table(
        &["BROKER", "POD", "READY", "IN SYNC", "FENCED", "LEADS", "REPLICAS", "DAMAGED", "CONTROLLER", "WHY"],
        status.brokers.iter().map(broker),
    ));
    text.push('\n');
    let condition = |c: &Condition| vec![c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone()];
    text.push_str(&table(&["CONDITION", "STATUS", "REASON", "MESSAGE"], status.conditions.iter().map(condition)));
    if !status.dynamic_config.is_empty() {
        text.push('\n');
        let config = status
            .dynamic_config
            .iter()
            .map(|one| vec![one.name.clone(), one.value.clone().unwrap_or_default(), yes(one.in_force).to_owned()]);
        text.push_str(&table(&["CONFIG", "VALUE", "AS SPECIFIED"], config));
    }
    text
}

/// Whether a fault keeps the spec from being followed, and is none of a broker's.
fn holds_up(condition: &Condition) -> bool {
    !condition.reason.starts_with("Broker")
        && !condition.reason.starts_with("Node")
        && condition.reason != "VolumeLeaving"
}

/// Topics, and whether they are as specified.
pub(super) fn topics(topics: &[ChronikTopic]) -> String {
    let row = |topic: &ChronikTopic| {
        let status = topic.status.clone().unwrap_or_default();
        let number = |number: Option<i32>| number.map(|n| n.to_string()).unwrap_or_default();
        let condition = status.conditions.first();
        let text = |field: fn(&Condition) -> &String| condition.map(field).cloned().unwrap_or_default();
        vec![
            crate::topics::plan::kafka_name(topic),
            topic.name_any(),
            number(status.partitions),
            number(status.replicas),
            text(|c| &c.status),
            text(|c| &c.reason),
            text(|c| &c.message),
        ]
    };
    table(&["TOPIC", "RESOURCE", "PARTITIONS", "REPLICAS", "READY", "REASON", "MESSAGE"], topics.iter().map(row))
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Columns as wide as what is in them.
fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>();
    let rows = std::iter::once(heads).chain(rows).collect::<Vec<_>>();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &Vec<String>| {
        let padded = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or(0);
            format!("{cell:<width$}")
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_is_shown_with_what_it_waits_for() {
        let shown: ChronikCluster = serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster", "metadata": { "name": "demo" },
            "spec": { "replicas": 2, "storage": { "size": "1Gi" } },
            "status": {
                "readyReplicas": 1, "partitions": { "total": 9, "underReplicated": 3, "offline": 0 },
                "controller": { "leader": 0 },
                "plan": { "action": "restart broker 1", "reason": "UnderReplicated", "message": "3 partitions" },
                "brokers": [
                    { "id": 0, "pod": "demo-0", "ready": true, "fenced": false, "inSync": true, "leaders": 9, "replicas": 12,
                      "damaged": 2 },
                    { "id": 1, "pod": "demo-1", "ready": false, "reason": "no pod" }
                ],
                "dynamicConfig": [{ "name": "log.retention.ms", "value": "5", "inForce": true }]
            }
        }))
        .unwrap();
        let expected = "\
demo: 1 of 2 brokers ready; of 9 partitions 3 are under-replicated, 0 offline
next: restart broker 1 (UnderReplicated): 3 partitions

BROKER  POD     READY  IN SYNC  FENCED   LEADS  REPLICAS  DAMAGED  CONTROLLER  WHY
0       demo-0  yes    yes      no       9      12        2        leader
1       demo-1  no     unknown  unknown  ?      ?         ?                    no pod

CONDITION  STATUS  REASON  MESSAGE

CONFIG            VALUE  AS SPECIFIED
log.retention.ms  5      yes
";
        assert_eq!(cluster(&shown), expected);
        assert_eq!(ready_pod(&shown), Some("demo-0".to_owned()));
    }
    #[test]
    fn what_keeps_the_spec_from_being_followed_is_shown_first_and_so_is_a_status_that_is_old() {
        let mut shown: ChronikCluster = serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
            "metadata": { "name": "demo", "generation": 2 },
            "spec": { "replicas": 3, "storage": { "size": "1Gi" } },
            "status": {
                "observedGeneration": 2, "readyReplicas": 3, "drainedBrokers": [3, 4],
                "plan": { "action": "restart broker 1", "reason": "UnderReplicated", "message": "3 partitions" },
                "conditions": [{ "type": "Degraded", "status": "True", "reason": "ReplicationFactorInUse",
                                 "message": "replicas: 3 is less", "lastTransitionTime": "2026-01-01T00:00:00Z" }]
            }
        }))
        .unwrap();
        let head = |shown: &ChronikCluster| cluster(shown).lines().take(4).collect::<Vec<_>>().join("|");
        let first = "demo: 3 of 3 brokers ready|";
        let refused = "next: nothing (ReplicationFactorInUse): replicas: 3 is less|drained: 3, 4|";
        assert_eq!(head(&shown), format!("{first}{refused}"));
        shown.status.as_mut().unwrap().conditions[0].reason = "ApplyFailed".to_owned();
        assert!(head(&shown).contains("next: nothing (ApplyFailed): replicas"), "{}", head(&shown));
        shown.status.as_mut().unwrap().conditions[0].reason = "BrokerDown".to_owned();
        assert!(head(&shown).contains("next: restart broker 1"), "{}", head(&shown));
        shown.metadata.generation = Some(3);
        assert!(
            head(&shown).ends_with("this is old: the operator has not looked at the spec as it is now"),
            "{}",
            head(&shown)
        );
    }

    #[test]
    fn newer_formats_are_shown_while_they_are_not_written() {
        let shown = |status: serde_json::Value| {
            let shown: ChronikCluster = serde_json::from_value(json!({
                "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster", "metadata": { "name": "demo" },
                "spec": { "replicas": 3, "storage": { "size": "1Gi" } }, "status": status
            }))
            .unwrap();
            cluster(&shown)
        };
        let before = shown(json!({ "metadataVersion": 4, "availableMetadataVersion": 5 }));
        let said = "metadata version: 4, and all brokers know 5; once none is to go back to the release before: kubectl \
                    chronik shell demo -- features upgrade\n";
        assert!(before.contains(said), "{before}");
        let after = shown(json!({ "metadataVersion": 5 }));
        assert!(!after.contains("metadata version"), "{after}");
    }
}
