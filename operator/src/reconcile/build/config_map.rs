//! The ConfigMap that carries the brokers' configuration file.

use super::broker_config;
use super::metadata;
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeMap;

/// It never changes: another file is another ConfigMap. A container that is restarted within its pod thus finds the
/// file that the pod was made with, and a changed one reaches no broker but by a new pod.
pub(super) fn build(cluster: &Cluster, broker_config: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, &suffix(broker_config)),
        immutable: Some(true),
        data: Some(BTreeMap::from([(broker_config::FILE.to_owned(), broker_config.to_owned())])),
        ..ConfigMap::default()
    }
}

/// Its name says what is in it, so that pods' template changes with the file.
pub(super) fn name(cluster: &Cluster, broker_config: &str) -> String {
    format!("{}{}", cluster.name, suffix(broker_config))
}

/// Whether a ConfigMap of a cluster is one of these, by its name.
pub fn is_broker_config(cluster: &str, name: &str) -> bool {
    name.strip_prefix(cluster).is_some_and(|suffix| suffix.starts_with("-config-"))
}

fn suffix(broker_config: &str) -> String {
    format!("-config-{}", broker_config::hash(broker_config))
}
