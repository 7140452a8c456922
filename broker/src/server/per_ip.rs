//! Which addresses have how many connections.

use chronik_core::cluster::{ConnectionsPerIp, Image, MAX_CONNECTIONS_PER_IP, MAX_CONNECTIONS_PER_IP_OVERRIDES};
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The connections of all listeners, by address. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PerIp {
    me: BrokerId,
    of_file: Arc<ConnectionsPerIp>,
    images: watch::Receiver<Image>,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    by_address: HashMap<IpAddr, usize>,
    limits: ConnectionsPerIp,
    /// What of the image the limits are from.
    from: [Option<Arc<str>>; 2],
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct OneOf {
    address: IpAddr,
    counted: Arc<Mutex<Counted>>,
}

impl PerIp {
    pub(super) fn new(me: BrokerId, of_file: ConnectionsPerIp, images: watch::Receiver<Image>) -> Self {
        let counted = Counted { by_address: HashMap::new(), limits: of_file.clone(), from: [None, None] };
        Self { me, of_file: Arc::new(of_file), images, counted: Arc::new(Mutex::new(counted)) }
    }

    /// Counts one more connection from there; `None` if there are as many as may be.
    pub(super) fn one_more(&self, address: IpAddr) -> Option<OneOf> {
        let address = address.to_canonical();
        let mut counted = lock(&self.counted);
        {
            let image = self.images.borrow();
            let given = |name| image.dynamic_property(self.me, name);
            let from = [MAX_CONNECTIONS_PER_IP, MAX_CONNECTIONS_PER_IP_OVERRIDES].map(given);
            if from != [counted.from[0].as_ref(), counted.from[1].as_ref()] {
                let from = from.map(Option::<&Arc<str>>::cloned);
                counted.limits = image.connections_per_ip(self.me, &self.of_file);
                counted.from = from;
            }
        }
        let there = counted.by_address.get(&address).copied().unwrap_or_default();
        if there >= counted.limits.of(address) {
            return None;
        }
        counted.by_address.insert(address, there + 1);
        drop(counted);
        Some(OneOf { address, counted: Arc::clone(&self.counted) })
    }
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    // Nothing panics with the lock.
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for OneOf {
    fn drop(&mut self) {
        let mut counted = lock(&self.counted);
        if let Some(there) = counted.by_address.get_mut(&self.address) {
            *there -= 1;
            if *there == 0 {
                counted.by_address.remove(&self.address);
            }
        }
    }
}
