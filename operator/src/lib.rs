//! The operator: it turns each `ChronikCluster` into the Kubernetes objects that run it, looks after them, and reports
//! what became of them. It knows of a broker what its configuration file, its probes and its admin API say, and of topics
//! what the Kafka protocol says.
//!
//! A reconcile is four steps, a folder each: what there is ([`reconcile::observe`]), whether the spec can be followed
//! ([`reconcile::validate`]), what to do about it ([`reconcile::plan`], with the objects from [`reconcile::build`]), and
//! the writes that do it ([`reconcile::apply`]). What is then reported is decided in [`status`].

mod api_error;
mod attempts;
pub mod backoff;
pub mod brokers;
pub mod controller;
pub mod events;
pub mod http;
pub mod kafka;
pub mod leader;
pub mod metrics;
pub mod plugin;
pub mod process;
pub mod pulse;
pub mod quantity;
pub mod reconcile;
pub mod status;
pub mod topics;
pub mod users;

/// The name under which the operator owns fields, reports events and labels what it manages.
pub const MANAGER: &str = "chronik-operator";
