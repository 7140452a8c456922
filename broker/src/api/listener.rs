//! Which addresses of brokers a client is told: those of the listener that it came through.

use chronik_core::cluster::{Broker, Endpoint, Image};
use std::sync::Arc;

/// The listener that a client came through. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerName(Option<Arc<str>>);

impl ListenerName {
    /// The one whose addresses brokers register.
    pub(crate) const FIRST: Self = Self(None);

    /// One of the others, by its name in upper case.
    pub(crate) fn further(name: Arc<str>) -> Self {
        Self(Some(name))
    }

    /// Whether it is the one whose addresses brokers register.
    pub(super) fn is_first(&self) -> bool {
        self.0.is_none()
    }

    /// Where clients of this listener reach a broker; `None` if it has no address there.
    pub(super) fn endpoint(&self, image: &Image, broker: &Broker) -> Option<Endpoint> {
        match &self.0 {
            None => Some(broker.kafka.clone()),
            Some(name) => image.advertised(broker.id, name),
        }
    }
}
