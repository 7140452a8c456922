//! One instance acts, the others stand by: leader election by a Lease.
//!
//! Whoever writes the Lease names the version of it that it read, so that two instances that see the same expired
//! Lease cannot both take it; expiry is judged by how long this instance has seen the Lease unchanged, so that no two
//! clocks are compared; and a holder that cannot renew stops before others may take over.

use crate::MANAGER;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// How long a Lease holds after it was last renewed.
const LEASE: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it gives up.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often the Lease is looked at, and renewed.
const PERIOD: Duration = Duration::from_secs(3);
/// After a try that was answered with an error.
const AGAIN: Duration = Duration::from_millis(500);

/// How long one look at the Lease may take: a connection that is half open answers never.
const DEADLINE: Duration = Duration::from_secs(5);

/// This instance, and the Lease that it stands for.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Take,
    Renew,
    Wait,
}

/// The Lease as it was when it last changed, and when that was seen.
struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

impl Candidate {
    /// `identity` must differ from that of every other instance.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Waits until this instance holds the Lease, and returns since when at least. `looked` is called whenever it has
    /// looked, with whether the API server has answered.
    pub async fn acquire(&self, looked: impl Fn(bool)) -> Instant {
        let (mut seen, mut held_by) = (None, None);
        loop {
            // Others may count from before the answer came: from when the Lease was written.
            let asked = Instant::now();
            let attempt = timeout(DEADLINE, self.attempt(&mut seen)).await;
            looked(matches!(attempt, Ok(Ok(_))));
            match attempt {
                Ok(Ok(true)) => {
                    info!(lease = %self.name, identity = %self.identity, "leading");
                    return asked;
                }
                Ok(Ok(false)) => {
                    let holder = seen.as_ref().and_then(|seen| seen.spec.holder_identity.clone());
                    if holder != held_by {
                        info!(lease = %self.name, ?holder, "standing by");
                        held_by = holder;
                    }
                }
                Ok(Err(error)) => warn!(lease = %self.name, %error, "cannot read or write the lease"),
                Err(_) => warn!(lease = %self.name, "the lease could not be read or written in time"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews the Lease, which was taken then, for as long as that works; returns why it does not any more.
    pub async fn keep(&self, since: Instant) -> String {
        let mut renewed = since;
        let mut seen = None;
        let mut pause = PERIOD;
        loop {
            sleep(pause).await;
            pause = PERIOD;
            let left = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            let asked = Instant::now();
            match timeout(left, self.attempt(&mut seen)).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return "another instance holds the lease".to_owned(),
                Ok(Err(error)) => {
                    debug!(lease = %self.name, %error, "cannot renew the lease");
                    // An API server that is asked too much says so at once, and may have time a moment later.
                    pause = AGAIN;
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_WITHIN {
                return format!("the lease could not be renewed for {} s", RENEW_WITHIN.as_secs());
            }
        }
    }

    /// Gives the Lease up, for the next instance not to have to wait for it to expire.
    pub async fn release(&self) {
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                self.api.replace(&self.name, &parameters(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match timeout(DEADLINE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(lease = %self.name, %error, "cannot release the lease"),
            Err(_) => warn!(lease = %self.name, "the lease could not be released in time"),
        }
    }

    /// Whether this instance holds the Lease now.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        match self.look(seen).await {
            // Somebody has written it since it was read, and need not have taken it: as who adds an annotation to it.
            Err(kube::Error::Api(status)) if status.code == 409 => self.look(seen).await,
            looked => looked,
        }
    }

    async fn look(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            return self.api.create(&parameters(), &self.lease(None)).await.map(|_| true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if seen.as_ref().is_none_or(|seen| seen.spec != spec) {
            *seen = Some(Seen { spec: spec.clone(), since: Instant::now() });
        }
        let unchanged = seen.as_ref().map_or(Duration::ZERO, |seen| seen.since.elapsed());
        match next_move(&spec, unchanged, &self.identity) {
            Move::Wait => Ok(false),
            Move::Take | Move::Renew => {
                self.api.replace(&self.name, &parameters(), &self.lease(Some(&lease))).await.map(|_| true)
            }
        }
    }

    /// The Lease with this instance as its holder. The version that was read goes along: the API server refuses it
    /// if another instance was faster.
    fn lease(&self, read: Option<&Lease>) -> Lease {
        let old = read.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let kept = old.holder_identity.as_deref() == Some(&self.identity);
        let metadata = read.map_or_else(
            || ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if kept { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!kept)),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn next_move(lease: &LeaseSpec, unchanged: Duration, me: &str) -> Move {
    match lease.holder_identity.as_deref().filter(|holder| !holder.is_empty()) {
        None => Move::Take,
        Some(holder) if holder == me => Move::Renew,
        Some(_) => {
            let seconds = lease.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
            if unchanged >= seconds.map_or(LEASE, Duration::from_secs) { Move::Take } else { Move::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease_of(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_was_not_renewed_for_its_duration() {
        for (lease, unchanged, expected) in [
            (lease_of(None, None), 0, Move::Take),
            (lease_of(Some(""), Some(15)), 0, Move::Take),
            (lease_of(Some("me"), Some(15)), 100, Move::Renew),
            (lease_of(Some("other"), Some(15)), 14, Move::Wait),
            (lease_of(Some("other"), Some(15)), 15, Move::Take),
            (lease_of(Some("other"), Some(60)), 15, Move::Wait),
            (lease_of(Some("other"), None), 14, Move::Wait),
            (lease_of(Some("other"), Some(-1)), 15, Move::Take),
        ] {
            assert_eq!(next_move(&lease, Duration::from_secs(unchanged), "me"), expected, "{lease:?} {unchanged}");
        }
    }

    #[test]
    fn a_holder_stops_before_others_may_take_over() {
        assert!(RENEW_WITHIN + PERIOD < LEASE);
    }
}
