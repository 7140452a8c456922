//! The volume of a broker that does not come back with it, as its node or its disk is lost: it is given up when somebody
//! says so by an annotation on the claim, and every partition is led by somebody else. The broker then gets an empty one,
//! and catches up.

use super::{Plan, Step};
use crate::brokers::Standing;
use crate::reconcile::observe::{Known, Observed, ObservedPod, ObservedVolume, PodState};

pub(super) fn plan(observed: &Observed, plan: &mut Plan) {
    for volume in observed.volumes.iter().filter(|volume| volume.given_up) {
        let broker = volume.ordinal;
        let pod = observed.pods.iter().find(|pod| pod.ordinal == broker);
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

/// What speaks against it, in a word and in a sentence.
fn against(observed: &Observed, volume: &ObservedVolume, pod: Option<&ObservedPod>) -> Option<(&'static str, String)> {
    let broker = volume.ordinal;
    if pod.is_some_and(|pod| pod.state == PodState::Ready) {
        return Some(("VolumeInUse", format!("broker {broker} serves with it")));
    }
    let facts = match &observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => return Some(("BrokersUnknown", why.clone())),
    };
    if facts.brokers.get(&broker).is_some_and(|broker| broker.standing != Standing::Fenced) {
        return Some(("VolumeInUse", format!("broker {broker} is not fenced: it may be in in-sync sets")));
    }
    // Who is fenced is in no in-sync set but as the last one of it, and then nobody leads.
    if facts.offline > 0 {
        let why = format!("{} partitions have no leader: the last copy may be on this volume", facts.offline);
        return Some(("PartitionsOffline", why));
    }
    let behind = facts.brokers.iter().find(|(id, other)| **id != broker && other.standing != Standing::InSync);
    if let Some((id, _)) = behind {
        return Some(("BrokerBehind", format!("broker {id} is not in sync: one copy less is one too few")));
    }
    let permit = facts.permit.as_ref().filter(|permit| permit.broker != broker);
    permit.map(|permit| ("PermitOutstanding", format!("broker {} has the one permit to stop", permit.broker)))
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
        facts(&mut observed).brokers.get_mut(&2).unwrap().standing = Standing::Fenced;
        observed
    }

    fn planned(observed: &Observed) -> String {
        let mut made = Plan::default();
        plan(observed, &mut made);
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
        let cases: [(&str, Change, &str); 10] = [
            ("all is as it should be", |_| {}, "2: data-demo-2 demo-2"),
            ("nobody says so", |o| o.volumes[2].given_up = false, "nothing"),
            ("its pod is gone", |o| drop(o.pods.pop()), "2: data-demo-2 -"),
            ("the claim goes already", |o| o.volumes[2].leaving = true, "2: - demo-2"),
            ("the broker serves", |o| o.pods[2].state = PodState::Ready, "VolumeInUse"),
            (
                "it is not fenced",
                |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Recovering,
                "VolumeInUse",
            ),
            ("it may have the last copy", |o| facts(o).offline = 1, "PartitionsOffline"),
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
