//! What was announced is withdrawn once Kubernetes lists the pod itself, whatever became of its cluster meanwhile, and
//! after a minute in any case. What belongs to a pod that is gone goes with it, by its owner reference.

use super::slices::{self, superseded};
use crate::controller::{api, drain};
use crate::metrics::Metrics;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// How soon to look again at first; later, after as long as it has been waited for already.
const SOON: Duration = Duration::from_secs(1);
/// By then Kubernetes has told the address, or never will.
const LATE: Duration = Duration::from_mins(1);

struct Context {
    client: Client,
    metrics: Metrics,
}

/// Watches what was announced, until the process ends. With a namespace, nothing outside it is looked at.
pub async fn withdraw(client: Client, namespace: Option<&str>, metrics: Metrics) {
    let announced = watcher::Config::default().labels(&slices::announced());
    let controller = Controller::new(api::<EndpointSlice>(&client, namespace), announced);
    let look_again = |slice: Arc<EndpointSlice>, error: &kube::Error, _| {
        warn!(slice = %slice.name_any(), namespace = slice.namespace(), %error, "cannot withdraw an announcement");
        Action::requeue(age(&slice))
    };
    drain(controller.run(look, look_again, Arc::new(Context { client, metrics }))).await;
}

async fn look(slice: Arc<EndpointSlice>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let api = Api::<EndpointSlice>::namespaced(context.client.clone(), &slice.namespace().unwrap_or_default());
    let of_service = ListParams::default().labels(&slices::of_same_service(&slice));
    if age(&slice) < LATE && !superseded(&slice, &api.list(&of_service).await?.items) {
        return Ok(Action::requeue(age(&slice)));
    }
    context.metrics.wrote();
    let as_seen = Preconditions { uid: slice.uid(), resource_version: slice.resource_version() };
    match api.delete(&slice.name_any(), &DeleteParams::default().preconditions(as_seen)).await {
        // It is gone, or another pod's by now, of which the watch tells.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        done => {
            done?;
            debug!(slice = %slice.name_any(), namespace = slice.namespace(), "an announcement was withdrawn");
        }
    }
    Ok(Action::await_change())
}

/// For how long it has been waited, within bounds.
fn age(slice: &EndpointSlice) -> Duration {
    let made = slice.metadata.creation_timestamp.as_ref();
    let age = made.and_then(|made| Duration::try_from(Timestamp::now() - made.0).ok());
    age.unwrap_or_default().clamp(SOON, LATE)
}
