//! An API server that has taken a request and never answers.

use chronik_operator::leader::Candidate;
use http::Request;
use kube::Client;
use kube::client::Body;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;

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
