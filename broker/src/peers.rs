//! Where the other brokers are. A name is resolved at each dial, and an address that a peer itself was seen
//! at is tried beside it: a cluster DNS may go on for 30 s saying that a pod does not exist which does. Who
//! answers at an address is proven by the handshake of the connection, never by the address.

use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// What is known of the peers' addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    seen: Arc<Mutex<HashMap<BrokerId, IpAddr>>>,
    contacts: broadcast::Sender<BrokerId>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { seen: Arc::default(), contacts: broadcast::channel(64).0 }
    }
}

impl Peers {
    /// A peer has shown itself, from that address: whoever waits to dial it again should do so now.
    pub fn contacted(&self, peer: BrokerId, from: IpAddr) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, from);
        // Nobody may be listening, which is no error.
        let _ = self.contacts.send(peer);
    }

    /// Somebody else answered at that address: it is tried no more until the peer shows itself from there again.
    pub fn mistaken(&self, peer: BrokerId, address: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&peer) == Some(&address) {
            seen.remove(&peer);
        }
    }

    /// Names each peer that shows itself. A receiver that lags has missed some: treat it as "all of them".
    pub fn contacts(&self) -> broadcast::Receiver<BrokerId> {
        self.contacts.subscribe()
    }

    /// Connects to a peer, by its name and by the address it was last seen at, whichever answers first.
    pub async fn dial(&self, peer: BrokerId, endpoint: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied();
        let (host, port) = (Arc::clone(&endpoint.host), endpoint.port);
        let mut tries: JoinSet<io::Result<TcpStream>> = JoinSet::new();
        tries.spawn(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in lookup_host((&*host, port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(e) => last = e,
                }
            }
            Err(last)
        });
        if let Some(ip) = seen {
            tries.spawn(TcpStream::connect(SocketAddr::new(ip, port)));
        }
        let connect = async {
            let mut last = io::Error::from(io::ErrorKind::NotConnected);
            while let Some(done) = tries.join_next().await {
                match done {
                    Ok(Ok(stream)) => {
                        stream.set_nodelay(true)?;
                        return Ok(stream);
                    }
                    Ok(Err(e)) => last = e,
                    Err(_) => {}
                }
            }
            Err(last)
        };
        tokio::time::timeout(timeout, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
