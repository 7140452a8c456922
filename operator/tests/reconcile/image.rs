//! The image that brokers run, and the one that a cluster keeps whose spec names none.

use crate::rolled;
use crate::world::World;
use serde_json::{Value, json};

#[tokio::test]
async fn an_image_that_cannot_be_pulled_stops_after_one_pod_and_heals_when_it_is_corrected() {
    let mut world = World::with_cluster(3);
    world.run_until_idle().await;
    let before = world.pods();
    world.bad_image = Some("chronik:typo".to_owned());
    world.change_spec(|spec| spec["image"] = json!("chronik:typo"));
    rolled(&world).await;
    let after = world.pods();
    let replaced = before.iter().filter(|(name, uid)| after[*name] != **uid).map(|(name, _)| name.as_str());
    assert_eq!(replaced.collect::<Vec<_>>(), ["demo-2"]);
    assert_eq!(world.status()["plan"]["reason"], "BrokerNotReady");
    assert_eq!(world.condition("Degraded")["reason"], "BrokerFailing");
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    rolled(&world).await;
    let images =
        world.server.all("pods").iter().map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect::<Vec<_>>();
    assert_eq!(images, ["chronik:2", "chronik:2", "chronik:2"]);
}

#[tokio::test]
async fn the_image_outlives_the_stateful_set_and_the_operator() {
    let mut world = World::with_cluster(3);
    world.run_until_idle().await;
    world.server.remove("statefulsets", "demo");
    world.default_image = "chronik:2".to_owned();
    world.run_until_idle().await;
    let set = world.server.get("statefulsets", "demo").unwrap();
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "chronik:1");
    assert_eq!(world.status()["image"], "chronik:1");
}

fn images(world: &World) -> Vec<Value> {
    world.server.all("pods").iter().map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect()
}

#[tokio::test]
async fn an_image_that_never_ran_is_forgotten_when_the_spec_names_it_no_more() {
    let mut world = World::with_cluster(3);
    world.run_until_idle().await;
    let unnamed = |spec: &mut Value| drop(spec.as_object_mut().unwrap().remove("image"));
    world.bad_image = Some("chronik:typo".to_owned());
    world.change_spec(|spec| spec["image"] = json!("chronik:typo"));
    rolled(&world).await;
    assert_eq!(
        (&world.condition("Degraded")["reason"], &world.status()["image"]),
        (&json!("BrokerFailing"), &json!("chronik:1"))
    );
    world.change_spec(unnamed);
    rolled(&world).await;
    assert_eq!(images(&world), ["chronik:1"; 3]);
    assert_eq!(world.condition("Ready")["status"], "True");
    // One that has run stays.
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    assert_eq!(rolled(&world).await.len(), 3);
    world.change_spec(unnamed);
    world.run_until_idle().await;
    assert_eq!((images(&world), &world.status()["image"]), (vec![json!("chronik:2"); 3], &json!("chronik:2")));
}

#[tokio::test]
async fn an_image_that_has_run_is_kept_behind_a_webhook_that_puts_another_in_its_place() {
    let world = World::with_cluster(3);
    world.server.set_webhook(|plural, object| {
        if plural == "statefulsets" {
            let image = &mut object["spec"]["template"]["spec"]["containers"][0]["image"];
            let named = image.as_str().unwrap().trim_start_matches("mirror/");
            *image = json!(format!("mirror/{named}"));
        }
    });
    world.run_until_idle().await;
    world.change_spec(|spec| spec["image"] = json!("chronik:2"));
    assert_eq!(rolled(&world).await.len(), 3);
    assert_eq!(world.status()["image"], "chronik:2");
    let before = world.pods();
    world.change_spec(|spec| drop(spec.as_object_mut().unwrap().remove("image")));
    world.run_until_idle().await;
    assert_eq!((images(&world), world.pods()), (vec![json!("mirror/chronik:2"); 3], before));
}

#[tokio::test]
async fn a_cluster_that_began_with_an_image_that_never_ran_falls_back_to_the_operators() {
    let mut world = World::with_cluster(3);
    world.bad_image = Some("chronik:typo".to_owned());
    world.brokers.state.lock().unwrap().unsure = Some("no leader".to_owned());
    world.change_spec(|spec| spec["image"] = json!("chronik:typo"));
    world.settle_for(6).await;
    assert_eq!(images(&world), ["chronik:typo"; 3]);
    world.change_spec(|spec| drop(spec.as_object_mut().unwrap().remove("image")));
    world.settle_for(8).await;
    assert_eq!(images(&world), ["chronik:1"; 3]);
}
