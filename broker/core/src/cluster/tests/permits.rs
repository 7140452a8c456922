use super::*;
use crate::ids::MetadataOffset;

fn process(cluster: &Cluster, id: i32) -> IncarnationId {
    cluster.image.brokers[&BrokerId(id)].incarnation.unwrap()
}

fn grant(cluster: &Cluster, id: i32, forced: Option<&str>) -> MetadataCommand {
    MetadataCommand::GrantPermit {
        broker: BrokerId(id),
        incarnation: process(cluster, id),
        ttl_ms: 60_000,
        forced: forced.map(Into::into),
    }
}

fn permit(cluster: &Cluster) -> Permit {
    cluster.image.permit.clone().unwrap()
}

fn close(cluster: &mut Cluster, renewed: Option<MetadataOffset>) {
    let command = MetadataCommand::ClosePermit { permit: permit(cluster).id, renewed };
    cluster.accepted(&command);
}

/// The objections, each by its name and what it names.
fn objections(cluster: &Cluster, id: i32) -> Vec<String> {
    let topics = |tps: &[TopicPartition]| {
        tps.iter().map(|tp| cluster.image.topics[&tp.topic].name.to_string()).collect::<Vec<_>>().join(",")
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let objections = cluster.image.objections_to_stop(BrokerId(id), process(cluster, id));
    let text = |objection: &Objection| match objection {
        Objection::OtherIncarnation(_) => "process".into(),
        Objection::Unavailable(tps) => format!("unavailable {}", topics(tps)),
        Objection::UnderMinIsr(tps) => format!("min {}", topics(tps)),
        Objection::Reassigning(tps) => format!("moving {}", topics(tps)),
        Objection::PeersRecovering(brokers) => format!("peers {}", ids(brokers)),
        Objection::PermitOutstanding(broker) => format!("permit {broker}"),
    };
    objections.iter().map(text).collect()
}

#[test]
fn what_speaks_against_a_stop_is_named_by_kind() {
    type Prepare = fn(&mut Cluster);
    let table: [(&str, Prepare, i32, &[&str]); 14] = [
        ("all is well", |c| c.topic(1, &[0, 1, 2], 2), 0, &[]),
        ("nothing is there", |_| {}, 0, &[]),
        ("the minimum is all replicas", |c| c.topic(1, &[0, 1], 2), 0, &["min topic1"]),
        ("the minimum of another's partition is not touched", |c| c.topic(1, &[0, 1], 2), 2, &[]),
        ("a single replica does not hold anybody back", |c| c.topic(1, &[0], 1), 0, &[]),
        (
            "a follower is away",
            |c| {
                c.topic(1, &[0, 1, 2], 2);
                c.fence(2);
            },
            0,
            &["min topic1", "peers 2"],
        ),
        (
            "the one that is away itself may be stopped",
            |c| {
                c.topic(1, &[0, 1, 2], 2);
                c.fence(2);
            },
            2,
            &[],
        ),
        (
            "one is alive and behind",
            |c| {
                c.topic(1, &[0, 1, 2], 1);
                c.alter(1, &[0, 1]);
            },
            1,
            &["peers 2"],
        ),
        (
            "the last one in sync",
            |c| {
                c.topic(1, &[0, 1], 1);
                c.fence(1);
                c.alter(1, &[0]);
            },
            0,
            &["unavailable topic1", "peers 1"],
        ),
        (
            "somebody else's partition is under its minimum",
            |c| {
                c.topic(1, &[0, 1], 2);
                c.fence(1);
            },
            2,
            &["min topic1", "peers 1"],
        ),
        ("a fenced broker that holds nothing is not missed", |c| c.fence(2), 0, &[]),
        (
            "the only copy is being moved",
            |c| {
                c.topic(1, &[0], 1);
                c.moves(1, &[2]);
            },
            0,
            &["moving topic1"],
        ),
        (
            "one of the old replicas is needed until the new ones are in sync",
            |c| {
                c.topic(1, &[0, 1], 2);
                c.moves(1, &[1, 2]);
            },
            0,
            &["moving topic1"],
        ),
        (
            "one of the old replicas is not needed any more",
            |c| {
                c.topic(1, &[0, 1], 1);
                c.moves(1, &[1, 2]);
                c.alter(1, &[0, 1, 2]);
            },
            0,
            &[],
        ),
    ];
    for (name, prepare, broker, expected) in table {
        let mut cluster = Cluster::alive(3);
        prepare(&mut cluster);
        assert_eq!(objections(&cluster, broker), expected, "{name}");
        let command = grant(&cluster, broker, None);
        assert_eq!(cluster.apply(&command).0.is_ok(), expected.is_empty(), "{name}");
        assert_eq!(cluster.image.permit.is_some(), expected.is_empty(), "{name}");
    }
}

#[test]
fn one_permit_is_outstanding_at_most() {
    let mut cluster = Cluster::alive(3);
    let first = grant(&cluster, 0, None);
    cluster.accepted(&first);
    let second = grant(&cluster, 1, None);
    let outstanding = Refusal::MayNotStop(vec![Objection::PermitOutstanding(BrokerId(0))]);
    assert_eq!(cluster.refused(&second), outstanding);
    let forced = grant(&cluster, 1, Some("it is on fire"));
    assert_eq!(cluster.refused(&forced), outstanding, "no reason takes another's permit away");
    close(&mut cluster, None);
    cluster.accepted(&second);
    assert_eq!(permit(&cluster).broker, BrokerId(1));
}

#[test]
fn a_permit_that_is_asked_for_again_is_the_same_and_lasts_longer() {
    let mut cluster = Cluster::alive(3);
    let command = grant(&cluster, 0, None);
    cluster.accepted(&command);
    let first = permit(&cluster);
    cluster.accepted(&command);
    let second = permit(&cluster);
    assert_eq!(second.id, first.id);
    assert!(second.renewed > first.renewed);
    close(&mut cluster, Some(first.renewed));
    assert_eq!(cluster.image.permit, Some(second.clone()), "the time of the first grant does not end the second");
    close(&mut cluster, Some(second.renewed));
    assert_eq!(cluster.image.permit, None);
}

#[test]
fn closing_a_permit_again_or_a_former_one_changes_nothing() {
    let mut cluster = Cluster::alive(3);
    cluster.accepted(&grant(&cluster, 0, None));
    let former = permit(&cluster).id;
    close(&mut cluster, None);
    cluster.accepted(&grant(&cluster, 1, None));
    cluster.accepted(&MetadataCommand::ClosePermit { permit: former, renewed: None });
    assert_eq!(permit(&cluster).broker, BrokerId(1));
}

#[test]
fn another_process_than_the_one_that_was_meant_is_not_stopped_for_any_reason() {
    let mut cluster = Cluster::alive(3);
    let stale = grant(&cluster, 0, Some("now"));
    cluster.register(0);
    cluster.unfence(0);
    let current = process(&cluster, 0);
    let refusal = Refusal::MayNotStop(vec![Objection::OtherIncarnation(Some(current))]);
    assert_eq!(cluster.refused(&stale), refusal);
}

#[test]
fn a_reason_stands_above_partitions_and_peers_and_is_kept() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 3);
    cluster.fence(2);
    cluster.accepted(&grant(&cluster, 0, Some("the rack burns")));
    assert_eq!(permit(&cluster).forced.as_deref(), Some("the rack burns"));
}

#[test]
fn a_permit_waits_until_its_broker_is_back_in_every_isr() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.accepted(&grant(&cluster, 2, None));
    let id = permit(&cluster).id;
    assert_eq!(cluster.image.recovery(id), Recovery::StillRuns);
    cluster.fence(2);
    assert_eq!(cluster.image.recovery(id), Recovery::StillRuns, "it may only have been silent");
    cluster.register(2);
    assert_eq!(cluster.image.recovery(id), Recovery::Away);
    cluster.unfence(2);
    assert_eq!(cluster.image.recovery(id), Recovery::OutOfSync(vec![tp(1, 0)]));
    cluster.alter(1, &[0, 1, 2]);
    assert_eq!(cluster.image.recovery(id), Recovery::Back);
    close(&mut cluster, None);
    assert_eq!(cluster.image.recovery(id), Recovery::Closed);
}

#[test]
fn partitions_that_are_not_well_are_listed_by_severity() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.topic(2, &[0, 1, 2], 3);
    cluster.topic(3, &[2], 1);
    cluster.topic(4, &[0, 1], 2);
    cluster.fence(2);
    let ailing: Vec<_> = cluster.image.ailing().map(|a| (a.topic.name.to_string(), a.ailment)).collect();
    let expected = [
        ("topic1".to_owned(), Ailment::UnderReplicated),
        ("topic2".to_owned(), Ailment::UnderMinIsr),
        ("topic3".to_owned(), Ailment::Offline),
    ];
    assert_eq!(ailing, expected);
    let holdings = cluster.image.holdings();
    assert_eq!(
        holdings[&BrokerId(2)],
        Holdings { leaders: 0, replicas: 3, out_of_sync: 3, only_replica: 1 },
        "{holdings:?}"
    );
    assert_eq!(holdings[&BrokerId(0)], Holdings { leaders: 3, replicas: 3, out_of_sync: 0, only_replica: 0 });
}
