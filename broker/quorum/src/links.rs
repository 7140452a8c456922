//! The ways to all peers, and who this broker says it is on them.
//!
//! Where a peer is, the metadata log says; the configuration says where it was looked for first, and is tried beside it:
//! a name in there may be right when what was registered is not any more. Who answers is proven by each request.

use super::link::{CallError, Client, Link};
use super::proto;
use crate::peers::Peers;
use chronik_core::cluster::{Endpoint, Image};
use chronik_core::ids::{BrokerId, ClusterId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// Where peers are. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Places {
    configured: Arc<HashMap<BrokerId, Endpoint>>,
    learned: Arc<Mutex<HashMap<BrokerId, Endpoint>>>,
}

impl Places {
    /// One that is known.
    #[cfg(test)]
    pub(super) fn one(peer: BrokerId, endpoint: Endpoint) -> Self {
        let places = Self::default();
        places.learn(peer, endpoint);
        places
    }

    fn learn(&self, peer: BrokerId, endpoint: Endpoint) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, endpoint);
    }

    /// All that are known, the newest first.
    pub(super) fn of(&self, peer: BrokerId) -> Vec<Endpoint> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        let configured = self.configured.get(&peer).filter(|at| Some(*at) != learned.as_ref()).cloned();
        learned.into_iter().chain(configured).collect()
    }
}

/// Links by peer, opened when first asked for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Links {
    me: BrokerId,
    purpose: &'static str,
    peers: Peers,
    places: Places,
    /// The cluster id by this broker's data directory, before the image has it.
    cluster_id: Option<ClusterId>,
    image: watch::Receiver<Image>,
    open: Arc<Mutex<HashMap<BrokerId, Link>>>,
}

impl Links {
    pub(super) fn new(
        me: BrokerId,
        peers: Peers,
        configured: HashMap<BrokerId, Endpoint>,
        cluster_id: Option<ClusterId>,
        image: watch::Receiver<Image>,
    ) -> Self {
        let places = Places { configured: Arc::new(configured), learned: Arc::default() };
        Self { me, purpose: "controller", peers, places, cluster_id, image, open: Arc::default() }
    }

    /// The same peers over connections of their own.
    pub(super) fn apart(&self, purpose: &'static str) -> Self {
        Self { purpose, open: Arc::default(), ..self.clone() }
    }

    /// The cluster that this broker belongs to, as far as it knows.
    pub(super) fn cluster_id(&self) -> Option<ClusterId> {
        self.image.borrow().cluster_id.or(self.cluster_id)
    }

    pub(super) fn caller(&self, to: BrokerId) -> proto::Caller {
        let cluster_id = self.cluster_id().map(|id| id.0.as_bytes().to_vec()).unwrap_or_default();
        proto::Caller { cluster_id, from: self.me.0, to: to.0 }
    }

    /// A peer is said to be there.
    pub(super) fn learn(&self, peer: BrokerId, endpoint: Endpoint) {
        self.places.learn(peer, endpoint);
    }

    /// The way to a peer, if it is known where it is.
    pub(super) fn to(&self, peer: BrokerId) -> Option<Link> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = open.get(&peer) {
            return Some(link.clone());
        }
        if self.places.of(peer).is_empty() {
            return None;
        }
        let link = Link::open(peer, self.places.clone(), self.peers.clone(), self.purpose);
        open.insert(peer, link.clone());
        Some(link)
    }

    /// Calls a peer.
    pub(super) async fn call<T, F>(
        &self,
        peer: BrokerId,
        timeout: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        match self.to(peer) {
            Some(link) => link.call(timeout, call).await,
            None => Err(CallError::NotConnected),
        }
    }

    /// Closes the links to all peers but these.
    pub(super) fn keep_only(&self, holds: impl Fn(BrokerId) -> bool) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| holds(*id));
    }
}
