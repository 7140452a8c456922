//! A broker that opens its log takes no part in anything yet, and to everybody else it is as one that does not run. So it
//! says to the others how far it is, and whoever of them leads the controller shows that among the facts.

use super::link::Client;
use super::links::Links;
use super::proto;
use crate::peers::Peers;
use chronik_core::cluster::{Endpoint, Image};
use chronik_core::ids::{BrokerId, ClusterId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// From one word to the next.
const EVERY: Duration = Duration::from_secs(1);
/// One that was not heard for so long has started, or ended, or nobody knows.
const FRESH: Duration = Duration::from_secs(5);
/// Brokers that are remembered at most: more than a cluster has.
const MOST: usize = 1000;

/// How far a start is with reading the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartProgress {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that are to be read; 0 while the log is being opened and nobody knows.
    pub total: u64,
}

/// Who starts, and whom it tells.
#[derive(Debug)]
pub struct Starter {
    /// The broker that starts.
    pub me: BrokerId,
    /// Where the others are.
    pub peers: Peers,
    /// Their controller ports, as this broker's file has them.
    pub others: Vec<(BrokerId, Endpoint)>,
    /// The cluster that its data directory belongs to.
    pub cluster_id: Option<ClusterId>,
}

impl Starter {
    /// Tells all others how far the start is, until it is dropped. Who does not hear it is told again.
    pub async fn tell(self, progress: impl Fn() -> StartProgress) {
        let Self { me, peers, others, cluster_id } = self;
        let others: HashMap<BrokerId, Endpoint> = others.into_iter().filter(|(id, _)| *id != me).collect();
        let ids: Vec<BrokerId> = others.keys().copied().collect();
        let links = Links::new(me, peers, others, cluster_id, watch::channel(Image::default()).1).apart("start");
        loop {
            let StartProgress { read, total } = progress();
            let calls = ids.iter().map(|id| {
                let request = proto::StartingRequest { caller: Some(links.caller(*id)), read, total };
                links.call(*id, EVERY, |mut client: Client| async move { client.starting(request).await })
            });
            // An older version does not know the word, and others do not run.
            futures::future::join_all(calls).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// The brokers that start, as far as they were heard lately. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts(Arc<Mutex<HashMap<BrokerId, (Instant, StartProgress)>>>);

impl Starts {
    pub(super) fn heard(&self, now: Instant, id: BrokerId, progress: StartProgress) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, (at, _)| is_fresh(*at, now));
        if heard.len() < MOST || heard.contains_key(&id) {
            heard.insert(id, (now, progress));
        }
    }

    pub(super) fn of(&self, now: Instant, id: BrokerId) -> Option<StartProgress> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&id).filter(|(at, _)| is_fresh(*at, now)).map(|(_, progress)| *progress)
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= FRESH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_heard_lately_is_not_said_to_start() {
        let (starts, now) = (Starts::default(), Instant::now());
        let progress = |read| StartProgress { read, total: 100 };
        assert_eq!(starts.of(now, BrokerId(1)), None);
        starts.heard(now, BrokerId(1), progress(20));
        starts.heard(now + FRESH, BrokerId(2), progress(30));
        assert_eq!(starts.of(now + FRESH, BrokerId(1)), Some(progress(20)));
        starts.heard(now + FRESH + EVERY, BrokerId(2), progress(40));
        assert_eq!(starts.of(now + FRESH + EVERY, BrokerId(1)), None);
        assert_eq!(starts.of(now + FRESH + EVERY, BrokerId(2)), Some(progress(40)));
        for id in 0..2 * MOST as i32 {
            starts.heard(now + FRESH, BrokerId(id), progress(50));
        }
        assert!(starts.0.lock().unwrap().len() <= MOST);
    }
}
