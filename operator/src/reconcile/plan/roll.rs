//! Pods of an older template are replaced one at a time: followers before leaders, the controller's leader last, each
//! with the brokers' permit, and only when the one before is back in every in-sync set.
//!
//! A gate that stays shut is waited for, and never forced. A pod that does not run takes nothing away when it is deleted,
//! and needs no permit.

use super::{Plan, Step, lacking};
use crate::brokers::{Facts, Standing};
use crate::reconcile::observe::{Known, Observed, ObservedPod, PodState};
use crate::reconcile::validate::Cluster;

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    close_permit(observed, plan);
    let Some(revision) = observed.update_revision() else { return };
    let outdated = |pod: &&ObservedPod| pod.revision.as_deref().is_some_and(|of_pod| of_pod != revision);
    let outdated = observed.pods.iter().filter(outdated).collect::<Vec<_>>();
    // Of these, none is replaced that does not serve: nothing shows that it would help.
    let to_restart = observed
        .pods
        .iter()
        .filter(|pod| awaits_restart(observed, pod) || outdated.iter().any(|outdated| outdated.ordinal == pod.ordinal));
    let to_restart = to_restart.collect::<Vec<_>>();
    if to_restart.is_empty() {
        unused_permit(observed, plan);
        return;
    }
    let next = |pod: &ObservedPod| format!("restart broker {}", pod.ordinal);
    // The broker to name while it is not known who leads.
    let anyone = to_restart.last().map(|pod| next(pod)).unwrap_or_default();
    if let Some(volume) = observed.leaving_volume() {
        let message =
            format!("{} is being deleted, and goes with the pod of broker {}", volume.seen.name, volume.ordinal);
        plan.wait(anyone, "VolumeLeaving", message);
        return;
    }
    let step = stuck(cluster, observed, &outdated).or_else(|| useless(cluster, observed, &outdated));
    if let Some(step) = step.or_else(|| unformed(observed, &outdated)) {
        plan.take(step);
        return;
    }
    if let Some((reason, message)) = down(cluster, observed) {
        plan.wait(anyone, reason, message);
        return;
    }
    let facts = match &observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => {
            plan.wait(anyone, "BrokersUnknown", format!("what the brokers would say is not known: {why}"));
            return;
        }
    };
    let Some(pod) = to_restart.iter().copied().min_by_key(|pod| order(pod, facts)) else { return };
    let Some(incarnation) = facts.brokers.get(&pod.ordinal).and_then(|broker| broker.incarnation.clone()) else {
        plan.wait(next(pod), "NotRegistered", format!("the controller does not know broker {}", pod.ordinal));
        return;
    };
    if let Some((reason, message)) = lacking(facts) {
        plan.wait(next(pod), reason, message);
        return;
    }
    if let Some(permit) = facts.permit.as_ref().filter(|permit| permit.broker != pod.ordinal) {
        let message = format!("broker {} has the one permit to stop", permit.broker);
        plan.wait(next(pod), "PermitOutstanding", message);
        return;
    }
    let permitted = facts.permit.is_some();
    plan.take(Step::Restart { broker: pod.ordinal, incarnation, pod: pod.seen.clone(), permitted });
}

/// Whether the file system of the broker's volume grows when its pod is started anew. A pod that was made since then has
/// been.
fn awaits_restart(observed: &Observed, pod: &ObservedPod) -> bool {
    let volume = observed.volumes.iter().find(|volume| volume.ordinal == pod.ordinal);
    let since = volume.and_then(|volume| volume.awaits_restart);
    matches!((since, pod.made), (Some(since), Some(made)) if made < since)
}

/// Who may stop already before all others, the controller's leader after them, brokers that lead more after those that lead
/// less, and the highest id first.
fn order(pod: &ObservedPod, facts: &Facts) -> (bool, bool, u32, i32) {
    let leads = facts.brokers.get(&pod.ordinal).map_or(0, |broker| broker.leaders);
    let may_stop = facts.permit.as_ref().is_some_and(|permit| permit.broker == pod.ordinal);
    (!may_stop, facts.controller == Some(pod.ordinal), leads, -pod.ordinal)
}

/// A permit whose broker runs as another process since, and is in sync.
fn close_permit(observed: &Observed, plan: &mut Plan) {
    let Some(facts) = observed.facts.known() else { return };
    let Some(permit) = &facts.permit else { return };
    let Some(broker) = facts.brokers.get(&permit.broker) else { return };
    let restarted = broker.incarnation.as_ref().is_some_and(|now| *now != permit.incarnation);
    if restarted && broker.standing == Standing::InSync {
        plan.take(Step::ClosePermit(permit.clone()));
    }
}

/// A permit that nothing is done with: as the change that it was for was taken back, or as somebody else has it. It is not
/// given back, as it may be a person's; but it is said, as no drain of nodes takes a broker meanwhile.
fn unused_permit(observed: &Observed, plan: &mut Plan) {
    let Some(facts) = observed.facts.known() else { return };
    let Some(permit) = &facts.permit else { return };
    let as_then = facts.brokers.get(&permit.broker).and_then(|broker| broker.incarnation.as_ref());
    let serves = observed.pods.iter().any(|pod| pod.ordinal == permit.broker && pod.state == PodState::Ready);
    if serves && as_then == Some(&permit.incarnation) {
        let action = format!("let nodes be drained, once the permit of broker {} has ended", permit.broker);
        let message = format!("broker {} has the one permit to stop, and serves", permit.broker);
        plan.wait(action, "PermitOutstanding", message);
    }
}

/// A pod of an older template that does not run, while every other broker serves or is stuck in an older one too. One that
/// is missing, or cannot run with the present template, is away already: what keeps it away would take this one as well. Nor
/// is any replaced while another broker has the permit, which may serve already and have yet to catch up: unless the brokers
/// say that this one is all that is missing.
fn stuck(cluster: &Cluster, observed: &Observed, outdated: &[&ObservedPod]) -> Option<Step> {
    let is_outdated = |pod: &ObservedPod| outdated.iter().any(|outdated| outdated.ordinal == pod.ordinal);
    let another_is_away = observed.pods.iter().any(|pod| match pod.state {
        PodState::Ready => false,
        PodState::Waiting(_) => true,
        PodState::Failing(_) => !is_outdated(pod),
    });
    if another_is_away || !all_there(cluster, observed) {
        return None;
    }
    let waits_for_another = |pod: &ObservedPod| {
        let Some(facts) = observed.facts.known() else { return false };
        let of_another = facts.permit.as_ref().is_some_and(|permit| permit.broker != pod.ordinal);
        of_another && !is_away_alone(pod.ordinal, facts)
    };
    let mut may_go = outdated.iter().rev().filter(|pod| !waits_for_another(pod));
    may_go.find_map(|pod| match &pod.state {
        PodState::Failing(why) => {
            let why = why.split_once(": ").map_or(why.as_str(), |(gist, _)| gist).to_owned();
            Some(Step::ReplaceStuck { broker: pod.ordinal, pod: pod.seen.clone(), why })
        }
        PodState::Ready | PodState::Waiting(_) => None,
    })
}

/// Whether the controller counts on a broker for nothing, and all others are in sync.
fn is_away_alone(broker: i32, facts: &Facts) -> bool {
    let as_expected =
        |(id, standing): (i32, Standing)| standing == if id == broker { Standing::Fenced } else { Standing::InSync };
    facts.brokers.iter().map(|(id, known)| (*id, known.standing)).all(as_expected)
}

/// A pod of an older template that may yet become ready, and may never: the only one that does not serve. Its deletion takes
/// nothing away while the controller counts on its broker for nothing.
fn useless(cluster: &Cluster, observed: &Observed, outdated: &[&ObservedPod]) -> Option<Step> {
    let mut unready = observed.pods.iter().filter(|pod| pod.state != PodState::Ready);
    let (pod, None) = (unready.next()?, unready.next()) else { return None };
    let PodState::Waiting(why) = &pod.state else { return None };
    let is_outdated = outdated.iter().any(|outdated| outdated.ordinal == pod.ordinal);
    let counts = match &observed.facts {
        Known::Is(facts) => {
            let registered = facts.brokers.get(&pod.ordinal).filter(|broker| broker.incarnation.is_some());
            let of_another = facts.permit.as_ref().is_some_and(|permit| permit.broker != pod.ordinal);
            of_another || registered.is_some_and(|broker| broker.standing != Standing::Fenced)
        }
        // The only broker answers for itself, or nobody does.
        Known::Unknown(_) => cluster.replicas > 1,
    };
    (all_there(cluster, observed) && is_outdated && !pod.is_terminating() && !counts).then(|| Step::ReplaceStuck {
        broker: pod.ordinal,
        pod: pod.seen.clone(),
        why: why.clone(),
    })
}

fn all_there(cluster: &Cluster, observed: &Observed) -> bool {
    (0..cluster.replicas).all(|id| observed.pods.iter().any(|pod| pod.ordinal == id))
}

/// A pod of an older template that does not serve, of a cluster that was never complete and that nobody uses: what keeps it
/// from forming may be what the spec was corrected for. Nothing is taken away by its deletion, and none of them may ever be
/// ready before all are replaced.
fn unformed(observed: &Observed, outdated: &[&ObservedPod]) -> Option<Step> {
    let used = match &observed.facts {
        Known::Is(facts) => facts.partitions > 0 || facts.permit.is_some(),
        // Without a controller's leader nobody has been ready for long, if ever.
        Known::Unknown(_) => observed.pods.iter().any(|pod| pod.state == PodState::Ready),
    };
    if observed.formed || used {
        return None;
    }
    outdated.iter().rev().find_map(|pod| match &pod.state {
        PodState::Waiting(why) | PodState::Failing(why) if !pod.is_terminating() => {
            let why = why.split_once(": ").map_or(why.as_str(), |(gist, _)| gist).to_owned();
            Some(Step::ReplaceStuck { broker: pod.ordinal, pod: pod.seen.clone(), why })
        }
        PodState::Ready | PodState::Waiting(_) | PodState::Failing(_) => None,
    })
}

/// A broker that does not serve: no other one may go.
fn down(cluster: &Cluster, observed: &Observed) -> Option<(&'static str, String)> {
    for id in 0..cluster.replicas {
        match observed.pods.iter().find(|pod| pod.ordinal == id).map(|pod| &pod.state) {
            Some(PodState::Ready) => {}
            Some(PodState::Waiting(why) | PodState::Failing(why)) => {
                return Some(("BrokerNotReady", format!("broker {id} does not serve: {why}")));
            }
            None => return Some(("BrokerNotReady", format!("broker {id} has no pod"))),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, facts, observed};
    use super::*;
    use crate::brokers::Permit;

    /// Three brokers, all of an older template; broker 1 leads the controller.
    fn outdated() -> Observed {
        let mut observed = observed();
        observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
        observed
    }

    fn planned(observed: &Observed) -> String {
        let mut made = Plan::default();
        plan(&cluster(), observed, &mut made);
        match (&made.step, made.waits.first()) {
            (Some(step), None) => step.to_string(),
            (None, Some(wait)) => format!("{}: {}", wait.action, wait.reason),
            (None, None) => "nothing".to_owned(),
            (Some(step), Some(wait)) => format!("{step}, and {}: {}", wait.action, wait.reason),
        }
    }

    fn failing(why: &str) -> PodState {
        PodState::Failing(why.to_owned())
    }

    #[test]
    fn one_broker_is_restarted_and_only_when_nothing_speaks_against_it() {
        type Change = fn(&mut Observed);
        let cases: &[(&str, Change, &str)] = &[
            ("all is well: the highest id that leads neither", |_| {}, "restart broker 2"),
            ("nothing is outdated", |o| o.set.as_mut().unwrap().update_revision = Some("r1".to_owned()), "nothing"),
            ("the revision is not known yet", |o| o.set.as_mut().unwrap().update_revision = None, "nothing"),
            ("followers go before leaders", |o| facts(o).brokers.get_mut(&2).unwrap().leaders = 5, "restart broker 0"),
            (
                "the controller's leader goes last",
                |o| {
                    o.pods[0].revision = Some("r2".to_owned());
                    facts(o).brokers.get_mut(&2).unwrap().leaders = 50;
                },
                "restart broker 2",
            ),
            (
                "the controller's leader goes when the others have",
                |o| [0, 2].iter().for_each(|id| o.pods[*id].revision = Some("r2".to_owned())),
                "restart broker 1",
            ),
            (
                "the last one is not back",
                |o| {
                    o.pods[2].revision = Some("r2".to_owned());
                    o.pods[2].state = PodState::Waiting("ContainerCreating".to_owned());
                },
                "restart broker 1: BrokerNotReady",
            ),
            (
                "the last one cannot be started",
                |o| {
                    o.pods[2].revision = Some("r2".to_owned());
                    o.pods[2].state = failing("ErrImagePull");
                },
                "restart broker 1: BrokerNotReady",
            ),
            ("a pod is missing", |o| drop(o.pods.remove(0)), "restart broker 2: BrokerNotReady"),
            ("facts are unknown", |o| o.facts = Known::Unknown("no".to_owned()), "restart broker 2: BrokersUnknown"),
            ("the last one has to catch up", |o| facts(o).under_replicated = 1, "restart broker 2: UnderReplicated"),
            ("partitions have no leader", |o| facts(o).offline = 1, "restart broker 2: PartitionsOffline"),
            ("partitions are moved", |o| facts(o).reassignments = 1, "restart broker 2: Reassigning"),
            (
                "a broker has to catch up with the metadata",
                |o| facts(o).brokers.get_mut(&0).unwrap().standing = Standing::Recovering,
                "restart broker 2: BrokerBehind",
            ),
            (
                "another broker has the permit, and is not outdated",
                |o| {
                    facts(o).permit = Some(permit(0, "i0"));
                    o.pods[0].revision = Some("r2".to_owned());
                },
                "restart broker 2: PermitOutstanding",
            ),
            ("who has the permit goes first", |o| facts(o).permit = Some(permit(1, "i1")), "restart broker 1"),
            ("a volume would go with its pod", |o| o.volumes[0].leaving = true, "restart broker 2: VolumeLeaving"),
            (
                "the operator was killed between the permit and the deletion",
                |o| facts(o).permit = Some(permit(2, "i2")),
                "restart broker 2",
            ),
            ("a broker is not registered", |o| drop(facts(o).brokers.remove(&2)), "restart broker 2: NotRegistered"),
        ];
        for (what, change, expected) in cases {
            let mut observed = outdated();
            change(&mut observed);
            assert_eq!(planned(&observed), *expected, "{what}");
        }
    }

    fn permit(broker: i32, incarnation: &str) -> Permit {
        Permit { id: 7, broker, incarnation: incarnation.to_owned() }
    }

    #[test]
    fn a_permit_is_given_back_when_its_broker_runs_anew_and_is_in_sync() {
        type Change = fn(&mut Observed);
        let cases: &[(&str, Change, &str)] = &[
            ("back", |_| {}, "end the restart of broker 2"),
            (
                "nobody stops it",
                |o| facts(o).permit = Some(permit(2, "i2")),
                "let nodes be drained, once the permit of broker 2 has ended: PermitOutstanding",
            ),
            (
                "on its way out",
                |o| {
                    facts(o).permit = Some(permit(2, "i2"));
                    o.pods[2].state = PodState::Waiting("terminating".to_owned());
                },
                "nothing",
            ),
            ("fenced", |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Fenced, "nothing"),
            ("not in sync", |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Recovering, "nothing"),
        ];
        for (what, change, expected) in cases {
            let mut observed = observed();
            facts(&mut observed).permit = Some(permit(2, "before"));
            change(&mut observed);
            assert_eq!(planned(&observed), *expected, "{what}");
        }
    }

    #[test]
    fn a_stuck_pod_of_an_older_template_is_replaced_without_a_permit_when_no_other_is_on_its_way() {
        let unknown = Known::Unknown("no quorum".to_owned());
        let ready = PodState::Ready;
        let waiting = PodState::Waiting("ContainerCreating".to_owned());
        let stuck = failing("ErrImagePull: no such image");
        for (states, expected) in [
            ([&ready, &stuck, &ready], "replace the pod of broker 1, stuck in ErrImagePull"),
            ([&stuck, &stuck, &stuck], "replace the pod of broker 2, stuck in ErrImagePull"),
            ([&stuck, &waiting, &ready], "restart broker 2: BrokerNotReady"),
        ] {
            let mut observed = outdated();
            observed.facts = unknown.clone();
            for (pod, state) in observed.pods.iter_mut().zip(states) {
                pod.state = state.clone();
            }
            assert_eq!(planned(&observed), expected, "{states:?}");
        }
    }

    #[test]
    fn a_broker_whose_file_system_grows_with_a_start_is_restarted_once() {
        let at = |second| k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        for (made, since, expected) in [
            (Some(1), Some(2), "restart broker 1"),
            (Some(3), Some(2), "nothing"),
            (None, Some(2), "nothing"),
            (Some(1), None, "nothing"),
        ] {
            let mut observed = observed();
            observed.pods[1].made = made.map(at);
            observed.volumes[1].awaits_restart = since.map(at);
            assert_eq!(planned(&observed), expected, "{made:?} {since:?}");
            observed.pods[1].state = failing("CrashLoopBackOff");
            assert!(!planned(&observed).starts_with("replace"), "{made:?} {since:?}");
        }
    }

    /// Broker 2 has been restarted by its permit, serves, and is not in sync yet.
    fn recovering(observed: &mut Observed) {
        observed.pods[2].revision = Some("r2".to_owned());
        facts(observed).brokers.get_mut(&2).unwrap().standing = Standing::Recovering;
        facts(observed).permit = Some(permit(2, "before"));
    }

    #[test]
    fn a_stuck_pod_is_not_replaced_while_another_broker_is_away_for_another_reason() {
        type Change = fn(&mut Observed);
        let cases: &[(&str, Change)] = &[
            ("the present template cannot run", |o| {
                o.pods[2].revision = Some("r2".to_owned());
                o.pods[2].state = failing("ErrImagePull: no such image");
            }),
            ("another one has no pod", |o| drop(o.pods.remove(2))),
            ("another one was restarted, and has yet to catch up", recovering),
            ("the same, and this one has crashed once", |o| {
                recovering(o);
                o.pods[1].state = PodState::Waiting("exited with 137".to_owned());
            }),
        ];
        for (what, change) in cases {
            let mut observed = outdated();
            observed.pods[1].state = failing("CrashLoopBackOff: disk full");
            change(&mut observed);
            assert_eq!(planned(&observed), "restart broker 1: BrokerNotReady", "{what}");
        }
    }

    #[test]
    fn a_stuck_pod_whose_broker_alone_is_missing_waits_for_nobodys_permit() {
        type Change = fn(&mut Observed);
        const WAITS: &str = "restart broker 2: BrokerNotReady";
        let cases: &[(&str, Change, &str)] = &[
            ("all others are in sync", |_| {}, "replace the pod of broker 1, stuck in CrashLoopBackOff"),
            ("it counts", |o| facts(o).brokers.get_mut(&1).unwrap().standing = Standing::Recovering, WAITS),
            ("another is behind", |o| facts(o).brokers.get_mut(&0).unwrap().standing = Standing::Recovering, WAITS),
            ("another is fenced", |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Fenced, WAITS),
        ];
        for (what, change, expected) in cases {
            let mut observed = outdated();
            observed.pods[1].state = failing("CrashLoopBackOff: disk full");
            facts(&mut observed).permit = Some(permit(2, "i2"));
            facts(&mut observed).brokers.get_mut(&1).unwrap().standing = Standing::Fenced;
            change(&mut observed);
            assert_eq!(planned(&observed), *expected, "{what}");
        }
    }

    #[test]
    fn a_pod_of_an_older_template_that_never_becomes_ready_is_replaced_when_nobody_counts_on_its_broker() {
        type Change = fn(&mut Observed);
        const REPLACED: &str = "replace the pod of broker 2, stuck in running, but not ready";
        let cases: &[(&str, Change, &str)] = &[
            ("fenced", |_| {}, REPLACED),
            ("never registered", |o| facts(o).brokers.get_mut(&2).unwrap().incarnation = None, REPLACED),
            ("no member", |o| drop(facts(o).brokers.remove(&2)), REPLACED),
            ("with the permit that it stopped by", |o| facts(o).permit = Some(permit(2, "before")), REPLACED),
            (
                "it counts",
                |o| facts(o).brokers.get_mut(&2).unwrap().standing = Standing::Recovering,
                "restart broker 2: BrokerNotReady",
            ),
            ("nobody is sure", |o| o.facts = Known::Unknown("no".to_owned()), "restart broker 2: BrokerNotReady"),
            (
                "of the present template",
                |o| o.pods[2].revision = Some("r2".to_owned()),
                "restart broker 1: BrokerNotReady",
            ),
            (
                "another one does not serve",
                |o| o.pods[0].state = PodState::Waiting("pending".to_owned()),
                "restart broker 2: BrokerNotReady",
            ),
            ("another one has no pod", |o| drop(o.pods.remove(0)), "restart broker 2: BrokerNotReady"),
            ("another one may stop", |o| facts(o).permit = Some(permit(0, "i0")), "restart broker 2: BrokerNotReady"),
            (
                "it goes already",
                |o| o.pods[2].state = PodState::Waiting("terminating".to_owned()),
                "restart broker 2: BrokerNotReady",
            ),
        ];
        for (what, change, expected) in cases {
            let mut observed = outdated();
            observed.pods[2].state = PodState::Waiting("running, but not ready".to_owned());
            facts(&mut observed).brokers.get_mut(&2).unwrap().standing = Standing::Fenced;
            change(&mut observed);
            assert_eq!(planned(&observed), *expected, "{what}");
        }
    }

    #[test]
    fn a_single_broker_that_never_becomes_ready_is_replaced_though_nobody_answers_for_it() {
        let mut observed = outdated();
        observed.pods.truncate(1);
        observed.pods[0].state = PodState::Waiting("running, but not ready".to_owned());
        observed.facts = Known::Unknown("no leader".to_owned());
        let (mut cluster, mut made) = (cluster(), Plan::default());
        cluster.replicas = 1;
        plan(&cluster, &observed, &mut made);
        assert!(matches!(made.step, Some(Step::ReplaceStuck { broker: 0, .. })), "{:?}", made.step);
    }

    #[test]
    fn a_cluster_that_was_never_complete_and_is_used_by_nobody_takes_up_a_corrected_spec() {
        type Change = fn(&mut Observed);
        const WAITS: &str = "restart broker 2: BrokerNotReady";
        const REPLACED: &str = "replace the pod of broker 2, stuck in running, but not ready";
        fn known(observed: &mut Observed, partitions: u32) {
            observed.facts = super::super::tests::observed().facts;
            facts(observed).partitions = partitions;
        }
        let cases: &[(&str, Change, &str)] = &[
            ("no broker serves, and nobody is sure", |_| {}, REPLACED),
            ("it was complete once", |o| o.formed = true, WAITS),
            ("a broker serves, and nobody is sure", |o| o.pods[0].state = PodState::Ready, WAITS),
            ("it has no partition", |o| known(o, 0), REPLACED),
            (
                "it has no partition, and a broker serves",
                |o| {
                    known(o, 0);
                    o.pods[0].state = PodState::Ready;
                },
                REPLACED,
            ),
            ("it has partitions", |o| known(o, 1), WAITS),
            (
                "a broker may stop",
                |o| {
                    known(o, 0);
                    facts(o).permit = Some(permit(0, "i0"));
                },
                WAITS,
            ),
            (
                "one was replaced, and is not ready",
                |o| {
                    o.pods[2].revision = Some("r2".to_owned());
                    o.pods[2].state = PodState::Waiting("ContainerCreating".to_owned());
                },
                "replace the pod of broker 1, stuck in running, but not ready",
            ),
            (
                "one goes already",
                |o| o.pods[2].state = PodState::Waiting("terminating".to_owned()),
                "replace the pod of broker 1, stuck in running, but not ready",
            ),
            (
                "one cannot run, and another one is on its way",
                |o| {
                    o.pods[2].state = failing("CrashLoopBackOff: unknown key");
                    o.pods[1].state = PodState::Waiting("ContainerCreating".to_owned());
                },
                "replace the pod of broker 2, stuck in CrashLoopBackOff",
            ),
            (
                "all run as the spec says",
                |o| o.set.as_mut().unwrap().update_revision = Some("r1".to_owned()),
                "nothing",
            ),
        ];
        for (what, change, expected) in cases {
            let mut observed = outdated();
            observed.formed = false;
            observed.facts = Known::Unknown("no leader".to_owned());
            for pod in &mut observed.pods {
                pod.state = PodState::Waiting("running, but not ready".to_owned());
            }
            change(&mut observed);
            assert_eq!(planned(&observed), *expected, "{what}");
        }
    }

    #[test]
    fn a_stuck_pod_of_the_present_template_is_left_to_whoever_corrects_it() {
        let mut observed = observed();
        observed.pods[2].state = failing("ErrImagePull");
        assert_eq!(planned(&observed), "nothing");
    }
}
