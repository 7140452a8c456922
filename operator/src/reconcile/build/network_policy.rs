//! Who may connect to a broker: anyone to the ports for clients and probes, the peers alone to the ports for peers.

use super::{metadata, port, selector};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn build(cluster: &Cluster) -> NetworkPolicy {
    let pods = LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() };
    let peers = NetworkPolicyPeer { pod_selector: Some(pods.clone()), ..NetworkPolicyPeer::default() };
    NetworkPolicy {
        metadata: metadata(cluster, ""),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { ports: Some(ports([port::KAFKA, port::HTTP])), from: None },
                NetworkPolicyIngressRule {
                    ports: Some(ports([port::REPLICATION, port::CONTROLLER])),
                    from: Some(vec![peers]),
                },
            ]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn ports(numbers: [i32; 2]) -> Vec<NetworkPolicyPort> {
    let rule = |number| NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    numbers.map(rule).into()
}
