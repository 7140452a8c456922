//! An API server that refuses, does not answer, or does what it answers with an error.

use crate::api_server::Fault;
use crate::rolled;
use crate::world::World;
use chronik_operator::reconcile::ReconcileError;
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cluster whose broker 2 is about to be restarted, with its permit.
async fn about_to_restart() -> World {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    world.change_spec(|spec| spec["config"] = json!({ "num.partitions": 4 }));
    world.reconcile().await.unwrap();
    world.run_kubernetes();
    // The permit is asked for, the budget of disruptions is closed, and then the step is taken.
    world.reconcile().await.unwrap();
    world.reconcile().await.unwrap();
    world
}

#[tokio::test]
async fn a_permit_is_kept_where_it_is_not_known_whether_its_pod_was_deleted() {
    let world = about_to_restart().await;
    world.server.set_faults(Some(|resource, verb| {
        ((resource, verb) == ("pods", "delete")).then_some(Fault::Done(StatusCode::INTERNAL_SERVER_ERROR))
    }));
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    assert_eq!(world.brokers.state.lock().unwrap().requests, ["stop 2", "stop 2"]);
    world.server.set_faults(None);
    world.run_kubernetes();
    assert_eq!(rolled(&world).await, ["demo-0", "demo-1"]);
}

#[tokio::test]
async fn a_permit_is_given_back_where_the_deletion_of_its_pod_is_refused() {
    let world = about_to_restart().await;
    world
        .server
        .set_policy(Some(|resource, verb, _| ((resource, verb) == ("pods", "delete")).then_some("no pod goes today")));
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    assert_eq!(world.brokers.state.lock().unwrap().requests, ["stop 2", "stop 2", "recovered unused"]);
}

#[tokio::test]
async fn an_object_that_the_api_server_does_not_answer_for_is_named() {
    let world = World::with_cluster(3);
    world.server.set_faults(Some(|resource, verb| ((resource, verb) == ("services", "patch")).then_some(Fault::Hangs)));
    // What is remembered is written first.
    world.reconcile().await.unwrap();
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    let degraded = world.condition("Degraded");
    assert_eq!(degraded["reason"], "ApplyFailed", "{degraded}");
    let message = degraded["message"].as_str().unwrap();
    assert!(message.contains("Service demo") && message.contains("has not answered"), "{message}");
}

#[tokio::test]
async fn an_object_that_is_refused_holds_up_the_pods_and_not_what_is_written_beside_it() {
    let world = World::with_cluster(3);
    world.server.set_policy(Some(|resource, verb, _| {
        ((resource, verb) == ("configmaps", "patch")).then_some("no configuration today")
    }));
    // What is remembered is written first.
    world.reconcile().await.unwrap();
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    assert!(world.condition("Degraded")["message"].as_str().unwrap().contains("no configuration today"));
    assert!(world.server.get("services", "demo-bootstrap").is_some());
    assert!(world.server.all("statefulsets").is_empty(), "its pods would lack their configuration");
    world.server.set_policy(None);
    world.run_until_idle().await;
    assert_eq!(world.pods().len(), 3);
}

/// Counts the warnings of what carries out plans.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().ends_with("::carry_out")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn of_several_objects_that_are_refused_at_once_one_is_in_the_status_and_the_others_are_logged() {
    let world = World::with_cluster(3);
    world.server.set_policy(Some(|resource, verb, _| {
        matches!((resource, verb), ("configmaps" | "services", "patch")).then_some("nothing of that today")
    }));
    // What is remembered is written first.
    world.reconcile().await.unwrap();
    let warnings = Arc::new(AtomicUsize::new(0));
    // Another test may come to a line first, and it is taken for one that nobody wants: a second subscriber is asked anew.
    let _first = tracing::subscriber::set_default(Warnings(Arc::default()));
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    let _second = tracing::subscriber::set_default(Warnings(Arc::clone(&warnings)));
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    assert!(world.condition("Degraded")["message"].as_str().unwrap().contains("ConfigMap demo"));
    assert_eq!(warnings.load(Ordering::Relaxed), 2, "two Services are written beside the ConfigMap");
}

#[tokio::test]
async fn an_object_that_somebody_else_writes_at_the_same_time_is_no_fault() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let service = world.server.all("services")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.server.change("services", &service, |service| service["spec"]["selector"] = json!({ "of": "nobody" }));
    world.server.set_faults(Some(|resource, verb| {
        ((resource, verb) == ("services", "patch")).then_some(Fault::Refused(StatusCode::CONFLICT))
    }));
    world.reconcile().await.unwrap();
    assert_ne!(world.condition("Degraded")["reason"], "ApplyFailed");
    world.server.set_faults(None);
    world.run_until_idle().await;
    assert_ne!(world.server.get("services", &service).unwrap()["spec"]["selector"], json!({ "of": "nobody" }));
}

#[tokio::test]
async fn who_refuses_with_the_code_of_a_conflict_and_for_another_reason_is_heard() {
    let world = World::with_cluster(3);
    world.run_until_idle().await;
    let service = world.server.all("services")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.server.change("services", &service, |service| service["spec"]["selector"] = json!({ "of": "nobody" }));
    world.server.set_faults(Some(|resource, verb| {
        let refused = Fault::RefusedAs(StatusCode::CONFLICT, "AlreadyExists");
        ((resource, verb) == ("services", "patch")).then_some(refused)
    }));
    assert!(matches!(world.reconcile().await, Err(ReconcileError::Apply(_))));
    assert_eq!(world.condition("Degraded")["reason"], "ApplyFailed");
}
