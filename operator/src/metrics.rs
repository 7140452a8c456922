//! What the operator counts about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    writes: Counter,
    clusters: Gauge,
    clusters_of: Arc<Mutex<BTreeMap<String, usize>>>,
    leading: Gauge,
    failing: Gauge,
    failing_of: Arc<Mutex<BTreeMap<String, usize>>>,
    waiting: Family<OfCluster, Gauge>,
    degraded: Family<OfCluster, Gauge>,
    unknown: Family<OfCluster, Gauge>,
    left: Family<LeftTo, Gauge>,
    desired: Family<Name, Gauge>,
    ready: Family<Name, Gauge>,
    acts_as: Family<Operator, Gauge>,
    shown: Arc<Mutex<BTreeMap<(String, String), Shown>>>,
}

/// What is shown of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    waiting: Option<OfCluster>,
    degraded: Option<OfCluster>,
    unknown: Option<OfCluster>,
    left: Option<LeftTo>,
    brokers: Option<(Name, Serving)>,
}

/// How a cluster looks, in a word each; none where there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks<'a> {
    /// What its plan waits for.
    pub waiting: Option<&'a str>,
    /// In what way it is degraded.
    pub degraded: Option<&'a str>,
    /// Why it is not known how it is.
    pub unknown: Option<&'a str>,
    /// The other operator that looks after it, if that is not this one.
    pub left_to: Option<&'a str>,
    /// How many brokers serve, of how many.
    pub brokers: Option<Serving>,
}

/// How many brokers serve, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// So many do.
    pub ready: i32,
    /// So many should.
    pub desired: i32,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    namespace: String,
    cluster: String,
}

/// A cluster and something about it. Prometheus adds a `namespace` of its own, which is the operator's, and renames this
/// one to `exported_namespace`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCluster {
    namespace: String,
    cluster: String,
    reason: String,
}

/// A cluster that another operator looks after, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftTo {
    namespace: String,
    cluster: String,
    operator: String,
}

/// An operator, by the namespace and the name of its Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operator {
    operator: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (reconciles, writes) = (Family::<Outcome, Counter>::default(), Counter::default());
        let (clusters, leading, failing) = (Gauge::default(), Gauge::default(), Gauge::default());
        let duration = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0]);
        let mut registry = Registry::with_prefix("chronik_operator");
        registry.register("reconciles", "Reconciles, by how they ended", reconciles.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles took", duration.clone());
        registry.register("writes", "Objects and statuses written", writes.clone());
        registry.register("clusters", "ChronikClusters that exist", clusters.clone());
        registry.register("failing", "Objects whose last reconcile failed", failing.clone());
        let [waiting, degraded, unknown] = [(); 3].map(|()| Family::<OfCluster, Gauge>::default());
        let help = "1 for each ChronikCluster whose plan waits, with what it waits for";
        registry.register("cluster_waiting", help, waiting.clone());
        let help = "1 for each ChronikCluster that is degraded, with the condition's reason";
        registry.register("cluster_degraded", help, degraded.clone());
        let help = "1 for each ChronikCluster of which it is not known how it is, with why";
        registry.register("cluster_unknown", help, unknown.clone());
        let (left, acts_as) = (Family::<LeftTo, Gauge>::default(), Family::<Operator, Gauge>::default());
        let help = "1 for each ChronikCluster that is left to another operator, with which";
        registry.register("cluster_left_to_other", help, left.clone());
        let [desired, ready] = [(); 2].map(|()| Family::<Name, Gauge>::default());
        registry.register("cluster_desired_brokers", "Brokers that each ChronikCluster should have", desired.clone());
        registry.register("cluster_ready_brokers", "Brokers of each ChronikCluster that serve clients", ready.clone());
        registry.register("acts_as", "1 for the operator that this instance acts as", acts_as.clone());
        registry.register("leading", "Whether this instance is the one that acts", leading.clone());
        let registry = Arc::new(registry);
        Self {
            registry,
            reconciles,
            duration,
            writes,
            clusters,
            clusters_of: Arc::default(),
            leading,
            failing,
            failing_of: Arc::default(),
            waiting,
            degraded,
            unknown,
            left,
            desired,
            ready,
            acts_as,
            shown: Arc::default(),
        }
    }
}

impl Metrics {
    /// A reconcile has ended.
    pub fn reconciled(&self, succeeded: bool, took: Duration) {
        let result = if succeeded { "success" } else { "error" };
        self.reconciles.get_or_create(&Outcome { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// An object, or a status, was written.
    pub fn wrote(&self) {
        self.writes.inc();
    }

    /// So many clusters exist where a loop looks, by the loop's name.
    pub fn clusters(&self, name: &str, count: usize) {
        self.clusters.set(sum(&self.clusters_of, name, count));
    }

    /// The last reconcile of so many objects failed, by the name of their loop.
    pub fn failing(&self, name: &str, count: usize) {
        self.failing.set(sum(&self.failing_of, name, count));
    }

    /// How a cluster looks.
    pub fn cluster(&self, namespace: &str, name: &str, looks: Looks<'_>) {
        let of = |reason: &str| OfCluster {
            namespace: namespace.to_owned(),
            cluster: name.to_owned(),
            reason: reason.to_owned(),
        };
        self.show(
            (namespace.to_owned(), name.to_owned()),
            Shown {
                waiting: looks.waiting.map(of),
                degraded: looks.degraded.map(of),
                unknown: looks.unknown.map(of),
                left: looks.left_to.map(|operator| LeftTo {
                    namespace: namespace.to_owned(),
                    cluster: name.to_owned(),
                    operator: operator.to_owned(),
                }),
                brokers: looks
                    .brokers
                    .map(|serving| (Name { namespace: namespace.to_owned(), cluster: name.to_owned() }, serving)),
            },
        );
    }

    /// Shows nothing any more of the clusters of a loop's namespace, or of all, that do not exist.
    pub fn forget(&self, namespace: Option<&str>, exists: impl Fn(&str, &str) -> bool) {
        let known = self.shown.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect::<Vec<_>>();
        let here = known.into_iter().filter(|(of, _)| namespace.is_none_or(|namespace| namespace == of));
        for cluster in here.filter(|(namespace, name)| !exists(namespace, name)) {
            self.show(cluster, Shown::default());
        }
    }

    fn show(&self, cluster: (String, String), now: Shown) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.remove(&cluster).unwrap_or_default();
        replace(&self.waiting, before.waiting.as_ref(), now.waiting.as_ref());
        replace(&self.degraded, before.degraded.as_ref(), now.degraded.as_ref());
        replace(&self.unknown, before.unknown.as_ref(), now.unknown.as_ref());
        replace(&self.left, before.left.as_ref(), now.left.as_ref());
        if let Some((of, _)) = before.brokers.as_ref().filter(|_| now.brokers.is_none()) {
            self.desired.remove(of);
            self.ready.remove(of);
        }
        if let Some((of, serving)) = &now.brokers {
            self.desired.get_or_create(of).set(serving.desired.into());
            self.ready.get_or_create(of).set(serving.ready.into());
        }
        if now != Shown::default() {
            shown.insert(cluster, now);
        }
    }

    /// This instance acts, or does not.
    pub fn leading(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// This instance acts as the operator of this name: clusters that are left to it are looked after.
    pub fn acts_as(&self, operator: &str) {
        self.acts_as.get_or_create(&Operator { operator: operator.to_owned() }).set(1);
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Shows one series in place of another.
fn replace<L>(family: &Family<L, Gauge>, before: Option<&L>, now: Option<&L>)
where
    L: Clone + std::hash::Hash + Eq,
{
    if let Some(before) = before.filter(|before| Some(*before) != now) {
        family.remove(before);
    }
    if let Some(now) = now {
        family.get_or_create(now).set(1);
    }
}

/// What all loops count, with what one of them counts now.
fn sum(counts: &Mutex<BTreeMap<String, usize>>, name: &str, count: usize) -> i64 {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.insert(name.to_owned(), count);
    i64::try_from(counts.values().sum::<usize>()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::default();
        metrics.clone().reconciled(true, Duration::from_millis(1));
        metrics.wrote();
        for (name, count) in [("a", 1), ("b", 2), ("a", 3)] {
            metrics.clusters(name, count);
            metrics.failing(name, 2 * count);
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains("chronik_operator_reconciles_total{result=\"success\"} 1\n"), "{text}");
        assert!(text.contains("chronik_operator_writes_total 1\n"), "{text}");
        assert!(text.contains("chronik_operator_clusters 5\n"), "{text}");
        assert!(text.contains("chronik_operator_failing 10\n"), "{text}");
    }

    #[test]
    fn a_cluster_is_shown_with_what_is_so_now_and_not_when_it_is_gone() {
        let metrics = Metrics::default();
        let shown = || {
            let text = metrics.encode().unwrap();
            let lines = text.lines().filter(|line| line.contains("cluster=")).map(str::to_owned);
            lines.collect::<Vec<_>>().join("; ")
        };
        let down = Looks { degraded: Some("BrokerDown"), ..Looks::default() };
        metrics.cluster(
            "shop",
            "orders",
            Looks { waiting: Some("NotRecovered"), unknown: Some("ObserveFailed"), ..down },
        );
        let labels = |reason| format!("{{namespace=\"shop\",cluster=\"orders\",reason=\"{reason}\"}} 1");
        let waiting = format!("chronik_operator_cluster_waiting{}", labels("NotRecovered"));
        let degraded = format!("chronik_operator_cluster_degraded{}", labels("BrokerDown"));
        let unknown = format!("chronik_operator_cluster_unknown{}", labels("ObserveFailed"));
        assert_eq!(shown(), format!("{waiting}; {degraded}; {unknown}"));
        metrics.cluster("shop", "orders", down);
        assert_eq!(shown(), degraded);
        metrics.forget(Some("other"), |_, _| false);
        assert_eq!(shown(), degraded);
        metrics.forget(None, |_, name| name != "orders");
        assert_eq!(shown(), "");
        metrics.cluster("shop", "orders", Looks { left_to: Some("a/first"), ..Looks::default() });
        let left =
            "chronik_operator_cluster_left_to_other{namespace=\"shop\",cluster=\"orders\",operator=\"a/first\"} 1";
        assert_eq!(shown(), left);
        metrics.cluster("shop", "orders", Looks::default());
        assert_eq!(shown(), "");
        for ready in [3, 0] {
            let brokers = Some(Serving { ready, desired: 3 });
            metrics.cluster("shop", "orders", Looks { brokers, ..Looks::default() });
            let of = "{namespace=\"shop\",cluster=\"orders\"}";
            let desired = format!("chronik_operator_cluster_desired_brokers{of} 3");
            assert_eq!(shown(), format!("{desired}; chronik_operator_cluster_ready_brokers{of} {ready}"));
        }
        metrics.forget(None, |_, _| false);
        assert_eq!(shown(), "");
    }
}
