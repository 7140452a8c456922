//! How brokers are found: by each other, and by clients.

use super::{BROKERS_SUFFIX, metadata, port, selector};
use crate::reconcile::validate::Cluster;
use chronik_crds::{Listener, ListenerKind};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use std::fmt;

/// The headless Service that gives each pod a name of its own in DNS, as a StatefulSet must have it.
pub(super) fn brokers(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata(cluster, BROKERS_SUFFIX),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(&cluster.name)),
            ports: Some(port::ALL.map(|(name, number)| service_port(name, number)).into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service of one broker, by which its peers find it: before it is ready, since it is ready only once they have.
///
/// Its name is there before any pod is. That of a pod appears in DNS up to a second after the pod has started; brokers
/// that start together ask for each other's before that, and where DNS caches that a name does not exist they would
/// all believe for 30 s that they are alone.
pub(super) fn broker(cluster: &Cluster, id: i32) -> Service {
    Service {
        metadata: metadata(cluster, &broker_suffix(id)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(broker_selector(&cluster.name, id)),
            ports: Some(port::OF_BROKER.map(|(name, number)| service_port(name, number)).into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The label of the Services of listeners, with the listener's name.
pub const LISTENER_LABEL: &str = "chronik.io/listener";

/// The Service by which clients from outside reach one broker through a listener.
///
/// It leads to the pod before it is ready, as that of its peers does: unfenced brokers are advertised to clients, and
/// each node learns of a pod's readiness in its own time.
pub(super) fn external(cluster: &Cluster, listener: &Listener, id: i32) -> Service {
    let mut labels = super::labels(cluster);
    labels.insert(LISTENER_LABEL.to_owned(), listener.name.clone());
    let annotations = (!listener.annotations.is_empty()).then(|| listener.annotations.clone());
    let kind = match listener.kind {
        ListenerKind::NodePort => "NodePort",
        ListenerKind::LoadBalancer => "LoadBalancer",
    };
    let common = metadata(cluster, "");
    let name = Some(external_service(&cluster.name, &listener.name, id));
    Service {
        metadata: ObjectMeta { name, labels: Some(labels), annotations, ..common },
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(broker_selector(&cluster.name, id)),
            ports: Some(vec![service_port(&listener.name, listener.port)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The name of the Service of one broker for a listener.
pub fn external_service(cluster: &str, listener: &str, id: i32) -> String {
    format!("{cluster}-{listener}-{id}")
}

/// A listener's name as brokers compare it.
pub fn listener_property_name(listener: &str) -> String {
    listener.to_ascii_uppercase()
}

/// The host by which peers find a broker. Without the cluster's domain, which the operator does not know: every pod's
/// resolver adds it.
pub(super) fn broker_host(cluster: &Cluster, id: impl fmt::Display) -> String {
    format!("{}.{}.svc", broker_service(&cluster.name, id), cluster.namespace)
}

/// The host of a broker's pod, which peers try beside that of its Service: it does not depend on how soon each node
/// hears of a Service's change.
pub(super) fn pod_host(cluster: &Cluster, id: impl fmt::Display) -> String {
    format!("{}-{id}.{}.{}.svc", cluster.name, brokers_service(&cluster.name), cluster.namespace)
}

/// The name of one broker's own Service.
fn broker_service(cluster: &str, id: impl fmt::Display) -> String {
    format!("{cluster}{}", broker_suffix(id))
}

/// The name of the headless Service.
pub(super) fn brokers_service(cluster: &str) -> String {
    format!("{cluster}{BROKERS_SUFFIX}")
}

/// The broker that the Service of this name leads to, if it leads to one alone.
pub fn broker_of_service(cluster: &str, service: &str) -> Option<i32> {
    service.strip_prefix(cluster)?.strip_prefix("-broker-")?.parse().ok()
}

fn broker_suffix(id: impl fmt::Display) -> String {
    format!("-broker-{id}")
}

fn broker_selector(cluster: &str, id: i32) -> BTreeMap<String, String> {
    let mut selector = selector(cluster);
    selector.insert("statefulset.kubernetes.io/pod-name".to_owned(), format!("{cluster}-{id}"));
    selector
}

/// The Service of ready brokers, where clients connect first.
pub(super) fn bootstrap(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata(cluster, "-bootstrap"),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(&cluster.name)),
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
