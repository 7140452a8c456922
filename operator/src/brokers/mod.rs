//! What the operator asks of brokers: facts that a decision may stand on, and permits to act.
//!
//! Facts come from the controller's leader or not at all: who cannot be sure answers with an error, and an error is never
//! taken for "nothing is wrong".

pub(crate) mod admin;
mod asking;

pub use admin::Admin;
pub(crate) use asking::{Bounds, Failure, ask_each};

use crate::reconcile::observe::ObservedPod;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// Which brokers to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The cluster's namespace.
    pub namespace: String,
    /// The cluster's name.
    pub name: String,
    /// The addresses of the brokers that run, by id.
    pub addresses: BTreeMap<i32, String>,
    /// The cluster that they are to be of, where that is known: an address may be another one's broker's by now. Looked at
    /// by what is asked through the Kafka protocol.
    pub cluster: Option<String>,
}

impl Contact {
    /// The brokers of these pods; `None` if none has an address. The address of a pod that is on its way out may be
    /// another's by now.
    pub fn of(namespace: &str, name: &str, pods: &[ObservedPod]) -> Option<Self> {
        let stay = pods.iter().filter(|pod| !pod.is_terminating());
        let addresses = stay.filter_map(|pod| Some((pod.ordinal, pod.address.clone()?))).collect::<BTreeMap<_, _>>();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        (!addresses.is_empty()).then_some(Self { namespace, name, addresses, cluster: None })
    }

    /// The same brokers, as far as they are of this cluster.
    #[must_use]
    pub fn of_cluster(self, cluster: Option<&str>) -> Self {
        Self { cluster: cluster.map(str::to_owned), ..self }
    }
}

/// What the controller's leader says, after it has confirmed that it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The cluster that they are about; empty if that is not said.
    pub cluster: String,
    /// The broker that leads the controller.
    pub controller: Option<i32>,
    /// What may be written in the metadata log (`metadata.version`); 0 if that is not said.
    pub metadata_version: u32,
    /// The newest version of it that all registered brokers know, if that is newer.
    pub newer_metadata_version: Option<u32>,
    /// The registered brokers, by id.
    pub brokers: BTreeMap<i32, BrokerFacts>,
    /// Partitions that exist.
    pub partitions: u32,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated: u32,
    /// Partitions without a leader.
    pub offline: u32,
    /// Those of them that have one replica alone; 0 from brokers that do not tell them apart.
    pub offline_alone: u32,
    /// Reassignments that are under way.
    pub reassignments: u32,
    /// The greatest replication factor in use, with names of topics that have it.
    pub greatest_factor: Option<(u32, Vec<String>)>,
    /// The one permit to stop that is outstanding, if one is.
    pub permit: Option<Permit>,
}

/// What is known of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerFacts {
    /// The process: another one after each restart. `None` until it has registered for the first time.
    pub incarnation: Option<String>,
    /// How far it takes part.
    pub standing: Standing,
    /// How far its start is with reading its log, in percent; 0 while it is being opened. `None` where that was not heard.
    pub starting: Option<u8>,
    /// Whether nothing new is placed on it.
    pub cordoned: bool,
    /// Whether it votes for the controller's leader.
    pub voter: bool,
    /// Partitions that it leads.
    pub leaders: u32,
    /// Replicas that it holds.
    pub replicas: u32,
    /// Those of them that are the only ones of their partitions.
    pub only_replica: u32,
    /// Those of them of which its disk has lost something. `None` where the controller's leader has not heard it.
    pub damaged: Option<u32>,
}

/// How far a broker takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is in every in-sync set of its partitions, and has caught up with the metadata.
    #[default]
    InSync,
    /// It is out of an in-sync set, or behind in the metadata.
    Recovering,
    /// It is kept from leading, and is in no in-sync set.
    Fenced,
}

/// A permit to stop one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Its number.
    pub id: u64,
    /// The broker that may stop.
    pub broker: i32,
    /// The process of it that may.
    pub incarnation: String,
}

/// The answer to a request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It may stop now.
    Granted(Permit),
    /// It may not, and what speaks against it.
    Refused(String),
}

/// How far partitions are spread over all brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Partitions that are to change still, without those that are on their way.
    pub left: u32,
    /// Partitions that are on their way.
    pub under_way: u32,
    /// Why nothing more is begun at the moment, if it is not.
    pub waits_for: Option<String>,
}

impl Balance {
    /// Whether nothing is left to do, and nothing keeps it from being done.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.under_way == 0 && self.waits_for.is_none()
    }
}

/// Why brokers gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The brokers' version does not know the request.
    #[error("the brokers' version does not offer {0}")]
    Unsupported(&'static str),
    /// No broker could be asked, or none was sure.
    #[error("no broker gives a sure answer: {0}")]
    Unsure(String),
    /// It was refused, in the broker's words.
    #[error("{0}")]
    Refused(String),
}

/// An answer that is on its way.
pub type Answer<T> = BoxFuture<'static, Result<T, Unanswered>>;

/// The brokers' admin API, as far as the operator uses it. Every request may be repeated.
pub trait Brokers: Send + Sync {
    /// What is so now.
    fn facts(&self, contact: Contact) -> Answer<Facts>;
    /// Asks whether the broker may stop, as the process that it is; the same permit again if it has it already.
    fn request_stop(&self, contact: Contact, broker: i32, incarnation: String) -> Answer<Stop>;
    /// Gives a permit back: the broker has been away and is in sync again, or it was not stopped (`unused`). Returns what
    /// is missing, if it is outstanding still.
    fn recovered(&self, contact: Contact, permit: u64, unused: bool) -> Answer<Option<String>>;
    /// Lets nothing new be placed on the broker, and moves its replicas to others; returns when that has begun.
    fn drain(&self, contact: Contact, broker: i32) -> Answer<()>;
    /// Lets replicas be placed on the broker again.
    fn uncordon(&self, contact: Contact, broker: i32) -> Answer<()>;
    /// Moves partitions until all brokers hold about as many, a few at a time and at this many bytes a second; returns how
    /// far that is, when some more have begun.
    fn rebalance(&self, contact: Contact, throttle: u64) -> Answer<Balance>;
    /// Has exactly these brokers vote, if those vote that were seen to when this was decided.
    fn change_voters(&self, contact: Contact, voters: Vec<i32>, seen: Vec<i32>) -> Answer<()>;
    /// Forgets a broker that holds nothing and does not run.
    fn remove(&self, contact: Contact, broker: i32) -> Answer<()>;
}
