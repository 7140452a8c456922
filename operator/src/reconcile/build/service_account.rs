//! The account that brokers run as. They never speak to the API server, so it gives them no token.

use super::metadata;
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::ServiceAccount;

pub(super) fn build(cluster: &Cluster) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(cluster, ""),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
