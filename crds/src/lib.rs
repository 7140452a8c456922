//! The custom resources of Chronik as Rust types, and the YAML that is generated from them.
//!
//! What is offered here works today: a field comes with the behaviour behind it. The types carry no behaviour
//! of their own; what the operator makes of them is in `chronik-operator`.

pub mod cluster;
pub mod generate;
pub mod listeners;
pub mod pod;
pub mod properties;
pub mod rules;
mod scalar;
pub mod status;
pub mod topic;
pub mod user;

pub use cluster::{
    AutoRebalance, ChronikCluster, ChronikClusterSpec, DeletionPolicy, ImagePullSecret, Replication, Resources, Storage,
};
pub use listeners::{Listener, ListenerKind, Rack};
pub use pod::{PodOptions, SecurityContext, Spread, Toleration};
pub use scalar::Scalar;
pub use status::{
    BrokerStatus, ChronikClusterStatus, ControllerStatus, DynamicConfigStatus, Endpoints, ListenerStatus,
    PartitionsStatus, PlanStatus,
};
pub use topic::{ChronikTopic, ChronikTopicSpec, ChronikTopicStatus};
pub use user::{ChronikUser, ChronikUserSpec, ChronikUserStatus};
