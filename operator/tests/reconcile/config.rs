//! Properties that brokers take up while they run.

use crate::world::World;
use serde_json::{Value, json};
use std::time::Duration;

async fn configured(config: &Value) -> World {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = config.clone());
    world.run_until_idle().await;
    world
}

fn changes(world: &World) -> Vec<String> {
    std::mem::take(&mut world.kafka.state().changes)
}

#[tokio::test]
async fn what_brokers_take_up_while_they_run_restarts_none_of_them_and_is_reset_when_it_is_taken_out() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": "1d", "message.max.bytes": "2MiB" }));
    world.run_until_idle().await;
    assert_eq!(changes(&world), ["set log.retention.ms to 86400000, set message.max.bytes to 2097152"]);
    let reported = world.status()["dynamicConfig"].clone();
    assert_eq!(reported[0], json!({ "name": "log.retention.ms", "value": "86400000", "inForce": true }));
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": "1d" }));
    world.run_until_idle().await;
    assert_eq!(changes(&world), ["reset message.max.bytes"]);
    assert_eq!(world.status()["dynamicConfig"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.pods(), before, "a pod was replaced");
    assert_eq!(world.condition("Progressing")["reason"], "UpToDate");
}

#[tokio::test]
async fn the_least_of_in_sync_replicas_changes_without_a_restart() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    assert_eq!(changes(&world), Vec::<String>::new(), "what follows from the factor is in the file");
    world.change_spec(|spec| spec["replication"] = json!({ "minInsync": 1 }));
    world.run_until_idle().await;
    assert_eq!(changes(&world), ["set min.insync.replicas to 1"]);
    world.change_spec(|spec| spec["replication"] = json!({}));
    world.run_until_idle().await;
    assert_eq!(changes(&world), ["reset min.insync.replicas"]);
    assert_eq!(world.pods(), before, "a pod was replaced");
}

#[tokio::test]
async fn what_somebody_else_makes_of_it_is_put_right_and_what_the_spec_never_named_is_left_alone() {
    let world = configured(&json!({ "log.retention.ms": 5 })).await;
    changes(&world);
    world.kafka.state().cluster.insert("log.retention.ms".to_owned(), "9".to_owned());
    world.kafka.state().cluster.insert("log.roll.ms".to_owned(), "9".to_owned());
    world.run_until_idle().await;
    assert_eq!(changes(&world), ["set log.retention.ms to 5"]);
    world.run_until_idle().await;
    assert_eq!(changes(&world), Vec::<String>::new());
}

#[tokio::test]
async fn a_value_that_brokers_refuse_is_said_in_their_words_and_nothing_else_waits_for_it() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.kafka.state().refuse = Some("it is too large".to_owned());
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": 5, "num.partitions": 4 }));
    for _ in 0..60 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    let plan = &world.status()["plan"];
    assert_eq!((&plan["action"], &plan["reason"]), (&json!("configure brokers"), &json!("ConfigRefused")));
    assert_eq!(world.status()["dynamicConfig"][0]["inForce"], false);
    let revisions =
        world.server.all("pods").into_iter().map(|pod| pod["metadata"]["labels"]["controller-revision-hash"].clone());
    assert_eq!(revisions.collect::<std::collections::HashSet<_>>().len(), 1, "the restart waited for it");
    assert!(world.brokers.state.lock().unwrap().requests.contains(&"stop 1".to_owned()));
    let again = world.reconcile().await.unwrap().unwrap();
    assert!(again >= Duration::from_secs(5), "tried again after {again:?}");
}

#[tokio::test]
async fn what_a_paused_cluster_does_not_get_is_not_looked_at_all_the_time() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| {
        spec["paused"] = json!(true);
        spec["config"] = json!({ "log.retention.ms": 5 });
    });
    world.kafka.state().cluster.insert("log.retention.ms".to_owned(), "9".to_owned());
    let again = world.reconcile().await.unwrap().unwrap();
    assert!(again >= Duration::from_secs(5), "looked at again after {again:?}");
    assert_eq!(changes(&world), Vec::<String>::new());
}

#[tokio::test]
async fn brokers_that_take_a_change_and_never_answer_are_waited_for_no_longer_than_it_is_worth() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.kafka.state().hangs = true;
    world.change_spec(|spec| spec["config"] = json!({ "log.retention.ms": 5 }));
    // The first look remembers what is to be set.
    world.reconcile().await.unwrap();
    let looked = tokio::time::timeout(Duration::from_mins(1), world.reconcile()).await;
    looked.unwrap().unwrap();
    let plan = &world.status()["plan"];
    assert_eq!((&plan["action"], &plan["reason"]), (&json!("configure brokers"), &json!("BrokersUnknown")));
}

#[tokio::test]
async fn what_is_changed_is_asked_of_the_cluster_that_is_meant() {
    let world = World::with_cluster(3);
    world.brokers.state.lock().unwrap().cluster = "one".to_owned();
    world.run_until_idle().await;
    world.change_spec(|spec| {
        spec["config"] = json!({ "log.retention.ms": "1d" });
        spec["listeners"] = json!([{ "name": "outside", "type": "NodePort", "host": "h" }]);
    });
    world.run_until_idle().await;
    let changes = changes(&world);
    assert!(changes.iter().any(|change| change.starts_with("set")), "{changes:?}");
    assert!(changes.iter().any(|change| change.starts_with("broker 2")), "{changes:?}");
    assert_eq!(world.kafka.state().clusters, [Some("one".to_owned())].into());
}
