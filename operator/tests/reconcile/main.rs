//! The loop, with an API server in memory: what is written, what is not, and in which order.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod api_server;
mod budget;
mod config;
mod faults;
mod image;
mod kafka;
mod outside;
mod rbac;
mod start;
mod topics;
mod upgrade;
mod world;

use chronik_operator::reconcile::ReconcileError;
use serde_json::{Value, json};
use world::World;

#[tokio::test]
async fn a_new_cluster_is_made_and_then_nothing_is_written_any_more() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    assert_eq!(world.pods().len(), 3);
    assert_eq!(
        (&world.condition("Ready")["status"], &world.condition("InSync")["status"]),
        (&json!("True"), &json!("True"))
    );
    assert_eq!(world.condition("Progressing")["reason"], "UpToDate");
    for _ in 0..3 {
        world.reconcile().await.unwrap();
    }
    assert_eq!(world.server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_made_at_once_is_told_of_in_one_event() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let events = world.server.all("events");
    let made = events.iter().filter(|event| event["reason"] == "Created").collect::<Vec<_>>();
    let notes = made.iter().map(|event| event["note"].as_str().unwrap()).collect::<Vec<_>>().join("|");
    // The budget of disruptions is written before anything else.
    assert_eq!(made.len(), 2, "{notes}");
    for object in ["PodDisruptionBudget demo", "ServiceAccount demo", "Service demo-broker-2", "StatefulSet demo"] {
        assert!(notes.contains(object), "{notes}");
    }
    assert!(notes.contains("Created StatefulSet demo, "), "what matters most is not cut off: {notes}");
}

/// Reconciles a change to its end; returns the order in which pods were replaced, and checks that one is away at most.
async fn rolled(world: &World) -> Vec<String> {
    let mut order = Vec::new();
    let mut before = world.pods();
    for _ in 0..60 {
        world.reconcile().await.unwrap();
        let away = before.keys().filter(|pod| !world.pods().contains_key(*pod)).cloned().collect::<Vec<_>>();
        assert!(away.len() <= 1, "{away:?} were away at once");
        order.extend(away);
        world.run_kubernetes();
        before = world.pods();
    }
    order
}

#[tokio::test]
async fn a_changed_config_restarts_one_broker_at_a_time_and_the_controllers_leader_last() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    assert_eq!(rolled(&world).await, ["demo-2", "demo-0", "demo-1"]);
    let requests = world.brokers.state.lock().unwrap().requests.clone();
    // The permit is asked for, and once more when the budget of disruptions is closed.
    let each = |id: i32| [format!("stop {id}"), format!("stop {id}"), "recovered".to_owned()];
    assert_eq!(requests, [2, 0, 1].map(each).concat());
    assert_eq!(world.condition("Progressing")["reason"], "UpToDate");
    assert_eq!(world.status()["plan"], Value::Null);
    assert_eq!(world.server.all("configmaps").len(), 1, "the former configuration is gone");
}

#[tokio::test]
async fn a_gate_that_is_shut_is_waited_for_and_said_and_never_forced() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    for (unsure, under_replicated, refuse, reason) in [
        (Some("no leader"), 0, None, "BrokersUnknown"),
        (None, 2, None, "UnderReplicated"),
        (None, 0, Some("1 of 3 votes would be left"), "StopRefused"),
    ] {
        {
            let mut state = world.brokers.state.lock().unwrap();
            state.unsure = unsure.map(str::to_owned);
            state.refuse = refuse.map(str::to_owned);
            state.under_replicated = under_replicated;
        }
        for _ in 0..3 {
            world.reconcile().await.unwrap();
            world.run_kubernetes();
        }
        assert_eq!(world.pods(), before, "{reason}");
        let plan = &world.status()["plan"];
        assert_eq!((&plan["action"], &plan["reason"]), (&json!("restart broker 2"), &json!(reason)));
        let published = world.server.all("events").iter().any(|event| event["reason"] == reason);
        assert!(published, "no Event says {reason}");
    }
}

#[tokio::test]
async fn an_operator_that_was_killed_between_the_permit_and_the_deletion_goes_on() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    let incarnation = world.pods()["demo-2"].clone();
    world.brokers.state.lock().unwrap().permit =
        Some(chronik_operator::brokers::Permit { id: 7, broker: 2, incarnation });
    assert_eq!(rolled(&world).await, ["demo-2", "demo-0", "demo-1"]);
}

#[tokio::test]
async fn a_pod_that_was_replaced_since_it_was_seen_is_left_alone_and_its_permit_given_back() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    world.reconcile().await.unwrap();
    world.run_kubernetes();
    // The permit is asked for, the budget of disruptions is closed, and then the step is taken.
    world.reconcile().await.unwrap();
    world.reconcile().await.unwrap();
    world.brokers.state.lock().unwrap().meddle = true;
    world.reconcile().await.unwrap();
    let requests = world.brokers.state.lock().unwrap().requests.clone();
    assert_eq!(requests, ["stop 2", "stop 2", "recovered unused"]);
    assert!(world.pods().contains_key("demo-2"), "another pod than the one that was seen was deleted");
}

#[tokio::test]
async fn a_cluster_made_anew_with_fewer_brokers_than_volumes_is_refused_and_nothing_is_written() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    for plural in ["statefulsets", "pods", "chronikclusters"] {
        for object in world.server.all(plural) {
            world.server.remove(plural, object["metadata"]["name"].as_str().unwrap());
        }
    }
    world.apply_cluster(&json!({ "replicas": 3, "storage": { "size": "1Gi" } }));
    world.server.writes();
    world.reconcile().await.unwrap();
    let degraded = world.condition("Degraded");
    assert_eq!(degraded["reason"], "VolumesLeftBehind", "{degraded}");
    assert!(degraded["message"].as_str().unwrap().contains("data-demo-3, data-demo-4"), "{degraded}");
    assert_ne!(world.condition("Ready")["status"], "True");
    assert_eq!(world.server.writes(), ["status chronikclusters/demo"]);
}

#[tokio::test]
async fn a_drain_is_let_through_only_while_all_is_in_sync() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    assert_eq!(allowed(&world), 1);
    behind(&world, 1);
    world.reconcile().await.unwrap();
    assert_eq!(allowed(&world), 0);
    behind(&world, 0);
    world.reconcile().await.unwrap();
    assert_eq!(allowed(&world), 1);
}

/// How many brokers a drain of nodes may take away.
fn allowed(world: &World) -> Value {
    world.server.get("poddisruptionbudgets", "demo").unwrap()["spec"]["maxUnavailable"].clone()
}

fn behind(world: &World, partitions: u32) {
    world.brokers.state.lock().unwrap().under_replicated = partitions;
}

#[tokio::test]
async fn a_drain_takes_no_broker_too_many_while_the_operator_does_nothing_else() {
    type Obstacle = fn(&World);
    let cases: [(&str, Obstacle); 5] = [
        ("paused", |world| world.change_spec(|spec| spec["paused"] = json!(true))),
        ("of a spec that cannot be followed", |world| world.change_spec(|spec| spec["config"] = json!({ "no": 1 }))),
        ("of a spec that cannot be read", |world| world.change_spec(|spec| spec["replicas"] = json!("many"))),
        ("with brokers that lack their volumes", |world| {
            world.change_spec(|spec| spec["storage"]["size"] = json!("1Mi"));
        }),
        ("while an object cannot be written", |world| {
            world.change_spec(|spec| spec["listeners"] = json!([{ "name": "outside", "type": "NodePort" }]));
            world.server.set_policy(Some(|resource, verb, _| {
                (resource == "services" && verb == "patch").then_some("no services today")
            }));
        }),
    ];
    for (what, obstacle) in cases {
        let world = World::with_cluster(3);
        world.run_until_idle().await;
        obstacle(&world);
        // Some of it fails, and is to.
        let _ = world.reconcile().await;
        assert_eq!(allowed(&world), 1, "{what}");
        behind(&world, 1);
        let _ = world.reconcile().await;
        assert_eq!(allowed(&world), 0, "{what}");
        behind(&world, 0);
        let _ = world.reconcile().await;
        assert_eq!(allowed(&world), 1, "{what}");
    }
}

#[tokio::test]
async fn a_broker_is_restarted_only_when_no_drain_can_take_another() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    let before = world.pods();
    for _ in 0..10 {
        world.reconcile().await.unwrap();
        if world.pods() != before {
            break;
        }
        world.run_kubernetes();
    }
    assert_ne!(world.pods(), before, "nobody was restarted");
    assert_eq!(allowed(&world), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_said_to_be_unknown_and_no_drain_takes_a_broker_meanwhile() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world
        .server
        .set_policy(Some(|resource, verb, _| (resource == "pods" && verb == "list").then_some("no pods today")));
    for _ in 0..2 {
        let outcome = world.reconcile().await;
        assert!(matches!(outcome, Err(ReconcileError::Observe(_))), "{outcome:?}");
    }
    let degraded = world.condition("Degraded");
    assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("True"), &json!("ObserveFailed")));
    assert!(degraded["message"].as_str().unwrap().contains("no pods today"), "{degraded}");
    assert_eq!(world.condition("Ready")["status"], "Unknown");
    assert_eq!(allowed(&world), 0);
    let events = world.server.all("events").iter().filter(|event| event["type"] == "Warning").count();
    assert_eq!(events, 1, "it is published once");
    world.server.set_policy(None);
    world.run_until_idle().await;
    assert_eq!((&world.condition("Degraded")["status"], allowed(&world)), (&json!("False"), json!(1)));
}

#[tokio::test]
async fn a_volume_that_may_not_grow_is_said_and_nothing_else_waits_for_it() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.server.set_policy(Some(|resource, verb, body| {
        let grows = resource == "persistentvolumeclaims" && verb == "patch" && !body["spec"].is_null();
        grows.then_some("the storage class must support resize")
    }));
    world.change_spec(|spec| {
        spec["storage"] = json!({ "size": "2Gi", "deletionPolicy": "Delete" });
        spec["config"] = json!({ "num.partitions": 4 });
    });
    assert_eq!(rolled(&world).await.len(), 3, "a restart waits for it");
    let plan = &world.status()["plan"];
    assert_eq!(
        (&plan["reason"], &plan["message"]),
        (&json!("VolumeDoesNotGrow"), &json!("the storage class must support resize"))
    );
    assert!(world.server.all("events").iter().any(|event| event["reason"] == "VolumeDoesNotGrow"));
    let claim = world.server.get("persistentvolumeclaims", "data-demo-0").unwrap();
    assert_eq!(claim["metadata"]["ownerReferences"][0]["name"], "demo", "what else the claim was to get waits for it");
    let again = world.reconcile().await.unwrap().unwrap();
    assert!(again >= std::time::Duration::from_secs(5), "{again:?}");
    // There is a way back.
    world.change_spec(|spec| spec["storage"]["size"] = json!("1Gi"));
    world.run_until_idle().await;
    assert_eq!(
        (world.status()["plan"].clone(), &world.condition("Degraded")["status"]),
        (Value::Null, &json!("False"))
    );
}

#[tokio::test]
async fn a_broker_that_was_to_go_and_stays_is_given_replicas_again() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    {
        let mut state = world.brokers.state.lock().unwrap();
        state.draining = Some(9);
        state.cordoned.insert(0);
    }
    world.change_spec(|spec| spec["replicas"] = json!(3));
    for _ in 0..4 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    assert_eq!(world.status()["drainedBrokers"], json!([4]));
    let shown = world.status()["brokers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|broker| broker["cordoned"] == true)
        .collect::<Vec<_>>();
    assert_eq!(shown, [true, false, false, false, true]);
    world.change_spec(|spec| spec["replicas"] = json!(5));
    for _ in 0..4 {
        world.reconcile().await.unwrap();
    }
    let state = world.brokers.state.lock().unwrap();
    assert_eq!(state.cordoned, [0].into(), "what somebody else has cordoned is theirs");
    assert_eq!(state.requests.iter().filter(|request| *request == "uncordon 4").count(), 1);
    assert_eq!(world.status()["drainedBrokers"], Value::Null);
}

#[tokio::test]
async fn a_cordon_that_brokers_cannot_take_back_yet_does_not_hold_up_the_roll_that_brings_a_version_that_can() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    world.brokers.state.lock().unwrap().draining = Some(9);
    world.change_spec(|spec| spec["replicas"] = json!(4));
    for _ in 0..4 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    assert_eq!(world.status()["drainedBrokers"], json!([4]));
    world.brokers.state.lock().unwrap().old = true;
    world.change_spec(|spec| {
        spec["replicas"] = json!(5);
        spec["image"] = json!("chronik:2");
    });
    assert_eq!(rolled(&world).await.len(), 5);
    assert_eq!(world.status()["plan"]["reason"], "NotSupported");
    world.brokers.state.lock().unwrap().old = false;
    world.run_until_idle().await;
    assert_eq!(world.status()["drainedBrokers"], Value::Null);
}

#[tokio::test]
async fn brokers_are_asked_for_one_thing_beside_another() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": 5 }));
    world.run_until_idle().await;
    let (asked, receiver) = tokio::sync::oneshot::channel();
    world.brokers.state.lock().unwrap().facts_after = Some(receiver);
    world.kafka.state().asked = Some(asked);
    world.reconcile().await.unwrap();
    assert_eq!(world.condition("InSync")["status"], "True");
}

#[tokio::test]
async fn an_item_that_a_webhook_adds_to_every_write_is_no_change() {
    let world = World::with_cluster(3);
    world.server.set_webhook(|plural, object| {
        if plural == "services" {
            let port = json!({ "name": "added", "port": 1 });
            let ports = object["spec"]["ports"].as_array_mut().unwrap();
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    });
    world.run_until_idle().await;
    assert_eq!(world.condition("Progressing")["reason"], "UpToDate");
}

#[tokio::test]
async fn a_status_that_changed_since_it_was_read_is_not_written_over() {
    let mut world = World::with_cluster(3);
    world.bad_image = Some("chronik:1".to_owned());
    while world.server.get("statefulsets", "demo").is_none() {
        world.reconcile().await.unwrap();
    }
    world.run_kubernetes();
    world.server.change("pods", "demo-0", |pod| {
        pod["status"] = json!({ "podIP": "10.0.0.0", "conditions": [{ "type": "Ready", "status": "True" }] });
    });
    assert_eq!(world.status()["formed"], false);
    world.brokers.state.lock().unwrap().formed_meanwhile = true;
    let outcome = world.reconcile().await;
    assert!(matches!(outcome, Err(ReconcileError::Status(_))), "{outcome:?}");
    assert_eq!(world.status()["formed"], true);
    world.reconcile().await.unwrap();
    assert_eq!((&world.status()["formed"], &world.status()["replicas"]), (&json!(true), &json!(3)));
}

#[tokio::test]
async fn volumes_grow_and_the_stateful_set_is_made_again_around_its_pods() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.change_spec(|spec| spec["storage"]["size"] = json!("2Gi"));
    world.run_until_idle().await;
    let claim = world.server.get("persistentvolumeclaims", "data-demo-1").unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "2Gi");
    let set = world.server.get("statefulsets", "demo").unwrap();
    let template = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(template, "2Gi");
    assert_eq!(world.pods(), before, "a pod was replaced");
}

#[tokio::test]
async fn what_cannot_be_drained_yet_waits_and_says_so() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["replicas"] = json!(3));
    for _ in 0..5 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    assert_eq!(world.pods().len(), 5);
    let plan = &world.status()["plan"];
    assert_eq!((&plan["action"], &plan["reason"]), (&json!("drain broker 4"), &json!("NotSupported")));
}

#[tokio::test]
async fn a_drain_that_brokers_refuse_holds_up_nothing_else() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    {
        let mut state = world.brokers.state.lock().unwrap();
        state.refuse_drain = Some("no room for 9 replicas".to_owned());
        let incarnation = "of before".to_owned();
        state.permit = Some(chronik_operator::brokers::Permit { id: 7, broker: 2, incarnation });
    }
    world.change_spec(|spec| spec["replicas"] = json!(4));
    world.settle_for(8).await;
    assert!(world.brokers.state.lock().unwrap().permit.is_none(), "the permit of a broker that is back stays");
    let plan = &world.status()["plan"];
    assert_eq!((&plan["reason"], &plan["message"]), (&json!("BrokersRefuse"), &json!("no room for 9 replicas")));
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    assert_eq!(rolled(&world).await.len(), 5);
    assert_eq!(world.status()["plan"]["reason"], "BrokersRefuse");
}

#[tokio::test]
async fn what_brokers_of_another_cluster_say_counts_for_nothing() {
    let world = World::with_cluster(3);
    world.brokers.state.lock().unwrap().cluster = "one".to_owned();
    world.run_until_idle().await;
    assert_eq!((&world.status()["clusterId"], allowed(&world)), (&json!("one"), json!(1)));
    world.brokers.state.lock().unwrap().cluster = "other".to_owned();
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    world.settle_for(4).await;
    let in_sync = world.condition("InSync");
    assert_eq!(in_sync["status"], "Unknown", "{in_sync}");
    assert!(in_sync["message"].as_str().unwrap().contains("the cluster other, and this is one"), "{in_sync}");
    assert_eq!((allowed(&world), &world.status()["plan"]["reason"]), (json!(0), &json!("BrokersUnknown")));
    // As somebody says that it was made anew.
    world.server.change("chronikclusters", "demo", |cluster| cluster["status"]["clusterId"] = Value::Null);
    assert_eq!(rolled(&world).await.len(), 3);
    assert_eq!(world.status()["clusterId"], "other");
}

#[tokio::test]
async fn replicas_sink_from_what_was_seen_alone() {
    let world = World::with_cluster(5);
    world.run_until_idle().await;
    world.brokers.state.lock().unwrap().draining = Some(0);
    world.change_spec(|spec| spec["replicas"] = json!(4));
    let replicas = || world.server.get("statefulsets", "demo").unwrap()["spec"]["replicas"].clone();
    world.server.change("persistentvolumeclaims", "data-demo-4", |claim| {
        claim["metadata"]["annotations"] = json!({ "chronik.io/removed": "2026-01-01T00:00:00Z" });
    });
    world.brokers.state.lock().unwrap().cordoned.insert(4);
    // Three vote, and 4 does not: it may go at once, but for what somebody changes while brokers are asked.
    world.brokers.state.lock().unwrap().meanwhile = Some(|server| {
        server.change("statefulsets", "demo", |set| set["metadata"]["labels"]["changed"] = json!("yes"));
    });
    world.reconcile().await.unwrap();
    assert_eq!(replicas(), 5);
    world.reconcile().await.unwrap();
    assert_eq!(replicas(), 4);
}

#[tokio::test]
async fn brokers_that_join_get_their_share_once() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    assert_eq!(world.status()["balancedBrokers"], 3);
    world.brokers.state.lock().unwrap().unbalanced = 2;
    world.change_spec(|spec| {
        spec["replicas"] = json!(5);
        spec["autoRebalance"] = json!({ "throttle": "1MiB" });
    });
    let mut said = Vec::new();
    for _ in 0..12 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
        let status = world.status();
        said.push((status["balancedBrokers"].as_i64(), status["plan"]["reason"].as_str().map(str::to_owned)));
    }
    said.dedup();
    let reason = |text: &str| Some(text.to_owned());
    let expected = [
        (Some(3), None),
        (Some(3), reason("SpreadPartitions")),
        (Some(0), reason("SpreadingPartitions")),
        (Some(5), reason("SpreadPartitions")),
        (Some(5), None),
    ];
    assert_eq!(said, expected);
    assert_eq!(world.brokers.state.lock().unwrap().requests, ["rebalance 1048576"; 3]);
    // A new operator that finds them so.
    world.brokers.state.lock().unwrap().unbalanced = 2;
    world.run_until_idle().await;
    assert_eq!(world.brokers.state.lock().unwrap().requests.len(), 3, "partitions are moved without a reason");
}

#[tokio::test]
async fn a_cluster_that_is_paused_is_left_as_it_is() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| {
        spec["paused"] = json!(true);
        spec["config"] = json!({ "num.partitions": 4 });
    });
    world.server.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.server.writes(), ["status chronikclusters/demo"]);
    assert_eq!(world.condition("Progressing")["reason"], "Paused");
    world.reconcile().await.unwrap();
    assert_eq!(world.server.writes(), Vec::<String>::new());
    world.change_spec(|spec| spec["paused"] = json!(false));
    assert_eq!(rolled(&world).await.len(), 3);
}

#[tokio::test]
async fn objects_that_a_resource_left_behind_are_its_successors() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.server.remove("chronikclusters", "demo");
    // As Kubernetes does when a resource is deleted without its objects.
    for plural in
        ["statefulsets", "services", "configmaps", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"]
    {
        for object in world.server.all(plural) {
            let name = object["metadata"]["name"].as_str().unwrap();
            world.server.change(plural, name, |object| object["metadata"]["ownerReferences"] = Value::Null);
        }
    }
    world.apply_cluster(&json!({ "replicas": 3, "storage": { "size": "1Gi" } }));
    world.run_until_idle().await;
    assert_eq!(world.condition("Degraded")["status"], "False", "{}", world.condition("Degraded"));
    assert_eq!(world.pods(), before);
}

#[tokio::test]
async fn a_cluster_of_another_operator_is_left_alone_until_somebody_says_otherwise() {
    let mut world = World::with_cluster(3);
    world.operator = "first/operator".to_owned();
    world.run_until_idle().await;
    world.operator = "second/operator".to_owned();
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    world.server.writes();
    world.reconcile().await.unwrap();
    assert_eq!(world.server.writes(), Vec::<String>::new());
    world.reconcile().await.unwrap();
    let events = world.server.all("events").iter().filter(|event| event["reason"] == "OtherOperator").count();
    assert_eq!(events, 1, "what lasts is published once");
    world.server.change("chronikclusters", "demo", |cluster| {
        cluster["metadata"]["annotations"] = json!({ "chronik.io/operator": "second/operator" });
    });
    assert_eq!(rolled(&world).await.len(), 3);
    assert_eq!(world.status()["operator"], "second/operator");
    let policy = world.server.get("networkpolicies", "demo").unwrap().to_string();
    assert!(policy.contains(r#"{"kubernetes.io/metadata.name":"second"}"#), "{policy}");
}
