//! One reconcile: observe → validate → plan → apply, and the report of it.

pub mod apply;
pub mod build;
pub mod observe;
pub mod plan;
pub mod validate;

use crate::MANAGER;
use crate::brokers::{Brokers, Contact, Unanswered};
use crate::events::{Events, News};
use crate::kafka::{Kafka, in_words};
use crate::metrics::{Looks, Metrics};
use crate::status::{self, Attempt};
use apply::{ApplyError, Done, Outcome, Taker};
use chronik_crds::{ChronikCluster, ChronikClusterSpec, ChronikClusterStatus, DeletionPolicy, PlanStatus, Storage};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, PersistentVolumeClaim, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use observe::{Observed, PodState};
use plan::balance::Progress;
use plan::{Plan, PlanError, Refusal, Step, Wait};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use validate::Cluster;

/// The annotation that says which operator looks after a cluster, whichever did before.
pub const OPERATOR: &str = "chronik.io/operator";

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What there is could not be read.
    #[error("cannot read the cluster's objects: {0}")]
    Observe(#[source] kube::Error),
    /// What there should be could not be written.
    #[error("cannot apply {0}")]
    Apply(#[from] ApplyError),
    /// The objects could not be put into words.
    #[error("cannot encode the cluster's objects: {0}")]
    Encode(#[from] serde_json::Error),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    Status(#[source] kube::Error),
    /// The API server, or a broker, did not answer in time.
    #[error("not done within {} s", .0.as_secs())]
    Deadline(Duration),
}

/// What reconciles work with.
#[derive(Clone)]
pub struct Reconciler {
    /// The API server.
    pub client: Client,
    /// The brokers' admin API.
    pub brokers: Arc<dyn Brokers>,
    /// The same, through the Kafka protocol.
    pub kafka: Arc<dyn Kafka>,
    /// Where events go.
    pub events: Events,
    /// The image for clusters that do not name theirs.
    pub default_image: String,
    /// What this operator is known by to others; without it, it looks after every cluster.
    pub operator: Option<String>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What applying a plan came to.
struct Applied {
    wrote: bool,
    plan: Option<PlanStatus>,
    /// How far partitions are spread over brokers that have joined, if that was the step.
    spread: Option<Progress>,
}

impl Reconciler {
    /// Makes the cluster of that name what its spec says, as far as that can be done now. Returns how soon to look again
    /// although nothing changes; `None` if it is gone.
    pub async fn reconcile(&self, namespace: &str, name: &str) -> Result<Option<Duration>, ReconcileError> {
        // Read now: what a watch has told of may be older than this operator's own last report.
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource());
        let Some(stored) = api.get_opt(name).await.map_err(ReconcileError::Observe)? else { return Ok(None) };
        if stored.metadata.deletion_timestamp.is_some() {
            // Its objects go with it; its volumes stay, unless they were given to it.
            return Ok(None);
        }
        if let Some(other) = self.other_operator(&stored) {
            self.stand_off(&stored, &other).await;
            return Ok(None);
        }
        let mut observed =
            observe::observe(&self.client, &*self.brokers, namespace, name).await.map_err(ReconcileError::Observe)?;
        match readable(&stored) {
            Ok(cluster) => {
                let status = cluster.status.as_ref();
                let managed = status.into_iter().flat_map(|status| status.dynamic_config.iter());
                observed.managed_config = managed.map(|property| property.name.clone()).collect();
                if !observed.managed_config.is_empty() {
                    observed.config = observe::observe_config(&*self.kafka, namespace, name, &observed.pods).await;
                }
                let endpoints = status.and_then(|status| status.endpoints.as_ref());
                observed.balanced = status.and_then(|status| status.balanced_brokers);
                observed.had_listeners = endpoints.is_some_and(|endpoints| !endpoints.listeners.is_empty());
                let place = (namespace, name);
                observed.outside = observe::outside::observe(
                    &self.client,
                    &*self.kafka,
                    place,
                    &cluster.spec,
                    &observed.pods,
                    observed.had_listeners,
                )
                .await
                .map_err(ReconcileError::Observe)?;
                self.follow(&cluster, &observed).await.map(Some)
            }
            Err(error) => {
                let mut cluster = ChronikCluster::new(name, unreadable_spec(&observed));
                cluster.metadata = stored.metadata;
                cluster.status = serde_json::from_value(stored.data["status"].clone()).ok();
                let message = format!("the resource cannot be read: {error}");
                self.refuse(&cluster, &observed, Refusal { reason: "InvalidSpec", message }).await.map(Some)
            }
        }
    }

    /// The operator whose cluster it is, if that is not this one. Two of them, of two versions, would undo each other's
    /// writes for ever.
    fn other_operator(&self, stored: &DynamicObject) -> Option<String> {
        let claimed = stored.data["status"]["operator"].as_str().map(str::to_owned);
        let holder = stored.annotations().get(OPERATOR).cloned().or(claimed)?;
        let me = self.operator.as_ref()?;
        (holder != *me).then_some(holder)
    }

    async fn stand_off(&self, stored: &DynamicObject, other: &str) {
        let name = stored.name_any();
        warn!(cluster = %name, namespace = stored.namespace(), operator = %other, "another operator looks after it");
        let note = format!(
            "{} leaves it to {other}; to change that: kubectl annotate chronikcluster {name} {OPERATOR}={0} --overwrite",
            self.operator.as_deref().unwrap_or_default()
        );
        let news = News { reason: "OtherOperator".to_owned(), note, action: "Reconcile", ..News::default() };
        self.events.publish_once(&stored.object_ref(&resource()), news).await;
    }

    async fn follow(&self, cluster: &ChronikCluster, observed: &Observed) -> Result<Duration, ReconcileError> {
        // A cluster keeps the image that it was created with until its spec names one. The status outlives a StatefulSet.
        let known = cluster.status.as_ref().and_then(|status| status.image.clone());
        let known = known.or_else(|| observed.set.as_ref().and_then(|set| set.image.clone()));
        let image = known.unwrap_or_else(|| self.default_image.clone());
        let valid = match validate::validate(cluster, &image) {
            Ok(valid) => valid,
            Err(invalid) => {
                let refusal = Refusal { reason: "InvalidSpec", message: invalid.to_string() };
                return self.refuse(cluster, observed, refusal).await;
            }
        };
        let plan = match plan::plan(&valid, observed) {
            Ok(plan) => plan,
            Err(PlanError::Refused(refusal)) => return self.refuse(cluster, observed, refusal).await,
            Err(PlanError::Encode(error)) => return Err(error.into()),
        };
        let again = plan.again(observed);
        let image = valid.image.clone();
        let operator = self.operator.clone();
        let config = plan::config::report(&valid, observed);
        let listeners = plan::outside::report(&valid, observed);
        let outcome = |attempt, plan, balanced| status::Outcome {
            observed,
            attempt,
            plan,
            image: Some(image.clone()),
            operator: operator.clone(),
            config: Some(config.clone()),
            listeners: Some(listeners.clone()),
            balanced,
        };
        if cluster.spec.paused {
            return self.report(cluster, &outcome(Attempt::Paused, None, None), again).await;
        }
        // What the image is goes into the status before it goes into an object that may be lost, and whose cluster it is
        // before anything is made. The same with what is to be reset one day.
        let before = cluster.status.clone().unwrap_or_default();
        let managed = valid.dynamic.keys().all(|name| observed.managed_config.contains(name));
        if before.image.is_none() || before.operator != self.operator || !managed {
            let (image, operator) = (Some(image.clone()), self.operator.clone());
            let status = ChronikClusterStatus { image, operator, dynamic_config: config, ..before };
            self.write_status(cluster, &status).await?;
            return Ok(Duration::ZERO);
        }
        let applied = self.apply(cluster, &valid, observed, &plan).await;
        let (attempt, next) = match &applied {
            Ok(Applied { wrote: false, plan, .. }) => (Attempt::Applied, plan.clone()),
            // What was written wakes the next reconcile.
            Ok(Applied { wrote: true, plan, .. }) => (Attempt::Written, plan.clone()),
            Err(error) => (Attempt::Failed(error.to_string()), None),
        };
        let spread = applied.as_ref().ok().and_then(|applied| applied.spread);
        let balanced = plan::balance::report(&valid, observed, spread);
        let again = self.report(cluster, &outcome(attempt, next, Some(balanced)), again).await?;
        applied.map(|_| again)
    }

    async fn refuse(
        &self,
        cluster: &ChronikCluster,
        observed: &Observed,
        refusal: Refusal,
    ) -> Result<Duration, ReconcileError> {
        let attempt = Attempt::Refused(refusal);
        let operator = self.operator.clone();
        let outcome = status::Outcome {
            observed,
            attempt,
            plan: None,
            image: None,
            operator,
            config: None,
            listeners: None,
            balanced: None,
        };
        self.report(cluster, &outcome, plan::AT_REST).await
    }

    async fn apply(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Applied, ReconcileError> {
        let mut wrote = false;
        // Before the objects: a pod that is not wanted any more goes when its volume is marked.
        for change in &plan.volumes {
            apply::change(&self.client, &valid.namespace, change).await?;
            wrote = true;
            let claim = ApiResource::erase::<PersistentVolumeClaim>(&());
            self.tell(cluster, &claim, change.claim.name.clone(), Outcome::Updated).await;
        }
        for desired in &plan.objects {
            let outcome = apply::apply(&self.client, &valid.namespace, desired).await?;
            if outcome != Outcome::Unchanged {
                wrote = true;
                self.tell(cluster, &desired.resource, desired.object.name_any(), outcome).await;
            }
        }
        for map in &plan.deletions {
            if apply::delete::<ConfigMap>(&self.client, &valid.namespace, map, None).await? {
                let resource = ApiResource::erase::<ConfigMap>(&());
                self.tell(cluster, &resource, map.name.clone(), Outcome::Deleted).await;
            }
        }
        for service in &plan.services {
            if apply::delete::<Service>(&self.client, &valid.namespace, service, None).await? {
                let resource = ApiResource::erase::<Service>(&());
                self.tell(cluster, &resource, service.name.clone(), Outcome::Deleted).await;
            }
        }
        let refused = self.configure(cluster, valid, observed, plan).await;
        let refused = refused.or(self.tell_brokers(valid, observed, plan).await);
        // A step is decided on what was observed: it is not taken on what has just been changed.
        let mut applied = if wrote {
            Applied { wrote, plan: status::plan::report(plan, None), spread: None }
        } else {
            self.take_step(cluster, valid, observed, plan).await?
        };
        if applied.plan.is_none() {
            applied.plan = refused.as_ref().map(status::plan::of_wait);
        }
        Ok(applied)
    }

    /// Gives all brokers what they take up while they run. Returns what speaks against it.
    async fn configure(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Option<Wait> {
        if plan.config.is_empty() {
            return None;
        }
        let wait = |reason, message: String| Wait { action: plan::config::ACTION.to_owned(), reason, message };
        let ready = observed.pods.iter().filter(|pod| pod.state == PodState::Ready).cloned().collect::<Vec<_>>();
        let Some(contact) = Contact::of(&valid.namespace, &valid.name, &ready) else {
            return Some(wait("BrokersUnknown", "no broker is ready".to_owned()));
        };
        let words = in_words(&plan.config);
        match self.kafka.alter_cluster_configs(contact, plan.config.clone()).await {
            Ok(()) => {
                self.metrics.wrote();
                info!(cluster = %valid.name, namespace = %valid.namespace, changes = %words, "configured brokers");
                let news =
                    News { reason: "ConfigChanged".to_owned(), note: words, action: "Configure", ..News::default() };
                self.events.publish(&cluster.object_ref(&()), news).await;
                None
            }
            Err(Unanswered::Refused(why)) => Some(wait("ConfigRefused", format!("{words}: {why}"))),
            Err(error) => Some(wait("BrokersUnknown", error.to_string())),
        }
    }

    /// Tells single brokers where they are. Returns what speaks against it.
    async fn tell_brokers(&self, valid: &Cluster, observed: &Observed, plan: &Plan) -> Option<Wait> {
        let mut refused = None;
        for (broker, changes) in &plan.told {
            let pods = observed.pods.iter().filter(|pod| pod.ordinal == *broker).cloned().collect::<Vec<_>>();
            let Some(contact) = Contact::of(&valid.namespace, &valid.name, &pods) else { continue };
            let words = in_words(changes);
            let reason = match self.kafka.alter_broker_configs(contact, *broker, changes.clone()).await {
                Ok(()) => {
                    self.metrics.wrote();
                    info!(cluster = %valid.name, namespace = %valid.namespace, broker, changes = %words, "told a broker");
                    continue;
                }
                Err(Unanswered::Refused(why)) => ("ConfigRefused", format!("broker {broker}: {words}: {why}")),
                Err(error) => ("BrokersUnknown", format!("broker {broker}: {error}")),
            };
            let (reason, message) = reason;
            refused.get_or_insert(Wait { action: plan::outside::ACTION.to_owned(), reason, message });
        }
        refused
    }

    async fn take_step(
        &self,
        cluster: &ChronikCluster,
        valid: &Cluster,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Applied, ReconcileError> {
        let Some(step) = &plan.step else {
            return Ok(Applied { wrote: false, plan: status::plan::report(plan, None), spread: None });
        };
        let contact = Contact::of(&valid.namespace, &valid.name, &observed.pods);
        let taker = Taker { client: &self.client, brokers: &*self.brokers, namespace: &valid.namespace, contact };
        let done = taker.take(step).await?;
        if done == Done::Taken {
            self.metrics.wrote();
            info!(cluster = %valid.name, namespace = %valid.namespace, %step, "took a step");
            let news =
                News { reason: step.reason().to_owned(), note: step.to_string(), action: "Step", ..News::default() };
            self.events.publish(&cluster.object_ref(&()), news).await;
        }
        let waits = match &done {
            Done::Waits(wait) => Some(wait),
            Done::Taken | Done::Overtaken => None,
        };
        let spread = match (step, &done) {
            (Step::Balance { .. }, Done::Taken) => Some(Progress::Done),
            (Step::Balance { .. }, Done::Waits(wait)) if wait.reason == plan::balance::UNDER_WAY => {
                Some(Progress::UnderWay)
            }
            _ => None,
        };
        Ok(Applied { wrote: false, plan: status::plan::report(plan, waits), spread })
    }

    /// Counts and tells what was done to an object.
    async fn tell(&self, cluster: &ChronikCluster, resource: &ApiResource, name: String, outcome: Outcome) {
        let (kind, namespace) = (&resource.kind, cluster.namespace().unwrap_or_default());
        self.metrics.wrote();
        info!(cluster = %cluster.name_any(), %namespace, %kind, object = %name, ?outcome, "applied");
        let news = News {
            warning: false,
            reason: format!("{outcome:?}"),
            note: format!("{outcome:?} {kind} {name}"),
            action: "Apply",
            related: Some(ObjectReference {
                api_version: Some(resource.api_version.clone()),
                kind: Some(kind.clone()),
                namespace: Some(namespace),
                name: Some(name),
                ..ObjectReference::default()
            }),
        };
        self.events.publish(&cluster.object_ref(&()), news).await;
    }

    /// Writes the status if it is another one, and tells what is news about it.
    async fn report(
        &self,
        cluster: &ChronikCluster,
        outcome: &status::Outcome<'_>,
        again: Duration,
    ) -> Result<Duration, ReconcileError> {
        let before = cluster.status.clone().unwrap_or_default();
        let after = status::report(cluster, &before, outcome, Timestamp::now());
        let degraded = after.conditions.iter().find(|condition| status::is_trouble(condition));
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        // A step that nothing speaks against does not wait.
        let waits = after.plan.as_ref().filter(|plan| !status::plan::is_step(plan));
        let waits = waits.map(|plan| plan.reason.as_str());
        let degraded = degraded.map(|condition| condition.reason.as_str());
        // Of one that does not run there is nothing to know.
        let runs = !outcome.observed.pods.is_empty();
        let unknown = (runs && outcome.observed.facts.known().is_none()).then_some("BrokersUnknown");
        self.metrics.cluster(&namespace, &name, Looks { waiting: waits, degraded, unknown });
        let again = status::changes_after(&after).map_or(again, |soon| soon.min(again));
        if after == before {
            return Ok(again);
        }
        self.write_status(cluster, &after).await?;
        for news in news(&before, &after) {
            let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
            let (reason, message) = (&news.reason, &news.note);
            if news.warning {
                warn!(cluster = %name, %namespace, %reason, %message, "state changed");
            } else {
                info!(cluster = %name, %namespace, %reason, %message, "state changed");
            }
            self.events.publish(&cluster.object_ref(&()), news).await;
        }
        Ok(again)
    }

    /// Of the resource as it was read alone: what was decided on another version of it is decided again.
    async fn write_status(
        &self,
        cluster: &ChronikCluster,
        status: &ChronikClusterStatus,
    ) -> Result<(), ReconcileError> {
        let body = serde_json::json!({
            "apiVersion": ChronikCluster::api_version(&()),
            "kind": ChronikCluster::kind(&()),
            "metadata": { "uid": cluster.metadata.uid, "resourceVersion": cluster.metadata.resource_version },
            "status": status,
        });
        let manager = PatchParams::apply(MANAGER).force();
        self.metrics.wrote();
        // The answer is not read: a resource whose spec cannot be read is reported on all the same.
        let namespace = cluster.namespace().unwrap_or_default();
        Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &resource())
            .patch_status(&cluster.name_any(), &manager, &Patch::Apply(&body))
            .await
            .map(|_| ())
            .map_err(ReconcileError::Status)
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<ChronikCluster>(&())
}

fn readable(stored: &DynamicObject) -> Result<ChronikCluster, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(stored)?)
}

/// What a person is told of: conditions that are not what they were, and another plan.
fn news(before: &ChronikClusterStatus, after: &ChronikClusterStatus) -> Vec<News> {
    let conditions = status::changes(before, after).map(|change| News {
        warning: status::is_trouble(change),
        reason: change.reason.clone(),
        note: change.message.clone(),
        action: "Reconcile",
        related: None,
    });
    let plan = after.plan.as_ref().filter(|plan| status::plan::is_news(before.plan.as_ref(), plan)).map(|plan| News {
        reason: plan.reason.clone(),
        note: format!("{}: {}", plan.action, plan.message),
        action: "Plan",
        ..News::default()
    });
    conditions.chain(plan).collect()
}

/// Stands for a spec that cannot be read, in a report: it asks for the brokers that there are.
fn unreadable_spec(observed: &Observed) -> ChronikClusterSpec {
    ChronikClusterSpec {
        paused: false,
        replicas: observed.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0),
        image: None,
        image_pull_secrets: Vec::new(),
        storage: Storage { size: String::new(), storage_class: None, deletion_policy: DeletionPolicy::Retain },
        resources: None,
        replication: None,
        config: BTreeMap::new(),
        listeners: Vec::new(),
        rack: None,
        auto_rebalance: None,
        pod: None,
    }
}
