//! How a broker finds the operator, to say where it is: a ConfigMap with the URL, mounted beside a token that is good
//! for nothing else.
//!
//! The pods' template says no more than the ConfigMap's name, and not even that there must be one: an operator that
//! moves, or that takes no announcements, changes no pod. The latter leaves the ConfigMap alone: there may be another
//! operator that does.

use super::metadata;
use crate::announcements::AUDIENCE;
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use std::collections::BTreeMap;

/// The folder that both are mounted in.
pub(super) const DIR: &str = "/var/run/chronik";
const VOLUME: &str = "announcements";
const SUFFIX: &str = "-announcements";
/// Kubernetes renews the token before.
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn build(cluster: &Cluster, url: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, SUFFIX),
        data: Some(BTreeMap::from([("url".to_owned(), url.to_owned())])),
        ..ConfigMap::default()
    }
}

pub(super) fn volume(cluster: &Cluster) -> Volume {
    let url = ConfigMapProjection {
        name: format!("{}{SUFFIX}", cluster.name),
        optional: Some(true),
        ..ConfigMapProjection::default()
    };
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![
                VolumeProjection { config_map: Some(url), ..VolumeProjection::default() },
                VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
            ]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

pub(super) fn mount() -> VolumeMount {
    VolumeMount { name: VOLUME.to_owned(), mount_path: DIR.to_owned(), read_only: Some(true), ..VolumeMount::default() }
}
