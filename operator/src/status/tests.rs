//! What is reported, case by case.

use super::*;
use crate::brokers::{BrokerFacts, Facts, Permit};
use crate::reconcile::observe::{ObservedSet, ObservedVolume, Seen};
use serde_json::json;
use std::collections::BTreeMap;

const NOW: i64 = 1_000;

fn cluster() -> ChronikCluster {
    serde_json::from_value(json!({
        "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
        "metadata": { "name": "demo", "namespace": "default", "generation": 4 },
        "spec": { "replicas": 3, "storage": { "size": "1Gi" } }
    }))
    .unwrap()
}

fn observed(states: &[PodState]) -> Observed {
    let pod = |(ordinal, state): (i32, &PodState)| ObservedPod {
        ordinal,
        seen: Seen { name: format!("demo-{ordinal}"), ..Seen::default() },
        address: None,
        node: Some(format!("node-{ordinal}")),
        node_state: NodeState::Unknown,
        revision: Some("r1".to_owned()),
        state: state.clone(),
        made: None,
        overdue: false,
    };
    let pods = (0..).zip(states).map(pod).collect();
    let set = ObservedSet { update_revision: Some("r1".to_owned()), ..ObservedSet::default() };
    Observed {
        set: Some(set),
        pods,
        facts: Known::Is(Facts { brokers: joined(3), ..Facts::default() }),
        ..Observed::default()
    }
}

fn at(before: &ChronikClusterStatus, observed: &Observed, attempt: &Attempt, second: i64) -> ChronikClusterStatus {
    let outcome = Outcome::new(observed, attempt.clone());
    report(&cluster(), before, &outcome, Timestamp::from_second(second).unwrap())
}

fn first(observed: &Observed, attempt: &Attempt) -> ChronikClusterStatus {
    at(&ChronikClusterStatus::default(), observed, attempt, NOW)
}

fn conditions(status: &ChronikClusterStatus) -> Vec<String> {
    let others = status.conditions.iter().filter(|c| c.type_ != IN_SYNC);
    others.map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
}

fn waiting(why: &str) -> PodState {
    PodState::Waiting(why.to_owned())
}

#[test]
fn a_cluster_is_ready_when_every_broker_is() {
    let status = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied);
    let expected = ["Ready=True AllBrokersReady", "Progressing=False UpToDate", "Degraded=False AsExpected"];
    assert_eq!(conditions(&status), expected);
    assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (3, 3, Some(4)));
    assert_eq!(status.endpoints.unwrap().bootstrap, "demo-bootstrap.default.svc:9092");
}

#[test]
fn a_broker_that_reads_its_log_says_how_far_it_is_and_conditions_do_not_change_with_that() {
    let at_percent = |starting| {
        let mut observed = observed(&[PodState::Ready, PodState::Ready, waiting("running, but not ready")]);
        if let Known::Is(facts) = &mut observed.facts {
            facts.brokers.get_mut(&2).unwrap().starting = starting;
        }
        first(&observed, &Attempt::Applied)
    };
    let (unknown, early, late) = (at_percent(None), at_percent(Some(25)), at_percent(Some(90)));
    let reason = |status: &ChronikClusterStatus| status.brokers[2].reason.clone().unwrap();
    assert_eq!(reason(&unknown), "running, but not ready");
    assert_eq!(reason(&early), "running, but not ready: 25 % of its log read");
    assert_eq!(reason(&late), "running, but not ready: 90 % of its log read");
    assert_eq!((&early.conditions, &late.conditions), (&unknown.conditions, &unknown.conditions));
}

#[test]
fn the_status_has_of_each_broker_whether_it_is_in_sync_and_its_replicas() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    if let Known::Is(facts) = &mut observed.facts {
        let behind = facts.brokers.get_mut(&1).unwrap();
        (behind.standing, behind.leaders, behind.replicas) = (Standing::Recovering, 2, 9);
    }
    let reported = |status: &ChronikClusterStatus| {
        let broker = &status.brokers[1];
        (broker.fenced, broker.in_sync, broker.leaders, broker.replicas)
    };
    assert_eq!(reported(&first(&observed, &Attempt::Applied)), (Some(false), Some(false), Some(2), Some(9)));
    observed.facts = Known::Unknown("no leader".to_owned());
    assert_eq!(reported(&first(&observed, &Attempt::Applied)), (None, None, None, None));
}

#[test]
fn the_status_says_which_formats_are_written_and_which_all_brokers_know() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let reported = |observed: &Observed| {
        let status = first(observed, &Attempt::Applied);
        (status.metadata_version, status.available_metadata_version)
    };
    assert_eq!(reported(&observed), (None, None), "brokers have not said it");
    if let Known::Is(facts) = &mut observed.facts {
        (facts.metadata_version, facts.newer_metadata_version) = (4, Some(5));
    }
    assert_eq!(reported(&observed), (Some(4), Some(5)));
    if let Known::Is(facts) = &mut observed.facts {
        (facts.metadata_version, facts.newer_metadata_version) = (5, None);
    }
    assert_eq!(reported(&observed), (Some(5), None));
    observed.facts = Known::Unknown("no leader".to_owned());
    assert_eq!(reported(&observed), (None, None));
}

#[test]
fn what_a_disk_has_lost_is_remembered_while_nobody_says_it_and_is_news_once() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let mut before = first(&observed, &Attempt::Applied);
    assert_eq!(before.brokers[1].damaged, None);
    for (said, damaged, news) in
        [(Some(0), 0, false), (Some(2), 2, true), (Some(3), 3, false), (None, 3, false), (Some(0), 0, false)]
    {
        if let Known::Is(facts) = &mut observed.facts {
            facts.brokers.get_mut(&1).unwrap().damaged = said;
        }
        let after = at(&before, &observed, &Attempt::Applied, NOW);
        assert_eq!(after.brokers[1].damaged, Some(damaged), "{said:?}");
        let of = newly_damaged(&before, &after).map(|broker| broker.id).collect::<Vec<_>>();
        assert_eq!(of, if news { vec![1] } else { vec![] }, "{said:?}");
        before = after;
    }
    observed.facts = Known::Unknown("no leader".to_owned());
    assert_eq!(at(&before, &observed, &Attempt::Applied, NOW).brokers[1].damaged, Some(0));
}

#[test]
fn a_new_cluster_starts_and_that_is_no_fault() {
    let status = first(&observed(&[PodState::Ready, waiting("ContainerCreating")]), &Attempt::Applied);
    let expected = ["Ready=False BrokersNotReady", "Progressing=True Starting", "Degraded=False AsExpected"];
    assert_eq!(conditions(&status), expected);
    assert_eq!(status.conditions[0].message, "1 of 3 brokers serve clients; demo-1: ContainerCreating; demo-2: no pod");
}

#[test]
fn a_broker_that_goes_away_from_a_complete_cluster_is_a_fault_until_it_is_back() {
    let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let two = observed(&[PodState::Ready, PodState::Ready, waiting("terminating")]);
    let complete = first(&all, &Attempt::Applied);
    let down = at(&complete, &two, &Attempt::Applied, NOW + 1);
    assert!(conditions(&down).contains(&"Degraded=True BrokerDown".to_owned()));
    let still = at(&down, &two, &Attempt::Applied, NOW + 2);
    assert_eq!(still, down);
    let back = at(&still, &all, &Attempt::Applied, NOW + 3);
    assert!(conditions(&back).contains(&"Degraded=False AsExpected".to_owned()));
}

#[test]
fn a_broker_that_is_away_with_its_peers_permit_is_no_fault() {
    let complete = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied);
    let mut two = observed(&[PodState::Ready, PodState::Ready, waiting("terminating")]);
    for (broker, expected) in [(2, "Degraded=False AsExpected"), (1, "Degraded=True BrokerDown")] {
        let permit = Some(Permit { broker, ..Permit::default() });
        two.facts = Known::Is(Facts { permit, brokers: joined(3), ..Facts::default() });
        assert_eq!(conditions(&at(&complete, &two, &Attempt::Applied, NOW + 1))[2], expected);
    }
}

/// So many brokers that have registered.
fn joined(brokers: i32) -> BTreeMap<i32, BrokerFacts> {
    let facts = BrokerFacts { incarnation: Some("one".to_owned()), ..BrokerFacts::default() };
    (0..brokers).map(|id| (id, facts.clone())).collect()
}

#[test]
fn a_broker_that_has_yet_to_join_a_complete_cluster_is_no_fault() {
    let complete = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied);
    let mut two = observed(&[PodState::Ready, PodState::Ready, waiting("ContainerCreating")]);
    for (brokers, expected) in [(2, "Degraded=False AsExpected"), (3, "Degraded=True BrokerDown")] {
        two.facts = Known::Is(Facts { brokers: joined(brokers), ..Facts::default() });
        assert_eq!(conditions(&at(&complete, &two, &Attempt::Applied, NOW + 1))[2], expected);
    }
}

#[test]
fn a_broker_that_failed_before_it_was_only_waited_for_is_a_fault_until_it_is_back() {
    let two_and = |state| observed(&[PodState::Ready, PodState::Ready, state]);
    let mut status = first(&two_and(PodState::Ready), &Attempt::Applied);
    assert!(status.formed);
    for (state, degraded) in [
        (PodState::Failing("CrashLoopBackOff".to_owned()), "Degraded=True BrokerFailing"),
        (waiting("running, but not ready"), "Degraded=True BrokerDown"),
        (PodState::Ready, "Degraded=False AsExpected"),
    ] {
        status = at(&status, &two_and(state), &Attempt::Applied, NOW + 1);
        assert_eq!(conditions(&status)[2], degraded);
    }
}

#[test]
fn a_broker_that_does_not_come_up_is_a_fault_by_its_pods_age_whatever_else_is_known() {
    let complete = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied);
    let never = ChronikClusterStatus::default();
    let unknown = || Known::Unknown("no leader".to_owned());
    let known = |brokers: i32, permit: bool| {
        let permit = permit.then(|| Permit { broker: 2, ..Permit::default() });
        Known::Is(Facts { brokers: joined(brokers), permit, ..Facts::default() })
    };
    for (what, before, facts, overdue, expected) in [
        ("a cluster that never formed, and may yet", &never, unknown(), false, "Degraded=False AsExpected"),
        ("a cluster that never formed", &never, unknown(), true, "Degraded=True BrokerStuck"),
        ("a broker that has yet to join", &complete, known(2, false), false, "Degraded=False AsExpected"),
        ("a broker that never joined", &complete, known(2, false), true, "Degraded=True BrokerStuck"),
        ("one that did", &complete, known(3, false), true, "Degraded=True BrokerDown"),
        ("one that may stop", &complete, known(3, true), true, "Degraded=False AsExpected"),
    ] {
        let mut observed = observed(&[PodState::Ready, PodState::Ready, waiting("ContainerCreating")]);
        (observed.facts, observed.pods[2].overdue) = (facts, overdue);
        let status = at(before, &observed, &Attempt::Applied, NOW + 1);
        assert_eq!(conditions(&status)[2], expected, "{what}");
        let message = &status.conditions[2].message;
        if expected.ends_with("BrokerStuck") {
            assert!(message.starts_with("demo-2: ContainerCreating, for more than 5 minutes"), "{message}");
            assert!(message.ends_with("kubectl describe pod demo-2 -n default"), "{message}");
        }
        // An operator of one namespace may not look at nodes.
        assert_eq!(message.contains("is on node node-2"), expected.ends_with("BrokerDown"), "{message}");
    }
}

#[test]
fn a_failing_pod_is_a_fault_from_the_start() {
    let looping = PodState::Failing("CrashLoopBackOff: disk full".to_owned());
    let status = first(&observed(&[PodState::Ready, PodState::Ready, looping]), &Attempt::Applied);
    assert_eq!(status.conditions[2].reason, "BrokerFailing");
    assert_eq!(status.conditions[2].message, "demo-2: CrashLoopBackOff: disk full");
}

#[test]
fn brokers_with_the_same_fault_share_a_line_and_only_the_fault_goes_into_details() {
    let pull = || PodState::Failing("ErrImagePull: no such host".to_owned());
    let status = first(&observed(&[pull(), PodState::Ready, pull()]), &Attempt::Applied);
    assert_eq!(status.conditions[0].message, "1 of 3 brokers serve clients; demo-0, demo-2: ErrImagePull");
    assert_eq!(status.conditions[2].message, "demo-0, demo-2: ErrImagePull: no such host");
}

#[test]
fn a_pod_that_is_not_made_for_minutes_is_a_fault_that_says_where_to_look() {
    let two = observed(&[PodState::Ready, PodState::Ready]);
    let start = first(&two, &Attempt::Applied);
    assert_eq!(
        (conditions(&start)[2].as_str(), changes_after(&start)),
        ("Degraded=False AsExpected", Some(MISSING_MAX))
    );
    let soon = at(&start, &two, &Attempt::Applied, NOW + 119);
    assert_eq!(soon, start);
    let late = at(&soon, &two, &Attempt::Applied, NOW + 120);
    assert_eq!(conditions(&late)[2], "Degraded=True BrokerMissing");
    let message = &late.conditions[2].message;
    assert!(message.starts_with("demo-2: no pod for 2 minutes"), "{message}");
    assert!(message.ends_with("kubectl describe statefulset demo -n default"), "{message}");
    let made = observed(&[PodState::Ready, PodState::Ready, waiting("ContainerCreating")]);
    let made = at(&late, &made, &Attempt::Applied, NOW + 121);
    assert_eq!((conditions(&made)[2].as_str(), changes_after(&made)), ("Degraded=False AsExpected", None));
}

#[test]
fn pods_of_an_older_template_are_named_with_what_comes_next() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
    observed.pods[1].revision = Some("r2".to_owned());
    let plan = PlanStatus {
        action: "restart broker 2".to_owned(),
        reason: "UnderReplicated".to_owned(),
        message: "3 partitions are under-replicated".to_owned(),
        since: None,
    };
    let outcome = Outcome { plan: Some(plan.clone()), ..Outcome::new(&observed, Attempt::Applied) };
    let now = Timestamp::from_second(NOW).unwrap();
    let status = report(&cluster(), &ChronikClusterStatus::default(), &outcome, now);
    let expected = ["Ready=True AllBrokersReady", "Progressing=True Restarting", "Degraded=False AsExpected"];
    assert_eq!(conditions(&status), expected);
    assert_eq!(
        status.conditions[1].message,
        "demo-0, demo-2 started before the last change; restart broker 2: 3 partitions are under-replicated"
    );
    assert_eq!(status.plan, Some(PlanStatus { since: Some(Time(now)), ..plan }));
}

#[test]
fn whether_partitions_are_in_sync_is_unknown_when_no_broker_is_sure() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let in_sync = |observed: &Observed| {
        let status = first(observed, &Attempt::Applied);
        let found = status.conditions.into_iter().find(|c| c.type_ == IN_SYNC).unwrap();
        (found.status, found.reason, status.partitions.map(|partitions| partitions.under_replicated))
    };
    let text = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    let (status, reason, lacking) = in_sync(&observed);
    assert_eq!(((status, reason), lacking), (text("True", "AllInSync"), Some(0)));
    observed.facts = Known::Is(Facts { partitions: 9, under_replicated: 2, ..Facts::default() });
    let (status, reason, lacking) = in_sync(&observed);
    assert_eq!(((status, reason), lacking), (text("False", "UnderReplicated"), Some(2)));
    observed.facts = Known::Unknown("no leader".to_owned());
    let (status, reason, lacking) = in_sync(&observed);
    assert_eq!(((status, reason), lacking), (text("Unknown", "Unknown"), None));
}

#[test]
fn a_node_that_is_gone_is_named_with_what_to_do() {
    for (state, reason) in [
        (NodeState::Gone, "NodeGone"),
        (NodeState::NotReady, "NodeNotReady"),
        (NodeState::OutOfService, "NodeOutOfService"),
        (NodeState::Ready, "AsExpected"),
        (NodeState::Unknown, "AsExpected"),
    ] {
        let mut observed = observed(&[PodState::Ready, PodState::Ready, waiting("running, but not ready")]);
        observed.pods[2].node_state = state;
        let degraded = &first(&observed, &Attempt::Applied).conditions[2];
        assert_eq!(degraded.reason, reason, "{state:?}");
        assert_eq!(degraded.message.contains("node-2"), reason != "AsExpected", "{}", degraded.message);
    }
}

#[test]
fn how_a_volume_is_given_up_is_said_also_when_the_node_is_forgotten() {
    let told = "kubectl annotate pvc data-demo-2 -n default chronik.io/give-up=true";
    for (why, expected) in
        [("Unschedulable: 3 node(s) had volume node affinity conflict", true), ("CrashLoopBackOff: unknown key", false)]
    {
        let failing = PodState::Failing(why.to_owned());
        let degraded =
            first(&observed(&[PodState::Ready, PodState::Ready, failing]), &Attempt::Applied).conditions[2].clone();
        assert_eq!(degraded.reason, "BrokerFailing");
        assert_eq!(degraded.message.contains(told), expected, "{}", degraded.message);
    }
    let mut observed = observed(&[PodState::Ready, PodState::Ready, waiting("running, but not ready")]);
    observed.pods[2].node_state = NodeState::Gone;
    let degraded = &first(&observed, &Attempt::Applied).conditions[2];
    assert!(degraded.message.ends_with(told), "{}", degraded.message);
}

#[test]
fn the_clusters_identity_is_kept_as_it_was_said_first() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let said = |cluster: &str| Known::Is(Facts { cluster: cluster.to_owned(), ..Facts::default() });
    let mut status = first(&observed, &Attempt::Applied);
    for (cluster, expected) in [("", None), ("one", Some("one")), ("other", Some("one"))] {
        observed.facts = said(cluster);
        status = at(&status, &observed, &Attempt::Applied, NOW);
        assert_eq!(status.cluster_id.as_deref(), expected, "{cluster}");
    }
}

#[test]
fn a_cluster_that_is_paused_says_so() {
    let status = first(&observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Paused);
    assert_eq!(conditions(&status)[1], "Progressing=False Paused");
}

#[test]
fn a_spec_that_cannot_be_followed_says_nothing_against_the_brokers_that_run() {
    let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let refusal = Refusal { reason: "InvalidSpec", message: "replicas: 0".to_owned() };
    let status = first(&all, &Attempt::Refused(refusal));
    let expected = ["Ready=True AllBrokersReady", "Progressing=False InvalidSpec", "Degraded=True InvalidSpec"];
    assert_eq!(conditions(&status), expected);
}

#[test]
fn objects_that_cannot_be_written_are_a_fault_that_is_worked_on() {
    let status = first(&observed(&[]), &Attempt::Failed("Service demo: no".to_owned()));
    let expected = ["Ready=False BrokersNotReady", "Progressing=True Applying", "Degraded=True ApplyFailed"];
    assert_eq!(conditions(&status), expected);
}

#[test]
fn what_was_observed_before_objects_were_written_does_not_show_that_they_are_followed() {
    let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let status = first(&all, &Attempt::Written);
    let expected = ["Ready=True AllBrokersReady", "Progressing=True Applying", "Degraded=False AsExpected"];
    assert_eq!(conditions(&status), expected);
}

#[test]
fn of_a_new_cluster_only_what_holds_is_news() {
    let observed = Observed { facts: Known::Unknown("no broker runs".to_owned()), ..observed(&[]) };
    let status = first(&observed, &Attempt::Applied);
    let news = ChronikClusterStatus::default();
    assert_eq!(changes(&news, &status).map(|c| c.type_.as_str()).collect::<Vec<_>>(), [PROGRESSING]);
}

#[test]
fn nothing_new_gives_the_same_report_and_a_change_gives_only_its_own_condition_a_new_time() {
    let some = observed(&[PodState::Ready, waiting("ContainerCreating"), PodState::Ready]);
    let before = first(&some, &Attempt::Applied);
    assert_eq!(at(&before, &some, &Attempt::Applied, NOW + 60), before);
    let after =
        at(&before, &observed(&[PodState::Ready, PodState::Ready, PodState::Ready]), &Attempt::Applied, NOW + 60);
    let changed = changes(&before, &after).map(|c| c.type_.as_str()).collect::<Vec<_>>();
    assert_eq!(changed, [READY, PROGRESSING]);
    let times = after.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect::<Vec<_>>();
    assert_eq!(times, [NOW + 60, NOW + 60, NOW, NOW]);
}

#[test]
fn a_volume_that_would_go_with_its_pod_is_a_fault_that_says_what_to_do() {
    let mut observed = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let seen = Seen { name: "data-demo-1".to_owned(), ..Seen::default() };
    observed.volumes = vec![ObservedVolume { ordinal: 1, seen, leaving: true, ..ObservedVolume::default() }];
    let degraded = &first(&observed, &Attempt::Applied).conditions[2];
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "VolumeLeaving"));
    assert!(degraded.message.contains("kubectl delete pod demo-1 -n default;"), "{}", degraded.message);
    observed.pods[1].state = waiting("terminating");
    assert_ne!(first(&observed, &Attempt::Applied).conditions[2].reason, "VolumeLeaving");
}

#[test]
fn a_broker_to_be_removed_is_reported_while_its_pod_is_there_and_counts_for_nothing_else() {
    let four = [PodState::Ready, PodState::Ready, PodState::Ready, waiting("running, but not ready")];
    let mut observed = observed(&four);
    observed.facts = Known::Is(Facts { brokers: joined(4), ..Facts::default() });
    if let Known::Is(facts) = &mut observed.facts {
        facts.brokers.get_mut(&3).unwrap().cordoned = true;
    }
    let status = first(&observed, &Attempt::Applied);
    let cordoned = status.brokers.iter().map(|broker| (broker.id, broker.cordoned)).collect::<Vec<_>>();
    assert_eq!(cordoned, [(0, Some(false)), (1, Some(false)), (2, Some(false)), (3, Some(true))]);
    assert_eq!((status.ready_replicas, conditions(&status)[0].as_str()), (3, "Ready=True AllBrokersReady"));
}

#[test]
fn of_what_could_not_be_read_nothing_is_said_to_be_well() {
    let all = observed(&[PodState::Ready, PodState::Ready, PodState::Ready]);
    let before = first(&all, &Attempt::Applied);
    let now = Timestamp::from_second(NOW + 1).unwrap();
    let blind = unobserved(&before, "pods cannot be listed", Some(5), now);
    let expected = ["Ready=Unknown ObserveFailed", "Progressing=False UpToDate", "Degraded=True ObserveFailed"];
    assert_eq!(conditions(&blind), expected);
    assert_eq!(blind.conditions.iter().find(|c| c.type_ == IN_SYNC).unwrap().status, "Unknown");
    assert_eq!((blind.observed_generation, &blind.brokers), (before.observed_generation, &before.brokers));
    assert_eq!(unobserved(&blind, "pods cannot be listed", Some(5), now), blind);
    assert_eq!(unobserved(&ChronikClusterStatus::default(), "no", None, now).conditions.len(), 3);
    let again = at(&blind, &all, &Attempt::Applied, NOW + 2);
    assert_eq!(conditions(&again), conditions(&before));
}
