//! Plans as a whole, case by case; and the observed clusters that all cases begin with.

use super::*;
use crate::brokers::BrokerFacts;
use crate::reconcile::observe::{NodeState, ObservedPod, ObservedSet, ObservedVolume};
use crate::reconcile::validate::validate;
use chronik_crds::ChronikCluster;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

/// Three brokers with 1Gi each.
pub(super) fn cluster() -> Cluster {
    let cluster: ChronikCluster = serde_json::from_value(json!({
        "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster",
        "metadata": { "name": "demo", "namespace": "default", "uid": "u" },
        "spec": { "replicas": 3, "storage": { "size": "1Gi" } }
    }))
    .unwrap();
    validate(&cluster, "chronik:1").unwrap()
}

pub(super) fn observed() -> Observed {
    observed_of(3)
}

/// So many brokers that are well, all of revision r1; broker 1 leads the controller.
pub(super) fn observed_of(brokers: i32) -> Observed {
    let size = Some(Quantity("1Gi".to_owned()));
    let seen = |name: String| Seen { uid: format!("uid of {name}"), name, resource_version: "1".to_owned() };
    let pod = |ordinal| ObservedPod {
        ordinal,
        seen: seen(format!("demo-{ordinal}")),
        address: Some(format!("10.0.0.{ordinal}")),
        node: Some(format!("node-{ordinal}")),
        node_state: NodeState::Unknown,
        revision: Some("r1".to_owned()),
        state: PodState::Ready,
        made: None,
        overdue: false,
    };
    let volume = |ordinal| ObservedVolume {
        ordinal,
        seen: seen(format!("data-demo-{ordinal}")),
        requested: size.clone(),
        ..ObservedVolume::default()
    };
    let broker = |id| (id, BrokerFacts { incarnation: Some(format!("i{id}")), ..BrokerFacts::default() });
    Observed {
        set: Some(ObservedSet {
            seen: seen("demo".to_owned()),
            replicas: brokers,
            image: Some("chronik:1".to_owned()),
            volume_size: size.clone(),
            update_revision: Some("r1".to_owned()),
            ..ObservedSet::default()
        }),
        pods: (0..brokers).map(pod).collect(),
        volumes: (0..brokers).map(volume).collect(),
        facts: Known::Is(Facts {
            controller: Some(1),
            brokers: (0..brokers).map(broker).collect(),
            ..Facts::default()
        }),
        ..Observed::default()
    }
}

pub(super) fn facts(observed: &mut Observed) -> &mut Facts {
    match &mut observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => panic!("unknown: {why}"),
    }
}

#[test]
fn a_cluster_that_is_as_it_should_be_has_no_step_and_is_looked_at_seldom() {
    let observed = observed();
    let made = plan(&cluster(), &observed).unwrap();
    assert_eq!((made.step.clone(), made.waits.clone(), made.volumes.clone()), (None, vec![], vec![]));
    assert_eq!(made.again(&observed, false), AT_REST);
}

#[test]
fn a_roll_waits_for_nothing_that_brokers_may_only_know_after_it() {
    let (mut cluster, mut observed) = (cluster(), observed_of(5));
    observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
    let steps = |cluster: &Cluster, observed: &Observed| {
        let made = plan(cluster, observed).unwrap();
        [made.step, made.otherwise].map(|step| step.map(|step| step.to_string()).unwrap_or_default())
    };
    assert_eq!(steps(&cluster, &observed), ["drain broker 4", "restart broker 4"]);
    cluster.replicas = 5;
    observed.drained = vec![3];
    facts(&mut observed).brokers.get_mut(&3).unwrap().cordoned = true;
    assert_eq!(steps(&cluster, &observed), ["place replicas on broker 3 again", "restart broker 4"]);
    // What is done in its place closes the budget as well.
    let incarnation = "i4".to_owned();
    facts(&mut observed).permit = Some(Permit { id: 1, broker: 4, incarnation });
    assert_eq!(budget(&plan(&cluster, &observed).unwrap()), 0);
    // Of two that disturb somebody there is no other way.
    let mut made = Plan::default();
    made.take(Step::ReplaceStuck { broker: 1, pod: Seen::default(), why: String::new() });
    made.take(Step::Drain(4));
    assert_eq!(made.otherwise, None);
}

#[test]
fn a_partition_that_lost_its_only_replica_holds_nothing_up_and_any_other_does() {
    let lacks = |offline, offline_alone, under_replicated| {
        let facts = Facts { under_replicated, offline, offline_alone, ..Facts::default() };
        lacking(&facts).map(|(_, why)| why).unwrap_or_default()
    };
    assert_eq!(lacks(1, 1, 1), "");
    assert_eq!(lacks(3, 1, 3), "2 partitions have no leader");
    assert_eq!(lacks(1, 1, 2), "1 partitions are under-replicated");
    // Brokers that do not tell them apart.
    assert_eq!(lacks(1, 0, 1), "1 partitions have no leader");
}

#[test]
fn no_two_steps_are_taken_at_once() {
    let (mut cluster, mut observed) = (cluster(), observed_of(5));
    cluster.storage_size = Quantity("2Gi".to_owned());
    for volume in &mut observed.volumes {
        volume.requested = Some(Quantity("2Gi".to_owned()));
    }
    observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
    let made = plan(&cluster, &observed).unwrap();
    assert_eq!(made.step, Some(Step::Drain(4)));
}

/// What a drain of nodes may take away.
fn budget(made: &Plan) -> Value {
    let budget = made.objects.iter().find(|desired| desired.is_budget()).unwrap();
    budget.object.data["spec"]["maxUnavailable"].clone()
}

#[test]
fn no_drain_of_nodes_takes_a_broker_while_a_step_takes_one() {
    let (mut cluster, mut observed) = (cluster(), observed());
    assert_eq!(budget(&plan(&cluster, &observed).unwrap()), 1);
    observed.set.as_mut().unwrap().update_revision = Some("r2".to_owned());
    let made = plan(&cluster, &observed).unwrap();
    let Some(Step::Restart { broker, permitted: false, .. }) = made.step else { panic!("{:?}", made.step) };
    assert_eq!(budget(&made), 1, "it may be refused for ever");
    let incarnation = facts(&mut observed).brokers[&broker].incarnation.clone().unwrap();
    facts(&mut observed).permit = Some(crate::brokers::Permit { id: 1, broker, incarnation });
    let made = plan(&cluster, &observed).unwrap();
    assert!(matches!(made.step, Some(Step::Restart { permitted: true, .. })), "{:?}", made.step);
    assert_eq!(budget(&made), 0);
    // Paused, nothing else takes one, and more brokers than there are do not count.
    facts(&mut observed).permit = None;
    (cluster.paused, cluster.replicas) = (true, 5);
    assert_eq!(budget(&plan(&cluster, &observed).unwrap()), 1);
}

#[test]
fn of_a_cluster_that_is_paused_only_the_budget_follows_what_there_is() {
    let (mut cluster, mut observed) = (cluster(), observed_of(5));
    cluster.paused = true;
    cluster.storage_size = Quantity("2Gi".to_owned());
    cluster.dynamic = [("log.retention.ms".to_owned(), "5".to_owned())].into();
    observed.config = Known::Is(crate::kafka::Configs::new());
    facts(&mut observed).under_replicated = 1;
    let made = plan(&cluster, &observed).unwrap();
    assert_eq!(made.objects.iter().map(|one| one.resource.kind.as_str()).collect::<Vec<_>>(), ["PodDisruptionBudget"]);
    assert_eq!(budget(&made), 0);
    assert_eq!((made.step.clone(), made.waits.len(), made.volumes.len(), made.config.len()), (None, 0, 0, 0));
    assert_eq!(made.again(&observed, false), LATER);
    facts(&mut observed).under_replicated = 0;
    assert_eq!(plan(&cluster, &observed).unwrap().again(&observed, false), AT_REST);
    observed.pods.clear();
    assert_eq!(plan(&cluster, &observed).unwrap().objects.len(), 0, "of one that was never made, nothing");
}

#[test]
fn a_broker_goes_from_the_stateful_set_that_was_seen_alone() {
    let version = |observed: &Observed| {
        let made = plan(&cluster(), observed).unwrap();
        let set = made.objects.into_iter().find(|desired| desired.resource.kind == "StatefulSet");
        set.map(|set| (set.object.metadata.uid, set.object.metadata.resource_version))
    };
    let mut observed = observed_of(4);
    assert_eq!(version(&observed), Some((None, None)), "nothing goes yet");
    let last = facts(&mut observed).brokers.get_mut(&3).unwrap();
    (last.cordoned, observed.volumes[3].removed) = (true, true);
    assert_eq!(version(&observed), Some((Some("uid of demo".to_owned()), Some("1".to_owned()))));
    // One that is on its way out is not written, and waited for.
    observed.set.as_mut().unwrap().leaving = true;
    assert_eq!(version(&observed), None);
    let waits = plan(&cluster(), &observed).unwrap().waits;
    assert!(waits.iter().any(|wait| wait.reason == "SetLeaving"), "{waits:?}");
}

#[test]
fn what_is_refused_is_not_tried_again_at_once() {
    let (mut cluster, mut observed) = (cluster(), observed());
    cluster.dynamic = [("log.retention.ms".to_owned(), "5".to_owned())].into();
    observed.config = Known::Is(crate::kafka::Configs::new());
    let made = plan(&cluster, &observed).unwrap();
    assert_eq!((made.again(&observed, false), made.again(&observed, true)), (AT_ONCE, LATER));
    let of_brokers = Plan { broker_configs: [(0, made.config)].into(), ..Plan::default() };
    assert_eq!((of_brokers.again(&observed, false), of_brokers.again(&observed, true)), (AT_ONCE, LATER));
    let close = Plan { step: Some(Step::ClosePermit(Permit::default())), ..Plan::default() };
    assert_eq!((close.again(&observed, false), close.again(&observed, true)), (AT_ONCE, SOON));
}

#[test]
fn a_template_that_another_version_built_from_the_same_spec_stays_as_it_is() {
    let template = |cluster: &Cluster, observed: &Observed| {
        let made = plan(cluster, observed).unwrap();
        let set = made.objects.iter().find(|desired| desired.resource.kind == "StatefulSet").unwrap();
        set.object.data["spec"]["template"].clone()
    };
    let (mut cluster, mut observed) = (cluster(), observed());
    let built = template(&cluster, &observed);
    let mut other = built.clone();
    other["spec"]["terminationGracePeriodSeconds"] = json!(7);
    let set = observed.set.as_mut().unwrap();
    (set.template, set.template_of) = (other.clone(), Some(cluster.template_of.clone()));
    set.template_form = Some("of another version".to_owned());
    assert_eq!(template(&cluster, &observed), other);
    // What a person did to it is put right.
    observed.set.as_mut().unwrap().template_form = Some("4".to_owned());
    assert_eq!(template(&cluster, &observed), built);
    // Form 3, which had no hosts for clients, is another version's.
    observed.set.as_mut().unwrap().template_form = Some("3".to_owned());
    assert_eq!(template(&cluster, &observed), other);
    observed.set.as_mut().unwrap().template_form = Some("of another version".to_owned());
    cluster.template_of = "of a spec that was changed".to_owned();
    assert_eq!(template(&cluster, &observed), built);
}
