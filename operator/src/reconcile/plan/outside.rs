//! The dynamic configs of each broker's own place: where clients of `spec.listeners` reach it (`advertised.listeners`),
//! and its rack (`broker.rack`). Addresses are known late, and change: nobody is restarted for
//! them.

use super::Plan;
use crate::kafka::{AdvertisedBroker, ConfigChanges};
use crate::reconcile::build::{broker_of_service, external_service, listener_property_name};
use crate::reconcile::observe::{Known, Observed, ObservedPod, ObservedService, PodState, Seen};
use crate::reconcile::validate::Cluster;
use chronik_crds::{Listener, ListenerKind, ListenerStatus};
use std::collections::BTreeSet;

/// What is done, as in `status.plan`.
pub const ACTION: &str = "tell brokers where they are";

const LISTENERS: &str = "advertised.listeners";
const RACK: &str = "broker.rack";

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    plan.services = garbage(cluster, observed);
    plan.services.extend(of_former_brokers(cluster, observed));
    let mut missing = Vec::new();
    for pod in observed.pods.iter().filter(|pod| pod.state == PodState::Ready && pod.ordinal < cluster.replicas) {
        let mut changes = ConfigChanges::new();
        changes.extend(listeners(cluster, observed, pod, &mut missing));
        changes.extend(rack(cluster, observed, pod, &mut missing));
        if !changes.is_empty() {
            plan.broker_configs.insert(pod.ordinal, changes);
        }
    }
    if let Some(why) = missing.first() {
        plan.wait(ACTION, "NoAddress", why.clone());
    }
}

/// The whole of `advertised.listeners`, if anything else is advertised to clients of any listener.
fn listeners(
    cluster: &Cluster,
    observed: &Observed,
    pod: &ObservedPod,
    missing: &mut Vec<String>,
) -> Option<(String, Option<String>)> {
    if cluster.listeners.is_empty() {
        // Of the listeners that there were.
        return observed.had_listeners.then(|| (LISTENERS.to_owned(), None));
    }
    let mut all = Vec::new();
    let mut differs = false;
    for listener in &cluster.listeners {
        match address(cluster, observed, pod, listener) {
            Ok((host, port)) => {
                let advertised = observed.outside.advertised.get(&Some(listener.name.clone()));
                // What no broker says is not known to be wrong: none listens there yet.
                if let Some(Known::Is(brokers)) = advertised {
                    let same =
                        brokers.get(&pod.ordinal).is_some_and(|broker| broker.host == host && broker.port == port);
                    differs |= !same;
                }
                // An IPv6 address needs brackets before a port.
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                all.push(format!("{}://{host}:{port}", listener_property_name(&listener.name)));
            }
            Err(why) => missing.push(format!("listener {} of broker {}: {why}", listener.name, pod.ordinal)),
        }
    }
    (differs && !all.is_empty()).then(|| (LISTENERS.to_owned(), Some(all.join(","))))
}

/// Where clients of a listener reach a broker.
fn address(
    cluster: &Cluster,
    observed: &Observed,
    pod: &ObservedPod,
    listener: &Listener,
) -> Result<(String, i32), String> {
    let name = external_service(&cluster.name, &listener.name, pod.ordinal);
    let service = observed.outside.services.iter().find(|service| service.seen.name == name && !service.leaving);
    let service = service.ok_or_else(|| format!("Service {name} is being made"))?;
    let given = listener.host.as_ref().map(|host| host.replace("{id}", &pod.ordinal.to_string()));
    match listener.kind {
        ListenerKind::NodePort => {
            let port = service.node_port.ok_or_else(|| format!("Service {name} has no port of the nodes yet"))?;
            let host = match given {
                Some(host) => host,
                None => address_of_node(observed, pod)?,
            };
            Ok((host, port))
        }
        ListenerKind::LoadBalancer => {
            let host = given.or_else(|| service.load_balancer.clone());
            let host = host.ok_or_else(|| format!("the load balancer of Service {name} has no address yet"))?;
            Ok((host, listener.port))
        }
    }
}

fn address_of_node(observed: &Observed, pod: &ObservedPod) -> Result<String, String> {
    let name = pod.node.as_deref().ok_or("its pod is on no node yet")?;
    match observed.outside.nodes.get(name) {
        Some(Known::Is(node)) => node.address.clone().ok_or_else(|| format!("node {name} has no address")),
        Some(Known::Unknown(why)) => Err(format!("{why}; give the listener a host")),
        None => Err(format!("node {name} was not read")),
    }
}

/// The rack, if another one is advertised.
fn rack(
    cluster: &Cluster,
    observed: &Observed,
    pod: &ObservedPod,
    missing: &mut Vec<String>,
) -> Option<(String, Option<String>)> {
    let key = cluster.rack_key.as_ref()?;
    let node = observed.outside.nodes.get(pod.node.as_ref()?)?;
    let node = match node {
        Known::Is(node) => node,
        Known::Unknown(why) => {
            missing.push(format!("the rack of broker {}: {why}", pod.ordinal));
            return None;
        }
    };
    let Some(rack) = node.labels.get(key).filter(|rack| !rack.is_empty()) else {
        missing.push(format!("the rack of broker {}: its node has no label {key}", pod.ordinal));
        return None;
    };
    let Some(Known::Is(brokers)) = observed.outside.advertised.get(&None) else { return None };
    let same = brokers.get(&pod.ordinal).is_some_and(|broker| broker.rack.as_ref() == Some(rack));
    (!same).then(|| (RACK.to_owned(), Some(rack.clone())))
}

/// How many brokers there are, with those that are to go: one that is drained has its Services until its pod is gone for good.
fn most(cluster: &Cluster, observed: &Observed) -> i32 {
    let pods = observed.pods.iter().map(|pod| pod.ordinal + 1);
    pods.chain(observed.set.as_ref().map(|set| set.replicas)).max().unwrap_or(0).max(cluster.replicas)
}

/// The Services by which brokers found one that is no member any more.
fn of_former_brokers(cluster: &Cluster, observed: &Observed) -> Vec<Seen> {
    let Some(facts) = observed.facts.known() else { return Vec::new() };
    let most = most(cluster, observed);
    let is_former = |service: &&ObservedService| {
        let owned = service.owner.as_ref() == Some(&cluster.owner.uid);
        let broker = broker_of_service(&cluster.name, &service.seen.name);
        owned && !service.leaving && broker.is_some_and(|id| id >= most && !facts.brokers.contains_key(&id))
    };
    observed.outside.inside.iter().filter(is_former).map(|service| service.seen.clone()).collect()
}

/// The Services of listeners that the spec does not have any more, or of brokers that are gone.
fn garbage(cluster: &Cluster, observed: &Observed) -> Vec<Seen> {
    let most = most(cluster, observed);
    let of_listener = |listener: &Listener| {
        (0..most).map(|id| external_service(&cluster.name, &listener.name, id)).collect::<Vec<_>>()
    };
    let wanted = cluster.listeners.iter().flat_map(of_listener).collect::<BTreeSet<_>>();
    let is_garbage = |service: &&ObservedService| {
        let owned = service.owner.as_ref() == Some(&cluster.owner.uid);
        owned && !service.leaving && !wanted.contains(&service.seen.name)
    };
    observed.outside.services.iter().filter(is_garbage).map(|service| service.seen.clone()).collect()
}

/// The status of listeners: the addresses that are advertised.
pub fn report(cluster: &Cluster, observed: &Observed) -> Vec<ListenerStatus> {
    let one = |listener: &Listener| {
        let advertised = observed.outside.advertised.get(&Some(listener.name.clone())).and_then(Known::known);
        let address = |broker: &AdvertisedBroker| {
            if broker.host.contains(':') {
                format!("[{}]:{}", broker.host, broker.port)
            } else {
                format!("{}:{}", broker.host, broker.port)
            }
        };
        let addresses = advertised.into_iter().flat_map(|brokers| brokers.values()).map(address).collect::<Vec<_>>();
        ListenerStatus { name: listener.name.clone(), bootstrap: addresses.join(",") }
    };
    let mut all = cluster.listeners.iter().map(one).collect::<Vec<_>>();
    // A former one is remembered until its Services are gone.
    let former = garbage(cluster, observed).into_iter().filter_map(|gone| {
        let service = observed.outside.services.iter().find(|service| service.seen == gone)?;
        Some(service.listener.clone())
    });
    for name in former.collect::<BTreeSet<_>>() {
        if all.iter().all(|listener| listener.name != name) {
            all.push(ListenerStatus { name, bootstrap: String::new() });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, observed, observed_of};
    use super::*;
    use crate::kafka::in_words;
    use crate::reconcile::observe::ObservedNode;

    fn listener(kind: ListenerKind, host: Option<&str>) -> Listener {
        let (name, host) = ("external".to_owned(), host.map(str::to_owned));
        Listener { name, kind, port: 9094, host, annotations: std::collections::BTreeMap::new() }
    }

    /// Broker 1 on a node of zone a, its Service with a port, and nothing advertised yet.
    fn with_service() -> Observed {
        let mut observed = observed();
        observed.pods.retain(|pod| pod.ordinal == 1);
        let seen = Seen { name: "demo-external-1".to_owned(), ..Seen::default() };
        let service = ObservedService { seen, owner: Some("u".to_owned()), ..ObservedService::default() };
        observed.outside.services = vec![ObservedService { node_port: Some(31_001), ..service }];
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let node = ObservedNode { labels, address: Some("fd00::1".to_owned()) };
        observed.outside.nodes.insert("node-1".to_owned(), Known::Is(node));
        observed.outside.advertised.insert(None, Known::Is([(1, AdvertisedBroker::default())].into()));
        observed.outside.advertised.insert(Some("external".to_owned()), Known::Is([].into()));
        observed
    }

    fn planned(cluster: &Cluster, observed: &Observed) -> String {
        let mut made = Plan::default();
        plan(cluster, observed, &mut made);
        let changes = made.broker_configs.iter().map(|(broker, changes)| format!("{broker}: {}", in_words(changes)));
        let waits = made.waits.iter().map(|wait| wait.message.clone());
        changes.chain(waits).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_brokers_address_is_configured_as_soon_as_it_is_known_and_once() {
        let mut cluster = cluster();
        let observed = with_service();
        for (kind, host, expected) in [
            (ListenerKind::NodePort, None, "1: set advertised.listeners to EXTERNAL://[fd00::1]:31001"),
            (ListenerKind::NodePort, Some("b{id}"), "1: set advertised.listeners to EXTERNAL://b1:31001"),
            (ListenerKind::LoadBalancer, Some("b{id}"), "1: set advertised.listeners to EXTERNAL://b1:9094"),
            (
                ListenerKind::LoadBalancer,
                None,
                "listener external of broker 1: the load balancer of Service demo-external-1 has no address yet",
            ),
        ] {
            cluster.listeners = vec![listener(kind, host)];
            assert_eq!(planned(&cluster, &observed), expected, "{kind:?} {host:?}");
        }
        cluster.listeners = vec![listener(ListenerKind::NodePort, Some("b{id}"))];
        let mut configured = observed.clone();
        let now = AdvertisedBroker { host: "b1".to_owned(), port: 31_001, rack: None };
        configured.outside.advertised.insert(Some("external".to_owned()), Known::Is([(1, now)].into()));
        assert_eq!(planned(&cluster, &configured), "");
        // While none listens there, it is not known what is advertised.
        configured.outside.advertised.insert(Some("external".to_owned()), Known::Unknown("refused".to_owned()));
        assert_eq!(planned(&cluster, &configured), "");
        cluster.listeners.clear();
        configured.had_listeners = true;
        assert_eq!(planned(&cluster, &configured), "1: reset advertised.listeners");
    }

    #[test]
    fn a_broker_gets_the_rack_of_its_node() {
        let (mut cluster, mut observed) = (cluster(), with_service());
        cluster.rack_key = Some("zone".to_owned());
        assert_eq!(planned(&cluster, &observed), "1: set broker.rack to a");
        let with_rack = AdvertisedBroker { rack: Some("a".to_owned()), ..AdvertisedBroker::default() };
        observed.outside.advertised.insert(None, Known::Is([(1, with_rack)].into()));
        assert_eq!(planned(&cluster, &observed), "");
        cluster.rack_key = Some("row".to_owned());
        assert_eq!(planned(&cluster, &observed), "the rack of broker 1: its node has no label row");
    }

    #[test]
    fn services_go_with_their_listener_and_with_their_broker() {
        let mut cluster = cluster();
        cluster.listeners = vec![listener(ListenerKind::NodePort, None)];
        let mut observed = observed_of(4);
        let service = |name: &str, owner: &str| ObservedService {
            seen: Seen { name: name.to_owned(), ..Seen::default() },
            owner: Some(owner.to_owned()),
            ..ObservedService::default()
        };
        observed.outside.services = [
            ("demo-external-2", "u"),
            ("demo-external-3", "u"),
            ("demo-external-4", "u"),
            ("demo-former-0", "u"),
            ("demo-others-0", "another's"),
        ]
        .map(|(name, owner)| service(name, owner))
        .into();
        let gone = garbage(&cluster, &observed).into_iter().map(|seen| seen.name).collect::<Vec<_>>();
        assert_eq!(gone, ["demo-external-4", "demo-former-0"]);
        observed.outside.inside = [
            ("demo-broker-3", "u"),
            ("demo-broker-4", "u"),
            ("demo-broker-5", "u"),
            ("demo-broker-5", "another's"),
            ("demo-brokers", "u"),
            ("demo-bootstrap", "u"),
        ]
        .map(|(name, owner)| service(name, owner))
        .into();
        let member = super::super::tests::facts(&mut observed).brokers[&0].clone();
        super::super::tests::facts(&mut observed).brokers.insert(4, member);
        let gone = |observed: &Observed| {
            of_former_brokers(&cluster, observed).into_iter().map(|seen| seen.name).collect::<Vec<_>>()
        };
        assert_eq!(gone(&observed), ["demo-broker-5"], "one that is a member still is found by it");
        observed.facts = Known::Unknown("no leader".to_owned());
        assert_eq!(gone(&observed), Vec::<String>::new());
    }
}
