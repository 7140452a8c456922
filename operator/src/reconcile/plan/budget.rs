//! How many brokers a drain of nodes may take away now.

use super::{Plan, Step, is_well, scale};
use crate::reconcile::observe::Observed;
use crate::reconcile::validate::Cluster;

/// One, while every broker serves and every partition is known to be in full sync with nothing under way; else none, so
/// that a drain waits for the last broker to catch up. None also while a step of the plan takes one.
pub(super) fn max_unavailable(cluster: &Cluster, observed: &Observed, plan: &Plan) -> i32 {
    let taken = plan.step.iter().chain(&plan.otherwise).any(Step::takes_a_pod);
    i32::from(!taken && may_go(observed, cluster.replicas))
}

/// The same where nothing is planned, as the spec cannot be followed: of how many brokers, and how many.
pub fn of_what_runs(observed: &Observed) -> (i32, i32) {
    let brokers = scale::running(observed).unwrap_or(0);
    (brokers, i32::from(may_go(observed, brokers)))
}

fn may_go(observed: &Observed, brokers: i32) -> bool {
    let complete = i32::try_from(observed.pods.len()).is_ok_and(|pods| pods >= brokers);
    let permitted = observed.facts.known().is_some_and(|facts| facts.permit.is_none());
    // Whose pod goes loses such a volume.
    let kept = observed.leaving_volume().is_none();
    // While the StatefulSet is made again, nothing would make a pod anew.
    let replaced = observed.set.as_ref().is_some_and(|set| !set.leaving);
    complete && permitted && kept && replaced && is_well(observed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, observed};
    use super::*;
    use crate::brokers::{Permit, Standing};
    use crate::reconcile::observe::{Known, PodState};

    #[test]
    fn a_drain_takes_a_broker_only_when_all_is_known_to_be_well() {
        type Change = fn(&mut Observed);
        let cases: [(&str, Change, i32); 11] = [
            ("all is well", |_| {}, 1),
            ("a broker is not ready", |o| o.pods[1].state = PodState::Waiting("running".to_owned()), 0),
            ("a broker has no pod", |o| drop(o.pods.pop()), 0),
            ("the facts are unknown", |o| o.facts = Known::Unknown("no leader".to_owned()), 0),
            ("a partition is under-replicated", |o| set(o, |f| f.under_replicated = 1), 0),
            ("a partition is being moved", |o| set(o, |f| f.reassignments = 1), 0),
            ("a broker may be restarted", |o| set(o, |f| f.permit = Some(Permit::default())), 0),
            ("a broker is fenced", |o| set(o, |f| f.brokers.get_mut(&1).unwrap().standing = Standing::Fenced), 0),
            ("a broker would lose its volume", |o| o.volumes[1].leaving = true, 0),
            ("the StatefulSet is made again", |o| o.set = None, 0),
            ("the StatefulSet is on its way out", |o| o.set.as_mut().unwrap().leaving = true, 0),
        ];
        for (what, change, allowed) in cases {
            let mut observed = observed();
            change(&mut observed);
            assert_eq!(max_unavailable(&cluster(), &observed, &Plan::default()), allowed, "{what}");
            assert_eq!(of_what_runs(&observed), (3, allowed), "{what}");
        }
    }

    fn set(observed: &mut Observed, change: fn(&mut crate::brokers::Facts)) {
        if let Known::Is(facts) = &mut observed.facts {
            change(facts);
        }
    }
}
