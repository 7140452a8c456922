//! The operator: it turns each `ChronikCluster` into the Kubernetes objects that run it, and reports what became
//! of them. It knows of a broker only what its configuration file and its probes say.
//!
//! A reconcile is four steps, a file each: what there is ([`reconcile::dereference`]), whether the spec can be
//! followed ([`reconcile::validate`]), what there should be ([`reconcile::build`]), and the writes that are missing
//! ([`reconcile::apply`]); what is not needed any more goes ([`reconcile::garbage`]). What is then reported is decided
//! in [`status`].

pub mod backoff;
pub mod controller;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod quantity;
pub mod reconcile;
pub mod status;

/// The name under which the operator owns fields, reports events and labels what it manages.
pub const MANAGER: &str = "chronik-operator";
