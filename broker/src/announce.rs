//! Saying to the operator where this broker is, before Kubernetes does: it tells a pod's address when it looks for it
//! the next time, up to a second after the start. Nothing depends on it but that second.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// After this long the address is known anyhow.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How long finding the operator and connecting to it may take: the kernel repeats what was lost after a second only.
const CONNECT_MAX: Duration = Duration::from_millis(400);
/// Between the first two tries; doubled after each, as long as it is less than the greatest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// Of an answer no more is read than is worth a line.
const ANSWER_MAX: usize = 1 << 10;

/// What there is to say, and to whom.
#[derive(Debug)]
struct Announcement {
    to: Uri,
    body: Bytes,
}

/// Why it was not heard.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{status}: {}", .said.trim())]
    Answer { status: StatusCode, said: String },
    #[error("no answer")]
    Late,
}

/// Says once that this broker is at `address`; tries for three seconds. Failing changes nothing, and is one log line.
///
/// # Errors
/// None: what is wrong with the folder, the address or the operator is logged.
pub(crate) async fn announce(dir: PathBuf, address: Arc<str>) {
    let started = Instant::now();
    let read = spawn_blocking(move || read(&dir, &address)).await;
    let announcement = match read.map_err(io::Error::other).flatten() {
        Ok(Some(announcement)) => announcement,
        Ok(None) => return,
        Err(error) => return warn!(%error, "Cannot announce this broker's address"),
    };
    let mut pause = PAUSE;
    let last = loop {
        let left = GIVE_UP.saturating_sub(started.elapsed());
        match timeout(left, post(&announcement)).await.unwrap_or(Err(Unheard::Late)) {
            Ok(()) => return debug!(elapsed = ?started.elapsed(), "Announced this broker's address"),
            Err(last) if started.elapsed() + pause >= GIVE_UP || !is_passing(&last) => break last,
            Err(_) => sleep(pause).await,
        }
        pause = PAUSE_MAX.min(pause * 2);
    };
    warn!(to = %announcement.to, error = %last, "Could not announce this broker's address; Kubernetes tells it later");
}

/// `None` without a `url`: then nobody wants to know.
fn read(dir: &Path, address: &str) -> io::Result<Option<Announcement>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let url = match fs::read_to_string(dir.join("url")) {
        Ok(url) => url,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let to: Uri = url.trim().parse().map_err(|e| invalid(format!("'{}' is no URL: {e}", url.trim())))?;
    if to.scheme_str() != Some("http") || to.host().is_none() {
        return Err(invalid(format!("'{to}' is not the URL of an operator (http://HOST:PORT/PATH)")));
    }
    let address: IpAddr = address
        .parse()
        .map_err(|_| invalid(format!("'{address}' is a name: only an address can be announced (--advertise)")))?;
    let token = fs::read_to_string(dir.join("token"))?;
    let body = serde_json::json!({ "address": address, "token": token.trim() }).to_string();
    Ok(Some(Announcement { to, body: body.into() }))
}

/// Whether the same may be heard a moment later.
fn is_passing(unheard: &Unheard) -> bool {
    !matches!(unheard, Unheard::Answer { status, .. } if status.is_client_error())
}

async fn post(announcement: &Announcement) -> Result<(), Unheard> {
    let to = &announcement.to;
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
    let connect = timeout(CONNECT_MAX, TcpStream::connect((host, to.port_u16().unwrap_or(80))));
    let stream = connect.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Full::new(announcement.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = to.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
    for (name, value) in [
        (header::HOST, to.authority().map(http::uri::Authority::as_str)),
        (header::CONTENT_TYPE, Some("application/json")),
    ] {
        let value = value.and_then(|value| value.parse().ok());
        request.headers_mut().extend(value.map(|value| (name, value)));
    }
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said =
            Limited::new(response.into_body(), ANSWER_MAX).collect().await.map(http_body_util::Collected::to_bytes);
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        Err(Unheard::Answer { status, said })
    };
    tokio::select! {
        done = exchange => done,
        // It ends before the answer has come.
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::post as on_post;
    use std::sync::Mutex;
    use tokio::net::TcpListener;

    fn folder(url: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("url"), url).unwrap();
        fs::write(dir.path().join("token"), "secret\n").unwrap();
        dir
    }

    /// Answers each announcement with the next status, and returns what it was told once the broker has ended.
    async fn told(answers: &[u16], address: &str) -> Vec<String> {
        let (told, answers) = (Arc::new(Mutex::new(Vec::new())), answers.to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = folder(&format!("http://{}/announcements\n", listener.local_addr().unwrap()));
        let heard = Arc::clone(&told);
        let answer = move |body: String| {
            let mut heard = heard.lock().unwrap();
            heard.push(body);
            let status = answers.get(heard.len() - 1).copied().unwrap_or(200);
            std::future::ready(StatusCode::from_u16(status).unwrap())
        };
        let server = axum::serve(listener, Router::new().route("/announcements", on_post(answer)));
        tokio::select! {
            () = announce(dir.path().to_owned(), address.into()) => {}
            _ = server.into_future() => {}
        }
        let told = told.lock().unwrap();
        told.clone()
    }

    #[tokio::test]
    async fn the_operator_is_told_the_address_and_given_the_token() {
        assert_eq!(told(&[200], "10.0.0.7").await, [r#"{"address":"10.0.0.7","token":"secret"}"#]);
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_is_refused_is_not() {
        assert_eq!(told(&[503, 500, 200], "fd00::7").await.len(), 3);
        assert_eq!(told(&[403], "10.0.0.7").await.len(), 1);
    }

    #[tokio::test]
    async fn an_operator_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = folder(&format!("http://{}/", listener.local_addr().unwrap()));
        let all = async {
            let mut connections = Vec::new();
            loop {
                connections.push(listener.accept().await.unwrap());
            }
        };
        tokio::select! {
            () = announce(dir.path().to_owned(), "10.0.0.7".into()) => {}
            never = all => never,
        }
    }

    #[test]
    fn nothing_is_said_without_a_url_and_only_what_can_be_said() {
        let nobody = tempfile::tempdir().unwrap();
        assert!(read(nobody.path(), "10.0.0.7").unwrap().is_none());
        let why = |url, address| read(folder(url).path(), address).unwrap_err().to_string();
        assert!(why("https://operator/", "10.0.0.7").contains("is not the URL of an operator"));
        assert!(why("not a url", "10.0.0.7").contains("is no URL"));
        assert!(why("http://operator/", "demo-0.demo-brokers").contains("only an address can be announced"));
        let without_token = folder("http://operator/");
        fs::remove_file(without_token.path().join("token")).unwrap();
        assert_eq!(read(without_token.path(), "10.0.0.7").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
