//! Properties that brokers take up while they run are given to all of them, put right where somebody else has changed
//! them, and taken back when the spec does not name them any more.

use super::Plan;
use crate::kafka::{config_changes, same_value};
use crate::reconcile::observe::{Known, Observed, PodState};
use crate::reconcile::validate::Cluster;
use chronik_crds::DynamicConfigStatus;
use std::collections::BTreeSet;

/// What is done, as in `status.plan`.
pub const ACTION: &str = "configure brokers";

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    if names(cluster, observed).is_empty() {
        return;
    }
    match &observed.config {
        Known::Is(current) => plan.config = config_changes(&cluster.dynamic, &observed.managed_config, current),
        // While no broker serves nobody can take it, and the status has more important things to report.
        Known::Unknown(_) if observed.pods.iter().all(|pod| pod.state != PodState::Ready) => {}
        Known::Unknown(why) => plan.wait(ACTION, "BrokersUnknown", why.clone()),
    }
}

/// The properties that the spec names, and those that it has named and that are not yet reset.
fn names<'a>(cluster: &'a Cluster, observed: &'a Observed) -> BTreeSet<&'a String> {
    let still_set = |name: &&String| observed.config.known().is_none_or(|current| current.contains_key(*name));
    cluster.dynamic.keys().chain(observed.managed_config.iter().filter(still_set)).collect()
}

/// What to report of them.
pub fn report(cluster: &Cluster, observed: &Observed) -> Vec<DynamicConfigStatus> {
    let one = |name: &String| {
        let value = observed.config.known().and_then(|current| current.get(name)).cloned();
        let wanted = cluster.dynamic.get(name);
        let in_force = match (wanted, &value) {
            (Some(wanted), Some(value)) => same_value(wanted, value),
            (None, _) | (_, None) => false,
        };
        DynamicConfigStatus { name: name.clone(), value, in_force }
    };
    names(cluster, observed).into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, observed};
    use super::*;
    use crate::kafka::{Configs, in_words};

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_the_spec_names_is_set_and_what_it_has_named_is_reset() {
        const A: &str = "log.retention.ms";
        const B: &str = "message.max.bytes";
        for (wanted, managed, current, changes, in_force) in [
            (&[][..], &[][..], Some(&[(A, "1")][..]), "", &[][..]),
            (&[(A, "1")], &[A], Some(&[]), "set log.retention.ms to 1", &[false]),
            (&[(A, "1")], &[A], Some(&[(A, "1"), (B, "7")]), "", &[true]),
            (
                &[(A, "1")],
                &[A, B],
                Some(&[(A, "2"), (B, "7")]),
                "set log.retention.ms to 1, reset message.max.bytes",
                &[false, false],
            ),
            (&[], &[A], Some(&[(A, "2")]), "reset log.retention.ms", &[false]),
            (&[], &[A], Some(&[]), "", &[]),
            (&[(A, "1")], &[A], None, "configure brokers: BrokersUnknown", &[false]),
        ] {
            let (mut cluster, mut observed) = (cluster(), observed());
            cluster.dynamic = configs(wanted);
            observed.managed_config = managed.iter().map(|name| (*name).to_owned()).collect();
            observed.config = match current {
                Some(current) => Known::Is(configs(current)),
                None => Known::Unknown("no answer".to_owned()),
            };
            let mut made = Plan::default();
            plan(&cluster, &observed, &mut made);
            let waits = made.waits.iter().map(|wait| format!("{}: {}", wait.action, wait.reason));
            let found = std::iter::once(in_words(&made.config)).chain(waits).collect::<String>();
            assert_eq!(found, changes, "{wanted:?} {managed:?} {current:?}");
            let reported = report(&cluster, &observed).iter().map(|one| one.in_force).collect::<Vec<_>>();
            assert_eq!(reported, in_force, "{wanted:?} {managed:?} {current:?}");
        }
    }
}
