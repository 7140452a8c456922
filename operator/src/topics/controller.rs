//! The loop around the reconciles of topics.

use super::TopicReconciler;
use crate::backoff::Backoff;
use crate::reconcile::ReconcileError;
use chronik_crds::{ChronikCluster, ChronikTopic};
use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// So many topics are reconciled at once.
const CONCURRENCY: u16 = 8;
/// Several changes at once are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often those that fail are counted.
const TIDY: Duration = Duration::from_secs(5);
/// What one reconcile may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// A topic that is gone, or another operator's, is not looked at again before this.
const RESYNC: Duration = Duration::from_mins(10);

type Guarded = DeserializeGuard<ChronikTopic>;

struct Context {
    reconciler: TopicReconciler,
    backoff: Mutex<Backoff<ObjectRef<Guarded>>>,
}

/// Runs a loop until `stop` ends. With a namespace, nothing outside it is looked at.
pub async fn run(
    reconciler: TopicReconciler,
    namespace: Option<&str>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = reconciler.client.clone();
    let controller = Controller::new(api::<Guarded>(&client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE));
    let topics = controller.store();
    let known = topics.clone();
    let of_cluster = move |cluster: DeserializeGuard<ChronikCluster>| topics_of(&topics, &cluster);
    let controller = controller
        .watches(api::<DeserializeGuard<ChronikCluster>>(&client, namespace), watcher::Config::default(), of_cluster)
        .graceful_shutdown_on(stop);
    let context = Arc::new(Context { reconciler, backoff: Mutex::default() });
    let retry = |topic: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>| retry(&topic, error, &context);
    let mut results = std::pin::pin!(controller.run(reconcile, retry, Arc::clone(&context)));
    let drain = async {
        while let Some(result) = results.next().await {
            match result {
                Err(Error::QueueError(error)) => warn!(%error, "a watch was interrupted"),
                Err(error) => debug!(%error, "reconcile ended with an error"),
                Ok(_) => {}
            }
        }
    };
    let name = format!("topics of {}", namespace.unwrap_or("all"));
    tokio::select! {
        () = drain => {}
        () = tidy(&context, &known, &name) => {}
    }
}

/// Counts those that fail, and forgets those that are gone.
async fn tidy(context: &Context, topics: &Store<Guarded>, name: &str) {
    loop {
        let failing = {
            let mut backoff = lock(&context.backoff);
            backoff.retain(|topic| topics.get(topic).is_some());
            backoff.failing()
        };
        context.reconciler.metrics.failing(name, failing);
        tokio::time::sleep(TIDY).await;
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
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
    let (started, key) = (Instant::now(), ObjectRef::from_obj(&*topic));
    if let Some(wait) = lock(&context.backoff).holds(&key, topic.meta().generation, started) {
        return Ok(Action::requeue(wait));
    }
    let (name, namespace) = (topic.name_any(), topic.namespace().unwrap_or_default());
    let reconciled = tokio::time::timeout(DEADLINE, context.reconciler.reconcile(&namespace, &name)).await;
    let result = reconciled.unwrap_or(Err(ReconcileError::Deadline(DEADLINE)));
    context.reconciler.metrics.reconciled(result.is_ok(), started.elapsed());
    let again = result?;
    lock(&context.backoff).forget(&key);
    Ok(Action::requeue(again.unwrap_or(RESYNC)))
}

fn retry(topic: &Guarded, error: &ReconcileError, context: &Context) -> Action {
    let (key, generation) = (ObjectRef::from_obj(topic), topic.meta().generation);
    let wait = lock(&context.backoff).failed(key, generation, Instant::now(), &mut rand::rng());
    warn!(topic = %topic.name_any(), namespace = topic.namespace(), %error, retry_in = ?wait, "reconcile failed");
    Action::requeue(wait)
}

/// A panic elsewhere leaves counts that are as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
