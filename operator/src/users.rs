//! `ChronikUser`: refused, as brokers do not authenticate clients yet. Nothing is made of one but its status, so that
//! nobody takes it for access that is restricted.

use crate::MANAGER;
use crate::reconcile::ReconcileError;
use chronik_crds::{ChronikUser, ChronikUserStatus};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// What one reconcile may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// One that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(30);
const RESYNC: Duration = Duration::from_mins(10);

const REASON: &str = "NotSupported";
const MESSAGE: &str =
    "brokers do not authenticate clients yet: nothing is made of this user, and every client may do everything";

type Guarded = DeserializeGuard<ChronikUser>;

/// Runs a loop until `stop` ends. With a namespace, nothing outside it is looked at.
pub async fn run(client: Client, namespace: Option<&str>, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let users = namespace
        .map_or_else(|| Api::all(client.clone()), |namespace| Api::<Guarded>::namespaced(client.clone(), namespace));
    let controller = Controller::new(users, watcher::Config::default()).graceful_shutdown_on(stop);
    let again = |user: Arc<Guarded>, error: &ReconcileError, _: Arc<Client>| {
        warn!(user = %user.name_any(), namespace = user.namespace(), %error, "reconcile failed");
        Action::requeue(AGAIN)
    };
    let mut results = std::pin::pin!(controller.run(reconcile, again, Arc::new(client)));
    while results.next().await.is_some() {}
}

async fn reconcile(user: Arc<Guarded>, client: Arc<Client>) -> Result<Action, ReconcileError> {
    let (namespace, name) = (user.namespace().unwrap_or_default(), user.name_any());
    let refused = tokio::time::timeout(DEADLINE, refuse(&client, &namespace, &name)).await;
    refused.unwrap_or(Err(ReconcileError::Deadline(DEADLINE)))?;
    Ok(Action::requeue(RESYNC))
}

/// Says in the status of that user that it is refused, and why.
pub async fn refuse(client: &Client, namespace: &str, name: &str) -> Result<(), ReconcileError> {
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &ApiResource::erase::<ChronikUser>(&()));
    let Some(stored) = api.get_opt(name).await.map_err(ReconcileError::Observe)? else { return Ok(()) };
    let before = serde_json::from_value::<ChronikUserStatus>(stored.data["status"].clone()).unwrap_or_default();
    let generation = stored.metadata.generation;
    if before.observed_generation == generation && !before.conditions.is_empty() {
        return Ok(());
    }
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: REASON.to_owned(),
        message: MESSAGE.to_owned(),
        observed_generation: generation,
        last_transition_time: before.conditions.first().map_or_else(now, |old| old.last_transition_time.clone()),
    };
    let status = ChronikUserStatus { conditions: vec![condition], observed_generation: generation };
    let body = json!({
        "apiVersion": ChronikUser::api_version(&()), "kind": ChronikUser::kind(&()),
        "metadata": { "uid": stored.metadata.uid, "resourceVersion": stored.metadata.resource_version },
        "status": status,
    });
    let manager = PatchParams::apply(MANAGER).force();
    api.patch_status(name, &manager, &Patch::Apply(&body)).await.map(|_| ()).map_err(ReconcileError::Status)
}

/// In whole seconds, which is what Kubernetes keeps.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
