//! The EndpointSlices by which announced brokers are found, until Kubernetes lists them itself.

use super::verify::Broker;
use crate::MANAGER;
use crate::reconcile::build::{CLUSTER_LABEL, broker_service, brokers_service, port};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use kube::core::ObjectMeta;
use std::net::IpAddr;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// `kube-proxy` has no use for what carries it.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The slices for a broker: one under its own Service, one under the headless Service of all.
pub(super) fn build(broker: &Broker, address: IpAddr) -> [EndpointSlice; 2] {
    let (own, all) = (broker_service(&broker.cluster, broker.id), brokers_service(&broker.cluster));
    let mut of_all = slice(broker, address, &all, &format!("{all}-{}-announced", broker.id), &port::ALL);
    of_all.labels_mut().insert(HEADLESS_LABEL.to_owned(), String::new());
    for endpoint in &mut of_all.endpoints {
        endpoint.hostname = Some(broker.pod.clone());
    }
    [slice(broker, address, &own, &format!("{own}-announced"), &port::OF_BROKER), of_all]
}

fn slice(broker: &Broker, address: IpAddr, service: &str, name: &str, ports: &[(&str, i32)]) -> EndpointSlice {
    let labels = [
        (SERVICE_LABEL, service),
        (MANAGER_LABEL, MANAGER),
        ("app.kubernetes.io/managed-by", MANAGER),
        (CLUSTER_LABEL, broker.cluster.as_str()),
    ];
    let port = |(name, number): &(&str, i32)| EndpointPort {
        name: Some((*name).to_owned()),
        port: Some(*number),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![broker.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: vec![Endpoint {
            addresses: vec![address.to_string()],
            // What Services that publish addresses which are not ready say of all.
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            node_name: Some(broker.node.clone()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some(broker.namespace.clone()),
                name: Some(broker.pod.clone()),
                uid: Some(broker.owner.uid.clone()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }],
        ports: Some(ports.iter().map(port).collect()),
    }
}

/// Selects the slices made here.
pub(super) fn announced() -> String {
    format!("{MANAGER_LABEL}={MANAGER}")
}

/// Selects the slices of the same Service, whoever made them.
pub(super) fn of_same_service(slice: &EndpointSlice) -> String {
    format!("{SERVICE_LABEL}={}", slice.labels().get(SERVICE_LABEL).map_or("", String::as_str))
}

/// Whether Kubernetes lists the pod of a slice made here itself by now, in one of these of the same Service.
pub(super) fn superseded(ours: &EndpointSlice, slices: &[EndpointSlice]) -> bool {
    let listed = slices.iter().filter(|slice| !is_ours(slice)).flat_map(pods).collect::<Vec<_>>();
    pods(ours).all(|pod| listed.contains(&pod))
}

/// Whether a slice was made here.
pub(super) fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGER_LABEL).is_some_and(|manager| manager == MANAGER)
}

/// The uids of the pods in a slice.
pub(super) fn pods(slice: &EndpointSlice) -> impl Iterator<Item = &str> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref())
}

/// The addresses in a slice.
pub(super) fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = &String> {
    slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn broker(id: i32) -> Broker {
        let (pod, uid) = (format!("demo-{id}"), format!("u{id}"));
        let owner = OwnerReference { kind: "Pod".to_owned(), name: pod.clone(), uid, ..OwnerReference::default() };
        Broker {
            cluster: "demo".to_owned(),
            namespace: "shop".to_owned(),
            pod,
            labels: BTreeMap::new(),
            id,
            node: "n1".to_owned(),
            published: None,
            owner,
        }
    }

    #[test]
    fn a_broker_is_listed_under_its_own_service_and_by_name_under_that_of_all() {
        let [own, all] = build(&broker(1), "10.0.0.7".parse().unwrap());
        let port = |name: &str, port: i32| json!({ "name": name, "port": port, "protocol": "TCP" });
        let ports = [port("kafka", 9092), port("replication", 9192), port("controller", 9292)];
        let mut labels = json!({
            "app.kubernetes.io/managed-by": "chronik-operator",
            "chronik.io/cluster": "demo",
            "endpointslice.kubernetes.io/managed-by": "chronik-operator",
            "kubernetes.io/service-name": "demo-broker-1",
        });
        let mut expected = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "demo-broker-1-announced",
                "labels": labels,
                "ownerReferences": [{ "apiVersion": "", "kind": "Pod", "name": "demo-1", "uid": "u1" }],
            },
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": ["10.0.0.7"],
                "conditions": { "ready": true },
                "nodeName": "n1",
                "targetRef": { "kind": "Pod", "name": "demo-1", "namespace": "shop", "uid": "u1" },
            }],
            "ports": ports,
        });
        assert_eq!(json!(own), expected);
        labels["kubernetes.io/service-name"] = json!("demo-brokers");
        labels["service.kubernetes.io/headless"] = json!("");
        expected["metadata"]["labels"] = labels;
        expected["metadata"]["name"] = json!("demo-brokers-1-announced");
        expected["endpoints"][0]["hostname"] = json!("demo-1");
        expected["ports"] = json!([&ports[..], &[port("http", 9392)]].concat());
        assert_eq!(json!(all), expected);
        assert_eq!(build(&broker(1), "fd00::7".parse().unwrap())[0].address_type, "IPv6");
    }

    #[test]
    fn it_is_withdrawn_once_kubernetes_lists_the_pod() {
        let by_kubernetes = |id: i32| {
            let [mut slice, _] = build(&broker(id), "10.0.0.8".parse().unwrap());
            slice.labels_mut().insert(MANAGER_LABEL.to_owned(), "endpointslice-controller.k8s.io".to_owned());
            slice
        };
        let [own, _] = build(&broker(1), "10.0.0.7".parse().unwrap());
        assert!(!superseded(&own, &[]));
        assert!(!superseded(&own, &[own.clone(), by_kubernetes(2)]));
        assert!(superseded(&own, &[own.clone(), by_kubernetes(2), by_kubernetes(1)]));
        assert_eq!(of_same_service(&own), "kubernetes.io/service-name=demo-broker-1");
    }
}
