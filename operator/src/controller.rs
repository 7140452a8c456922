//! The loop around the reconciles of clusters: what wakes it, and what is done between two attempts of which the first has
//! failed.

use crate::MANAGER;
use crate::attempts::{self, Attempts, Due, TIDY, api, drain};
use crate::pulse::{Pulse, STUCK_AFTER};
use crate::reconcile::build::CLUSTER_LABEL;
use crate::reconcile::{DEADLINE, ReconcileError, Reconciler};
use chronik_crds::ChronikCluster;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// So many clusters are reconciled at once. Nearly all of it is waiting: with fewer, some clusters whose brokers do not answer
/// would be waited for by all others. What one holds meanwhile is what was read of it, some 100 kB.
const CONCURRENCY: u16 = 64;

/// How often the budget of disruptions is brought to what is so, of a cluster whose reconcile fails: however long that is
/// not tried again.
const GUARD: Duration = Duration::from_secs(5);

type Guarded = DeserializeGuard<ChronikCluster>;

struct Context {
    reconciler: Reconciler,
    clusters: Store<Guarded>,
    attempts: Attempts<Guarded>,
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
        .with_config(attempts::config(CONCURRENCY))
        .owns(api::<StatefulSet>(&client, namespace), managed())
        .owns(api::<Service>(&client, namespace), managed())
        .owns(api::<ConfigMap>(&client, namespace), managed())
        .owns(api::<ServiceAccount>(&client, namespace), managed())
        .owns(api::<PodDisruptionBudget>(&client, namespace), managed())
        .owns(api::<NetworkPolicy>(&client, namespace), managed())
        .watches(api::<Pod>(&client, namespace), managed(), |pod: Pod| cluster_of(&pod))
        .graceful_shutdown_on(stop);
    let namespace = namespace.map(str::to_owned);
    let attempts = Attempts::new(reconciler.metrics.clone(), DEADLINE);
    let context = Arc::new(Context { reconciler, clusters: controller.store(), attempts, pulse, name, namespace });
    let retry = |cluster: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>| {
        Action::requeue(context.attempts.failed(&cluster, error).min(GUARD))
    };
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
        context.attempts.tidy(&context.clusters, &format!("clusters of {}", context.name));
        tokio::time::sleep(TIDY).await;
    }
}

fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"))
}

fn cluster_of(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile(cluster: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    match context.attempts.due(&cluster) {
        Due::Now => {}
        // What failed may fail before it comes to that.
        Due::Again => context.guard(&cluster).await,
        Due::In(wait) => {
            context.guard(&cluster).await;
            return Ok(Action::requeue(wait.min(GUARD)));
        }
    }
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let reconcile = Box::pin(context.reconciler.reconcile(&namespace, &name));
    let again = context.attempts.attempt(&cluster, reconcile).await;
    context.pulse.beat(&context.name, Instant::now(), Some(STUCK_AFTER));
    again.map(Action::requeue)
}

impl Context {
    async fn guard(&self, cluster: &Guarded) {
        let guarded = tokio::time::timeout(DEADLINE, Box::pin(self.reconciler.guard(cluster.meta()))).await;
        if let Err(error) = guarded.unwrap_or(Err(ReconcileError::Deadline(DEADLINE))) {
            let (name, namespace) = (cluster.name_any(), cluster.namespace());
            debug!(cluster = %name, namespace, %error, "what a drain of nodes may take away is not certain");
        }
    }
}
