//! How many brokers a drain of nodes may take away now.

use super::is_well;
use crate::reconcile::observe::Observed;
use crate::reconcile::validate::Cluster;

/// One, while every broker serves and every partition is known to be in full sync with nothing under way; else none, so
/// that a drain waits for the last broker to catch up.
pub(super) fn max_unavailable(cluster: &Cluster, observed: &Observed) -> i32 {
    let complete = i32::try_from(observed.pods.len()).is_ok_and(|pods| pods >= cluster.replicas);
    let permitted = observed.facts.known().is_some_and(|facts| facts.permit.is_none());
    i32::from(complete && permitted && is_well(observed))
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
        let cases: [(&str, Change, i32); 8] = [
            ("all is well", |_| {}, 1),
            ("a broker is not ready", |o| o.pods[1].state = PodState::Waiting("running".to_owned()), 0),
            ("a broker has no pod", |o| drop(o.pods.pop()), 0),
            ("the facts are unknown", |o| o.facts = Known::Unknown("no leader".to_owned()), 0),
            ("a partition is under-replicated", |o| set(o, |f| f.under_replicated = 1), 0),
            ("a partition is being moved", |o| set(o, |f| f.reassignments = 1), 0),
            ("a broker may be restarted", |o| set(o, |f| f.permit = Some(Permit::default())), 0),
            ("a broker is fenced", |o| set(o, |f| f.brokers.get_mut(&1).unwrap().standing = Standing::Fenced), 0),
        ];
        for (what, change, allowed) in cases {
            let mut observed = observed();
            change(&mut observed);
            assert_eq!(max_unavailable(&cluster(), &observed), allowed, "{what}");
        }
    }

    fn set(observed: &mut Observed, change: fn(&mut crate::brokers::Facts)) {
        if let Known::Is(facts) = &mut observed.facts {
            change(facts);
        }
    }
}
