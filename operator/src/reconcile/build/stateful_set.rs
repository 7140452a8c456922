//! The StatefulSet: an ordinal, a name and a volume for each broker.

use super::{Frame, labels, metadata, pod_template, selector, services};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;

/// The annotation with the hash of what of the spec the pods' template was built from.
pub const TEMPLATE_OF: &str = "chronik.io/template-of";
/// The annotation with the form of the pods' template.
pub const TEMPLATE_FORM: &str = "chronik.io/template-form";
/// To be raised whenever the same spec gives another template than before: clusters that run keep the one that they have
/// until their spec changes.
pub(super) const FORM: &str = "4";

/// All pods start at once, in any order (`Parallel`). None is replaced because its template changed (`OnDelete`):
/// Kubernetes' own rollout knows nothing of in-sync replicas.
pub(super) fn build(cluster: &Cluster, frame: &Frame, broker_config: &str) -> StatefulSet {
    let retain = || Some("Retain".to_owned());
    let annotations = [(TEMPLATE_OF, cluster.template_of.as_str()), (TEMPLATE_FORM, FORM)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    StatefulSet {
        metadata: ObjectMeta { annotations: Some(annotations.into()), ..metadata(cluster, "") },
        spec: Some(StatefulSetSpec {
            replicas: Some(frame.replicas),
            service_name: Some(services::brokers_service(&cluster.name)),
            selector: LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() },
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: retain(),
                when_scaled: retain(),
            }),
            template: pod_template::build(cluster, broker_config),
            volume_claim_templates: Some(vec![data_volume(cluster, frame)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// It has no owner: data outlives the StatefulSet, and the resource unless its spec says otherwise.
fn data_volume(cluster: &Cluster, frame: &Frame) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(pod_template::DATA_VOLUME.to_owned()),
            labels: Some(labels(cluster)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cluster.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), frame.volume_size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
