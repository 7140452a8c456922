//! `ChronikCluster`: a cluster of brokers.

#![expect(unreachable_pub, reason = "KubeSchema derives each schema from a copy of the type inside a function")]

use crate::listeners::{Listener, Rack};
use crate::pod::PodOptions;
use crate::properties::{ASSIGNORS, MIGRATION_POLICY, REBALANCE_PROTOCOLS, REPLICA_SELECTOR, Shape};
use crate::rules;
use crate::scalar::Scalar;
use crate::status::ChronikClusterStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the cluster should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "chronik.io",
    version = "v1alpha1",
    kind = "ChronikCluster",
    namespaced,
    doc = "A cluster of Kafka-protocol brokers.",
    status = "ChronikClusterStatus",
    derive = "PartialEq",
    category = "chronik",
    validation = rules::name(),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas",
                description = "Brokers that serve clients"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas",
                description = "Brokers that there should be"),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
                description = "Why the cluster is, or is not, ready"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.plan.action",
                description = "What the operator does next"),
    printcolumn(name = "Under-Replicated", type_ = "integer", json_path = ".status.partitions.underReplicated",
                priority = 1, description = "Partitions that lack an in-sync replica"),
    printcolumn(name = "Bootstrap", type_ = "string", json_path = ".status.endpoints.bootstrap", priority = 1,
                description = "Where clients connect first"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::factor_fits_replicas(), validation = rules::min_insync_fits_factor())]
pub struct ChronikClusterSpec {
    /// Leaves everything as it is while it is true: nothing is written but how many brokers a drain of nodes may take away
    /// (the `PodDisruptionBudget`), and no broker is restarted. What becomes of the cluster meanwhile is still reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,

    /// How many brokers: 1, or 3 and more. Default: 3. From 3 on it can be changed: new brokers join and get their share of the
    /// partitions (`autoRebalance`), and surplus ones are emptied and removed, the highest first, which is refused below the
    /// replication factor of a topic.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 99))]
    #[x_kube(validation = rules::replicas_are_not_two(), validation = rules::one_stays_one())]
    pub replicas: i32,

    /// The image that brokers run. Without it, the cluster gets the image of the operator that first sees it, and
    /// keeps that one when the operator is upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Secrets of the same namespace that give access to the image, where its registry asks for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<ImagePullSecret>,

    /// Where each broker keeps its data.
    pub storage: Storage,

    /// What each broker's container requests, and is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// How topics are replicated when their creator does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,

    /// Broker properties by Kafka's names, for example `num.partitions: 3`; `docs/configuration.md` explains each, and a
    /// name that is refused is answered with the names that there are. Durations and sizes may carry a unit (`30s`,
    /// `1MiB`); `true`, `false` and fractions need quotes. What brokers take up while they run, as `log.retention.ms` and
    /// `message.max.bytes`, restarts nobody, and what somebody else makes of it is put right. For the rest brokers are
    /// restarted one at a time, each when all others serve and every partition is in full sync.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = rules::properties_are_not_owned(),
        validation = rules::properties_are_known(),
        validation = rules::properties_have_the_shape(Shape::Integer),
        validation = rules::properties_have_the_shape(Shape::Count),
        validation = rules::properties_have_the_shape(Shape::Boolean),
        validation = rules::properties_have_the_shape(Shape::Size),
        validation = rules::properties_have_the_shape(Shape::Duration),
        validation = rules::properties_have_the_shape(Shape::SizeOrNone),
        validation = rules::properties_have_the_shape(Shape::DurationOrNone),
        validation = rules::properties_have_the_shape(Shape::Ratio),
        validation = rules::properties_have_the_shape(Shape::Words),
        validation = rules::properties_have_the_shape(Shape::Connections),
        validation = rules::properties_have_the_shape(ASSIGNORS),
        validation = rules::properties_have_the_shape(REPLICA_SELECTOR),
        validation = rules::properties_have_the_shape(MIGRATION_POLICY),
        validation = rules::properties_have_the_shape(REBALANCE_PROTOCOLS),
    )]
    pub config: BTreeMap<String, Scalar>,

    /// How clients outside of the Kubernetes cluster reach the brokers. Those inside need none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    #[x_kube(validation = rules::listeners_have_ports_of_their_own())]
    pub listeners: Vec<Listener>,

    /// Which rack each broker is in. Without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Rack>,

    /// How brokers that have joined get their share of the partitions that there are. Without it: by themselves, with 50 MiB
    /// in a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rebalance: Option<AutoRebalance>,

    /// How the brokers' pods are placed and labelled, and as whom they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
}

fn default_replicas() -> i32 {
    3
}

/// Partitions are moved to brokers that have joined since `replicas` was raised, a few at a time, until all brokers hold about
/// as many. It restarts nobody; whatever restarts or removes a broker goes first, and the rest is moved after it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::rate_is_a_size())]
pub struct AutoRebalance {
    /// Whether it is done. If not, new topics alone are placed on brokers that have joined, until somebody moves what there is
    /// (`chronik rebalance --run`). Default: true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,

    /// What each broker sends, and gets, at most in a second for what is moved, as in `50MiB` (the default). It does not bound
    /// what is written, nor what in-sync replicas get.
    #[serde(default = "default_throttle")]
    #[schemars(length(min = 1, max = 32))]
    pub throttle: String,
}

impl Default for AutoRebalance {
    fn default() -> Self {
        Self { enabled: default_enabled(), throttle: default_throttle() }
    }
}

fn default_enabled() -> bool {
    true
}

fn default_throttle() -> String {
    "50MiB".to_owned()
}

/// A Secret of the type `kubernetes.io/dockerconfigjson`, as `kubectl create secret docker-registry` makes it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The volume that each broker has for itself. It outlives the resource, unless the deletion policy says otherwise:
/// deleting a `ChronikCluster` deletes no data, and one of the same name finds it again.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::storage_class_stays())]
pub struct Storage {
    /// How large, for example `10Gi`. It may grow, if the storage class allows that, without a restart; less than the volumes
    /// have is not followed.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::size_is_a_quantity())]
    pub size: String,

    /// The storage class; without it, the Kubernetes cluster's default class. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class: Option<String>,

    /// What becomes of the volumes when the `ChronikCluster` is deleted. `Retain`: they stay, and a cluster of the same
    /// name finds its data again. `Delete`: they are deleted, with all data.
    #[serde(default, skip_serializing_if = "DeletionPolicy::is_default")]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of data that nobody refers to any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

impl DeletionPolicy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Compute resources by their Kubernetes names: `cpu`, `memory`, …
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside for each broker, as in `{cpu: 500m, memory: 1Gi}`. Without any, nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = rules::amounts_are_quantities())]
    pub requests: BTreeMap<String, Scalar>,

    /// What a broker cannot go beyond, as in `{memory: 2Gi}`: it waits for processor time, and is killed and started again
    /// for memory. Without any, what its node has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = rules::amounts_are_quantities())]
    pub limits: BTreeMap<String, Scalar>,
}

/// Defaults for topics created without a word about replication.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// How many brokers hold each partition (`default.replication.factor`). Default: 3, or all brokers if there are
    /// fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub factor: Option<i32>,

    /// How many of them must hold a record before an `acks=all` write is acknowledged (`min.insync.replicas`).
    /// Default: 2 if the factor is 3 or more, else 1. It counts for all topics that do not say, and changes without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_insync: Option<i32>,
}

impl ChronikClusterSpec {
    /// The replication factor that is in force, given or by default.
    pub fn replication_factor(&self) -> i32 {
        self.replication.as_ref().and_then(|r| r.factor).unwrap_or(self.replicas.min(3))
    }

    /// The `min.insync.replicas` that is in force, given or by default.
    pub fn min_insync_replicas(&self) -> i32 {
        let by_default = if self.replication_factor() >= 3 { 2 } else { 1 };
        self.replication.as_ref().and_then(|r| r.min_insync).unwrap_or(by_default)
    }
}
