//! What a person may say about the brokers' pods.

#![expect(unreachable_pub, reason = "KubeSchema derives each schema from a copy of the type inside a function")]

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How the brokers' pods are placed and labelled, and as whom they run. A change restarts the brokers, one at a time.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Labels of the pods, beside those that the operator sets: `app.kubernetes.io/` and `chronik.io/` are its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the pods, as agents for logs and metrics look for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// The labels that a node must have for a broker to be placed on it. Without any, brokers go anywhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,

    /// The taints of nodes that brokers are placed on all the same, as in
    /// `{key: dedicated, operator: Equal, value: kafka, effect: NoSchedule}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,

    /// Rules of the scheduler in Kubernetes' own form (`nodeAffinity`, `podAffinity`, `podAntiAffinity`). They take the
    /// place of the operator's own, by which brokers prefer nodes without another broker of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub affinity: Option<Value>,

    /// How brokers are spread over parts of the Kubernetes cluster. They take the place of the operator's own rule, by
    /// which brokers are spread over zones as far as there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread: Vec<Spread>,

    /// The `PriorityClass` of the pods, which says who gives way when a node is full. Without it, the Kubernetes cluster's
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// The service account of the pods, in place of one that the operator makes. Brokers never use its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// The users and groups that brokers run as. They are never root, whatever is said here, and run with a read-only root
    /// file system and without capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// How much brokers log: `error`, `warn`, `info` (the default), `debug` or `trace`; for a part of the broker alone, as
    /// in `chronik_quorum=debug`, with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub log_level: Option<String>,
}

/// A taint that is tolerated.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; without it, every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,

    /// `Exists`, or `Equal` (the default), which compares the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Exists", "Equal"]))]
    pub operator: Option<String>,

    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// The taint's effect; without it, every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["NoSchedule", "PreferNoSchedule", "NoExecute"]))]
    pub effect: Option<String>,

    /// For how long a taint with the effect `NoExecute` is tolerated; without it, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// A rule by which brokers are spread.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The label of nodes whose values tell the parts apart, as in `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,

    /// By how many brokers two parts may differ. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub max_skew: i32,

    /// What becomes of a broker that fits nowhere. Default: `ScheduleAnyway`.
    #[serde(default = "schedule_anyway")]
    #[schemars(extend("enum" = ["ScheduleAnyway", "DoNotSchedule"]))]
    pub when_unsatisfiable: String,
}

fn one() -> i32 {
    1
}

fn schedule_anyway() -> String {
    "ScheduleAnyway".to_owned()
}

/// As whom brokers run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user's id. Default: 65532, unless `assigned` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_as_user: Option<i64>,

    /// The group's id. Default: 65532, unless `assigned` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_as_group: Option<i64>,

    /// The group that the data belongs to. Default: 65532, unless `assigned` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub fs_group: Option<i64>,

    /// Whether the platform assigns ids itself, as some do: those that are not given here are then left to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assigned: bool,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
