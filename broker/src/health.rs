//! The HTTP listener for whoever runs the broker: probes and metrics.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether clients should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Registered, unfenced and serving.
    Ready,
    /// Not yet, or not any more, for that reason.
    NotReady(String),
}

#[derive(Clone)]
struct Shown {
    registry: Arc<Registry>,
    readiness: watch::Receiver<Readiness>,
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop` is cancelled.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: watch::Receiver<Readiness>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        // That it answers is the answer: nothing about peers, or a lost peer would restart this broker.
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shown { registry, readiness });
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(shown): State<Shown>) -> Response {
    match &*shown.readiness.borrow() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let mut text = String::new();
    if encode(&mut text, &shown.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn readiness_follows_the_broker_and_liveness_does_not() {
        let mut registry = Registry::default();
        let _metrics = Metrics::register(&mut registry);
        let (readiness, shown) = watch::channel(Readiness::NotReady("fenced".into()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Arc::new(registry), shown, stop.clone()));
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nHost: chronik\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("it answers");
            answer
        };
        assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
        let not_ready = get("/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.ends_with("fenced\n"), "{not_ready}");
        readiness.send_replace(Readiness::Ready);
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get("/metrics").await.contains("chronik_kafka_connections 0"));
        stop.cancel();
        served.await.expect("no panic").expect("a clean end");
    }
}
