//! A newer operator finds what an older one has made.

use crate::world::World;
use chronik_crds::ChronikCluster;
use chronik_operator::reconcile::validate::hash_of_template;
use serde_json::json;

/// A cluster of an operator that dropped, without a word, what it did not understand of the scheduler's rules.
async fn with_rules_of_an_older_operator() -> World {
    let world = World::with_cluster(3);
    world.change_spec(|spec| spec["pod"] = json!({ "affinity": {} }));
    world.run_until_idle().await;
    world.change_spec(|spec| spec["pod"] = json!({ "affinity": { "podAntiAfinity": {} } }));
    let cluster = world.server.get("chronikclusters", "demo").unwrap();
    let cluster = serde_json::from_value::<ChronikCluster>(cluster).unwrap();
    let of = hash_of_template(&cluster, "chronik:1");
    world
        .server
        .change("statefulsets", "demo", |set| set["metadata"]["annotations"]["chronik.io/template-of"] = json!(of));
    world
}

#[tokio::test]
async fn a_check_that_is_new_refuses_and_restarts_nothing_that_runs() {
    let world = with_rules_of_an_older_operator().await;
    let before = world.pods();
    world.run_until_idle().await;
    assert_eq!(world.condition("Degraded")["reason"], "AsExpected");
    // What pods are not made from changes as ever.
    world.change_spec(|spec| spec["replicas"] = json!(4));
    world.run_until_idle().await;
    assert_eq!(world.condition("Degraded")["reason"], "AsExpected");
    assert_eq!(world.pods().len(), 4);
    assert!(before.iter().all(|(name, uid)| world.pods().get(name) == Some(uid)), "brokers were restarted");
    // What they are made from next is checked.
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    world.settle_for(3).await;
    assert_eq!(world.condition("Degraded")["reason"], "InvalidSpec");
    assert!(before.iter().all(|(name, uid)| world.pods().get(name) == Some(uid)), "brokers were restarted");
}

#[tokio::test]
async fn volumes_of_what_runs_grow_whatever_a_new_check_has_against_it() {
    let world = with_rules_of_an_older_operator().await;
    let before = world.pods();
    world.change_spec(|spec| spec["storage"]["size"] = json!("2Gi"));
    world.run_until_idle().await;
    let set = world.server.get("statefulsets", "demo").unwrap();
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "2Gi");
    assert_eq!((world.condition("Degraded")["reason"].as_str(), world.pods()), (Some("AsExpected"), before));
}
