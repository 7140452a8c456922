//! Brokers that have joined get their share of the partitions that there are, a few at a time, when nothing else is to be
//! done.
//!
//! Over how many brokers partitions were spread last is in the status: a cluster that an operator finds is left as it is,
//! and so is one whose partitions somebody has placed by hand.

use super::{Plan, Step};
use crate::brokers::Standing;
use crate::reconcile::observe::Observed;
use crate::reconcile::validate::Cluster;

/// What is waited for while partitions are moved.
pub const UNDER_WAY: &str = "SpreadingPartitions";

/// How far the step came that was to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to move.
    Done,
    /// Something is on its way, or has yet to go.
    UnderWay,
}

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    let Some(rate) = cluster.rebalance_rate else { return };
    let due = observed.balanced.is_some_and(|balanced| balanced < cluster.replicas);
    // What restarts or removes a broker goes first: it waits for what is on its way, and nothing more is begun meanwhile.
    if due && plan.step.is_none() && plan.waits.is_empty() && have_joined(cluster, observed) {
        plan.take(Step::Balance { brokers: cluster.replicas, rate });
    }
}

fn have_joined(cluster: &Cluster, observed: &Observed) -> bool {
    let joined = |id: i32| {
        let broker = observed.facts.known().and_then(|facts| facts.brokers.get(&id));
        broker.is_some_and(|broker| broker.incarnation.is_some() && broker.standing == Standing::InSync)
    };
    (0..cluster.replicas).all(joined)
}

/// What the status is to say: over how many brokers partitions are spread, or 0 while that is under way. There is progress
/// only where the step was to be taken, and the brokers answered.
pub fn report(cluster: &Cluster, observed: &Observed, progress: Option<Progress>) -> i32 {
    if cluster.rebalance_rate.is_none() {
        return cluster.replicas;
    }
    match (progress, observed.balanced) {
        (Some(Progress::Done), _) => cluster.replicas,
        (Some(Progress::UnderWay), _) => 0,
        // Those that run when an operator first looks, of those that there are to be.
        (None, None) => observed.set.as_ref().map_or(cluster.replicas, |set| set.replicas).min(cluster.replicas),
        (None, Some(balanced)) => balanced.min(cluster.replicas),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, facts, observed_of};
    use super::*;

    /// Two brokers have joined three.
    fn grown() -> (Cluster, Observed) {
        let (mut cluster, mut observed) = (cluster(), observed_of(5));
        cluster.replicas = 5;
        observed.balanced = Some(3);
        (cluster, observed)
    }

    fn planned(cluster: &Cluster, observed: &Observed) -> Option<String> {
        let made = super::super::plan(cluster, observed).unwrap();
        made.step.map(|step| step.to_string())
    }

    #[test]
    fn brokers_that_have_joined_get_their_share_when_all_are_there_and_nothing_else_is_to_be_done() {
        type Change = fn(&mut Cluster, &mut Observed);
        const SPREAD: Option<&str> = Some("spread partitions over 5 brokers");
        let cases: [(&str, Change, Option<&str>); 8] = [
            ("two have joined", |_, _| {}, SPREAD),
            ("it is under way", |_, o| o.balanced = Some(0), SPREAD),
            ("it is done", |_, o| o.balanced = Some(5), None),
            ("nobody has looked before", |_, o| o.balanced = None, None),
            ("it is not wanted", |c, _| c.rebalance_rate = None, None),
            ("one is not registered yet", |_, o| drop(facts(o).brokers.remove(&4)), None),
            ("one is behind", |_, o| facts(o).brokers.get_mut(&3).unwrap().standing = Standing::Recovering, None),
            (
                "a restart goes first",
                |_, o| o.set.as_mut().unwrap().update_revision = Some("r2".to_owned()),
                Some("restart broker 4"),
            ),
        ];
        for (what, change, expected) in cases {
            let (mut cluster, mut observed) = grown();
            change(&mut cluster, &mut observed);
            assert_eq!(planned(&cluster, &observed).as_deref(), expected, "{what}");
        }
        // A restart that waits for what is on its way: nothing more is begun.
        let (cluster, mut observed) = grown();
        observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
        facts(&mut observed).reassignments = 2;
        assert_eq!(planned(&cluster, &observed), None);
    }

    #[test]
    fn what_was_spread_is_remembered_when_nothing_is_left_to_move() {
        let (mut cluster, mut observed) = grown();
        assert_eq!(report(&cluster, &observed, None), 3);
        assert_eq!(report(&cluster, &observed, Some(Progress::UnderWay)), 0);
        assert_eq!(report(&cluster, &observed, Some(Progress::Done)), 5);
        // What has begun is brought to its end, also where fewer brokers are asked for meanwhile.
        (cluster.replicas, observed.balanced) = (3, Some(0));
        assert_eq!(report(&cluster, &observed, None), 0);
    }

    #[test]
    fn a_cluster_that_an_operator_finds_is_left_as_it_is() {
        let (mut cluster, mut observed) = grown();
        observed.balanced = None;
        assert_eq!(report(&cluster, &observed, None), 5);
        // Which was asked to grow meanwhile.
        observed.set.as_mut().unwrap().replicas = 3;
        assert_eq!(report(&cluster, &observed, None), 3);
        observed.set = None;
        assert_eq!(report(&cluster, &observed, None), 5);
        // Fewer are spread over fewer.
        cluster.replicas = 3;
        observed.balanced = Some(5);
        assert_eq!(report(&cluster, &observed, None), 3);
        cluster.rebalance_rate = None;
        observed.balanced = Some(0);
        assert_eq!(report(&cluster, &observed, None), 3);
    }
}
