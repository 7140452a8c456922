//! The hosts that are advertised to clients for good, where a broker registers with an address that goes away with its
//! process.
//!
//! A pod's address works as soon as clients have it, and a name of a Service some time later, as each node hears of
//! the change in its own time. But a client that knows addresses alone has nobody left to ask when all pods were replaced.
//! So the address is advertised at first, and the name once every node has had the time to learn of it.
//!
//! Who was told addresses alone would keep them until it asks again, which is five minutes where nothing goes wrong. Its
//! connection ends when there are names, as an idle one does: clients then ask anew.

use chronik_core::cluster::{Broker, Endpoint, Image};
use chronik_core::ids::{BrokerId, IncarnationId};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What stands for a broker's number.
const ID: &str = "{id}";

/// The hosts, and since when each broker runs.
#[derive(Debug)]
pub struct LastingHosts {
    pattern: String,
    after: Duration,
    /// The process that is registered, and when this broker first saw it.
    seen: Mutex<BTreeMap<BrokerId, (Option<IncarnationId>, Instant)>>,
}

impl LastingHosts {
    /// Hosts of this form, with `{id}` for a broker's number, advertised once its process is registered for so long.
    pub fn new(pattern: &str, after: Duration) -> Self {
        Self { pattern: pattern.to_owned(), after, seen: Mutex::default() }
    }

    /// Goes by the cluster as it changes; ends with it. Processes that ran before this one count from its start.
    pub(crate) async fn follow(&self, mut images: watch::Receiver<Image>) {
        loop {
            let image = images.borrow_and_update().clone();
            self.note(&image, Instant::now());
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    fn note(&self, image: &Image, now: Instant) {
        let mut seen = self.lock();
        seen.retain(|id, _| image.brokers.contains_key(id));
        for broker in image.brokers.values() {
            if seen.get(&broker.id).is_none_or(|(process, _)| *process != broker.incarnation) {
                seen.insert(broker.id, (broker.incarnation, now));
            }
        }
    }

    /// The endpoint of a broker that is advertised now.
    pub(super) fn endpoint(&self, broker: &Broker, now: Instant) -> Endpoint {
        let lasts = self.lock().get(&broker.id).is_some_and(|(process, since)| {
            *process == broker.incarnation && now.saturating_duration_since(*since) >= self.after
        });
        if !lasts {
            return broker.kafka.clone();
        }
        Endpoint { host: self.pattern.replace(ID, &broker.id.0.to_string()).into(), port: broker.kafka.port }
    }

    /// If clients are told of every broker by its address: what ends when they are told of one by a host that lasts, and
    /// some time after that, as they are not to ask all at once.
    pub(super) fn addresses_pass(self: Arc<Self>, images: watch::Receiver<Image>) -> Option<BoxFuture<'static, ()>> {
        if self.addresses_alone_for(&images.borrow(), Instant::now()).is_zero() {
            return None;
        }
        Some(Box::pin(async move {
            loop {
                let left = self.addresses_alone_for(&images.borrow(), Instant::now());
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left).await;
            }
            tokio::time::sleep(self.after.mul_f64(0.1 + 0.4 * rand::random::<f64>())).await;
        }))
    }

    /// How long it takes at least until a host that lasts is among what clients are told; zero if one is.
    fn addresses_alone_for(&self, image: &Image, now: Instant) -> Duration {
        let seen = self.lock();
        let alive = image.brokers.values().filter(|broker| !broker.fenced);
        let left = alive.filter_map(|broker| {
            let (process, since) = seen.get(&broker.id)?;
            let runs_for = now.saturating_duration_since(*since);
            (*process == broker.incarnation).then(|| self.after.saturating_sub(runs_for))
        });
        left.min().unwrap_or(self.after)
    }

    /// A panic elsewhere leaves times that are as good as any.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BrokerId, (Option<IncarnationId>, Instant)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
