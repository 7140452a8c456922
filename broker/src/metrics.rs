//! What is counted of the Kafka listener, with the meaning that Kafka's own metrics have.

use crate::rooms::Rooms;
use chronik_wire::{ErrorCode, RequestKind, SERVED};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the scrub has read. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ScrubMetrics {
    bytes: Counter,
    partitions_left: Gauge,
}

impl ScrubMetrics {
    /// Makes them, and makes the registry know them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { bytes: Counter::default(), partitions_left: Gauge::default() };
        let help = "Bytes on the disk that have been checked in the background";
        registry.register("log_scrub_bytes", help, metrics.bytes.clone());
        let help = "Partitions that the present pass of the background check has before it";
        registry.register("log_scrub_partitions_left", help, metrics.partitions_left.clone());
        metrics
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    pub(crate) fn partitions_left(&self, partitions: usize) {
        self.partitions_left.set(partitions as i64);
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

/// The listener's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// In the order of [`SERVED`]: nothing is looked up by a label for a request.
    by_api: Vec<ApiMetrics>,
    bytes_in: Counter,
    bytes_out: Counter,
    connections: Gauge,
    budget: Arc<OnceLock<Rooms>>,
    errors: AnsweredErrors,
}

#[derive(Debug)]
struct ApiMetrics {
    requests: Counter,
    latency: Histogram,
}

type Labels = [(&'static str, &'static str); 1];

/// Error codes that were answered: those that there have been, by Kafka's names. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnsweredErrors {
    counts: Family<[(&'static str, &'static str); 2], Counter>,
}

impl AnsweredErrors {
    /// Counts the codes of an answer, which `each` calls it with. The same code of many partitions is looked up once, and no
    /// error not at all.
    pub(crate) fn count(&self, api: RequestKind, each: impl FnOnce(&mut dyn FnMut(i16))) {
        let (mut code, mut times) = (ErrorCode::NONE.0, 0);
        each(&mut |found| {
            if found != code {
                self.add(api, code, times);
                (code, times) = (found, 0);
            }
            times += 1;
        });
        self.add(api, code, times);
    }

    fn add(&self, api: RequestKind, code: i16, times: u64) {
        if code != ErrorCode::NONE.0 {
            let labels = [("request", api.name()), ("error", ErrorCode(code).name())];
            self.counts.get_or_create(&labels).inc_by(times);
        }
    }
}

impl Metrics {
    /// Makes them, and makes the registry know them.
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::<Labels, Counter>::default();
        // 50 µs to 13 s.
        let latency = Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(50e-6, 2.0, 18))
        });
        let inner = Inner {
            by_api: SERVED
                .iter()
                .map(|served| {
                    let labels = [("request", served.api.name())];
                    ApiMetrics {
                        requests: requests.get_or_create_owned(&labels),
                        latency: latency.get_or_create_owned(&labels),
                    }
                })
                .collect(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            connections: Gauge::default(),
            budget: Arc::default(),
            errors: AnsweredErrors::default(),
        };
        let kafka = registry.sub_registry_with_prefix("kafka");
        kafka.register("requests", "Requests answered, by kind", requests);
        kafka.register_with_unit(
            "request_latency",
            "From the end of a request's arrival to the end of its answer, by kind",
            Unit::Seconds,
            latency,
        );
        kafka.register("received_bytes", "Bytes of requests", inner.bytes_in.clone());
        kafka.register("sent_bytes", "Bytes of answers", inner.bytes_out.clone());
        kafka.register("connections", "Connections that are open", inner.connections.clone());
        kafka.register("errors", "Error codes answered, by kind of request", inner.errors.counts.clone());
        kafka.register_collector(Box::new(BudgetInUse(Arc::clone(&inner.budget))));
        Self { inner: Arc::new(inner) }
    }

    /// Shows how much of the budget for requests in flight is used.
    pub(crate) fn watch_budget(&self, budget: Rooms) {
        // Set once by the one listener; a second one would show the first one's.
        let _ = self.inner.budget.set(budget);
    }

    /// Where errors that are answered are counted.
    pub(crate) fn errors(&self) -> AnsweredErrors {
        self.inner.errors.clone()
    }

    /// Counts an open connection, until what is returned is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.inner.connections.inc();
        OpenConnection(self.inner.connections.clone())
    }

    /// Counts a request that is answered.
    pub(crate) fn answered(&self, api: RequestKind, bytes_in: usize, bytes_out: usize, took: Duration) {
        let of_api = &self.inner.by_api[api.index()];
        of_api.requests.inc();
        of_api.latency.observe(took.as_secs_f64());
        self.inner.bytes_in.inc_by(bytes_in as u64);
        self.inner.bytes_out.inc_by(bytes_out as u64);
    }
}

/// An open connection in the count.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
struct BudgetInUse(Arc<OnceLock<Rooms>>);

impl Collector for BudgetInUse {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let used = ConstGauge::new(self.0.get().map_or(0, Rooms::used) as i64);
        let metric = encoder.encode_descriptor(
            "request_budget_used_bytes",
            "Bytes of requests in flight",
            None,
            used.metric_type(),
        )?;
        used.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_watches_a_broker_finds_what_its_listener_does_by_the_names_that_dashboards_have() {
        // As the broker's own registry is made.
        let mut registry = Registry::with_prefix("chronik");
        let metrics = Metrics::register(&mut registry);
        let _open = metrics.connection();
        for codes in [&[0, 6, 6, 0, 3][..], &[6], &[0]] {
            metrics.errors().count(RequestKind::Produce, |found| codes.iter().for_each(|code| found(*code)));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        for line in [
            "connections 1",
            "received_bytes_total 0",
            "sent_bytes_total 0",
            "request_budget_used_bytes 0",
            "requests_total{request=\"Produce\"} 0",
            "errors_total{request=\"Produce\",error=\"NOT_LEADER_OR_FOLLOWER\"} 3",
            "errors_total{request=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1",
            "request_latency_seconds_count{request=\"Produce\"} 0",
        ] {
            assert!(text.contains(&format!("\nchronik_kafka_{line}\n")), "{line} is not in {text}");
        }
        assert!(!text.contains("error=\"NONE\""), "{text}");
    }
}
