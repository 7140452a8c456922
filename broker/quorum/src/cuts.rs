//! Messages that get lost on their way from one broker to another, in tests: one way or both ways. Connections stay. And
//! ports that seem to refuse, of brokers that live; and what leaders make of all that.

use super::Registration;
use chronik_core::ids::{BrokerEpoch, BrokerId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What is cut. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Ways, from and to.
    ways: BTreeSet<(BrokerId, BrokerId)>,
    /// Ports that seem to refuse.
    refusing: BTreeSet<u16>,
    registrations: BTreeMap<BrokerId, watch::Receiver<Registration>>,
    deeds: Vec<Deed>,
    /// How often each has asked whether it would be voted for.
    asked: BTreeMap<BrokerId, usize>,
    /// Snapshots that were installed.
    snapshots: usize,
}

/// What the leader of a term did to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) term: u64,
    pub(crate) broker: (BrokerId, BrokerEpoch),
    pub(crate) at: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It answered a heartbeat from before that moment with a lease.
    GaveLease,
    /// It found that the broker was silent for a session, which has a lease until then, if it has any.
    FoundSilent { lease_until: Option<Instant> },
}

/// For each broker that a leader found silent: leases that it may have had then.
pub(crate) fn leases_of_silent(deeds: &[Deed], lease: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    for silent in deeds {
        let What::FoundSilent { lease_until } = silent.what else { continue };
        // A leader of a later term gives leases of its own, and one of a former term fences nobody any more: what it
        // proposes carries its term.
        let given_later = |d: &Deed| {
            d.what == What::GaveLease && d.broker == silent.broker && d.term > silent.term && d.at <= silent.at
        };
        if lease_until.is_some_and(|until| until > silent.at) && !deeds.iter().any(given_later) {
            wrong.push(format!("{silent:?} has a lease"));
        }
        let former = |d: &&Deed| d.term < silent.term || (d.term == silent.term && d.at <= silent.at);
        let given = deeds.iter().filter(|d| d.what == What::GaveLease && d.broker == silent.broker);
        let running = given.filter(former).filter(|d| d.at + lease > silent.at);
        wrong.extend(running.map(|d| format!("{silent:?} after {d:?}")));
    }
    wrong
}

impl Cuts {
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the one sends does not arrive at the other.
    pub(crate) fn cut(&self, from: BrokerId, to: BrokerId) {
        self.with(|state| state.ways.insert((from, to)));
    }

    /// Whoever dials that port to see whether somebody is there takes it for one that refuses.
    pub(crate) fn refuse(&self, port: u16) {
        self.with(|state| state.refusing.insert(port));
    }

    /// All arrives again, and nobody is refused.
    pub(crate) fn heal(&self) {
        self.with(|state| {
            state.ways.clear();
            state.refusing.clear();
        });
    }

    /// The process that is that broker from now on.
    pub(crate) fn runs(&self, broker: BrokerId, registration: watch::Receiver<Registration>) {
        self.with(|state| state.registrations.insert(broker, registration));
    }

    /// All that leaders did.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.with(|state| state.deeds.clone())
    }

    /// How often that one has asked the others whether they would vote for it.
    pub(crate) fn asked(&self, broker: BrokerId) -> usize {
        self.with(|state| state.asked.get(&broker).copied().unwrap_or_default())
    }

    /// How many snapshots brokers have got from leaders.
    pub(crate) fn snapshots(&self) -> usize {
        self.with(|state| state.snapshots)
    }

    fn loses(&self, from: BrokerId, to: BrokerId) -> bool {
        self.with(|state| state.ways.contains(&(from, to)))
    }
}

/// One broker's calls. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller(pub(crate) Option<(BrokerId, Cuts)>);

impl Caller {
    pub(crate) fn refuses(&self, port: u16) -> bool {
        self.0.as_ref().is_some_and(|(_, cuts)| cuts.with(|state| state.refusing.contains(&port)))
    }

    /// It asks the others whether they would vote for it.
    pub(crate) fn asks_for_votes(&self) {
        let Some((me, cuts)) = &self.0 else { return };
        cuts.with(|state| *state.asked.entry(*me).or_default() += 1);
    }

    /// It has installed a snapshot.
    pub(crate) fn installs_a_snapshot(&self) {
        let Some((_, cuts)) = &self.0 else { return };
        cuts.with(|state| state.snapshots += 1);
    }

    /// The leader of that term gives a lease.
    pub(crate) fn gives_lease(&self, term: u64, broker: (BrokerId, BrokerEpoch), at: Instant) {
        let Some((_, cuts)) = &self.0 else { return };
        cuts.with(|state| state.deeds.push(Deed { term, broker, at, what: What::GaveLease }));
    }

    /// The leader of that term is about to fence a broker that was silent.
    pub(crate) fn finds_silent(&self, term: u64, broker: (BrokerId, BrokerEpoch)) {
        let Some((_, cuts)) = &self.0 else { return };
        let at = Instant::now();
        cuts.with(|state| {
            let registration = state.registrations.get(&broker.0).map(|r| *r.borrow());
            let lease_until = registration.filter(|r| r.epoch == Some(broker.1)).and_then(|r| r.lease_until);
            state.deeds.push(Deed { term, broker, at, what: What::FoundSilent { lease_until } });
        });
    }

    /// The answer to a call, unless it or the call is lost.
    pub(crate) async fn call<T>(self, peer: BrokerId, call: impl Future<Output = T>) -> T {
        let Self(Some((me, cuts))) = self else { return call.await };
        if cuts.loses(me, peer) {
            return pending().await;
        }
        let answer = call.await;
        if cuts.loses(peer, me) { pending().await } else { answer }
    }
}
