//! The port for announcements: apart from that of the probes, as everybody in the Kubernetes cluster can reach it. What
//! one connection, and one address, can take up is bounded.

use super::verify::Refusal;
use super::{Announcements, PATH};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::debug;

/// A token is one or two kilobytes.
const BODY_MAX: usize = 8 << 10;
/// Connections at most, each of another address: what is beyond is closed, and brokers try again.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection lasts at most. After that Kubernetes has told the address itself.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long an address takes its place at least: each announcement makes the API server work.
const TIME_MIN: Duration = Duration::from_millis(100);
/// Bytes of a request that are read at once, and of its head at most.
const BUFFER: usize = 16 << 10;
/// After a failed accept, as when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes announcements until the process ends.
pub async fn serve(listener: TcpListener, announcements: Announcements) {
    let visitors = Visitors::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let from = from.ip().to_canonical();
        if let Some(visit) = visitors.admit(from) {
            tokio::spawn(converse(stream, announcements.clone(), from, visit));
        }
    }
}

/// One exchange, and the connection is closed.
async fn converse(stream: TcpStream, announcements: Announcements, from: IpAddr, _visit: Visit) {
    let service = service_fn(|request| answer(&announcements, from, request));
    let mut http = http1::Builder::new();
    let connection = http.keep_alive(false).max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
    // Whether the answer arrived is the broker's business: it tries again.
    let _ = tokio::join!(timeout(TIME_MAX, connection), sleep(TIME_MIN));
}

async fn answer(
    announcements: &Announcements,
    from: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match listen(announcements, from, request).await {
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(refusal) => {
            announcements.metrics.refused_announcement();
            // Whoever can reach the port could fill the log; a broker writes its refusal into its own.
            debug!(%from, %refusal, "an announcement was refused");
            (refusal.status(), refusal.to_string())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    Ok(response)
}

async fn listen(announcements: &Announcements, from: IpAddr, request: Request<Incoming>) -> Result<(), Refusal> {
    if request.method() != Method::POST || request.uri().path() != PATH {
        return Err(Refusal::Malformed(format!("only POST {PATH} is")));
    }
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
    let body = body.map_err(|e| Refusal::Malformed(e.to_string()))?.to_bytes();
    announcements.take(from, &body).await
}

/// The addresses that are being listened to.
#[derive(Clone, Default)]
struct Visitors(Arc<Mutex<HashSet<IpAddr>>>);

/// One of them, until it is dropped.
struct Visit {
    visitors: Visitors,
    from: IpAddr,
}

impl Visitors {
    fn admit(&self, from: IpAddr) -> Option<Visit> {
        let mut visitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = visitors.len() < CONNECTIONS_MAX && visitors.insert(from);
        admitted.then(|| Visit { visitors: self.clone(), from })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visitors.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use kube::Client;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server whose API server is not there: whoever makes it ask is told so.
    async fn start() -> SocketAddr {
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Announcements::new(client, None, Metrics::default())));
        server
    }

    /// Sends bytes, and returns the first line of the answer; none if the connection was closed without one.
    async fn answer_to(server: SocketAddr, sent: &[u8]) -> String {
        // Of what is sent beyond a limit the rest may not be taken any more.
        let mut stream = TcpStream::connect(server).await.unwrap();
        let _ = stream.write_all(sent).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn what_is_too_large_or_no_announcement_is_refused_before_anybody_is_asked() {
        let server = start().await;
        let post = |path: &str, body: &str| {
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let announcement = r#"{"address": "127.0.0.1", "token": "x"}"#;
        let (bad, gone) = ("HTTP/1.1 400 Bad Request", "HTTP/1.1 503 Service Unavailable");
        for (what, sent, answer) in [
            ("an announcement", post(PATH, announcement), gone),
            ("another path", post("/metrics", announcement), bad),
            ("a get", format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n"), bad),
            ("no announcement", post(PATH, "{}"), bad),
            ("a large body", post(PATH, &announcement.replace('x', &"x".repeat(BODY_MAX))), bad),
            ("a large head", post(&"/x".repeat(BUFFER), announcement), "HTTP/1.1 431 Request Header Fields Too Large"),
        ] {
            // The place is taken for a tenth of a second.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            let mut answered = String::new();
            while answered != answer {
                assert!(tokio::time::Instant::now() < deadline, "{what} is answered with {answered:?}");
                answered = answer_to(server, sent.as_bytes()).await;
            }
        }
    }

    #[tokio::test]
    async fn who_says_nothing_gives_its_place_back() {
        let server = start().await;
        let mut silent = TcpStream::connect(server).await.unwrap();
        let closed = timeout(TIME_MAX * 4, silent.read_to_end(&mut Vec::new())).await;
        assert_eq!(closed.expect("it is closed").unwrap(), 0);
    }

    #[test]
    fn one_address_takes_one_place_and_there_are_so_many() {
        let visitors = Visitors::default();
        let address = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let first = visitors.admit(address(0)).unwrap();
        assert!(visitors.admit(address(0)).is_none());
        let others = (1..CONNECTIONS_MAX).map(|n| visitors.admit(address(n)).unwrap()).collect::<Vec<_>>();
        assert!(visitors.admit(address(CONNECTIONS_MAX)).is_none());
        drop(first);
        let _again = visitors.admit(address(0)).unwrap();
        drop(others);
        assert_eq!(visitors.0.lock().unwrap().len(), 1);
    }
}
