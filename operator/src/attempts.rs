//! What the loops around reconciles have in common: how many run at once, what one may take, and when a failed one is tried
//! again, whatever wakes it meanwhile.

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::reconcile::ReconcileError;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{Config, Error};
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How often those that fail are counted, and what is known of those that are gone is forgotten: of an object that is gone
/// there is no reconcile.
pub(crate) const TIDY: Duration = Duration::from_secs(5);
/// Several changes at once are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// An object that is on its way out, gone, or another operator's is not looked at again before this.
const RESYNC: Duration = Duration::from_mins(10);

/// How loops run that reconcile so many objects at once.
pub(crate) fn config(concurrency: u16) -> Config {
    Config::default().concurrency(concurrency).debounce(DEBOUNCE)
}

/// All objects of a kind, or those of a namespace.
pub(crate) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Runs a loop until it ends.
pub(crate) async fn drain<T>(results: impl Stream<Item = Result<T, Error<ReconcileError, watcher::Error>>>) {
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

/// What is to be done with an object that a loop was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing has failed.
    Now,
    /// It failed when it was tried last, and is to be tried again now.
    Again,
    /// It failed, and is not to be tried before this has passed.
    In(Duration),
}

/// The attempts at the objects of one kind.
pub(crate) struct Attempts<K: Lookup> {
    backoff: Mutex<Backoff<ObjectRef<K>>>,
    metrics: Metrics,
    deadline: Duration,
}

impl<K> Attempts<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Of which one may take so long.
    pub(crate) fn new(metrics: Metrics, deadline: Duration) -> Self {
        Self { backoff: Mutex::default(), metrics, deadline }
    }

    /// Whether the object, as it is now, is to be tried.
    pub(crate) fn due(&self, object: &K) -> Due {
        let key = ObjectRef::from_obj(object);
        let backoff = self.lock();
        match backoff.holds(&key, object.meta().generation, Instant::now()) {
            Some(wait) => Due::In(wait),
            None if backoff.failed_last(&key) => Due::Again,
            None => Due::Now,
        }
    }

    /// One attempt. Returns how soon to look at the object again although nothing changes.
    pub(crate) async fn attempt(
        &self,
        object: &K,
        reconcile: impl Future<Output = Result<Option<Duration>, ReconcileError>>,
    ) -> Result<Duration, ReconcileError> {
        let started = Instant::now();
        let reconciled = tokio::time::timeout(self.deadline, reconcile).await;
        let result = reconciled.unwrap_or(Err(ReconcileError::Deadline(self.deadline)));
        self.metrics.reconciled(result.is_ok(), started.elapsed());
        let again = result?;
        self.lock().forget(&ObjectRef::from_obj(object));
        Ok(again.unwrap_or(RESYNC))
    }

    /// An attempt failed: how soon to try again.
    pub(crate) fn failed(&self, object: &K, error: &ReconcileError) -> Duration {
        let (key, generation) = (ObjectRef::from_obj(object), object.meta().generation);
        let wait = self.lock().failed(key, generation, Instant::now(), &mut rand::rng());
        let (kind, name, namespace) = (<K as Resource>::kind(&()), object.name_any(), ResourceExt::namespace(object));
        warn!(%kind, %name, namespace, %error, retry_in = ?wait, "reconcile failed");
        wait
    }

    /// Counts those that fail under this name, and forgets those that are gone.
    pub(crate) fn tidy(&self, there: &Store<K>, name: &str) {
        let failing = {
            let mut backoff = self.lock();
            backoff.retain(|object| there.get(object).is_some());
            backoff.failing()
        };
        self.metrics.failing(name, failing);
    }

    /// A panic elsewhere leaves counts that are as good as any.
    fn lock(&self) -> MutexGuard<'_, Backoff<ObjectRef<K>>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_crds::ChronikCluster;
    use kube::core::DeserializeGuard;
    use serde_json::json;

    fn object(generation: i64) -> DeserializeGuard<ChronikCluster> {
        serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster", "spec": {},
            "metadata": { "name": "demo", "namespace": "default", "generation": generation }
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn what_failed_is_held_until_it_is_due_or_another_and_that_it_failed_is_known_until_it_succeeds() {
        let attempts = Attempts::new(Metrics::default(), Duration::from_secs(30));
        assert_eq!(attempts.due(&object(1)), Due::Now);
        let error = ReconcileError::Deadline(Duration::ZERO);
        let outcome = attempts.attempt(&object(1), async { Err(ReconcileError::Deadline(Duration::ZERO)) }).await;
        assert!(outcome.is_err());
        attempts.failed(&object(1), &error);
        assert!(matches!(attempts.due(&object(1)), Due::In(_)));
        assert_eq!(attempts.due(&object(2)), Due::Again, "another spec is tried at once");
        assert_eq!(attempts.attempt(&object(2), async { Ok(None) }).await.unwrap(), RESYNC);
        assert_eq!(attempts.due(&object(1)), Due::Now);
    }
}
