//! The loop around the reconciles of topics.

use super::TopicReconciler;
use crate::attempts::{self, Attempts, Due, TIDY, api, drain};
use crate::reconcile::ReconcileError;
use chronik_crds::{ChronikCluster, ChronikTopic};
use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So many topics are reconciled at once. Of a topic that is new, all resources of its namespace are read, and brokers and the
/// API server have clusters to answer for too: topics are many, and wait better than these.
const CONCURRENCY: u16 = 16;
/// What one reconcile may take.
const DEADLINE: Duration = Duration::from_mins(1);

type Guarded = DeserializeGuard<ChronikTopic>;

struct Context {
    reconciler: TopicReconciler,
    attempts: Attempts<Guarded>,
}

/// Runs a loop until `stop` ends. With a namespace, nothing outside it is looked at.
pub async fn run(
    reconciler: TopicReconciler,
    namespace: Option<&str>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = reconciler.client.clone();
    let controller = Controller::new(api::<Guarded>(&client, namespace), watcher::Config::default())
        .with_config(attempts::config(CONCURRENCY));
    let topics = controller.store();
    let known = topics.clone();
    let clusters = Clusters::default();
    let gone = gone(api(&client, namespace), clusters.clone());
    let of_cluster = move |cluster: DeserializeGuard<ChronikCluster>| {
        if clusters.is_news(&cluster) { topics_of(&topics, &cluster) } else { Vec::new() }
    };
    let controller = controller
        .watches(api::<DeserializeGuard<ChronikCluster>>(&client, namespace), watcher::Config::default(), of_cluster)
        .reconcile_all_on(gone)
        .graceful_shutdown_on(stop);
    let attempts = Attempts::new(reconciler.metrics.clone(), DEADLINE);
    let context = Arc::new(Context { reconciler, attempts });
    let retry = |topic: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>| {
        Action::requeue(context.attempts.failed(&topic, error))
    };
    let name = format!("topics of {}", namespace.unwrap_or("all"));
    let tidy = async {
        loop {
            context.attempts.tidy(&known, &name);
            tokio::time::sleep(TIDY).await;
        }
    };
    tokio::select! {
        () = drain(controller.run(reconcile, retry, Arc::clone(&context))) => {}
        () = tidy => {}
    }
}

/// What of a cluster its topics depend on. Its status says more, and changes far more often.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gist {
    leaving: bool,
    paused: bool,
    operator: Option<String>,
    /// Whether there is a broker to ask.
    serves: bool,
}

impl Gist {
    fn of(cluster: &DeserializeGuard<ChronikCluster>) -> Self {
        let read = cluster.0.as_ref().ok();
        let status = read.and_then(|cluster| cluster.status.as_ref());
        Self {
            leaving: cluster.meta().deletion_timestamp.is_some(),
            paused: read.is_some_and(|cluster| cluster.spec.paused),
            operator: status.and_then(|status| status.operator.clone()),
            serves: status.is_some_and(|status| status.ready_replicas > 0),
        }
    }
}

/// The clusters that there are, by namespace and name, as topics were looked at for them last. All clones are one.
#[derive(Clone, Default)]
struct Clusters(Arc<Mutex<Gists>>);

/// Of each cluster, by namespace and name.
type Gists = BTreeMap<(Option<String>, String), Gist>;

impl Clusters {
    /// Whether topics depend on what has changed.
    fn is_news(&self, cluster: &DeserializeGuard<ChronikCluster>) -> bool {
        let gist = Gist::of(cluster);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((cluster.namespace(), cluster.name_any()), gist.clone()) != Some(gist)
    }

    fn forget(&self, cluster: &DeserializeGuard<ChronikCluster>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(cluster.namespace(), cluster.name_any()));
    }
}

/// Says each time that a cluster is gone: what it was last may be what it was before.
fn gone(api: Api<DeserializeGuard<ChronikCluster>>, clusters: Clusters) -> impl Stream<Item = ()> {
    let events = watcher(api, watcher::Config::default()).default_backoff();
    events.filter_map(move |event| {
        let gone = match event {
            Ok(watcher::Event::Delete(cluster)) => {
                clusters.forget(&cluster);
                Some(())
            }
            _ => None,
        };
        std::future::ready(gone)
    })
}

/// The topics of a cluster that has changed.
fn topics_of(topics: &Store<Guarded>, cluster: &DeserializeGuard<ChronikCluster>) -> Vec<ObjectRef<Guarded>> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace());
    let of_it = |topic: &Arc<Guarded>| {
        topic.namespace() == namespace && topic.0.as_ref().is_ok_and(|topic| topic.spec.cluster == name)
    };
    topics.state().into_iter().filter(of_it).map(|topic| ObjectRef::from_obj(&*topic)).collect()
}

async fn reconcile(topic: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if let Due::In(wait) = context.attempts.due(&topic) {
        return Ok(Action::requeue(wait));
    }
    let (name, namespace) = (topic.name_any(), topic.namespace().unwrap_or_default());
    let again = context.attempts.attempt(&topic, context.reconciler.reconcile(&namespace, &name)).await;
    again.map(Action::requeue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn topics_are_looked_at_for_what_they_depend_on_and_for_no_other_report_of_their_cluster() {
        let clusters = Clusters::default();
        let seen = |paused: bool, status: &Value| {
            let cluster = json!({
                "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
                "metadata": { "name": "demo", "namespace": "default" },
                "spec": { "replicas": 3, "paused": paused, "storage": { "size": "1Gi" } }, "status": status
            });
            serde_json::from_value::<DeserializeGuard<ChronikCluster>>(cluster).unwrap()
        };
        let none = seen(false, &json!({}));
        for (what, cluster, news) in [
            ("it is new", none.clone(), true),
            ("nothing", none.clone(), false),
            ("a plan", seen(false, &json!({ "plan": { "action": "a", "reason": "r", "message": "m" } })), false),
            ("a broker serves", seen(false, &json!({ "readyReplicas": 1 })), true),
            ("another one does", seen(false, &json!({ "readyReplicas": 2 })), false),
            ("its operator", seen(false, &json!({ "readyReplicas": 2, "operator": "a/b" })), true),
            ("it is paused", seen(true, &json!({ "readyReplicas": 2, "operator": "a/b" })), true),
        ] {
            assert_eq!(clusters.is_news(&cluster), news, "{what}");
        }
        assert!(clusters.is_news(&none));
        clusters.forget(&none);
        assert!(clusters.is_news(&none), "one that was made again");
    }
}
