//! The ways to all peers, and who this broker says it is on them.

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

/// Links by peer, opened when first asked for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Links {
    me: BrokerId,
    purpose: &'static str,
    peers: Peers,
    /// Where peers are, by config.
    endpoints: Arc<HashMap<BrokerId, Endpoint>>,
    /// The cluster id by this broker's data directory, before the image has it.
    cluster_id: Option<ClusterId>,
    image: watch::Receiver<Image>,
    open: Arc<Mutex<HashMap<BrokerId, Link>>>,
}

impl Links {
    pub(super) fn new(
        me: BrokerId,
        peers: Peers,
        endpoints: HashMap<BrokerId, Endpoint>,
        cluster_id: Option<ClusterId>,
        image: watch::Receiver<Image>,
    ) -> Self {
        let (endpoints, open) = (Arc::new(endpoints), Arc::default());
        Self { me, purpose: "controller", peers, endpoints, cluster_id, image, open }
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

    /// The way to a peer; `fallback` says where it is if the config does not.
    pub(super) fn to(&self, peer: BrokerId, fallback: Option<&Endpoint>) -> Option<Link> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = open.get(&peer) {
            return Some(link.clone());
        }
        let endpoint = self.endpoints.get(&peer).or(fallback)?.clone();
        let link = Link::open(peer, endpoint, self.peers.clone(), self.purpose);
        open.insert(peer, link.clone());
        Some(link)
    }

    /// Calls a peer whose place is known by config.
    pub(super) async fn call<T, F>(
        &self,
        peer: BrokerId,
        timeout: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        match self.to(peer, None) {
            Some(link) => link.call(timeout, call).await,
            None => Err(CallError::NotConnected),
        }
    }

    /// Closes the links to all peers but one.
    pub(super) fn keep_only(&self, peer: BrokerId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| *id == peer);
    }
}
