//! The HTTP listener for whoever runs the broker: probes and metrics. It is up before the log is read, and says how far
//! that is: a long start and a hung one look different.

use crate::brief_connections::BriefConnections;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chronik_core::ids::BrokerId;
use chronik_quorum::{ControllerHandle, StartProgress};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Connections at once: a kubelet has one a probe, whoever scrapes one of its own.
const MAX_CONNECTIONS: usize = 64;
/// As long as a connection may last. Kubelets and Prometheus open another when one has ended between two requests; it is
/// no multiple of the intervals at which they come.
const LONGEST_CONNECTION: Duration = Duration::from_secs(37);

/// A broker without a lease for so long says that it is not ready. Many elections, and the restart of a controller quorum,
/// fit into that: all brokers are without a lease then, and clients that are sent nowhere would come back later than it.
const FORSAKEN: Duration = Duration::from_secs(30);

/// Whether clients should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The log is being opened and read.
    Recovering,
    /// Registered, unfenced and serving, since then.
    Ready(Instant),
    /// Not yet, or not any more, for that reason.
    NotReady(String),
}

/// How far the start has come with reading the log.
#[derive(Debug)]
pub struct Recovery {
    since: Instant,
    /// Bytes in all; 0 until the log is open.
    total: AtomicU64,
    read: AtomicU64,
    /// When the reading began, in milliseconds from `since`.
    began_ms: AtomicU64,
}

impl Recovery {
    /// From now on.
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            total: AtomicU64::default(),
            read: AtomicU64::default(),
            began_ms: AtomicU64::default(),
        }
    }

    /// The log is open: so many bytes of it are read now.
    pub fn reads(&self, bytes: u64) {
        self.began_ms.store(millis(self.since.elapsed()), Ordering::Relaxed);
        self.total.store(bytes.max(1), Ordering::Relaxed);
    }

    /// So many more have been read.
    pub fn has_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How far it is, for other brokers.
    pub fn so_far(&self) -> StartProgress {
        let total = self.total.load(Ordering::Relaxed);
        StartProgress { read: self.read.load(Ordering::Relaxed).min(total), total }
    }

    fn text(&self) -> String {
        let total = self.total.load(Ordering::Relaxed);
        let elapsed = self.since.elapsed();
        if total == 0 {
            return format!("recovering: opening the log for {} s", elapsed.as_secs());
        }
        let read = self.read.load(Ordering::Relaxed).min(total);
        let reading = elapsed.saturating_sub(Duration::from_millis(self.began_ms.load(Ordering::Relaxed)));
        format!("recovering: {}", progress(read, total, reading))
    }
}

/// How far it is, and how long it will take if it goes on like this.
fn progress(read: u64, total: u64, took: Duration) -> String {
    let percent = read as f64 / total as f64 * 100.0;
    let mib = |bytes: u64| bytes >> 20;
    let left = if read == 0 {
        String::new()
    } else {
        let seconds = took.as_secs_f64() * (total - read) as f64 / read as f64;
        format!(", about {seconds:.0} s left")
    };
    format!("{percent:.0} % of the log read ({} of {} MiB){left}", mib(read), mib(total))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the listener shows, and what the broker tells it.
#[derive(Debug)]
pub struct Probes {
    readiness: watch::Sender<Readiness>,
    opened: Arc<OnceLock<Opened>>,
}

/// What there is once the log is open.
#[derive(Debug)]
struct Opened {
    registry: Registry,
    me: BrokerId,
    controller: ControllerHandle,
}

/// The listener's end.
#[derive(Clone, Debug)]
pub struct Shown {
    recovery: Arc<Recovery>,
    readiness: watch::Receiver<Readiness>,
    opened: Arc<OnceLock<Opened>>,
}

impl Probes {
    /// Before the log is opened.
    pub fn new(recovery: Arc<Recovery>) -> (Self, Shown) {
        let (readiness, shown) = watch::channel(Readiness::Recovering);
        let opened = Arc::<OnceLock<Opened>>::default();
        let shown = Shown { recovery, readiness: shown, opened: Arc::clone(&opened) };
        (Self { readiness, opened }, shown)
    }

    /// The log is open, and the broker takes part in the quorum.
    pub fn opened(&self, registry: Registry, me: BrokerId, controller: ControllerHandle) {
        // Once a start.
        let _ = self.opened.set(Opened { registry, me, controller });
        self.set(Readiness::NotReady("not registered with the controller yet".into()));
    }

    /// What the broker's standing with the controller is.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
    }
}

/// Serves `/livez`, `/readyz`, `/insync` and `/metrics` until `stop` is cancelled.
pub async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) -> io::Result<()> {
    let routes = Router::new()
        // That it answers is the answer: nothing about peers, or a lost peer would restart this broker.
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/insync", get(in_sync))
        .route("/metrics", get(metrics))
        .with_state(shown);
    let listener = BriefConnections::new(listener, MAX_CONNECTIONS, LONGEST_CONNECTION);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

impl Shown {
    /// Why clients should not be sent here, if so.
    fn not_ready(&self) -> Option<String> {
        match &*self.readiness.borrow() {
            Readiness::Ready(since) => {
                let lease_until = self.opened.get().and_then(|o| o.controller.registration().borrow().lease_until);
                forsaken(*since, lease_until, Instant::now())
            }
            Readiness::Recovering => Some(self.recovery.text()),
            Readiness::NotReady(reason) => Some(reason.clone()),
        }
    }

    /// Why this broker is not in sync everywhere, if so: by its own image, and only while its lease holds, as an older
    /// image says nothing.
    fn not_in_sync(&self) -> Option<String> {
        if let Some(reason) = self.not_ready() {
            return Some(reason);
        }
        let Some(Opened { me, controller, .. }) = self.opened.get() else { return Some(self.recovery.text()) };
        if controller.registration().borrow().lease_until.is_none_or(|until| until <= Instant::now()) {
            return Some("the controller does not answer".into());
        }
        let holdings = controller.image().holdings().get(me).copied().unwrap_or_default();
        (holdings.out_of_sync > 0)
            .then(|| format!("not in sync in {} of {} partitions", holdings.out_of_sync, holdings.replicas))
    }
}

/// Why a broker without a lease is not ready any more. The controller took it for alive when it last answered, but may
/// have fenced it since, and without a lease a leader serves nothing. It cannot be known here whether this broker alone
/// has lost the controller, or all have: so it stays ready for a while.
fn forsaken(ready_since: Instant, lease_until: Option<Instant>, now: Instant) -> Option<String> {
    let without = now.saturating_duration_since(lease_until.map_or(ready_since, |until| until.max(ready_since)));
    (without > FORSAKEN).then(|| format!("the controller has given no lease for {} s", without.as_secs()))
}

fn verdict(well: &'static str, reason: Option<String>) -> Response {
    match reason {
        None => well.into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    verdict("ready\n", shown.not_ready())
}

async fn in_sync(State(shown): State<Shown>) -> Response {
    verdict("in sync\n", shown.not_in_sync())
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let Some(opened) = shown.opened.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", shown.recovery.text())).into_response();
    };
    let mut text = String::new();
    if encode(&mut text, &opened.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use chronik_core::cluster::Image;
    use chronik_quorum::Registration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn probes_answer_from_the_first_moment_on_and_follow_the_broker() {
        let recovery = Arc::new(Recovery::begin());
        let (probes, shown) = Probes::new(Arc::clone(&recovery));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, shown, stop.clone()));
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nHost: chronik\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("it answers");
            answer
        };
        let unavailable = |answer: &str, text: &str| answer.starts_with("HTTP/1.1 503") && answer.contains(text);
        assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
        assert!(unavailable(&get("/readyz").await, "opening the log"));
        recovery.reads(200 << 20);
        recovery.has_read(50 << 20);
        assert_eq!(recovery.so_far(), StartProgress { read: 50 << 20, total: 200 << 20 });
        for path in ["/readyz", "/insync", "/metrics"] {
            let answer = get(path).await;
            assert!(unavailable(&answer, "25 % of the log read (50 of 200 MiB)"), "{answer}");
        }

        let mut registry = Registry::with_prefix("chronik");
        let _metrics = Metrics::register(&mut registry);
        let (lease, registration) = watch::channel(Registration::default());
        let (_image, images) = watch::channel(Image::default());
        let (requests, _asked) = mpsc::unbounded_channel();
        let handle = ControllerHandle::new(requests, images, registration, watch::channel(None).1);
        probes.opened(registry, BrokerId(0), handle);
        assert!(unavailable(&get("/readyz").await, "not registered"));
        assert!(get("/metrics").await.contains("chronik_kafka_connections 0"));
        probes.set(Readiness::Ready(Instant::now()));
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(unavailable(&get("/insync").await, "the controller does not answer"));
        lease.send_modify(|r| r.lease_until = Some(Instant::now() + Duration::from_mins(1)));
        assert!(get("/insync").await.starts_with("HTTP/1.1 200"));
        probes.set(Readiness::NotReady("fenced".into()));
        assert!(unavailable(&get("/readyz").await, "fenced"));
        assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
        stop.cancel();
        served.await.expect("no panic").expect("a clean end");
    }

    #[tokio::test]
    async fn who_has_lost_the_controller_for_long_is_not_ready_and_is_again_with_the_next_lease() {
        let (probes, shown) = Probes::new(Arc::new(Recovery::begin()));
        let (lease, registration) = watch::channel(Registration::default());
        let (_image, images) = watch::channel(Image::default());
        let (requests, _asked) = mpsc::unbounded_channel();
        let handle = ControllerHandle::new(requests, images, registration, watch::channel(None).1);
        probes.opened(Registry::default(), BrokerId(0), handle);
        let long_ago = Instant::now().checked_sub(Duration::from_mins(2)).expect("the machine has been up for longer");
        probes.set(Readiness::Ready(long_ago));
        let leased = |until| lease.send_modify(|r| r.lease_until = Some(until));
        leased(Instant::now() + Duration::from_mins(1));
        assert_eq!(shown.not_ready(), None);
        leased(long_ago);
        let reason = shown.not_ready().expect("it has had no lease for two minutes");
        assert!(reason.contains("no lease for 12"), "{reason}");
        leased(Instant::now() + Duration::from_mins(1));
        assert_eq!(shown.not_ready(), None);
    }

    #[test]
    fn a_controller_that_is_gone_for_a_moment_makes_nobody_unready() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (ready_since, lease_until, now, ready) in [
            (0, None, 30, true),
            (0, None, 31, false),
            (0, Some(100), 90, true),
            (0, Some(100), 130, true),
            (0, Some(100), 131, false),
            // It was fenced, and is back: the lease of before says nothing.
            (200, Some(100), 230, true),
            (200, Some(100), 231, false),
        ] {
            let found = forsaken(at(ready_since), lease_until.map(at), at(now));
            assert_eq!(found.is_none(), ready, "{ready_since} {lease_until:?} {now}: {found:?}");
        }
    }

    #[test]
    fn what_is_left_is_estimated_from_what_was_read() {
        assert_eq!(progress(0, 4 << 20, Duration::from_secs(9)), "0 % of the log read (0 of 4 MiB)");
        let quarter = progress(1 << 20, 4 << 20, Duration::from_secs(5));
        assert_eq!(quarter, "25 % of the log read (1 of 4 MiB), about 15 s left");
    }
}
