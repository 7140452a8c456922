//! `ChronikUser`: who may do what in a cluster. Brokers do not authenticate clients yet, so that every one is refused.

#![expect(clippy::duplicated_attributes, reason = "each printer column has its type")]
#![expect(unreachable_pub, reason = "KubeSchema derives each schema from a copy of the type inside a function")]

use crate::rules;
use crate::status::conditions_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the user is known. Nothing is made of it yet: brokers do not authenticate clients, which the status says.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "chronik.io",
    version = "v1alpha1",
    kind = "ChronikUser",
    namespaced,
    doc = "A user of a ChronikCluster. Refused by every cluster until brokers authenticate clients.",
    status = "ChronikUserStatus",
    derive = "PartialEq",
    category = "chronik",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster", description = "Whose user it is"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the user can connect"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why, or why not"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ChronikUserSpec {
    /// The `ChronikCluster` of the same namespace that the user belongs to. It cannot be changed.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::cluster_stays())]
    pub cluster: String,

    /// How the user shows who it is.
    pub authentication: Authentication,
}

/// How a user shows who it is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// `scram-sha-512`: by a password. `tls`: by a certificate.
    #[serde(rename = "type")]
    pub kind: AuthenticationKind,
}

/// The ways of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthenticationKind {
    /// SASL/SCRAM-SHA-512 (KIP-84).
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// A client certificate.
    Tls,
}

/// What became of the user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChronikUserStatus {
    /// `Ready`: the user can connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that the operator last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
