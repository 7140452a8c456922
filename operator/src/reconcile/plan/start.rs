//! A broker that does not come up is said to be waited for: it holds up drains of nodes and the spreading of partitions,
//! and may do so for ever.

use super::Plan;
use crate::reconcile::observe::{Observed, PodState};
use crate::reconcile::validate::Cluster;

/// What is said where a pod has had time enough to become ready, and is not.
pub const BROKER_STUCK: &str = "BrokerStuck";

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    // Who waits for something else says so already, of the same broker or of what goes first.
    if plan.step.is_some() || !plan.waits.is_empty() {
        return;
    }
    let overdue = observed.pods.iter().find(|pod| pod.overdue && pod.ordinal < cluster.replicas);
    if let Some(pod) = overdue
        && let PodState::Waiting(why) | PodState::Failing(why) = &pod.state
    {
        let message = format!("{}: {why}", pod.seen.name);
        plan.wait(format!("start broker {}", pod.ordinal), BROKER_STUCK, message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, facts, observed};
    use super::super::{LATER, plan};
    use super::*;
    use crate::reconcile::observe::Known;

    #[test]
    fn a_broker_that_does_not_come_up_is_waited_for_aloud_whatever_else_is_known() {
        type Change = fn(&mut Observed);
        let cases: [(&str, Change, Option<&str>); 7] = [
            ("all is well", |_| {}, None),
            ("it has just been made", |o| o.pods[2].state = PodState::Waiting("pending".to_owned()), None),
            ("it had its time", |o| stuck(o, "ContainerCreating"), Some("demo-2: ContainerCreating")),
            (
                "it has never joined",
                |o| {
                    stuck(o, "PodInitializing");
                    facts(o).brokers.remove(&2);
                },
                Some("demo-2: PodInitializing"),
            ),
            (
                "the cluster never formed",
                |o| {
                    stuck(o, "running, but not ready");
                    (o.formed, o.facts) = (false, Known::Unknown("no leader".to_owned()));
                },
                Some("demo-2: running, but not ready"),
            ),
            (
                "it is to go",
                |o| {
                    stuck(o, "SchedulingGated");
                    o.pods[2].ordinal = 3;
                },
                None,
            ),
            (
                "a restart says that it waits for it",
                |o| {
                    stuck(o, "ContainerCreating");
                    o.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
                    o.pods[2].revision = Some("r2".to_owned());
                },
                Some("broker 2 does not serve: ContainerCreating"),
            ),
        ];
        for (what, change, expected) in cases {
            let mut observed = observed();
            change(&mut observed);
            let made = plan(&cluster(), &observed).unwrap();
            assert_eq!(made.waits.first().map(|wait| wait.message.as_str()), expected, "{what}");
            if made.waits.iter().any(|wait| wait.reason == BROKER_STUCK) {
                assert_eq!(made.again(&observed, false), LATER, "{what}");
            }
        }
    }

    fn stuck(observed: &mut Observed, why: &str) {
        let pod = &mut observed.pods[2];
        (pod.state, pod.overdue) = (PodState::Waiting(why.to_owned()), true);
    }
}
