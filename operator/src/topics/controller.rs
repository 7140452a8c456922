//! The loop around the reconciles of topics.

use super::TopicReconciler;
use crate::attempts::{self, Attempts, Due, TIDY, api, drain};
use crate::reconcile::ReconcileError;
use chronik_crds::{ChronikCluster, ChronikTopic};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use std::sync::Arc;
use std::time::Duration;

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
    let controller =
        Controller::new(api::<Guarded>(&client, namespace), watcher::Config::default()).with_config(attempts::config());
    let topics = controller.store();
    let known = topics.clone();
    let of_cluster = move |cluster: DeserializeGuard<ChronikCluster>| topics_of(&topics, &cluster);
    let controller = controller
        .watches(api::<DeserializeGuard<ChronikCluster>>(&client, namespace), watcher::Config::default(), of_cluster)
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
