//! The configuration file that all brokers of a cluster share.

use super::{port, services};
use crate::reconcile::validate::Cluster;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Where a broker finds its data.
pub(super) const DATA_DIR: &str = "/var/lib/chronik";
/// The folder that the file is mounted in.
pub(super) const CONFIG_DIR: &str = "/etc/chronik";
/// The file's name.
pub(super) const FILE: &str = "broker.yaml";

#[derive(Serialize)]
struct BrokerConfig<'a> {
    broker_id: &'a str,
    data_dir: &'a str,
    listen: Listen,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    listeners: BTreeMap<String, String>,
    members: Vec<Member>,
    joins_as: Place,
    log_format: &'a str,
    kafka: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct Listen {
    kafka: String,
    replication: String,
    controller: String,
    http: String,
}

#[derive(Serialize)]
struct Member {
    id: i32,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Place {
    host: String,
    alternative_hosts: [String; 1],
    kafka_port: i32,
    replication_port: i32,
    controller_port: i32,
}

/// The first brokers, which make the cluster and vote. All others join it, so that the file, and with it every pod,
/// stays as it is when there are to be more brokers or fewer.
const FIRST: i32 = 3;
/// What stands for a broker's number in the hosts of those that join.
const ID: &str = "{id}";

/// The file's text. The same text for the same spec: pods are told apart by its hash.
pub(super) fn render(cluster: &Cluster) -> Result<String, serde_json::Error> {
    let config = BrokerConfig {
        broker_id: "hostname",
        data_dir: DATA_DIR,
        listen: Listen {
            kafka: any_address(port::KAFKA),
            replication: any_address(port::REPLICATION),
            controller: any_address(port::CONTROLLER),
            http: any_address(port::HTTP),
        },
        listeners: cluster
            .listeners
            .iter()
            .map(|listener| (services::listener_property_name(&listener.name), any_address(listener.port)))
            .collect(),
        members: (0..cluster.replicas.min(FIRST)).map(|id| Member { id, place: place(cluster, id) }).collect(),
        joins_as: place(cluster, ID),
        log_format: "json",
        kafka: &cluster.properties,
    };
    serde_saphyr::to_string(&config).map_err(serde::ser::Error::custom)
}

/// Every address, IPv6 and IPv4; where there is no IPv6, a broker takes it for every IPv4 one.
fn any_address(port: i32) -> String {
    format!("[::]:{port}")
}

fn place(cluster: &Cluster, id: impl fmt::Display) -> Place {
    Place {
        host: services::broker_host(cluster, &id),
        alternative_hosts: [services::pod_host(cluster, &id)],
        kafka_port: port::KAFKA,
        replication_port: port::REPLICATION,
        controller_port: port::CONTROLLER,
    }
}

/// A hash that never changes from one release or machine to the next (FNV-1a, 64 bits): it is kept in the cluster.
pub fn hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(""), "cbf29ce484222325");
        assert_eq!(hash("foobar"), "85944171f73967e8");
    }
}
