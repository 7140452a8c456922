//! One reconcile: observe → validate → plan → apply, and the report of it.

pub mod apply;
pub mod build;
mod carry_out;
mod guard;
pub mod observe;
pub mod plan;
pub mod validate;

use crate::MANAGER;
use crate::brokers::{Brokers, admin};
use crate::events::{Events, News};
use crate::kafka::Kafka;
use crate::metrics::{Looks, Metrics, Serving};
use crate::status::{self, Attempt};
use apply::ApplyError;
use carry_out::Applied;
use chronik_crds::{ChronikCluster, ChronikClusterSpec, ChronikClusterStatus, DeletionPolicy, Storage};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use observe::{Observed, Outside};
use plan::{Plan, PlanError, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use validate::{Cluster, InvalidSpec};

/// The annotation that says which operator looks after a cluster, whichever did before.
pub const OPERATOR: &str = "chronik.io/operator";

/// What one reconcile may take: a connection that is half open answers never. What takes too long in it is said before by
/// what is bounded more narrowly.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// What reading what there is may take: the API server's answers, and then what brokers are given for theirs.
const OBSERVE_MAX: Duration = Duration::from_secs(15);

// What is done beside writing objects is done in time too: what brokers are configured with, and the step.
const _: () = assert!(
    OBSERVE_MAX.as_secs()
            + observe::QUESTION.as_secs()
            + admin::IN_ALL.as_secs()
            // One object, and the status that says so.
            + 2 * apply::WRITE_MAX.as_secs()
        <= DEADLINE.as_secs()
);

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

impl Reconciler {
    /// Makes the cluster of that name what its spec says, as far as that can be done now. Returns how soon to look again
    /// although nothing changes; `None` if it is gone.
    pub async fn reconcile(&self, namespace: &str, name: &str) -> Result<Option<Duration>, ReconcileError> {
        // Read now: what a watch has delivered may be older than this operator's own last report.
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource());
        let Some(stored) = api.get_opt(name).await.map_err(ReconcileError::Observe)? else { return Ok(None) };
        if stored.metadata.deletion_timestamp.is_some() {
            // Its objects go with it; its volumes stay, unless they were given to it.
            self.metrics.cluster(namespace, name, Looks::default());
            return Ok(None);
        }
        if let Some(other) = self.other_operator(&stored) {
            self.metrics.cluster(namespace, name, Looks { left_to: Some(&other), ..Looks::default() });
            self.stand_off(&stored, &other).await;
            return Ok(None);
        }
        let read = readable(&stored);
        let observing = self.observe(namespace, name, read.as_ref().ok());
        let observed = match in_time(Box::pin(observing)).await {
            Ok(observed) => observed,
            Err(error) => {
                self.report_unobserved(&read.unwrap_or_else(|_| stand_in(stored, 0)), &error).await;
                return Err(error);
            }
        };
        match read {
            Ok(cluster) => self.follow(&cluster, &observed).await.map(Some),
            Err(error) => {
                let brokers = observed.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0);
                let message = format!("the resource cannot be read: {error}");
                let refusal = Refusal { reason: "InvalidSpec", message };
                self.refuse(&stand_in(stored, brokers), &observed, refusal).await.map(Some)
            }
        }
    }

    /// Reads what there is; of a resource that cannot be read, what does not depend on it.
    async fn observe(
        &self,
        namespace: &str,
        name: &str,
        cluster: Option<&ChronikCluster>,
    ) -> Result<Observed, ReconcileError> {
        let mut observed = observe::objects(&self.client, namespace, name).await.map_err(ReconcileError::Observe)?;
        let status = cluster.and_then(|cluster| cluster.status.clone()).unwrap_or_default();
        observed.cluster.clone_from(&status.cluster_id);
        if cluster.is_some() {
            observed.managed_config = status.dynamic_config.into_iter().map(|property| property.name).collect();
            observed.balanced = status.balanced_brokers;
            observed.drained = status.drained_brokers;
            observed.formed = status.formed;
            observed.had_listeners = status.endpoints.is_some_and(|endpoints| !endpoints.listeners.is_empty());
        }
        // Beside each other: brokers that do not answer take the time of one question, and not of all.
        let (pods, known) = (&observed.pods, observed.cluster.as_deref());
        let facts = observe::facts(&*self.brokers, (namespace, name), pods, known);
        let config = async {
            if observed.managed_config.is_empty() {
                return Observed::default().config;
            }
            observe::config(&*self.kafka, (namespace, name), pods, known).await
        };
        let outside = async {
            let Some(cluster) = cluster else { return Ok(Outside::default()) };
            let place = (namespace, name);
            observe::outside::observe(&self.client, &*self.kafka, place, &cluster.spec, pods, known).await
        };
        let (facts, config, outside) = futures::join!(facts, config, outside);
        (observed.facts, observed.config) = (facts, config);
        observed.outside = outside.map_err(ReconcileError::Observe)?;
        Ok(observed)
    }

    /// Says that nothing is known, and lets no drain of nodes take a broker meanwhile, as far as that can be written. That
    /// it is tried again is the caller's to say.
    async fn report_unobserved(&self, cluster: &ChronikCluster, error: &ReconcileError) {
        let before = cluster.status.clone().unwrap_or_default();
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        if let Err(error) = self.close_budget(cluster).await {
            warn!(cluster = %name, %namespace, %error, "cannot close the budget of disruptions");
        }
        let after = status::unobserved(&before, &error.to_string(), cluster.metadata.generation, Timestamp::now());
        if let Err(error) = self.publish(cluster, &before, &after, Some("ObserveFailed")).await {
            warn!(cluster = %name, %namespace, %error, "cannot report that nothing is known");
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
            "{} leaves it to {other}; to change that: kubectl annotate chronikcluster {name} -n {} {OPERATOR}={0} \
             --overwrite",
            self.operator.as_deref().unwrap_or_default(),
            stored.namespace().unwrap_or_default()
        );
        let news = News { reason: "OtherOperator".to_owned(), note, action: "Reconcile", ..News::default() };
        self.events.publish_once(&stored.object_ref(&resource()), news).await;
    }

    async fn follow(&self, cluster: &ChronikCluster, observed: &Observed) -> Result<Duration, ReconcileError> {
        let valid = match self.validate(cluster, observed) {
            Ok(valid) => valid,
            Err(invalid) => {
                let refusal = Refusal { reason: "InvalidSpec", message: invalid.to_string() };
                return self.refuse(cluster, observed, refusal).await;
            }
        };
        let plan = match plan::plan(&valid, observed) {
            Ok(plan) => plan,
            Err(PlanError::Refused(refusal)) => {
                // Where brokers are found does not wait for a spec that can be followed.
                let told = plan::broker_configs_when_refused(&valid, observed);
                let (refused, _) = futures::join!(
                    self.refuse(cluster, observed, refusal),
                    self.configure_single_brokers(&valid, observed, &told)
                );
                return refused;
            }
            Err(PlanError::Encode(error)) => {
                self.guard_what_runs(cluster, observed).await?;
                return Err(error.into());
            }
        };
        // One that no broker has come up with is not kept: with it out of the spec again, the former one counts.
        let image =
            if observed.has_run(&valid.template_of) { valid.image.clone() } else { self.kept_image(cluster, observed) };
        let operator = self.operator.clone();
        let config = plan::config::report(&valid, observed);
        let listeners = plan::outside::report(&valid, observed);
        let drained = plan::scale::drained(&valid, observed, plan.step.as_ref());
        let outcome = |attempt, plan, balanced| status::Outcome {
            plan,
            image: Some(image.clone()),
            operator: operator.clone(),
            config: Some(config.clone()),
            listeners: Some(listeners.clone()),
            balanced,
            drained: Some(drained.clone()),
            ..status::Outcome::new(observed, attempt)
        };
        if cluster.spec.paused {
            let applied = self.apply(cluster, &valid, observed, &plan).await;
            let attempt = applied.as_ref().err().map_or(Attempt::Paused, |error| Attempt::Failed(error.to_string()));
            let again = self.report(cluster, &outcome(attempt, None, None), plan.again(observed, false)).await?;
            return applied.map(|_| again);
        }
        // What the image is goes into the status before it goes into an object that may be lost, and whose cluster it is
        // before anything is made. The same with what is to be reset, or uncordoned, one day.
        let before = cluster.status.clone().unwrap_or_default();
        let managed = valid.dynamic.keys().all(|name| observed.managed_config.contains(name));
        let remembered = drained.iter().all(|broker| before.drained_brokers.contains(broker));
        if before.image.is_none() || before.operator != self.operator || !managed || !remembered {
            let (image, operator, drained_brokers) = (Some(image.clone()), self.operator.clone(), drained.clone());
            let status = ChronikClusterStatus { image, operator, drained_brokers, dynamic_config: config, ..before };
            // Those that run are protected first: the status may be refused.
            let guarded = self.guard_pods(cluster, observed, &plan).await;
            self.write_status(cluster, &status).await?;
            return guarded.map(|_| Duration::ZERO);
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
        let again = plan.again(observed, applied.as_ref().is_ok_and(|applied| applied.refused));
        let again = self.report(cluster, &outcome(attempt, next, Some(balanced)), again).await?;
        applied.map(|_| again)
    }

    /// The image of a cluster whose spec names none: the one that it ran last, or began with. The status outlives a
    /// StatefulSet.
    fn kept_image(&self, cluster: &ChronikCluster, observed: &Observed) -> String {
        let known = cluster.status.as_ref().and_then(|status| status.image.clone());
        let known = known.or_else(|| observed.set.as_ref().and_then(|set| set.image.clone()));
        known.unwrap_or_else(|| self.default_image.clone())
    }

    fn validate(&self, cluster: &ChronikCluster, observed: &Observed) -> Result<Cluster, InvalidSpec> {
        let image = self.kept_image(cluster, observed);
        let runs = match &observed.set {
            Some(set) => set.template_of == Some(validate::hash_of_template(cluster, &image)),
            // It is made again around its pods, and what they run with goes on. A cluster that was never complete has none of
            // its own: these may be the last ones of a resource of the same name that was deleted.
            None => cluster.status.as_ref().is_some_and(|status| status.formed) && !observed.pods.is_empty(),
        };
        let valid = validate::validate_running(cluster, &image, runs)?;
        let namespace = self.operator.as_ref().and_then(|operator| operator.split_once('/'));
        Ok(Cluster { operator_namespace: namespace.map(|(namespace, _)| namespace.to_owned()), ..valid })
    }

    async fn refuse(
        &self,
        cluster: &ChronikCluster,
        observed: &Observed,
        refusal: Refusal,
    ) -> Result<Duration, ReconcileError> {
        // What runs goes on running, and is protected by what is known of it.
        let written = self.guard_what_runs(cluster, observed).await;
        let operator = self.operator.clone();
        let outcome = status::Outcome { operator, ..status::Outcome::new(observed, Attempt::Refused(refusal)) };
        let again = self.report(cluster, &outcome, Plan::default().again(observed, false)).await?;
        written.map(|()| again)
    }

    /// Writes the status if it is another one, and tells what is news about it.
    async fn report(
        &self,
        cluster: &ChronikCluster,
        outcome: &status::Outcome<'_>,
        again: Duration,
    ) -> Result<Duration, ReconcileError> {
        let before = cluster.status.clone().unwrap_or_default();
        let now = Timestamp::now();
        let after = status::report(cluster, &before, outcome, now);
        // What makes room for the next thing at once is not waited for.
        let patience = after.plan.as_ref().filter(|_| again > plan::AT_ONCE);
        let again = again.max(patience.map(|plan| status::plan::patience(plan, now)).unwrap_or_default());
        // Of one that does not run there is nothing to know.
        let runs = !outcome.observed.pods.is_empty();
        let unknown = (runs && outcome.observed.facts.known().is_none()).then_some("BrokersUnknown");
        let again = status::changes_after(&after).map_or(again, |soon| soon.min(again));
        self.publish(cluster, &before, &after, unknown).await?;
        Ok(again)
    }

    /// Shows a status, writes it if it is another one, and tells what is news about it.
    async fn publish(
        &self,
        cluster: &ChronikCluster,
        before: &ChronikClusterStatus,
        after: &ChronikClusterStatus,
        unknown: Option<&str>,
    ) -> Result<(), ReconcileError> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let degraded = after.conditions.iter().find(|condition| status::is_trouble(condition));
        // A step that nothing speaks against does not wait.
        let waiting = after.plan.as_ref().filter(|plan| !status::plan::is_step(plan));
        let waiting = waiting.map(|plan| plan.reason.as_str());
        let degraded = degraded.map(|condition| condition.reason.as_str());
        let brokers = Some(Serving { ready: after.ready_replicas, desired: cluster.spec.replicas });
        self.metrics.cluster(&namespace, &name, Looks { waiting, degraded, unknown, left_to: None, brokers });
        if after == before {
            return Ok(());
        }
        self.write_status(cluster, after).await?;
        for news in news(before, after) {
            let (reason, message) = (&news.reason, &news.note);
            if news.warning {
                warn!(cluster = %name, %namespace, %reason, %message, "state changed");
            } else {
                info!(cluster = %name, %namespace, %reason, %message, "state changed");
            }
            self.events.publish(&cluster.object_ref(&()), news).await;
        }
        Ok(())
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

/// What is observed, if that does not take too long.
async fn in_time<T>(observing: impl Future<Output = Result<T, ReconcileError>>) -> Result<T, ReconcileError> {
    tokio::time::timeout(OBSERVE_MAX, observing).await.unwrap_or(Err(ReconcileError::Deadline(OBSERVE_MAX)))
}

fn readable(stored: &DynamicObject) -> Result<ChronikCluster, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(stored)?)
}

/// The events to publish: for conditions that have changed, for another plan, and for disks that have lost something.
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
    let damaged = status::newly_damaged(before, after).map(|broker| News {
        warning: true,
        reason: "DiskDamaged".to_owned(),
        note: format!(
            "{}: its disk has lost something of {} partitions; what, and whether others have it, is said by: chronik \
             cluster health",
            broker.pod,
            broker.damaged.unwrap_or_default()
        ),
        action: "Reconcile",
        related: None,
    });
    conditions.chain(plan).chain(damaged).collect()
}

/// Stands for a resource whose spec cannot be read, in a report: it asks for the brokers that there are.
fn stand_in(stored: DynamicObject, replicas: i32) -> ChronikCluster {
    let mut cluster = ChronikCluster::new(&stored.name_any(), unreadable_spec(replicas));
    cluster.status = serde_json::from_value(stored.data["status"].clone()).ok();
    cluster.metadata = stored.metadata;
    cluster
}

fn unreadable_spec(replicas: i32) -> ChronikClusterSpec {
    ChronikClusterSpec {
        paused: false,
        replicas,
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
