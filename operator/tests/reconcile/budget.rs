//! What a drain of nodes may take away follows what there is, whatever else fails.

use crate::world::World;
use chronik_operator::controller;
use chronik_operator::pulse::Pulse;
use chronik_operator::reconcile::ReconcileError;
use serde_json::{Value, json};
use std::time::Duration;

/// How many brokers a drain of nodes may take away.
fn allowed(world: &World) -> Value {
    world.server.get("poddisruptionbudgets", "demo").unwrap()["spec"]["maxUnavailable"].clone()
}

fn behind(world: &World, partitions: u32) {
    world.brokers.state.lock().unwrap().under_replicated = partitions;
}

#[tokio::test]
async fn while_reconciles_fail_the_budget_alone_follows_what_there_is() {
    type Obstacle = fn(&World);
    let cases: [(&str, Obstacle); 4] = [
        ("an object cannot be written", |world| {
            world.change_spec(|spec| spec["listeners"] = json!([{ "name": "outside", "type": "NodePort" }]));
            world.server.set_policy(Some(|resource, verb, _| {
                (resource == "services" && verb == "patch").then_some("no services today")
            }));
        }),
        ("the status cannot be written", |world| {
            world
                .server
                .set_policy(Some(|resource, _, _| (resource == "chronikclusters/status").then_some("no status today")));
        }),
        ("the spec cannot be followed", |world| world.change_spec(|spec| spec["config"] = json!({ "no": 1 }))),
        ("the spec cannot be read", |world| world.change_spec(|spec| spec["replicas"] = json!("many"))),
    ];
    for (what, obstacle) in cases {
        let world = World::with_cluster(3);
        world.run_until_idle().await;
        obstacle(&world);
        for (partitions, expected) in [(1, 0), (0, 1), (2, 0)] {
            behind(&world, partitions);
            world.server.writes();
            world.guard().await.unwrap();
            assert_eq!(allowed(&world), expected, "{what}");
            assert_eq!(world.server.writes(), ["patch poddisruptionbudgets/demo"], "{what}: only the budget");
            world.guard().await.unwrap();
            assert_eq!(world.server.writes(), Vec::<String>::new(), "{what}: and once");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_closes_the_budget() {
    type Obstacle = fn(&World);
    let cases: [(&str, Obstacle); 2] = [
        ("pods", |world| {
            world.server.set_policy(Some(|resource, verb, _| {
                (resource == "pods" && verb == "list").then_some("no pods today")
            }));
        }),
        ("the resource", |world| {
            world.server.set_policy(Some(|resource, verb, _| {
                (resource == "chronikclusters" && verb == "get").then_some("no clusters today")
            }));
        }),
    ];
    for (what, obstacle) in cases {
        let world = World::with_cluster(3);
        world.run_until_idle().await;
        obstacle(&world);
        let outcome = world.guard().await;
        assert!(matches!(outcome, Err(ReconcileError::Observe(_))), "{outcome:?}");
        assert_eq!(allowed(&world), 0, "{what}");
    }
    // Nor is one made for a single broker, of which as little is known.
    let world = World::with_cluster(1);
    world.run_until_idle().await;
    world.server.set_policy(Some(|resource, _, _| (resource == "chronikclusters").then_some("no clusters today")));
    assert!(world.guard().await.is_err());
    assert_eq!(world.server.all("poddisruptionbudgets"), Vec::<Value>::new());
}

#[tokio::test]
async fn the_budget_is_closed_before_a_status_that_is_refused() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    // What is to be reset one day is remembered in the status before it is set.
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": 5 }));
    world.server.set_policy(Some(|resource, _, _| (resource == "chronikclusters/status").then_some("no status today")));
    behind(&world, 1);
    let outcome = world.reconcile().await;
    assert!(matches!(outcome, Err(ReconcileError::Status(_))), "{outcome:?}");
    assert_eq!(allowed(&world), 0);
}

#[tokio::test]
async fn the_loop_closes_the_budget_of_a_cluster_whose_reconciles_fail() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    // Nothing but the budget's own look comes so far.
    world.server.set_policy(Some(|resource, verb, _| {
        (resource == "chronikclusters" && verb == "get").then_some("no clusters today")
    }));
    let closed = async {
        while allowed(&world) != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let looped = Box::pin(controller::run(world.reconciler(), None, Pulse::default(), std::future::pending()));
    tokio::select! {
        () = looped => panic!("the loop ended"),
        closed = tokio::time::timeout(Duration::from_mins(1), closed) => closed.unwrap(),
    }
}

#[tokio::test]
async fn while_the_stateful_set_is_made_again_no_drain_takes_a_pod_that_nothing_would_replace() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["storage"]["size"] = json!("2Gi"));
    for _ in 0..10 {
        world.reconcile().await.unwrap();
        if world.server.get("statefulsets", "demo").is_none() {
            break;
        }
    }
    assert!(world.server.get("statefulsets", "demo").is_none(), "it was not made again");
    world.server.set_policy(Some(|resource, verb, _| {
        (resource == "statefulsets" && verb == "patch").then_some("no statefulsets today")
    }));
    assert!(world.reconcile().await.is_err());
    assert_eq!(allowed(&world), 0);
    world.server.set_policy(None);
    world.run_until_idle().await;
    assert_eq!(allowed(&world), 1);
}

#[tokio::test]
async fn a_policy_that_forbids_a_closed_budget_is_said_and_nobody_is_restarted_under_an_open_one() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.server.set_policy(Some(|resource, _, body| {
        let closed = resource == "poddisruptionbudgets" && body["spec"]["maxUnavailable"] == 0;
        closed.then_some("a PodDisruptionBudget must let a pod go")
    }));
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    for _ in 0..10 {
        // Some of it fails, and is to.
        let _ = world.reconcile().await;
        world.run_kubernetes();
    }
    let degraded = world.condition("Degraded");
    assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("True"), &json!("ApplyFailed")), "{degraded}");
    assert!(degraded["message"].as_str().unwrap().contains("must let a pod go"), "{degraded}");
    assert_eq!(world.pods(), before);
}
