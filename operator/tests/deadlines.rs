//! An API server that has taken a request and never answers, or that somebody else writes to as well.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use chronik_operator::leader::Candidate;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

fn silent() -> Client {
    let service =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<http::Response<Body>, Infallible>>());
    Client::new(service, "default")
}

#[tokio::test]
async fn a_standby_looks_at_the_lease_again_when_it_gets_no_answer() {
    let candidate = Candidate::new(silent(), "default", "lease", "me");
    let (sender, mut looked) = mpsc::unbounded_channel();
    let acquire = candidate.acquire(move |answered| {
        // Nobody listens any more once two answers have come.
        let _ = sender.send(answered);
    });
    let looks = async { (looked.recv().await, looked.recv().await) };
    let found = tokio::select! {
        _ = acquire => None,
        found = looks => Some(found),
        () = tokio::time::sleep(Duration::from_mins(1)) => None,
    };
    assert_eq!(found, Some((Some(false), Some(false))));
}

/// An API server with a Lease that this instance holds, and whose first writes somebody else is faster with: as one who
/// annotates it.
fn contended(written: mpsc::UnboundedSender<u32>, first: u32) -> Client {
    let writes = Arc::new(AtomicU32::new(0));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (written, writes) = (written.clone(), Arc::clone(&writes));
        async move {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": "lease", "namespace": "default", "resourceVersion": "1" },
                "spec": { "holderIdentity": "me", "leaseDurationSeconds": 15 }
            });
            let count = if request.method() == Method::PUT { writes.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
            let (code, answer) = if (1..=first).contains(&count) {
                (
                    409,
                    json!({ "kind": "Status", "status": "Failure", "reason": "Conflict", "message": "", "code": 409 }),
                )
            } else {
                (200, lease)
            };
            if count > 0 {
                // Nobody listens any more once enough have come.
                let _ = written.send(count);
            }
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_lease_that_somebody_else_writes_and_does_not_take_is_kept() {
    let (sender, mut written) = mpsc::unbounded_channel();
    let candidate = Candidate::new(contended(sender, 3), "default", "lease", "me");
    let kept = async { while written.recv().await.is_some_and(|count| count < 4) {} };
    tokio::select! {
        why = candidate.keep(Instant::now()) => panic!("given up: {why}"),
        () = kept => {}
    }
}
