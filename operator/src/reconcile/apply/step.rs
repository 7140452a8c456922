//! The one step of a plan that may disturb somebody.

use super::{ApplyError, delete};
use crate::brokers::{Answer, Balance, Brokers, Contact, Stop, Unanswered};
use crate::reconcile::observe::Seen;
use crate::reconcile::plan::{Step, Wait, balance};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{ListParams, PropagationPolicy};
use kube::{Api, Client};

/// What is said of a step that the brokers' version does not know: nothing of it was begun.
pub(crate) const NOT_SUPPORTED: &str = "NotSupported";

/// What is said of a step that the brokers refuse: nothing of it was begun either, or what was begun is begun once.
pub(crate) const REFUSED: &str = "BrokersRefuse";

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was taken.
    Taken,
    /// What it was decided on is no more: the next plan is another one.
    Overtaken,
    /// Something speaks against it that only the brokers know.
    Waits(Wait),
}

/// Takes steps of one cluster.
pub(crate) struct Taker<'a> {
    /// The API server.
    pub(crate) client: &'a Client,
    /// The brokers' admin API.
    pub(crate) brokers: &'a dyn Brokers,
    /// The cluster's namespace.
    pub(crate) namespace: &'a str,
    /// The brokers that run, if any does.
    pub(crate) contact: Option<Contact>,
}

impl Taker<'_> {
    /// Takes a step, as far as nothing speaks against it.
    pub(crate) async fn take(&self, step: &Step) -> Result<Done, ApplyError> {
        match step {
            Step::ReplaceStuck { pod, .. } => self.delete_pod(pod).await,
            Step::RecreateSet { set } => {
                let orphan = Some(PropagationPolicy::Orphan);
                Ok(Done::of(delete::<StatefulSet>(self.client, self.namespace, set, orphan).await?))
            }
            Step::Restart { broker, incarnation, pod, permitted } => {
                self.restart(step, *broker, incarnation, pod, *permitted).await
            }
            Step::ClosePermit(permit) => Ok(self.close(step, permit.id).await),
            Step::Drain(broker) => Ok(self.ask(step, |contact| self.brokers.drain(contact, *broker)).await),
            Step::Uncordon(broker) => Ok(self.ask(step, |contact| self.brokers.uncordon(contact, *broker)).await),
            Step::Balance { rate, .. } => Ok(self.balance(step, *rate).await),
            Step::ChangeVoters { voters, seen } => {
                let ask = |contact| self.brokers.change_voters(contact, voters.clone(), seen.clone());
                Ok(self.ask(step, ask).await)
            }
            Step::GiveUpVolume { claim, pod, .. } => {
                let mut done = Done::Taken;
                if let Some(claim) = claim {
                    done = Done::of(delete::<PersistentVolumeClaim>(self.client, self.namespace, claim, None).await?);
                }
                // That it goes away with its claim is so also when this is interrupted here: the claim waits for it.
                match pod {
                    Some(pod) if done == Done::Taken => self.delete_pod(pod).await,
                    _ => Ok(done),
                }
            }
            Step::Remove(broker) => Ok(self.ask(step, |contact| self.brokers.remove(contact, *broker)).await),
        }
    }

    /// With the brokers' permit alone. The pod goes when the permit has been seen: from then on no drain of nodes takes
    /// another one, and as long as it is refused drains go on.
    async fn restart(
        &self,
        step: &Step,
        broker: i32,
        incarnation: &str,
        pod: &Seen,
        permitted: bool,
    ) -> Result<Done, ApplyError> {
        let Some(contact) = self.contact.clone() else { return Ok(no_broker(step)) };
        match self.brokers.request_stop(contact.clone(), broker, incarnation.to_owned()).await {
            Ok(Stop::Granted(_)) if !permitted => Ok(Done::Overtaken),
            Ok(Stop::Granted(permit)) => {
                let done = self.delete_pod(pod).await;
                if self.left_alone(pod, &done).await {
                    // Nobody is to wait for the permit's end. That it could not be given back is found in the facts.
                    let _ = self.brokers.recovered(contact, permit.id, true).await;
                }
                done
            }
            Ok(Stop::Refused(why)) => Ok(waits(step, "StopRefused", why)),
            Err(error) => Ok(waits(step, "BrokersUnknown", error.to_string())),
        }
    }

    /// Whether it is certain that a pod was not deleted: it is another one by now, or stays. Who is not sure what became of
    /// a request may have deleted it.
    async fn left_alone(&self, pod: &Seen, done: &Result<Done, ApplyError>) -> bool {
        let refused = match done {
            Ok(done) => *done != Done::Taken,
            Err(ApplyError::Api { source: kube::Error::Api(status), .. }) => (400..500).contains(&status.code),
            Err(_) => false,
        };
        if !refused {
            return false;
        }
        let named = ListParams::default().fields(&format!("metadata.name={}", pod.name));
        let Ok(found) = Api::<Pod>::namespaced(self.client.clone(), self.namespace).list(&named).await else {
            return false;
        };
        let as_seen = |now: &&Pod| now.metadata.uid.as_deref() == Some(&pod.uid);
        found.items.iter().find(as_seen).is_none_or(|now| now.metadata.deletion_timestamp.is_none())
    }

    async fn close(&self, step: &Step, permit: u64) -> Done {
        let Some(contact) = self.contact.clone() else { return no_broker(step) };
        match self.brokers.recovered(contact, permit, false).await {
            Ok(None) => Done::Taken,
            Ok(Some(missing)) => waits(step, "NotRecovered", missing),
            Err(error) => waits(step, "BrokersUnknown", error.to_string()),
        }
    }

    /// Taken when nothing is left to move.
    async fn balance(&self, step: &Step, rate: u64) -> Done {
        let Some(contact) = self.contact.clone() else { return no_broker(step) };
        match self.brokers.rebalance(contact, rate).await {
            Ok(balance) if balance.is_done() => Done::Taken,
            Ok(Balance { left, under_way, waits_for }) => {
                let pauses = waits_for.map(|why| format!("; nothing more begins at the moment: {why}"));
                let message = format!("{under_way} partitions are on their way, {left} have yet to go");
                waits(step, balance::UNDER_WAY, message + &pauses.unwrap_or_default())
            }
            Err(error) => unanswered(step, &error),
        }
    }

    async fn ask(&self, step: &Step, request: impl FnOnce(Contact) -> Answer<()>) -> Done {
        let Some(contact) = self.contact.clone() else { return no_broker(step) };
        match request(contact).await {
            Ok(()) => Done::Taken,
            Err(error) => unanswered(step, &error),
        }
    }

    async fn delete_pod(&self, pod: &Seen) -> Result<Done, ApplyError> {
        Ok(Done::of(delete::<Pod>(self.client, self.namespace, pod, None).await?))
    }
}

impl Done {
    fn of(deleted: bool) -> Self {
        if deleted { Self::Taken } else { Self::Overtaken }
    }
}

fn unanswered(step: &Step, error: &Unanswered) -> Done {
    let reason = match error {
        Unanswered::Refused(_) => REFUSED,
        Unanswered::Unsupported(_) => NOT_SUPPORTED,
        Unanswered::Unsure(_) => "BrokersUnknown",
    };
    waits(step, reason, error.to_string())
}

fn no_broker(step: &Step) -> Done {
    waits(step, "BrokersUnknown", "no broker runs".to_owned())
}

fn waits(step: &Step, reason: &'static str, message: String) -> Done {
    Done::Waits(Wait { action: step.to_string(), reason, message })
}
