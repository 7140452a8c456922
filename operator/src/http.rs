//! `/livez`, `/readyz` and `/metrics`.

use crate::metrics::Metrics;
use crate::pulse::Pulse;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use rustix::io::Errno;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::net::TcpListener;

/// What is served.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ready: Arc<AtomicBool>,
    pulse: Pulse,
    metrics: Metrics,
}

impl Health {
    /// Not ready yet.
    pub fn new(metrics: Metrics, pulse: Pulse) -> Self {
        Self { ready: Arc::default(), pulse, metrics }
    }

    /// The API server has answered: this instance acts, or stands by to.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Binds an address. On a host without IPv6, every address is every IPv4 address.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if lacks_ipv6(address, &error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
        bound => bound,
    }
}

fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let absent = matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL));
    absent && address.ip() == Ipv6Addr::UNSPECIFIED
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, router).await
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    if health.pulse.is_stuck(Instant::now()) {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator does not get on\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    match health.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_without_ipv6_is_given_ipv4_and_only_for_every_address() {
        for (address, error, lacks) in [
            ("[::]:8080", Errno::AFNOSUPPORT, true),
            ("[::]:8080", Errno::ADDRNOTAVAIL, true),
            ("[::]:8080", Errno::ADDRINUSE, false),
            ("[::1]:8080", Errno::ADDRNOTAVAIL, false),
        ] {
            let error = io::Error::from(error);
            assert_eq!(lacks_ipv6(address.parse().unwrap(), &error), lacks, "{address}: {error}");
        }
    }

    #[tokio::test]
    async fn an_operator_that_does_not_get_on_is_not_alive() {
        let pulse = Pulse::default();
        let health = Health::new(Metrics::default(), pulse.clone());
        let code = async || livez(State(health.clone())).await.into_response().status();
        assert_eq!(code().await, StatusCode::OK);
        pulse.beat("loop", Instant::now(), Some(std::time::Duration::ZERO));
        assert_eq!(code().await, StatusCode::SERVICE_UNAVAILABLE);
        pulse.beat("loop", Instant::now(), None);
        assert_eq!(code().await, StatusCode::OK);
    }
}
