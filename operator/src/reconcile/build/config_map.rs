//! The ConfigMap that carries the brokers' configuration file.

use super::broker_config;
use super::metadata;
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeMap;

/// Added to the cluster's name.
pub(super) const SUFFIX: &str = "-config";

pub(super) fn build(cluster: &Cluster, broker_config: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, SUFFIX),
        data: Some(BTreeMap::from([(broker_config::FILE.to_owned(), broker_config.to_owned())])),
        ..ConfigMap::default()
    }
}
