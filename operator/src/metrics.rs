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
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (reconciles, writes) = (Family::<Outcome, Counter>::default(), Counter::default());
        let (clusters, leading) = (Gauge::default(), Gauge::default());
        let duration = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0]);
        let mut registry = Registry::with_prefix("chronik_operator");
        registry.register("reconciles", "Reconciles, by how they ended", reconciles.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles took", duration.clone());
        registry.register("writes", "Objects and statuses written", writes.clone());
        registry.register("clusters", "ChronikClusters that exist", clusters.clone());
        registry.register("leading", "Whether this instance is the one that acts", leading.clone());
        let registry = Arc::new(registry);
        Self { registry, reconciles, duration, writes, clusters, clusters_of: Arc::default(), leading }
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
        let mut counts = self.clusters_of.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(name.to_owned(), count);
        self.clusters.set(i64::try_from(counts.values().sum::<usize>()).unwrap_or(i64::MAX));
    }

    /// This instance acts, or does not.
    pub fn leading(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
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
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains("chronik_operator_reconciles_total{result=\"success\"} 1\n"), "{text}");
        assert!(text.contains("chronik_operator_writes_total 1\n"), "{text}");
        assert!(text.contains("chronik_operator_clusters 5\n"), "{text}");
    }
}
