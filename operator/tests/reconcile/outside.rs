//! Listeners for clients outside of the Kubernetes cluster, and racks: the dynamic configs of each broker.

use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Barrier;

fn node(name: &str, address: &str, zone: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
            "status": { "addresses": [{ "type": "InternalIP", "address": address }],
                        "conditions": [{ "type": "Ready", "status": "True" }] } })
}

/// A cluster of that spec on three nodes in zones a, b and a, when there is nothing left to do.
async fn idle_world(spec: impl FnOnce(&mut Value)) -> World {
    let world = World::with_cluster(3);
    for (id, zone) in ["a", "b", "a"].iter().enumerate() {
        world.server.put("nodes", node(&format!("node-{id}"), &format!("172.18.0.{id}"), zone));
    }
    world.change_spec(spec);
    world.run_until_idle().await;
    world
}

/// A dynamic config of one broker.
fn broker_config(world: &World, broker: i32, name: &str) -> Option<String> {
    world.kafka.state().brokers.get(&broker)?.get(name).cloned()
}

fn bootstrap(world: &World) -> Value {
    world.status()["endpoints"]["listeners"].clone()
}

fn services(world: &World) -> Vec<String> {
    let services = world.server.all("services");
    let external = services.iter().filter(|s| s["metadata"]["labels"]["chronik.io/listener"].is_string());
    external.map(|s| s["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_broker_advertises_the_port_of_the_nodes_and_the_address_of_its_own() {
    let world = idle_world(|spec| spec["listeners"] = json!([{ "name": "external", "type": "NodePort" }])).await;
    assert_eq!(services(&world), ["demo-external-0", "demo-external-1", "demo-external-2"]);
    assert_eq!(broker_config(&world, 1, "advertised.listeners").as_deref(), Some("EXTERNAL://172.18.0.1:31001"));
    let addresses = "172.18.0.0:31000,172.18.0.1:31001,172.18.0.2:31002";
    assert_eq!(bootstrap(&world), json!([{ "name": "external", "bootstrap": addresses }]));
    let map = world.server.all("configmaps").pop().unwrap();
    assert!(map["data"]["broker.yaml"].as_str().unwrap().contains("EXTERNAL: "), "{map}");
    assert_eq!(world.condition("Progressing")["reason"], "UpToDate");
}

#[tokio::test]
async fn brokers_are_configured_at_the_same_time() {
    let world = idle_world(|_| {}).await;
    world.kafka.state().together = Some(Arc::new(Barrier::new(3)));
    world.change_spec(|spec| spec["rack"] = json!({ "topologyKey": "topology.kubernetes.io/zone" }));
    world.run_until_idle().await;
    let racks = [0, 1, 2].map(|id| broker_config(&world, id, "broker.rack").unwrap());
    assert_eq!(racks, ["a", "b", "a"]);
}

#[tokio::test]
async fn an_address_that_changes_is_configured_and_restarts_nobody() {
    let world = idle_world(|spec| spec["listeners"] = json!([{ "name": "external", "type": "NodePort" }])).await;
    let before = world.pods();
    world.kafka.state().changes.clear();
    world.server.put("nodes", node("node-1", "172.18.0.9", "b"));
    world.run_until_idle().await;
    assert_eq!(world.kafka.state().changes, ["broker 1: set advertised.listeners to EXTERNAL://172.18.0.9:31001"]);
    // And a host that the spec gives.
    world.change_spec(|spec| spec["listeners"][0]["host"] = json!("broker-{id}.example.com"));
    world.run_until_idle().await;
    assert_eq!(
        broker_config(&world, 2, "advertised.listeners").as_deref(),
        Some("EXTERNAL://broker-2.example.com:31002")
    );
    assert_eq!(world.pods(), before, "a pod was replaced");
}

#[tokio::test]
async fn an_address_that_changes_is_configured_also_where_the_spec_cannot_be_followed() {
    let world = idle_world(|spec| spec["listeners"] = json!([{ "name": "external", "type": "NodePort" }])).await;
    world.change_spec(|spec| spec["storage"]["size"] = json!("512Mi"));
    world.run_until_idle().await;
    assert_eq!(world.condition("Degraded")["reason"], "VolumesDoNotShrink");
    world.kafka.state().changes.clear();
    world.server.put("nodes", node("node-1", "172.18.0.9", "b"));
    world.run_until_idle().await;
    assert_eq!(world.kafka.state().changes, ["broker 1: set advertised.listeners to EXTERNAL://172.18.0.9:31001"]);
    // Nothing else of such a spec is followed.
    world.kafka.state().changes.clear();
    world.change_spec(|spec| spec["listeners"] = json!([]));
    world.run_until_idle().await;
    assert_eq!((world.kafka.state().changes.len(), services(&world).len()), (0, 3));
}

#[tokio::test]
async fn a_load_balancer_is_waited_for_without_holding_up_anything_else() {
    let world = idle_world(|spec| {
        spec["listeners"] = json!([{ "name": "public", "type": "LoadBalancer", "annotations": { "a/b": "c" } }]);
    })
    .await;
    assert_eq!(world.server.get("services", "demo-public-0").unwrap()["metadata"]["annotations"]["a/b"], "c");
    let plan = world.status()["plan"].clone();
    assert_eq!(plan["reason"], "NoAddress", "{plan}");
    assert!(plan["message"].as_str().unwrap().contains("demo-public-0 has no address yet"), "{plan}");
    assert_eq!(world.condition("Ready")["status"], "True");
    for id in 0..3 {
        world.server.change("services", &format!("demo-public-{id}"), |service| {
            service["status"] =
                json!({ "loadBalancer": { "ingress": [{ "hostname": format!("lb-{id}.example.com") }] } });
        });
    }
    world.run_until_idle().await;
    assert_eq!(world.status()["plan"], Value::Null);
    assert_eq!(broker_config(&world, 0, "advertised.listeners").as_deref(), Some("PUBLIC://lb-0.example.com:9094"));
}

#[tokio::test]
async fn a_listener_that_is_taken_out_takes_its_services_with_it() {
    let world = idle_world(|spec| spec["listeners"] = json!([{ "name": "external", "type": "NodePort" }])).await;
    world.change_spec(|spec| spec["listeners"] = json!([]));
    world.run_until_idle().await;
    assert_eq!(services(&world), Vec::<String>::new());
    assert_eq!(broker_config(&world, 0, "advertised.listeners"), None);
    assert_eq!(bootstrap(&world), Value::Null);
    assert!(world.server.get("services", "demo-broker-0").is_some(), "that of the peers stays");
}

#[tokio::test]
async fn without_the_right_to_read_nodes_a_host_has_to_be_given() {
    let world = World::with_cluster(3);
    for id in 0..3 {
        world.server.remove("nodes", &format!("node-{id}"));
    }
    world.change_spec(|spec| spec["listeners"] = json!([{ "name": "external", "type": "NodePort" }]));
    world.run_until_idle().await;
    let plan = world.status()["plan"].clone();
    assert_eq!(plan["reason"], "NoAddress", "{plan}");
    assert!(plan["message"].as_str().unwrap().contains("give the listener a host"), "{plan}");
    world.change_spec(|spec| spec["listeners"][0]["host"] = json!("broker-{id}.example.com"));
    world.run_until_idle().await;
    assert_eq!(world.status()["plan"], Value::Null);
    assert_eq!(
        broker_config(&world, 0, "advertised.listeners").as_deref(),
        Some("EXTERNAL://broker-0.example.com:31000")
    );
}

#[tokio::test]
async fn a_broker_is_in_the_rack_that_its_node_is_labelled_with_and_nobody_is_restarted_for_it() {
    let world = idle_world(|_| {}).await;
    let before = world.pods();
    assert_eq!(broker_config(&world, 0, "broker.rack"), None);
    world.change_spec(|spec| spec["rack"] = json!({ "topologyKey": "topology.kubernetes.io/zone" }));
    world.run_until_idle().await;
    let racks = [0, 1, 2].map(|id| broker_config(&world, id, "broker.rack").unwrap_or_default());
    assert_eq!(racks, ["a", "b", "a"]);
    assert_eq!(world.pods(), before, "a pod was replaced");
    // The pod comes up in another zone.
    world.kafka.state().changes.clear();
    world.server.put("nodes", node("node-2", "172.18.0.2", "c"));
    world.run_until_idle().await;
    assert_eq!(world.kafka.state().changes, ["broker 2: set broker.rack to c"]);
    world.server.put("nodes", json!({ "metadata": { "name": "node-0" }, "status": {} }));
    world.reconcile().await.unwrap();
    let plan = world.status()["plan"].clone();
    assert!(plan["message"].as_str().unwrap().contains("node has no label"), "{plan}");
}
