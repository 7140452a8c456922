//! The loop around the reconciles: what wakes it, how many run at once, and when a failed one is tried again.

use crate::MANAGER;
use crate::backoff::Backoff;
use crate::pulse::{Pulse, STUCK_AFTER};
use crate::reconcile::build::CLUSTER_LABEL;
use crate::reconcile::{ReconcileError, Reconciler};
use chronik_crds::ChronikCluster;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// So many clusters are reconciled at once.
const CONCURRENCY: u16 = 8;
/// Several changes at once are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often clusters are counted, and what is known of those that are gone is forgotten: of an object that is gone
/// there is no reconcile.
const TIDY: Duration = Duration::from_secs(5);
/// What one reconcile may take: a connection that is half open answers never.
const DEADLINE: Duration = Duration::from_secs(30);
/// A cluster that is on its way out, or gone, is not looked at again before this.
const RESYNC: Duration = Duration::from_mins(10);

type Guarded = DeserializeGuard<ChronikCluster>;

struct Context {
    reconciler: Reconciler,
    clusters: Store<Guarded>,
    backoff: Mutex<Backoff<ObjectRef<Guarded>>>,
    pulse: Pulse,
    /// The name of this loop: its namespace's.
    name: String,
    /// The namespace that it looks at; `None` for all.
    namespace: Option<String>,
}

/// Runs a loop until `stop` ends. With a namespace, nothing outside it is looked at.
pub async fn run(
    reconciler: Reconciler,
    namespace: Option<&str>,
    pulse: Pulse,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (client, name) = (reconciler.client.clone(), namespace.unwrap_or("all").to_owned());
    let controller = Controller::new(api::<Guarded>(&client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns(api::<StatefulSet>(&client, namespace), managed())
        .owns(api::<Service>(&client, namespace), managed())
        .owns(api::<ConfigMap>(&client, namespace), managed())
        .owns(api::<ServiceAccount>(&client, namespace), managed())
        .owns(api::<PodDisruptionBudget>(&client, namespace), managed())
        .owns(api::<NetworkPolicy>(&client, namespace), managed())
        .watches(api::<Pod>(&client, namespace), managed(), |pod: Pod| cluster_of(&pod))
        .graceful_shutdown_on(stop);
    let namespace = namespace.map(str::to_owned);
    let context = Arc::new(Context {
        reconciler,
        clusters: controller.store(),
        backoff: Mutex::default(),
        pulse,
        name,
        namespace,
    });
    let retry = |cluster: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>| retry(&cluster, error, &context);
    tokio::select! {
        () = drain(controller.run(reconcile, retry, Arc::clone(&context))) => {}
        () = tidy(&context) => {}
    }
}

async fn tidy(context: &Context) {
    loop {
        let clusters = context.clusters.len();
        context.reconciler.metrics.clusters(&context.name, clusters);
        context.pulse.expect(&context.name, Instant::now(), (clusters > 0).then_some(STUCK_AFTER));
        let namespace = context.namespace.as_deref();
        context.reconciler.metrics.forget(namespace, |namespace, name| {
            context.clusters.get(&ObjectRef::new(name).within(namespace)).is_some()
        });
        let failing = {
            let mut backoff = lock(&context.backoff);
            backoff.retain(|cluster| context.clusters.get(cluster).is_some());
            backoff.failing()
        };
        context.reconciler.metrics.failing(&format!("clusters of {}", context.name), failing);
        tokio::time::sleep(TIDY).await;
    }
}

/// Runs the controller until it ends.
async fn drain<T>(results: impl Stream<Item = Result<T, Error<ReconcileError, watcher::Error>>>) {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            // Watches begin anew by themselves, after a while.
            Err(Error::QueueError(error)) => warn!(%error, "a watch was interrupted"),
            // A failed reconcile has been logged where it failed; an object that is gone needs none.
            Err(error) => debug!(%error, "reconcile ended with an error"),
            Ok(_) => {}
        }
    }
}

/// All objects of a kind, or those of a namespace.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"))
}

fn cluster_of(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile(cluster: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (started, key) = (Instant::now(), ObjectRef::from_obj(&*cluster));
    if let Some(wait) = lock(&context.backoff).holds(&key, cluster.meta().generation, started) {
        return Ok(Action::requeue(wait));
    }
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let reconciled = tokio::time::timeout(DEADLINE, context.reconciler.reconcile(&namespace, &name)).await;
    let result = reconciled.unwrap_or(Err(ReconcileError::Deadline(DEADLINE)));
    context.reconciler.metrics.reconciled(result.is_ok(), started.elapsed());
    context.pulse.beat(&context.name, Instant::now(), Some(STUCK_AFTER));
    let again = result?;
    lock(&context.backoff).forget(&key);
    Ok(Action::requeue(again.unwrap_or(RESYNC)))
}

fn retry(cluster: &Guarded, error: &ReconcileError, context: &Context) -> Action {
    let (key, generation) = (ObjectRef::from_obj(cluster), cluster.meta().generation);
    let wait = lock(&context.backoff).failed(key, generation, Instant::now(), &mut rand::rng());
    warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, retry_in = ?wait, "reconcile failed");
    Action::requeue(wait)
}

/// A panic elsewhere leaves counts that are as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
