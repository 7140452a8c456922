//! Voluntary disruptions (a node that is drained) take one broker at a time, and none while another has to catch up.

use super::{Frame, metadata, selector};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// None for a single broker: it would say nothing but that the only broker may go.
pub(super) fn build(cluster: &Cluster, frame: &Frame) -> Option<PodDisruptionBudget> {
    (cluster.replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(cluster, ""),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(frame.max_unavailable)),
            selector: Some(LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
