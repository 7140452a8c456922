//! Where the other brokers are. All names of a peer are resolved at each dial, and the address that the peer itself
//! was seen at is tried beside them: a cluster DNS may go on for 30 s saying that a pod does not exist which does. Who
//! answers at an address is proven by the handshake of the connection, never by the address.

use chronik_core::cluster::Endpoint;
use chronik_core::ids::BrokerId;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::MissedTickBehavior;

/// Names that are looked up at the same time. A resolver that does not answer holds a thread for seconds, and reads
/// from the disk need threads of the same kind.
const LOOKUPS_MAX: usize = 8;
/// A dial that was given up may be followed by one that asks the same: it gets the answer that came meanwhile.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(200);
/// A name may stand for a place that swallows what is sent to it and is right a moment later, as that of a Service
/// whose pod has just got its address; and the kernel sends again only after a second. So each name is tried again while
/// there is no answer, beside the tries that are under way, so often.
const AGAIN: Duration = Duration::from_millis(50);
/// And so many times: a peer that is gone costs no more than that.
const AGAIN_MAX: usize = 5;

/// What is known of the peers' addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    seen: Arc<Mutex<HashMap<BrokerId, IpAddr>>>,
    alternatives: Arc<HashMap<BrokerId, Vec<Arc<str>>>>,
    /// Of all others, with `{id}` for their numbers.
    others: Arc<[String]>,
    contacts: broadcast::Sender<BrokerId>,
    losses: broadcast::Sender<BrokerId>,
    /// Since when a peer is missing: a connection with it has ended, and there is no other yet.
    missing: watch::Sender<HashMap<BrokerId, Instant>>,
    lookups: Lookups,
    /// What is lost on the way to them.
    #[cfg(test)]
    pub(crate) caller: crate::cuts::Caller,
}

/// Names that are being looked up, each once however many ask. Cheap to clone.
#[derive(Clone, Debug)]
struct Lookups {
    permits: Arc<Semaphore>,
    under_way: Arc<Mutex<HashMap<Arc<str>, Answer>>>,
}

/// `None` until there is one.
type Answer = watch::Receiver<Option<Found>>;

/// What a name was found to be, and when.
#[derive(Clone, Debug)]
struct Found {
    addresses: Result<Arc<[IpAddr]>, Arc<io::Error>>,
    at: Instant,
}

impl Default for Peers {
    fn default() -> Self {
        Self::new(HashMap::new())
    }
}

impl Peers {
    /// `alternatives` are further hosts at which a peer may be found, beside that of the endpoint that is dialled.
    pub fn new(alternatives: HashMap<BrokerId, Vec<Arc<str>>>) -> Self {
        Self {
            seen: Arc::default(),
            alternatives: Arc::new(alternatives),
            others: Arc::default(),
            contacts: broadcast::channel(64).0,
            losses: broadcast::channel(64).0,
            missing: watch::Sender::default(),
            lookups: Lookups { permits: Arc::new(Semaphore::new(LOOKUPS_MAX)), under_way: Arc::default() },
            #[cfg(test)]
            caller: crate::cuts::Caller::default(),
        }
    }

    /// `hosts` are those at which peers without alternatives of their own may be found, with `{id}` for their numbers.
    #[must_use]
    pub fn with_others(mut self, hosts: Vec<String>) -> Self {
        self.others = hosts.into();
        self
    }

    /// The same, for a broker whose messages may be lost.
    #[cfg(test)]
    pub(crate) fn called_by(self, caller: crate::cuts::Caller) -> Self {
        Self { caller, ..self }
    }

    fn alternatives(&self, peer: BrokerId) -> Vec<Arc<str>> {
        let of_others = || self.others.iter().map(|host| host.replace("{id}", &peer.to_string()).into()).collect();
        self.alternatives.get(&peer).cloned().unwrap_or_else(of_others)
    }

    /// A peer has shown itself, from that address: whoever waits to dial it again should do so now.
    ///
    /// A listener on every address, IPv6 ones included, sees IPv4 as `::ffff:…`: it is remembered as what it is.
    pub fn contacted(&self, peer: BrokerId, from: IpAddr) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, from.to_canonical());
        // Nobody may be listening, which is no error.
        let _ = self.contacts.send(peer);
    }

    /// Somebody else answered at that address: it is tried no more until the peer shows itself from there again.
    pub fn mistaken(&self, peer: BrokerId, address: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&peer) == Some(&address.to_canonical()) {
            seen.remove(&peer);
        }
    }

    /// Names each peer that shows itself. A receiver that lags has missed some: treat it as "all of them".
    pub fn contacts(&self) -> broadcast::Receiver<BrokerId> {
        self.contacts.subscribe()
    }

    /// A connection with a peer has ended: it may be gone.
    pub fn lost(&self, peer: BrokerId) {
        self.missing.send_modify(|missing| {
            missing.insert(peer, Instant::now());
        });
        let _ = self.losses.send(peer);
    }

    /// There is a replication connection with a peer.
    pub fn reached(&self, peer: BrokerId) {
        self.missing.send_if_modified(|missing| missing.remove(&peer).is_some());
    }

    /// The peers that a connection has ended with, and when, until there is another one.
    pub fn missing(&self) -> watch::Receiver<HashMap<BrokerId, Instant>> {
        self.missing.subscribe()
    }

    /// Names each peer that a connection was lost with. A receiver that lags has missed some.
    pub fn losses(&self) -> broadcast::Receiver<BrokerId> {
        self.losses.subscribe()
    }

    fn seen(&self, peer: BrokerId) -> Option<IpAddr> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }

    /// Connects to a peer, by its names and by the address it was last seen at, whichever answers first. When the peer
    /// shows itself meanwhile, it is tried there too: a name may stand for a place that swallows what is sent to it.
    pub async fn dial(&self, peer: BrokerId, endpoint: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
        self.dial_at(peer, endpoint, &self.alternatives(peer), timeout).await
    }

    /// Whether nobody listens where a peer has registered. Names that it may be found at beside that are not asked: of
    /// a peer that is gone they say nothing, or late.
    pub async fn refuses(&self, peer: BrokerId, endpoint: &Endpoint, timeout: Duration) -> bool {
        #[cfg(test)]
        if self.caller.refuses(endpoint.port) {
            return true;
        }
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        self.dial_at(peer, endpoint, &[], timeout).await.is_err_and(|error| refused(&error))
    }

    async fn dial_at(
        &self,
        peer: BrokerId,
        endpoint: &Endpoint,
        alternatives: &[Arc<str>],
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        let mut contacts = self.contacts();
        let mut seen = self.seen(peer);
        let port = endpoint.port;
        let mut tries: JoinSet<io::Result<TcpStream>> = JoinSet::new();
        let try_names = |tries: &mut JoinSet<_>| {
            for host in std::iter::once(&endpoint.host).chain(alternatives) {
                tries.spawn(connect_by_name(self.lookups.clone(), Arc::clone(host), port));
            }
        };
        try_names(&mut tries);
        if let Some(ip) = seen {
            tries.spawn(TcpStream::connect(SocketAddr::new(ip, port)));
        }
        let mut again = tokio::time::interval_at(tokio::time::Instant::now() + AGAIN, AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut left = AGAIN_MAX;
        let connect = async {
            let mut last = io::Error::from(io::ErrorKind::NotConnected);
            loop {
                tokio::select! {
                    done = tries.join_next() => match done {
                        Some(Ok(Ok(stream))) => {
                            stream.set_nodelay(true)?;
                            return Ok(stream);
                        }
                        Some(Ok(Err(e))) => last = e,
                        Some(Err(_)) => {}
                        None => return Err(last),
                    },
                    _ = again.tick(), if left > 0 => {
                        left -= 1;
                        try_names(&mut tries);
                    }
                    // A receiver that lags has missed some; it cannot be closed while there are peers.
                    _ = contacts.recv() => {
                        let now = self.seen(peer);
                        if let Some(ip) = now.filter(|_| now != seen) {
                            tries.spawn(TcpStream::connect(SocketAddr::new(ip, port)));
                        }
                        seen = now;
                    }
                }
            }
        };
        tokio::time::timeout(timeout, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn connect_by_name(lookups: Lookups, host: Arc<str>, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for ip in lookups.addresses(&host).await?.iter() {
        match TcpStream::connect(SocketAddr::new(*ip, port)).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

impl Lookups {
    async fn addresses(&self, host: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok([ip].into());
        }
        let mut answer = self.ask(host);
        let found = answer.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
        let found = found.map_or_else(|| Ok([].into()), |found| found.addresses);
        found.map_err(|error| io::Error::new(error.kind(), error))
    }

    /// The answer to a question that is under way, or was a moment ago; or to a new one.
    fn ask(&self, host: &Arc<str>) -> Answer {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |found: &Found| found.at.elapsed() > ANSWER_AGE_MAX;
        under_way.retain(|_, answer| !answer.borrow().as_ref().is_some_and(old));
        if let Some(answer) = under_way.get(host) {
            return answer.clone();
        }
        let (found, answer) = watch::channel(None);
        under_way.insert(Arc::clone(host), answer.clone());
        let (host, permits) = (Arc::clone(host), Arc::clone(&self.permits));
        tokio::spawn(async move {
            let _permit = permits.acquire().await;
            let asked = spawn_blocking(move || (&*host, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>)).await;
            let addresses = asked.map_err(io::Error::other).flatten();
            let addresses = addresses.map(|all| all.iter().map(SocketAddr::ip).collect()).map_err(Arc::new);
            found.send_replace(Some(Found { addresses, at: Instant::now() }));
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_peer_is_found_by_any_of_its_names() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // RFC 6761 keeps .invalid out of every DNS.
        let endpoint = Endpoint { host: "absent.invalid".into(), port: listener.local_addr().unwrap().port() };
        let dial = async |peers: Peers| peers.dial(BrokerId(1), &endpoint, Duration::from_secs(10)).await;
        dial(Peers::default()).await.unwrap_err();
        let known = |host: &str| Peers::new(HashMap::from([(BrokerId(1), vec![host.into()])]));
        dial(known("localhost")).await.unwrap();
        dial(known("127.0.0.1")).await.unwrap();
        dial(Peers::default().with_others(vec!["127.0.0.{id}".to_owned()])).await.unwrap();
    }

    #[tokio::test]
    async fn an_ipv4_peer_that_came_to_an_ipv6_listener_is_known_by_its_ipv4_address() {
        let (peers, peer, v4) = (Peers::default(), BrokerId(1), IpAddr::from([127, 0, 0, 1]));
        let listener = TcpListener::bind((v4, 0)).await.unwrap();
        let endpoint = Endpoint { host: "absent.invalid".into(), port: listener.local_addr().unwrap().port() };
        peers.contacted(peer, "::ffff:127.0.0.1".parse().unwrap());
        let stream = peers.dial(peer, &endpoint, Duration::from_secs(10)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), v4);
        peers.mistaken(peer, stream.peer_addr().unwrap().ip());
        peers.dial(peer, &endpoint, Duration::from_secs(10)).await.unwrap_err();
    }

    #[tokio::test]
    async fn an_ipv6_address_is_a_host_without_brackets() {
        let found = Peers::default().lookups.addresses(&"fd00::7".into()).await.unwrap();
        assert_eq!(*found, ["fd00::7".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_peer_that_shows_itself_is_found_although_its_name_leads_nowhere() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
        let peers = Peers::default();
        let nowhere = peers.lookups.permits.clone().acquire_many_owned(LOOKUPS_MAX as u32).await.unwrap();
        let dial = peers.dial(BrokerId(1), &endpoint, Duration::from_secs(10));
        let shows_itself = async {
            tokio::task::yield_now().await;
            peers.contacted(BrokerId(1), IpAddr::from([127, 0, 0, 1]));
        };
        tokio::join!(dial, shows_itself).0.unwrap();
        drop(nowhere);
    }

    /// A listener whose queue is full swallows what is sent to it, until it accepts.
    async fn dial_what_swallows_at_first() -> io::Result<TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: address.port() };
        let peers = Peers::default();
        let dial = peers.dial(BrokerId(1), &endpoint, Duration::from_millis(900));
        let accept = async {
            tokio::time::sleep(AGAIN * 3 / 2).await;
            listener.accept().await.unwrap()
        };
        tokio::join!(dial, accept).0
    }

    /// A machine that stalls may be late once, or twice.
    #[tokio::test]
    async fn a_place_that_swallows_at_first_is_found_before_the_kernel_tries_again() {
        let mut outcome = dial_what_swallows_at_first().await;
        for _ in 1..3 {
            if outcome.is_err() {
                outcome = dial_what_swallows_at_first().await;
            }
        }
        outcome.unwrap();
    }

    #[test]
    fn a_peer_is_missing_from_a_connections_end_until_there_is_another() {
        let (peers, peer) = (Peers::default(), BrokerId(1));
        let missing = || peers.missing().borrow().contains_key(&peer);
        assert!(!missing());
        peers.lost(peer);
        assert!(missing());
        peers.contacted(peer, IpAddr::from([127, 0, 0, 1]));
        assert!(missing(), "a new process shows itself before it serves");
        peers.reached(peer);
        assert!(!missing());
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_takes_no_more_threads_than_there_are_permits() {
        let peers = Peers::default();
        let all = peers.lookups.permits.clone().acquire_many_owned(LOOKUPS_MAX as u32).await.unwrap();
        let endpoint = Endpoint { host: "localhost".into(), port: 1 };
        let error = peers.dial(BrokerId(1), &endpoint, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(all);
        let error = peers.dial(BrokerId(1), &endpoint, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
