//! How clients outside of the Kubernetes cluster reach the brokers, and which rack each broker is in.

#![expect(unreachable_pub, reason = "KubeSchema derives each schema from a copy of the type inside a function")]

use crate::rules;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A listener for clients outside of the Kubernetes cluster. Each broker gets a Service of its own for it, and clients that
/// come through it are told these addresses of all brokers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::listener_is_not_owned())]
pub struct Listener {
    /// Its name, as in `public`, of 15 characters at most and without two `-` in a row. Brokers know it in upper case.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z](-?[a-z0-9])*$"))]
    pub name: String,

    /// `NodePort`: a port of every node leads to a broker. `LoadBalancer`: each broker gets a load balancer, where the
    /// Kubernetes cluster makes them.
    #[serde(rename = "type")]
    pub kind: ListenerKind,

    /// The port that brokers and their Services listen on. Default: 9094. Another one, like another listener, restarts the
    /// brokers one at a time; all else about listeners changes while they run.
    #[serde(default = "default_port", skip_serializing_if = "is_default_port")]
    #[schemars(range(min = 1024, max = 65535))]
    pub port: i32,

    /// The host that clients are told for a broker, with `{id}` for its number, as in `broker-{id}.example.com`. Without it,
    /// that of its load balancer; or of the node that its pod runs on: the external address if it has one, else the
    /// internal one. The operator may read nodes only where it looks after all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,

    /// Annotations of the Services, by which load balancers are often configured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

fn default_port() -> i32 {
    9094
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_port(port: &i32) -> bool {
    *port == default_port()
}

/// How a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerKind {
    /// Through a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// Where brokers find out which rack they are in.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// The label of a broker's node whose value is its rack (`broker.rack`), as in `topology.kubernetes.io/zone`. New
    /// partitions get replicas in as many racks as there are. It restarts nobody; when this is taken out again, brokers keep
    /// the rack that they had. The operator may read nodes only where it looks after all namespaces.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
}
