//! Voluntary disruptions (a node that is drained) take one broker at a time, and none while another has to catch up.

use super::{Place, metadata_at, selector};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// None for a single broker: it would say nothing but that the only broker may go.
pub(super) fn build(place: &Place<'_>, brokers: i32, max_unavailable: i32) -> Option<PodDisruptionBudget> {
    (brokers > 1).then(|| PodDisruptionBudget {
        metadata: metadata_at(place, ""),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(max_unavailable)),
            selector: Some(LabelSelector { match_labels: Some(selector(place.name)), ..LabelSelector::default() }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
