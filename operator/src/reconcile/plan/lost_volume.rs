//! The volume of a broker that does not come back with it, as its node or its disk is lost: it is given up when somebody
//! says so by an annotation on the claim, and every partition is led by somebody else. The broker then gets an empty one,
//! and catches up.

use super::storage::VolumeChange;
use super::{Plan, Step};
use crate::brokers::Standing;
use crate::reconcile::observe::{Known, NodeState, Observed, ObservedPod, ObservedVolume, PodState};

pub(super) fn plan(observed: &Observed, plan: &mut Plan) {
    for volume in observed.volumes.iter().filter(|volume| volume.given_up) {
        let broker = volume.ordinal;
        let pod = observed.pods.iter().find(|pod| pod.ordinal == broker);
        if serves(observed, pod) {
            // Said of a volume that is not lost, it would be believed when its pod is away for another reason.
            plan.volumes.push(VolumeChange { kept: true, ..VolumeChange::of(&volume.seen) });
            continue;
        }
        let claim = (!volume.leaving).then(|| volume.seen.clone());
        // A claim stays for as long as a pod has it.
        let stays = pod.filter(|pod| !pod.is_terminating()).map(|pod| pod.seen.clone());
        if claim.is_none() && stays.is_none() {
            continue;
        }
        let step = Step::GiveUpVolume { broker, claim, pod: stays };
        match against(observed, volume, pod) {
            Some((reason, why)) => plan.wait(step.to_string(), reason, why),
            None => plan.take(step),
        }
    }
}

/// Whether the broker is there with its volume, and in sync.
fn serves(observed: &Observed, pod: Option<&ObservedPod>) -> bool {
    let ready = pod.filter(|pod| pod.state == PodState::Ready);
    let broker = ready.and_then(|pod| observed.facts.known()?.brokers.get(&pod.ordinal));
    broker.is_some_and(|broker| broker.standing == Standing::InSync)
}

/// What speaks against it, in a word and in a sentence.
fn against(observed: &Observed, volume: &ObservedVolume, pod: Option<&ObservedPod>) -> Option<(&'static str, String)> {
    let broker = volume.ordinal;
    if let Some(why) = not_lost(pod) {
        return Some(("VolumeInUse", format!("nothing shows that it is lost: {why}")));
    }
    let facts = match &observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => return Some(("BrokersUnknown", why.clone())),
    };
    if facts.brokers.get(&broker).is_some_and(|broker| broker.standing != Standing::Fenced) {
        return Some(("VolumeInUse", format!("broker {broker} is not fenced: it may be in in-sync sets")));
    }
    // Who is fenced is in no in-sync set but as the last one of it, and then nobody leads.
    // Who has the only replica of a partition is named by that: others' do not count here.
    let alone = facts.brokers.get(&broker).map_or(0, |broker| broker.only_replica);
    let offline = facts.offline.saturating_sub(facts.offline_alone);
    if offline > 0 || (alone > 0 && facts.offline > 0) {
        let what = if offline > 0 {
            format!("{offline} partitions have no leader: the last copy may be on this volume")
        } else {
            format!(
                "the only replica of {alone} partitions is on this volume; delete their topics, or, if it is lost, its claim \
                 and its pod"
            )
        };
        return Some(("PartitionsOffline", what));
    }
    let behind = facts.brokers.iter().find(|(id, other)| **id != broker && other.standing != Standing::InSync);
    if let Some((id, _)) = behind {
        return Some(("BrokerBehind", format!("broker {id} is not in sync: one copy less is one too few")));
    }
    // Its own as well: who was let go comes back.
    let permit = facts.permit.as_ref()?;
    if permit.broker == broker {
        return Some(("VolumeInUse", format!("broker {broker} has a permit to stop: it is restarted")));
    }
    Some(("PermitOutstanding", format!("broker {} has the one permit to stop", permit.broker)))
}

/// Why a pod that does not serve may serve again with its volume. The annotation may be an old one: without a sign that
/// the volume is lost, any pod that is just replaced would lose it.
fn not_lost(pod: Option<&ObservedPod>) -> Option<String> {
    let Some(pod) = pod else { return Some("its pod is being made".to_owned()) };
    match (&pod.state, pod.node_state) {
        (PodState::Ready, _) => Some("its broker serves".to_owned()),
        (_, NodeState::Gone | NodeState::NotReady | NodeState::OutOfService) => None,
        (PodState::Failing(_), _) if pod.may_lack_its_volume() => None,
        // What somebody has to correct elsewhere: the volume may be well.
        (PodState::Failing(why), _) => Some(format!("its pod cannot run for another reason: {why}")),
        // Kept there by a node that cannot be looked at.
        (PodState::Waiting(_), NodeState::Unknown) if pod.is_terminating() => None,
        (PodState::Waiting(why), NodeState::Ready | NodeState::Unknown) => Some(format!("its pod is {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, observed};
    use super::*;
    use crate::brokers::Permit;
    use crate::reconcile::plan::Plan;

    /// Broker 2 is away with its node, and somebody has given up its volume.
    fn lost() -> Observed {
        let mut observed = observed();
        observed.volumes[2].given_up = true;
        observed.pods[2].state = PodState::Waiting("running, but not ready".to_owned());
        observed.pods[2].node_state = NodeState::NotReady;
        facts(&mut observed).brokers.get_mut(&2).unwrap().standing = Standing::Fenced;
        observed
    }

    fn terminating(observed: &mut Observed, node: NodeState) {
        observed.pods[2].state = PodState::Waiting("terminating".to_owned());
        observed.pods[2].node_state = node;
    }

    fn failing(observed: &mut Observed, why: &str) {
        observed.pods[2].state = PodState::Failing(why.to_owned());
        observed.pods[2].node_state = NodeState::Ready;
    }

    fn planned(observed: &Observed) -> String {
        let mut made = Plan::default();
        plan(observed, &mut made);
        if let Some(change) = made.volumes.first().filter(|change| change.kept) {
            return format!("kept {}", change.claim.name);
        }
        match (made.step, made.waits.first()) {
            (Some(Step::GiveUpVolume { broker, claim, pod }), None) => {
                let name =
                    |seen: Option<crate::reconcile::observe::Seen>| seen.map_or("-".to_owned(), |seen| seen.name);
                format!("{broker}: {} {}", name(claim), name(pod))
            }
            (None, Some(wait)) => wait.reason.to_owned(),
            (None, None) => "nothing".to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_is_given_up_when_somebody_says_so_and_nothing_is_lost_by_it() {
        type Change = fn(&mut Observed);
        let cases: [(&str, Change, &str); 23] = [
            ("all is as it should be", |_| {}, "2: data-demo-2 demo-2"),
            ("nobody says so", |o| o.volumes[2].given_up = false, "nothing"),
            ("its pod is being made", |o| drop(o.pods.pop()), "VolumeInUse"),
            ("its node is gone", |o| o.pods[2].node_state = NodeState::Gone, "2: data-demo-2 demo-2"),
            ("its pod just starts", |o| o.pods[2].node_state = NodeState::Ready, "VolumeInUse"),
            ("its pod is replaced", |o| terminating(o, NodeState::Ready), "VolumeInUse"),
            ("its pod cannot end", |o| terminating(o, NodeState::NotReady), "2: data-demo-2 -"),
            ("nor can its node be looked at", |o| terminating(o, NodeState::Unknown), "2: data-demo-2 -"),
            (
                "its pod fits nowhere",
                |o| {
                    failing(o, "Unschedulable");
                    o.pods[2].node_state = NodeState::Unknown;
                },
                "2: data-demo-2 demo-2",
            ),
            (
                "its process cannot read it",
                |o| failing(o, "CrashLoopBackOff: /data: (os error 5)"),
                "2: data-demo-2 demo-2",
            ),
            ("its image cannot be pulled", |o| failing(o, "ErrImagePull: no such image"), "VolumeInUse"),
            ("its configuration is refused", |o| failing(o, "CrashLoopBackOff: unknown key"), "VolumeInUse"),
            ("it is restarted", |o| facts(o).permit = Some(Permit { broker: 2, ..Permit::default() }), "VolumeInUse"),
            ("the claim goes already", |o| o.volumes[2].leaving = true, "2: - demo-2"),
            ("the broker serves", |o| o.pods[2].state = PodState::Ready, "VolumeInUse"),
            (
                "it is in sync: the mark goes",
                |o| {
                    o.pods[2].state = PodState::Ready;
                    facts(o).brokers.get_mut(&2).unwrap().standing = Standing::InSync;
                },
                "kept data-demo-2",
            ),
            (
                "it is not fenced",
                |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Recovering,
                "VolumeInUse",
            ),
            ("it may have the last copy", |o| facts(o).offline = 1, "PartitionsOffline"),
            (
                "it has the only one of some",
                |o| {
                    (facts(o).offline, facts(o).offline_alone) = (1, 1);
                    facts(o).brokers.get_mut(&2).unwrap().only_replica = 1;
                },
                "PartitionsOffline",
            ),
            (
                "another one has lost the only one of some",
                |o| (facts(o).offline, facts(o).offline_alone) = (1, 1),
                "2: data-demo-2 demo-2",
            ),
            (
                "another one is behind",
                |o| facts(o).brokers.get_mut(&0).unwrap().standing = Standing::Recovering,
                "BrokerBehind",
            ),
            ("another one may stop", |o| facts(o).permit = Some(Permit::default()), "PermitOutstanding"),
            ("nobody is sure", |o| o.facts = Known::Unknown("no leader".to_owned()), "BrokersUnknown"),
        ];
        for (what, change, expected) in cases {
            let mut observed = lost();
            change(&mut observed);
            assert_eq!(planned(&observed), expected, "{what}");
        }
    }
}
