//! From what a broker's place is found out: the Services of listeners, the nodes of its pods, and the addresses that
//! are advertised now.

use super::{Known, ObservedPod, PodState, Seen};
use crate::MANAGER;
use crate::api_error;
use crate::brokers::Contact;
use crate::kafka::{AdvertisedBroker, Kafka};
use crate::reconcile::build::{CLUSTER_LABEL, LISTENER_LABEL, port};
use chronik_crds::{ChronikClusterSpec, ListenerKind};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};

/// The Services of a cluster, and what lies around its brokers where the spec asks for listeners or racks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outside {
    /// The Services of listeners, whether the spec still has them or not.
    pub services: Vec<ObservedService>,
    /// The other ones that the operator made, as those by which brokers find each other.
    pub inside: Vec<ObservedService>,
    /// The nodes of pods, by name; those alone that may be needed.
    pub nodes: BTreeMap<String, Known<ObservedNode>>,
    /// The brokers that serve, by listener, as they are advertised to its clients. The listener for clients inside has
    /// no name.
    pub advertised: BTreeMap<Option<String>, Known<BTreeMap<i32, AdvertisedBroker>>>,
}

/// A Service: that of one broker for one listener, or another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedService {
    /// Which one.
    pub seen: Seen,
    /// The listener's name; empty for one that is of none.
    pub listener: String,
    /// The uid of its controlling owner.
    pub owner: Option<String>,
    /// The port of every node that leads to it, once it has one.
    pub node_port: Option<i32>,
    /// The host of its load balancer, once it has one.
    pub load_balancer: Option<String>,
    /// Whether it is on its way out.
    pub leaving: bool,
}

/// A node that a broker runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedNode {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is reached: its external address if it has one, else its internal one.
    pub address: Option<String>,
}

/// Looks around.
pub async fn observe(
    client: &Client,
    kafka: &dyn Kafka,
    (namespace, name): (&str, &str),
    spec: &ChronikClusterSpec,
    pods: &[ObservedPod],
    cluster: Option<&str>,
) -> Result<Outside, kube::Error> {
    let mut outside = Outside::default();
    let managed =
        ListParams::default().labels(&format!("{CLUSTER_LABEL}={name},app.kubernetes.io/managed-by={MANAGER}"));
    let found = Api::<Service>::namespaced(client.clone(), namespace).list(&managed).await?;
    let of_listener = |service: &&Service| service.labels().contains_key(LISTENER_LABEL);
    let (listeners, others): (Vec<_>, Vec<_>) = found.iter().partition(of_listener);
    outside.services = listeners.into_iter().map(observe_service).collect();
    outside.inside = others.into_iter().map(observe_service).collect();
    let by_node = |kind, host: &Option<String>| kind == ListenerKind::NodePort && host.is_none();
    if spec.rack.is_some() || spec.listeners.iter().any(|listener| by_node(listener.kind, &listener.host)) {
        let nodes = pods.iter().filter_map(|pod| pod.node.as_ref()).collect::<BTreeSet<_>>();
        let read = nodes.into_iter().map(async |node| (node.clone(), read_node(client, node).await));
        outside.nodes = futures::future::join_all(read).await.into_iter().collect();
    }
    let ready = pods.iter().filter(|pod| pod.state == PodState::Ready).cloned().collect::<Vec<_>>();
    let inside = spec.rack.iter().map(|_| (None, port::KAFKA));
    let listeners = spec.listeners.iter().map(|listener| (Some(listener.name.clone()), listener.port));
    let contact = Contact::of(namespace, name, &ready).map(|contact| contact.of_cluster(cluster));
    let advertised = inside.chain(listeners).map(async |(listener, port)| {
        let brokers = match contact.clone() {
            Some(contact) => match super::in_time(kafka.advertised_brokers(contact, port)).await {
                Ok(brokers) => Known::Is(brokers),
                Err(error) => Known::Unknown(error.to_string()),
            },
            None => Known::Unknown("no broker is ready".to_owned()),
        };
        (listener, brokers)
    });
    outside.advertised = futures::future::join_all(advertised).await.into_iter().collect();
    Ok(outside)
}

fn observe_service(service: &Service) -> ObservedService {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let owner = service.owner_references().iter().find(|owner| owner.controller == Some(true));
    let port = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first());
    ObservedService {
        seen: Seen::of(&service.metadata),
        listener: service.labels().get(LISTENER_LABEL).cloned().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()),
        node_port: port.and_then(|port| port.node_port),
        load_balancer: ingress.and_then(|ingress| ingress.hostname.clone().or_else(|| ingress.ip.clone())),
        leaving: service.metadata.deletion_timestamp.is_some(),
    }
}

async fn read_node(client: &Client, name: &str) -> Known<ObservedNode> {
    match Api::<Node>::all(client.clone()).get_opt(name).await {
        Ok(Some(node)) => Known::Is(observe_node(&node)),
        Ok(None) => Known::Unknown(format!("there is no node {name}")),
        Err(error) => Known::Unknown(format!("node {name} cannot be read: {}", api_error::words(&error))),
    }
}

fn observe_node(node: &Node) -> ObservedNode {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let of_type = |kind: &str| addresses?.iter().find(|address| address.type_ == kind).map(|a| a.address.clone());
    ObservedNode {
        labels: node.labels().clone(),
        address: ["ExternalIP", "ExternalDNS", "InternalIP"].iter().find_map(|kind| of_type(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_node_is_reached_at_its_external_address_if_it_has_one() {
        for (addresses, expected) in [
            (
                json!([{ "type": "InternalIP", "address": "10.0.0.1" }, { "type": "ExternalIP", "address": "1.2.3.4" }]),
                Some("1.2.3.4"),
            ),
            (
                json!([{ "type": "Hostname", "address": "n" }, { "type": "InternalIP", "address": "10.0.0.1" }]),
                Some("10.0.0.1"),
            ),
            (json!([]), None),
        ] {
            let node = serde_json::from_value(json!({ "status": { "addresses": addresses } })).unwrap();
            assert_eq!(observe_node(&node).address.as_deref(), expected);
        }
    }

    #[test]
    fn a_load_balancer_is_known_by_its_name_or_its_address_once_it_has_either() {
        for (ingress, expected) in [
            (Value::Null, None),
            (json!([{ "ip": "1.2.3.4" }]), Some("1.2.3.4")),
            (json!([{ "hostname": "lb.example.com", "ip": "1.2.3.4" }]), Some("lb.example.com")),
        ] {
            let service =
                serde_json::from_value(json!({ "status": { "loadBalancer": { "ingress": ingress } } })).unwrap();
            assert_eq!(observe_service(&service).load_balancer.as_deref(), expected);
        }
    }
}
