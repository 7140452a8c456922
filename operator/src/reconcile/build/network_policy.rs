//! Who may connect to a broker: anyone to the ports for clients and probes, the peers alone to the ports for peers, and
//! the peers and the operator to the admin API.

use super::{metadata, port, selector};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

pub(super) fn build(cluster: &Cluster) -> NetworkPolicy {
    let pods = LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() };
    let operators = LabelSelector {
        match_labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), crate::MANAGER.to_owned())])),
        ..LabelSelector::default()
    };
    // In its own namespace, by the label that Kubernetes gives each; in whichever it is, if that is not known.
    let name = |namespace: &String| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
    let namespace = cluster.operator_namespace.as_ref().map(name);
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: namespace, ..LabelSelector::default() }),
        pod_selector: Some(operators),
        ..NetworkPolicyPeer::default()
    };
    let peers = NetworkPolicyPeer { pod_selector: Some(pods.clone()), ..NetworkPolicyPeer::default() };
    let mut for_all = vec![port::KAFKA, port::HTTP];
    for_all.extend(cluster.listeners.iter().map(|listener| listener.port));
    NetworkPolicy {
        metadata: metadata(cluster, ""),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { ports: Some(ports(&for_all)), from: None },
                NetworkPolicyIngressRule {
                    ports: Some(ports(&[port::REPLICATION, port::CONTROLLER])),
                    from: Some(vec![peers.clone()]),
                },
                NetworkPolicyIngressRule { ports: Some(ports(&[port::ADMIN])), from: Some(vec![peers, operator]) },
            ]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn ports(numbers: &[i32]) -> Vec<NetworkPolicyPort> {
    let rule = |number: &i32| NetworkPolicyPort {
        port: Some(IntOrString::Int(*number)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    numbers.iter().map(rule).collect()
}
