//! Brokers that do not come up, or have lost something.

use crate::world::World;
use serde_json::{Value, json};

#[tokio::test]
async fn a_cluster_that_never_formed_takes_up_a_corrected_spec() {
    let mut world = World::with_cluster(3);
    world.unready = true;
    world.brokers.state.lock().unwrap().unsure = Some("no leader".to_owned());
    for _ in 0..6 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    let before = world.pods();
    assert_eq!((before.len(), &world.status()["formed"]), (3, &json!(false)));
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    for _ in 0..8 {
        world.reconcile().await.unwrap();
        world.run_kubernetes();
    }
    assert!(world.pods().iter().all(|(name, uid)| before[name] != *uid), "{}", world.status()["plan"]);
    world.brokers.state.lock().unwrap().unsure = None;
    for name in world.pods().keys() {
        let ready = json!([{ "type": "Ready", "status": "True" }]);
        world.server.change("pods", name, |pod| pod["status"]["conditions"] = ready);
    }
    world.run_until_idle().await;
    assert_eq!((&world.status()["formed"], &world.condition("Ready")["status"]), (&json!(true), &json!("True")));
}

#[tokio::test]
async fn a_broker_that_never_becomes_ready_is_said_in_a_condition_an_event_and_the_plan() {
    for formed in [true, false] {
        let mut world = World::with_cluster(3);
        if formed {
            world.run_until_idle().await;
            world.change_spec(|spec| spec["replicas"] = json!(4));
            world.brokers.state.lock().unwrap().unheard = [3].into();
        } else {
            world.brokers.state.lock().unwrap().unsure = Some("no leader".to_owned());
        }
        world.unready = true;
        world.settle_for(4).await;
        assert_eq!(world.condition("Degraded")["status"], "False", "{formed}: {}", world.condition("Degraded"));
        assert_eq!(world.status()["plan"], Value::Null, "{formed}");
        let last = if formed { "demo-3" } else { "demo-2" };
        world.server.change("pods", last, |pod| pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z"));
        world.reconcile().await.unwrap();
        let degraded = world.condition("Degraded");
        assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("True"), &json!("BrokerStuck")), "{degraded}");
        assert!(degraded["message"].as_str().unwrap().starts_with(last), "{degraded}");
        assert_eq!(world.status()["plan"]["reason"], "BrokerStuck", "{formed}");
        let said = |kind: &str| {
            let events = world.server.all("events");
            events.iter().filter(|event| event["reason"] == "BrokerStuck" && event["type"] == kind).count()
        };
        assert_eq!((said("Warning"), said("Normal")), (1, 1), "of the condition, and of the plan");
        world.server.writes();
        world.reconcile().await.unwrap();
        assert_eq!(world.server.writes(), Vec::<String>::new(), "it is said once");
    }
}

#[tokio::test]
async fn a_disk_that_has_lost_something_is_shown_and_told_of_once() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let told = || {
        let events = world.server.all("events").into_iter().filter(|event| event["reason"] == "DiskDamaged");
        events.map(|event| event["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((&world.status()["brokers"][1]["damaged"], told().len()), (&json!(0), 0));
    world.brokers.state.lock().unwrap().damaged.insert(1, 7);
    world.settle_for(3).await;
    assert_eq!(world.status()["brokers"][1]["damaged"], 7);
    let told = told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("demo-1: its disk has lost something of 7 partitions"), "{told:?}");
}
