//! `ChronikTopic`: a topic of a cluster.

#![expect(clippy::duplicated_attributes, reason = "each printer column has its type")]
#![expect(unreachable_pub, reason = "KubeSchema derives each schema from a copy of the type inside a function")]

use crate::cluster::DeletionPolicy;
use crate::rules;
use crate::scalar::Scalar;
use crate::status::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the topic should be. A topic of that name that exists already is adopted, with its records.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "chronik.io",
    version = "v1alpha1",
    kind = "ChronikTopic",
    namespaced,
    doc = "A topic of a ChronikCluster of the same namespace.",
    status = "ChronikTopicStatus",
    derive = "PartialEq",
    category = "chronik",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster", description = "Whose topic it is"),
    printcolumn(
        name = "Partitions",
        type_ = "integer",
        json_path = ".status.partitions",
        description = "Partitions that there are"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.replicas",
        description = "Brokers that hold each partition"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the topic is as the spec says"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is, or is not"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::topic_name_stays(), validation = rules::partitions_stay_given())]
pub struct ChronikTopicSpec {
    /// The `ChronikCluster` of the same namespace that the topic belongs to. It cannot be changed.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::cluster_stays())]
    pub cluster: String,

    /// The topic's name in Kafka, where that is none that a resource can have, as with capitals or underscores. Without
    /// it, it is the resource's name. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub topic_name: Option<String>,

    /// How many partitions; without it, the cluster's default (`num.partitions`). The number can be raised, which changes
    /// the partition that a key belongs to; it never becomes smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[x_kube(validation = rules::partitions_do_not_shrink())]
    pub partitions: Option<i32>,

    /// How many brokers hold each partition; without it, the cluster's default. It cannot be changed here: replicas are
    /// moved with `chronik reassign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub replicas: Option<i32>,

    /// The topic's configs by Kafka's names and in Kafka's units, for example `retention.ms: 86400000`. What somebody else
    /// makes of these is put right; what is taken out of here is reset to the default; configs that were never in here are
    /// left as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub config: BTreeMap<String, Scalar>,

    /// What becomes of the topic when the `ChronikTopic` is deleted. `Retain`: it stays, with its records. `Delete`: it is
    /// deleted, with all records.
    #[serde(default, skip_serializing_if = "DeletionPolicy::is_default")]
    pub deletion_policy: DeletionPolicy,
}

/// What the topic is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChronikTopicStatus {
    /// `Ready`: the topic exists, and is as the spec says; the message names what differs otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that the operator last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The topic's name in Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,

    /// The topic's id, as Kafka's tools print it. A topic of the same name with another id is another topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,

    /// How many partitions it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,

    /// How many brokers hold each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// The configs that this resource sets, or has set and not yet reset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_config: Vec<String>,

    /// The configs of the topic that somebody else has set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_config: Vec<String>,
}
