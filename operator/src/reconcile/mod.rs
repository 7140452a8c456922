//! One reconcile: dereference → validate → build → apply, and the report of it. What an earlier one left behind and
//! nothing needs any more is garbage.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod garbage;
pub mod validate;

use crate::MANAGER;
use crate::metrics::Metrics;
use crate::status::{self, Attempt};
use apply::{ApplyError, Outcome};
use chronik_crds::{ChronikCluster, ChronikClusterSpec, ChronikClusterStatus, Storage};
use dereference::Observed;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::{info, warn};
use validate::Cluster;

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What there is could not be read.
    #[error("cannot read the cluster's objects: {0}")]
    Dereference(#[source] kube::Error),
    /// What there should be could not be written.
    #[error("cannot apply {0}")]
    Apply(#[from] ApplyError),
    /// The objects could not be put into words.
    #[error("cannot encode the cluster's objects: {0}")]
    Encode(#[from] serde_json::Error),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    Status(#[source] kube::Error),
}

/// What reconciles work with.
#[derive(Clone)]
pub struct Reconciler {
    /// The API server.
    pub client: Client,
    /// Where events go.
    pub events: Recorder,
    /// The image for clusters that do not name theirs.
    pub default_image: String,
    /// What is counted.
    pub metrics: Metrics,
}

impl Reconciler {
    /// Makes one cluster what its spec says, as far as that can be done now. Returns how soon to look again although
    /// nothing changes.
    pub async fn reconcile(&self, cluster: &ChronikCluster) -> Result<Option<Duration>, ReconcileError> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let observed =
            dereference::dereference(&self.client, &namespace, &name).await.map_err(ReconcileError::Dereference)?;
        // A cluster keeps the image that it was created with until its spec names one.
        let image = observed.image.as_deref().unwrap_or(&self.default_image);
        match validate::validate(cluster, image) {
            Ok(valid) => {
                let applied = self.apply(cluster, &valid, &observed).await;
                let attempt = match &applied {
                    Ok(false) => Attempt::Applied,
                    // What was written wakes the next reconcile.
                    Ok(true) => Attempt::Written,
                    Err(error) => Attempt::Failed(error.to_string()),
                };
                let again = self.report(cluster, &observed, &attempt).await?;
                applied.map(|_| again)
            }
            Err(invalid) => self.report(cluster, &observed, &Attempt::Refused(invalid.to_string())).await,
        }
    }

    /// Reports a resource that could not even be read.
    pub async fn refuse(&self, metadata: &ObjectMeta, error: &str) -> Result<Option<Duration>, ReconcileError> {
        let (name, namespace) = (metadata.name.clone().unwrap_or_default(), metadata.namespace.clone());
        let resource = ApiResource::erase::<ChronikCluster>(&());
        let api = Api::<DynamicObject>::namespaced_with(
            self.client.clone(),
            &namespace.clone().unwrap_or_default(),
            &resource,
        );
        let Some(stored) = api.get_opt(&name).await.map_err(ReconcileError::Dereference)? else { return Ok(None) };
        let observed = dereference::dereference(&self.client, &namespace.unwrap_or_default(), &name)
            .await
            .map_err(ReconcileError::Dereference)?;
        let mut cluster = ChronikCluster::new(&name, unreadable_spec(&observed));
        cluster.metadata = stored.metadata;
        cluster.status = serde_json::from_value(stored.data["status"].clone()).ok();
        self.report(&cluster, &observed, &Attempt::Refused(format!("the resource cannot be read: {error}"))).await
    }

    /// Returns whether an object was written.
    async fn apply(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
    ) -> Result<bool, ReconcileError> {
        let wanted = build::build(valid)?;
        let mut wrote = false;
        for desired in &wanted {
            let outcome = apply::apply(&self.client, &valid.namespace, desired).await?;
            if outcome != Outcome::Unchanged {
                wrote = true;
                self.tell(cluster, &desired.resource, desired.object.name_any(), outcome).await;
            }
        }
        for name in garbage::collect(&self.client, valid, observed, &wanted).await? {
            self.tell(cluster, &ApiResource::erase::<ConfigMap>(&()), name, Outcome::Deleted).await;
        }
        Ok(wrote)
    }

    /// Counts and tells what was done to an object.
    async fn tell(&self, cluster: &ChronikCluster, resource: &ApiResource, name: String, outcome: Outcome) {
        let (kind, namespace) = (&resource.kind, cluster.namespace().unwrap_or_default());
        self.metrics.wrote();
        info!(cluster = %cluster.name_any(), %namespace, %kind, object = %name, ?outcome, "applied");
        let event = Event {
            type_: EventType::Normal,
            reason: format!("{outcome:?}"),
            note: Some(format!("{outcome:?} {kind} {name}")),
            action: "Apply".to_owned(),
            secondary: Some(ObjectReference {
                api_version: Some(resource.api_version.clone()),
                kind: Some(kind.clone()),
                namespace: Some(namespace),
                name: Some(name),
                ..ObjectReference::default()
            }),
        };
        self.publish(cluster, &event).await;
    }

    async fn report(
        &self,
        cluster: &ChronikCluster,
        observed: &Observed,
        attempt: &Attempt,
    ) -> Result<Option<Duration>, ReconcileError> {
        let before = cluster.status.clone().unwrap_or_default();
        let after = status::report(cluster, &before, observed, attempt, Timestamp::now());
        let again = status::changes_after(&after);
        if after == before {
            return Ok(again);
        }
        self.write_status(cluster, &after).await?;
        for change in status::changes(&before, &after) {
            let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
            let (condition, reason, message) = (&change.type_, &change.reason, &change.message);
            let kind = if status::is_trouble(change) { EventType::Warning } else { EventType::Normal };
            if kind == EventType::Warning {
                warn!(cluster = %name, %namespace, %condition, status = %change.status, %reason, %message, "state changed");
            } else {
                info!(cluster = %name, %namespace, %condition, status = %change.status, %reason, %message, "state changed");
            }
            let event = Event {
                type_: kind,
                reason: reason.clone(),
                // Events hold 1 kB.
                note: Some(message.chars().take(250).collect()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            self.publish(cluster, &event).await;
        }
        Ok(again)
    }

    async fn write_status(
        &self,
        cluster: &ChronikCluster,
        status: &ChronikClusterStatus,
    ) -> Result<(), ReconcileError> {
        let body = serde_json::json!({
            "apiVersion": ChronikCluster::api_version(&()),
            "kind": ChronikCluster::kind(&()),
            "status": status,
        });
        let manager = PatchParams::apply(MANAGER).force();
        self.metrics.wrote();
        // The answer is not read: a resource whose spec cannot be read is reported on all the same.
        let resource = ApiResource::erase::<ChronikCluster>(&());
        let namespace = cluster.namespace().unwrap_or_default();
        Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &resource)
            .patch_status(&cluster.name_any(), &manager, &Patch::Apply(&body))
            .await
            .map(|_| ())
            .map_err(ReconcileError::Status)
    }

    /// An event that cannot be published changes nothing else.
    async fn publish(&self, cluster: &ChronikCluster, event: &Event) {
        if let Err(error) = self.events.publish(event, &cluster.object_ref(&())).await {
            warn!(cluster = %cluster.name_any(), %error, "cannot publish an event");
        }
    }
}

/// Stands for a spec that cannot be read, in a report: it asks for the brokers that there are.
fn unreadable_spec(observed: &Observed) -> ChronikClusterSpec {
    ChronikClusterSpec {
        replicas: observed.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0),
        image: None,
        image_pull_secrets: Vec::new(),
        storage: Storage { size: String::new(), storage_class: None },
        resources: None,
        replication: None,
        config: BTreeMap::new(),
    }
}
