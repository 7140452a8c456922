//! Which addresses of brokers a client gets: those of the listener that it came through.

use super::lasting_hosts::LastingHosts;
use chronik_core::cluster::{Broker, Endpoint, Image};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The listener that a client came through. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum ListenerName {
    /// The one whose addresses brokers register, with the hosts that are advertised in their place later, if any.
    First(Option<Arc<LastingHosts>>),
    /// One of the others, by its name in upper case.
    Further(Arc<str>),
}

impl ListenerName {
    /// Whether it is the one whose addresses brokers register.
    pub(super) fn is_first(&self) -> bool {
        matches!(self, Self::First(_))
    }

    /// If clients of this listener are told of every broker by an address that goes away with its process: what ends when
    /// there is better to be told.
    pub(super) fn addresses_pass(&self, images: watch::Receiver<Image>) -> Option<BoxFuture<'static, ()>> {
        let Self::First(Some(lasting)) = self else { return None };
        Arc::clone(lasting).addresses_pass(images)
    }

    /// Where clients of this listener reach a broker; `None` if it has no address there.
    pub(super) fn endpoint(&self, image: &Image, broker: &Broker) -> Option<Endpoint> {
        match self {
            Self::First(None) => Some(broker.kafka.clone()),
            Self::First(Some(lasting)) => Some(lasting.endpoint(broker, Instant::now())),
            Self::Further(name) => image.advertised(broker.id, name),
        }
    }
}
