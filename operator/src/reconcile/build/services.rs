//! How brokers are found: by each other, and by clients.

use super::{brokers_service, metadata, port, selector};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The headless Service that gives each broker a host name from the moment its pod has an address: peers must find
/// each other before they are ready, since they are ready only once they have.
pub(super) fn brokers(cluster: &Cluster) -> Service {
    let ports = [
        ("kafka", port::KAFKA),
        ("replication", port::REPLICATION),
        ("controller", port::CONTROLLER),
        ("http", port::HTTP),
    ];
    let mut metadata = metadata(cluster, "");
    metadata.name = Some(brokers_service(cluster));
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(cluster)),
            ports: Some(ports.map(|(name, number)| service_port(name, number)).into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service of ready brokers, where clients connect first.
pub(super) fn bootstrap(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata(cluster, "-bootstrap"),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(cluster)),
            ports: Some(vec![service_port("kafka", port::KAFKA)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// What clients inside the Kubernetes cluster use as `bootstrap.servers`.
pub fn bootstrap_address(name: &str, namespace: &str) -> String {
    format!("{name}-bootstrap.{namespace}.svc:{}", port::KAFKA)
}

fn service_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
