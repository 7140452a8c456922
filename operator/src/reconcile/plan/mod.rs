//! What to do, as a pure function of a spec that can be followed and of what was observed: the objects that there should
//! be, those that should go, what is to change about volumes, at most one disruptive step, and what is waited for.

pub mod balance;
pub mod budget;
pub mod config;
mod garbage;
mod lost_volume;
pub mod outside;
mod roll;
pub mod scale;
mod start;
mod storage;

pub use start::BROKER_STUCK;
pub use storage::VolumeChange;

use super::build::{self, Desired, Frame, TEMPLATE_FORM};
use super::observe::{Known, Observed, PodState, Seen};
use super::validate::Cluster;
use crate::brokers::{Facts, Permit, Standing};
use crate::kafka::ConfigChanges;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How soon to look again when what was done makes room for the next step.
pub(super) const AT_ONCE: Duration = Duration::from_millis(100);
/// How soon to look again while something is under way that no watch tells of.
const SOON: Duration = Duration::from_secs(1);
/// The same while nothing can be done about what is not as it should be.
const LATER: Duration = Duration::from_secs(5);
/// How often brokers are asked when nothing is under way.
const AT_REST: Duration = Duration::from_secs(15);

/// What to do about a cluster.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The objects that there should be, in the order in which they are needed.
    pub objects: Vec<Desired>,
    /// The `ConfigMaps` that nothing needs any more.
    pub deletions: Vec<Seen>,
    /// What is to change about volumes. It interrupts nobody.
    pub volumes: Vec<VolumeChange>,
    /// What all brokers are to be given while they run. It interrupts nobody.
    pub config: ConfigChanges,
    /// Changes to the dynamic configs of single brokers: their addresses and racks. It interrupts nobody.
    pub broker_configs: BTreeMap<i32, ConfigChanges>,
    /// The Services of listeners that nothing needs any more.
    pub services: Vec<Seen>,
    /// The one step that may disturb somebody.
    pub step: Option<Step>,
    /// What is done in its place where brokers refuse it, or their version does not know how: it may be what brings another
    /// version, and does not depend on it.
    pub otherwise: Option<Step>,
    /// What comes next, and what it waits for.
    pub waits: Vec<Wait>,
}

/// Something that may disturb clients, or cannot be undone. No two of them are carried out at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// With the brokers' permit, a pod is deleted, for a new one to take up the present template.
    Restart {
        /// The broker.
        broker: i32,
        /// Its process, as the controller knows it.
        incarnation: String,
        /// Its pod.
        pod: Seen,
        /// Whether it has the permit already. Without it, this is asked for, and the pod stays until the next look.
        permitted: bool,
    },
    /// A pod that does not run, and cannot, is deleted, for a new one to take up the present template.
    ReplaceStuck {
        /// The broker.
        broker: i32,
        /// Its pod.
        pod: Seen,
        /// What it is stuck in.
        why: String,
    },
    /// A permit is given back: its broker is in sync again.
    ClosePermit(Permit),
    /// The StatefulSet is deleted without its pods, to be made again with volumes of another size.
    RecreateSet {
        /// Which one.
        set: Seen,
    },
    /// The replicas of a broker that is to go are moved to others, and nothing new is placed on it.
    Drain(i32),
    /// A broker that was to go and stays is given replicas again.
    Uncordon(i32),
    /// Brokers that have joined get their share of the partitions, at this many bytes a second.
    Balance {
        /// Over how many brokers.
        brokers: i32,
        /// The bytes that each sends, and gets, in a second at most.
        rate: u64,
    },
    /// The brokers that decide about metadata are to be these.
    ChangeVoters {
        /// These.
        voters: Vec<i32>,
        /// Who voted when this was decided: if others do by now, it is decided again.
        seen: Vec<i32>,
    },
    /// A broker that holds nothing and does not run any more is taken out of the cluster.
    Remove(i32),
    /// A volume that is lost is deleted, with the pod that waits for it, for the broker to begin with an empty one.
    GiveUpVolume {
        /// The broker.
        broker: i32,
        /// Its claim, unless it is on its way out.
        claim: Option<Seen>,
        /// Its pod, unless it is on its way out.
        pod: Option<Seen>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { broker, .. } => write!(f, "restart broker {broker}"),
            Self::ReplaceStuck { broker, why, .. } => write!(f, "replace the pod of broker {broker}, stuck in {why}"),
            Self::ClosePermit(permit) => write!(f, "end the restart of broker {}", permit.broker),
            Self::RecreateSet { .. } => write!(f, "make the StatefulSet again, for volumes of another size"),
            Self::Drain(broker) => write!(f, "drain broker {broker}"),
            Self::Uncordon(broker) => write!(f, "place replicas on broker {broker} again"),
            Self::Balance { brokers, .. } => write!(f, "spread partitions over {brokers} brokers"),
            Self::ChangeVoters { voters, .. } => write!(f, "let brokers {voters:?} vote"),
            Self::Remove(broker) => write!(f, "remove broker {broker}"),
            Self::GiveUpVolume { broker, .. } => write!(f, "give up the volume of broker {broker}"),
        }
    }
}

impl Step {
    /// In one word, as in an Event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Restart { .. } => "RestartBroker",
            Self::ReplaceStuck { .. } => "ReplaceStuckPod",
            Self::ClosePermit(_) => "EndRestart",
            Self::RecreateSet { .. } => "RecreateStatefulSet",
            Self::Drain(_) => "DrainBroker",
            Self::Uncordon(_) => "UncordonBroker",
            Self::Balance { .. } => "SpreadPartitions",
            Self::ChangeVoters { .. } => "ChangeVoters",
            Self::Remove(_) => "RemoveBroker",
            Self::GiveUpVolume { .. } => "GiveUpVolume",
        }
    }

    /// Whether it asks brokers for what those of an earlier version do not know.
    fn may_be_unknown(&self) -> bool {
        match self {
            Self::Drain(_) | Self::Uncordon(_) | Self::Balance { .. } | Self::ChangeVoters { .. } | Self::Remove(_) => {
                true
            }
            // Without permits nothing is restarted at all.
            Self::Restart { .. }
            | Self::ClosePermit(_)
            | Self::ReplaceStuck { .. }
            | Self::RecreateSet { .. }
            | Self::GiveUpVolume { .. } => false,
        }
    }

    /// Whether it takes a pod away, or what would make one anew.
    fn takes_a_pod(&self) -> bool {
        match self {
            // While it is refused, drains go on.
            Self::Restart { permitted, .. } => *permitted,
            Self::ReplaceStuck { .. } | Self::RecreateSet { .. } | Self::GiveUpVolume { .. } => true,
            Self::ClosePermit(_)
            | Self::Drain(_)
            | Self::Uncordon(_)
            | Self::Balance { .. }
            | Self::ChangeVoters { .. }
            | Self::Remove(_) => false,
        }
    }
}

/// Something that is to be done, and not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What waits, as in `restart broker 2`.
    pub action: String,
    /// What it waits for, in one word.
    pub reason: &'static str,
    /// The same in a sentence.
    pub message: String,
}

/// Why a spec that is well-formed cannot be followed with what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence, with what to do.
    pub message: String,
}

/// What is said where a volume's claim may not ask for more.
pub const DOES_NOT_GROW: &str = "VolumeDoesNotGrow";

/// Decides what to do.
pub fn plan(cluster: &Cluster, observed: &Observed) -> Result<Plan, PlanError> {
    scale::refuse(cluster, observed).map_err(PlanError::Refused)?;
    storage::refuse(cluster, observed).map_err(PlanError::Refused)?;
    let mut plan = Plan::default();
    let replicas = scale::plan(cluster, observed, &mut plan);
    storage::plan(cluster, observed, &mut plan);
    lost_volume::plan(observed, &mut plan);
    roll::plan(cluster, observed, &mut plan);
    balance::plan(cluster, observed, &mut plan);
    config::plan(cluster, observed, &mut plan);
    outside::plan(cluster, observed, &mut plan);
    storage::wait_for_growth(cluster, observed, &mut plan);
    start::plan(cluster, observed, &mut plan);
    if cluster.paused {
        // Nothing of it is done.
        plan = Plan::default();
    }
    let frame = Frame {
        replicas,
        volume_size: storage::size_in_set(cluster, observed),
        // Of all that is planned: whoever takes a broker away takes the only one.
        max_unavailable: if cluster.paused {
            budget::of_what_runs(observed).1
        } else {
            budget::max_unavailable(cluster, observed, &plan)
        },
    };
    plan.objects = build::build(cluster, &frame)?;
    if cluster.paused {
        // A drain of nodes does not pause, and what it may take follows what there is.
        plan.objects.retain(|desired| desired.is_budget() && !observed.pods.is_empty());
        return Ok(plan);
    }
    keep_template(cluster, observed, &mut plan.objects);
    name_what_sinks(observed, &frame, &mut plan.objects);
    if observed.set.as_ref().is_some_and(|set| set.leaving) {
        // Nothing would make a pod anew, and the next one is not to be decided upon before it is there.
        (plan.step, plan.otherwise) = (None, None);
        plan.objects.retain(|desired| desired.resource.kind != "StatefulSet");
        let message = "the former StatefulSet is on its way out, and is made again when it is gone";
        plan.wait("make the StatefulSet again", "SetLeaving", message);
    }
    plan.deletions = garbage::config_maps(cluster, observed, &plan.objects);
    Ok(plan)
}

/// A template that another version of the operator built from the same spec stays as it is: what this one would make of
/// it is taken up with the next change, and restarts no broker by itself.
fn keep_template(cluster: &Cluster, observed: &Observed, objects: &mut [Desired]) {
    let Some(set) = &observed.set else { return };
    if set.template_of.as_ref() != Some(&cluster.template_of) {
        return;
    }
    let Some(form) = &set.template_form else { return };
    for desired in objects.iter_mut().filter(|desired| desired.resource.kind == "StatefulSet") {
        let of_this_version = desired.object.annotations_mut().insert(TEMPLATE_FORM.to_owned(), form.clone());
        if of_this_version.as_ref() != Some(form) {
            desired.object.data["spec"]["template"].clone_from(&set.template);
        }
    }
}

/// A broker that is to go was seen to be empty: it goes from the StatefulSet that was seen then, and from no later one.
fn name_what_sinks(observed: &Observed, frame: &Frame, objects: &mut [Desired]) {
    let Some(set) = observed.set.as_ref().filter(|set| frame.replicas < set.replicas) else { return };
    for desired in objects.iter_mut().filter(|desired| desired.resource.kind == "StatefulSet") {
        desired.object.metadata.uid = Some(set.seen.uid.clone());
        desired.object.metadata.resource_version = Some(set.seen.resource_version.clone());
    }
}

/// What is told to brokers although the spec cannot be followed otherwise: addresses change by themselves, and clients are
/// to find those that run.
pub fn broker_configs_when_refused(cluster: &Cluster, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    if !cluster.paused {
        outside::plan(cluster, observed, &mut plan);
    }
    // What is taken out of such a spec is not taken away.
    for changes in plan.broker_configs.values_mut() {
        changes.retain(|_, value| value.is_some());
    }
    plan.broker_configs.retain(|_, changes| !changes.is_empty());
    Plan { broker_configs: plan.broker_configs, ..Plan::default() }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec cannot be followed with what there is.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The objects could not be put into words.
    #[error("cannot encode the cluster's objects: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Plan {
    /// Takes a step, if none has been taken yet; what comes later is looked at again when it is done.
    fn take(&mut self, step: Step) {
        match &self.step {
            None => self.step = Some(step),
            Some(first) if first.may_be_unknown() && !step.may_be_unknown() => {
                self.otherwise.get_or_insert(step);
            }
            Some(_) => {}
        }
    }

    fn wait(&mut self, action: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        self.waits.push(Wait { action: action.into(), reason, message: message.into() });
    }

    /// How soon to look again although nothing changes. `refused` says that some of it could not be done, and may not be
    /// for long.
    pub fn again(&self, observed: &Observed, refused: bool) -> Duration {
        let done_at_once = matches!(self.step, Some(Step::ClosePermit(_) | Step::Restart { permitted: false, .. }))
            || !self.config.is_empty()
            || !self.broker_configs.is_empty();
        if done_at_once && !refused {
            return AT_ONCE;
        }
        // A load balancer may be waited for for ever, and its address wakes the next look. So may a volume that does not
        // grow, and a broker that does not come up.
        let soon = |wait: &Wait| !["NoAddress", DOES_NOT_GROW, BROKER_STUCK].contains(&wait.reason);
        let next = self.step.is_some() || self.waits.iter().any(soon);
        if !next && !refused && is_well(observed) {
            AT_REST
        } else if next && observed.facts.known().is_some() {
            SOON
        } else {
            LATER
        }
    }
}

/// Whether every pod serves, and every partition is known to be in full sync.
fn is_well(observed: &Observed) -> bool {
    let ready = observed.pods.iter().all(|pod| pod.state == PodState::Ready);
    ready && matches!(&observed.facts, Known::Is(facts) if lacking(facts).is_none())
}

/// What a cluster lacks that is in full sync and has nothing under way: the reason in a word and in a sentence.
fn lacking(facts: &Facts) -> Option<(&'static str, String)> {
    // What has one replica, and lost it, gets no better by anybody's staying.
    let offline = facts.offline.saturating_sub(facts.offline_alone);
    if offline > 0 {
        return Some(("PartitionsOffline", format!("{offline} partitions have no leader")));
    }
    let under_replicated = facts.under_replicated.saturating_sub(facts.offline_alone);
    if under_replicated > 0 {
        return Some(("UnderReplicated", format!("{under_replicated} partitions are under-replicated")));
    }
    if facts.reassignments > 0 {
        return Some(("Reassigning", format!("{} partitions are being moved", facts.reassignments)));
    }
    facts.brokers.iter().find_map(|(id, broker)| {
        let what = match broker.standing {
            Standing::InSync => return None,
            Standing::Recovering => "has yet to catch up",
            Standing::Fenced => "is fenced",
        };
        Some(("BrokerBehind", format!("broker {id} {what}")))
    })
}

#[cfg(test)]
mod tests;
