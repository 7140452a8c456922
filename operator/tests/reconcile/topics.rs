//! Topics, with an API server and a cluster in memory.

use crate::kafka::FakeKafka;
use crate::world::World;
use chronik_operator::events::Events;
use chronik_operator::metrics::Metrics;
use chronik_operator::topics::TopicReconciler;
use chronik_operator::users;
use serde_json::{Value, json};
use std::sync::Arc;

struct Topics {
    world: World,
    kafka: FakeKafka,
    /// Those of the one operator that acts.
    events: Events,
}

impl Topics {
    /// Three brokers that are ready, and no topic.
    async fn new() -> Self {
        let world = World::with_cluster(3);
        "one".clone_into(&mut world.brokers.state.lock().unwrap().cluster);
        world.run_until_idle().await;
        let events = Events::new(world.server.client(), "test");
        Self { world, kafka: FakeKafka::default(), events }
    }

    fn apply(&self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        spec["cluster"] = json!("demo");
        let stored = self.world.server.get("chroniktopics", name);
        let mut topic = stored.unwrap_or_else(
            || json!({ "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikTopic", "metadata": { "name": name } }),
        );
        topic["spec"] = spec;
        self.world.server.put("chroniktopics", topic);
    }

    /// Reconciles until nothing is written or changed any more.
    async fn run_until_idle(&self, name: &str) {
        let reconciler = TopicReconciler {
            client: self.world.server.client(),
            kafka: Arc::new(self.kafka.clone()),
            events: self.events.clone(),
            operator: Some(self.world.operator.clone()),
            metrics: Metrics::default(),
        };
        for _ in 0..20 {
            let before = self.kafka.state().changes.len();
            self.world.server.writes();
            reconciler.reconcile("default", name).await.unwrap();
            if self.world.server.writes().is_empty() && self.kafka.state().changes.len() == before {
                return;
            }
        }
        panic!("no end to it: {:?}", self.world.server.get("chroniktopics", name));
    }

    fn status(&self, name: &str) -> Value {
        self.world.server.get("chroniktopics", name).unwrap()["status"].clone()
    }

    fn reason(&self, name: &str) -> String {
        self.status(name)["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.kafka.state().changes)
    }

    /// Whether an Event has that reason.
    fn has_event(&self, reason: &str) -> bool {
        self.world.server.all("events").iter().any(|event| event["reason"] == reason)
    }
}

#[tokio::test]
async fn a_topic_is_created_grown_and_configured_and_then_left_alone() {
    let topics = Topics::new().await;
    topics.apply("orders", &json!({ "partitions": 3, "config": { "retention.ms": 5 } }));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), ["create orders"]);
    assert_eq!(topics.reason("orders"), "AsSpecified");
    let status = topics.status("orders");
    assert_eq!((&status["partitions"], &status["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["managedConfig"], json!(["retention.ms"]));
    topics.apply("orders", &json!({ "partitions": 6, "config": { "retention.ms": 7, "cleanup.policy": "compact" } }));
    topics.run_until_idle("orders").await;
    let expected = ["grow orders to 6", "orders: set cleanup.policy to compact, set retention.ms to 7"];
    assert_eq!(topics.changes(), expected);
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), Vec::<String>::new());
    assert_eq!(topics.kafka.state().clusters, [Some("one".to_owned())].into());
}

#[tokio::test]
async fn a_topic_that_exists_is_adopted_and_what_its_resource_never_named_is_left_as_it_is() {
    let topics = Topics::new().await;
    topics.kafka.make("orders", 4);
    topics.kafka.state().topics.get_mut("orders").unwrap().configs.insert("retention.ms".into(), "9".into());
    topics.apply("orders", &json!({}));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), Vec::<String>::new());
    let status = topics.status("orders");
    assert_eq!((&status["partitions"], &status["otherConfig"]), (&json!(4), &json!(["retention.ms"])));
    assert_eq!(topics.reason("orders"), "AsSpecified");
}

#[tokio::test]
async fn what_somebody_else_changes_is_corrected_and_reported_and_what_is_taken_out_of_the_spec_is_reset() {
    let topics = Topics::new().await;
    topics.apply("orders", &json!({ "config": { "retention.ms": 5 } }));
    topics.run_until_idle("orders").await;
    topics.changes();
    topics.kafka.state().topics.get_mut("orders").unwrap().configs.insert("retention.ms".into(), "9".into());
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), ["orders: set retention.ms to 5"]);
    assert!(topics.has_event("DriftCorrected"));
    topics.apply("orders", &json!({}));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), ["orders: reset retention.ms"]);
    assert_eq!(topics.status("orders")["managedConfig"], Value::Null);
    topics.kafka.state().topics.remove("orders");
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), ["create orders"]);
    assert!(topics.has_event("TopicRecreated"));
}

#[tokio::test]
async fn a_topic_with_more_partitions_than_its_spec_says_keeps_them_and_it_is_said() {
    let topics = Topics::new().await;
    topics.kafka.make("orders", 4);
    topics.apply("orders", &json!({ "partitions": 3 }));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.changes(), Vec::<String>::new());
    assert_eq!(topics.reason("orders"), "MorePartitions");
    assert!(topics.has_event("MorePartitions"));
}

#[tokio::test]
async fn a_topic_stays_when_its_resource_goes_unless_its_policy_says_otherwise() {
    let topics = Topics::new().await;
    topics.apply("kept", &json!({}));
    topics.apply("gone", &json!({ "deletionPolicy": "Delete" }));
    for name in ["kept", "gone"] {
        topics.run_until_idle(name).await;
        topics.world.server.delete_as_somebody("chroniktopics", name);
    }
    topics.changes();
    for name in ["kept", "gone"] {
        topics.run_until_idle(name).await;
        assert_eq!(topics.world.server.get("chroniktopics", name), None, "{name}");
    }
    assert_eq!(topics.changes(), ["delete"]);
    assert_eq!(topics.kafka.state().topics.keys().collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_goes_when_it_is_deleted_and_its_topic_stays() {
    let topics = Topics::new().await;
    topics.apply("orders", &json!({ "deletionPolicy": "Delete" }));
    topics.run_until_idle("orders").await;
    topics.apply("orders", &json!({ "deletionPolicy": "Delete", "partitions": "many" }));
    topics.run_until_idle("orders").await;
    topics.world.server.delete_as_somebody("chroniktopics", "orders");
    topics.run_until_idle("orders").await;
    assert_eq!(topics.world.server.get("chroniktopics", "orders"), None);
    assert_eq!(topics.changes(), ["create orders"]);
}

#[tokio::test]
async fn a_topic_is_not_taken_for_deleted_while_no_broker_answers_and_goes_with_its_cluster() {
    let topics = Topics::new().await;
    topics.apply("orders", &json!({ "deletionPolicy": "Delete" }));
    topics.run_until_idle("orders").await;
    topics.kafka.state().silent = Some("no broker".to_owned());
    topics.world.server.delete_as_somebody("chroniktopics", "orders");
    topics.run_until_idle("orders").await;
    assert_eq!(topics.reason("orders"), "BrokersUnknown");
    topics.world.server.remove("chronikclusters", "demo");
    topics.run_until_idle("orders").await;
    assert_eq!(topics.world.server.get("chroniktopics", "orders"), None);
}

#[tokio::test]
async fn of_two_resources_for_one_topic_the_second_is_refused() {
    let topics = Topics::new().await;
    topics.apply("orders", &json!({ "partitions": 3 }));
    topics.run_until_idle("orders").await;
    topics.apply("again", &json!({ "topicName": "orders", "partitions": 9, "deletionPolicy": "Delete" }));
    topics.run_until_idle("again").await;
    assert_eq!(topics.reason("again"), "TopicTaken");
    topics.world.server.delete_as_somebody("chroniktopics", "again");
    topics.run_until_idle("again").await;
    assert_eq!(topics.changes(), ["create orders"]);
}

#[tokio::test]
async fn what_brokers_refuse_is_said_in_their_words() {
    let topics = Topics::new().await;
    topics.kafka.state().refuse = Some("retention.ms=x is not a number".to_owned());
    topics.apply("orders", &json!({ "config": { "retention.ms": "x" } }));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.reason("orders"), "BrokersRefuse");
    let message = topics.status("orders")["conditions"][0]["message"].clone();
    assert_eq!(message, "create the topic: retention.ms=x is not a number");
}

#[tokio::test]
async fn topics_of_a_cluster_that_is_paused_or_another_operators_are_left_alone() {
    let mut topics = Topics::new().await;
    topics.world.change_spec(|spec| spec["paused"] = json!(true));
    topics.apply("orders", &json!({}));
    topics.run_until_idle("orders").await;
    assert_eq!(topics.reason("orders"), "Paused");
    topics.world.change_spec(|spec| spec["paused"] = json!(false));
    topics.world.operator = "another/operator".to_owned();
    for _ in 0..2 {
        topics.run_until_idle("orders").await;
        assert_eq!((topics.changes(), topics.reason("orders")), (Vec::new(), "Paused".to_owned()));
        let events = topics.world.server.all("events");
        let said =
            events.iter().filter(|event| event["reason"] == "OtherOperator" && event["regarding"]["name"] == "orders");
        assert_eq!(said.count(), 1, "what lasts is said once");
    }
}

#[tokio::test]
async fn a_user_is_refused_with_a_reason() {
    let world = World::with_cluster(3);
    let user = json!({ "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikUser", "metadata": { "name": "alice" },
                       "spec": { "cluster": "demo", "authentication": { "type": "tls" } } });
    world.server.put("chronikusers", user);
    users::refuse(&world.server.client(), "default", "alice").await.unwrap();
    let condition = world.server.get("chronikusers", "alice").unwrap()["status"]["conditions"][0].clone();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("NotSupported")));
    world.server.writes();
    users::refuse(&world.server.client(), "default", "alice").await.unwrap();
    assert_eq!(world.server.writes(), Vec::<String>::new());
}
