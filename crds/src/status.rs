//! What the operator reports about a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChronikClusterStatus {
    /// `Ready`: every broker serves clients. `InSync`: every partition has all its replicas in sync; unknown while no
    /// broker gives a sure answer. `Progressing`: the cluster is not yet what the spec says.
    /// `Degraded`: something is wrong: a broker that cannot run, does not come up in time, or is missing where all were
    /// ready before; a spec that cannot be followed; or an object that cannot be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that the operator last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The cluster's identity, as its brokers said it first: what brokers say of another cluster counts for nothing. If
    /// this one was made anew with empty volumes, take this field away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,

    /// Broker pods that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Broker pods that serve clients.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Whether all brokers were ready once: since then one that is not is a fault, and no start that goes on.
    #[serde(default)]
    pub formed: bool,

    /// What the operator does next that may disturb clients, and what it waits for; none if there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,

    /// The operator that looks after the cluster, by the namespace and the name of its Lease: no other one touches it.
    /// The annotation `chronik.io/operator` gives it to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,

    /// The image that brokers run where the spec names none: the last one that a broker came up with, which the spec may
    /// have named; before that, the image of the operator which first saw the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// Which formats brokers write: the level of `metadata.version`; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_version: Option<i32>,

    /// A higher level, if all brokers know one: `chronik features upgrade` raises it to that, once none is to go back to the
    /// release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_metadata_version: Option<i32>,

    /// The properties that the operator sets, or has set and not yet reset, while brokers run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub dynamic_config: Vec<DynamicConfigStatus>,

    /// Over how many brokers partitions were spread last: those that have joined since get their share. 0 while it is under
    /// way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_brokers: Option<i32>,

    /// The brokers that the operator has cordoned for them to go, or is about to. One that stays after all is given replicas
    /// again; what somebody else has cordoned is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained_brokers: Vec<i32>,

    /// The partitions, as the controller's leader knows them; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionsStatus>,

    /// The controller; none while it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerStatus>,

    /// Each broker, by its id; also those that are to go, for as long as they have a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub brokers: Vec<BrokerStatus>,

    /// Where the cluster is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
}

/// The next action, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// What is to be done, as in `restart broker 2`.
    pub action: String,

    /// In one word, what it waits for; or what is being done, if it does not wait.
    pub reason: String,

    /// The same in a sentence.
    pub message: String,

    /// Since when it is so, whatever the message said meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub since: Option<Time>,
}

/// A property that brokers take up while they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicConfigStatus {
    /// Kafka's name of it.
    pub name: String,

    /// The value that all brokers were given; none while the default counts, or while it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// Whether that is what the spec says.
    pub in_force: bool,
}

/// Counts of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionsStatus {
    /// All of them.
    pub total: i64,

    /// Those that lack an in-sync replica.
    pub under_replicated: i64,

    /// Those without a leader.
    pub offline: i64,
}

/// The brokers that decide about metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// The broker that leads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<i32>,

    /// The brokers that vote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<i32>,
}

/// One broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Its id: the ordinal of its pod.
    pub id: i32,

    /// Its pod.
    pub pod: String,

    /// Whether it serves clients.
    pub ready: bool,

    /// The revision of the pod's template that it runs; none while there is no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,

    /// Whether the controller keeps it from leading; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<bool>,

    /// Whether it is in every in-sync set that it belongs to, and has caught up with the metadata; none while that is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync: Option<bool>,

    /// Whether nothing new is placed on it; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<bool>,

    /// How many partitions it leads; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaders: Option<i64>,

    /// How many partitions it has a replica of; none while that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,

    /// How many partitions its disk has lost something of that it has not got back, as was heard last; none while that was
    /// never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<i64>,

    /// What keeps it from being ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Since when it has had no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub missing_since: Option<Time>,
}

/// Addresses for clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Where clients inside the Kubernetes cluster connect first (`bootstrap.servers`).
    pub bootstrap: String,

    /// The same for clients that come through each of `spec.listeners`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<ListenerStatus>,
}

/// Where clients from outside connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,

    /// The brokers' addresses, with commas between; empty while none is known.
    pub bootstrap: String,
}

fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// The schema of Kubernetes' own condition type, which has none to derive from.
pub(crate) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "description": "What it is about." },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "description": "The generation of the spec that it was found for."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "Since when the status is what it is."
                },
                "reason": { "type": "string", "description": "Why, in one word: docs/kubernetes.md explains each." },
                "message": { "type": "string", "description": "Why, in a sentence." }
            }
        }
    })
}
