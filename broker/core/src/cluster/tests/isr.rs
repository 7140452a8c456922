use super::*;

fn three() -> Cluster {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster
}

#[test]
fn a_leader_shrinks_and_expands_its_isr() {
    let mut cluster = three();
    cluster.alter(1, &[0, 2]);
    cluster.expect(Some(0), &[0, 2], &[]);
    cluster.alter(1, &[2, 1, 0]);
    cluster.expect(Some(0), &[0, 1, 2], &[]);
    assert_eq!(cluster.partition(1).partition_epoch, PartitionEpoch(2));
    assert_eq!(cluster.partition(1).leader_epoch, LeaderEpoch(0));
}

#[test]
fn who_is_shrunk_below_the_minimum_is_eligible_until_the_isr_is_large_again() {
    let mut cluster = three();
    cluster.alter(1, &[0]);
    cluster.expect(Some(0), &[0], &[1, 2]);
    cluster.alter(1, &[0, 2]);
    cluster.expect(Some(0), &[0, 2], &[]);
}

#[test]
fn a_change_of_a_state_that_is_no_more_is_refused() {
    let mut cluster = three();
    let late = cluster.isr_change(1, &[0, 1]);
    cluster.alter(1, &[0, 2]);
    let stale = Refusal::StalePartitionEpoch { given: PartitionEpoch(0), current: PartitionEpoch(1) };
    assert_eq!(cluster.refused(&late), stale);
}

#[test]
fn a_former_leader_is_refused() {
    let mut cluster = three();
    let late = cluster.isr_change(1, &[0, 1]);
    cluster.fence(0);
    assert_eq!(cluster.refused(&late), Refusal::NotLeader);
    cluster.register(0);
    assert!(matches!(cluster.refused(&late), Refusal::StaleBrokerEpoch { .. }));
}

#[test]
fn a_replica_that_is_fenced_or_was_restarted_cannot_join() {
    let mut cluster = three();
    cluster.fence(2);
    let command = cluster.isr_change(1, &[0, 1, 2]);
    assert_eq!(cluster.refused(&command), Refusal::IneligibleReplica(BrokerId(2)));

    cluster.unfence(2);
    let former = cluster.isr_change(1, &[0, 1, 2]);
    cluster.register(2);
    cluster.unfence(2);
    assert_eq!(cluster.refused(&former), Refusal::IneligibleReplica(BrokerId(2)));
    cluster.alter(1, &[0, 1, 2]);
}

#[test]
fn an_isr_without_the_leader_with_a_stranger_or_with_a_broker_twice_is_refused() {
    let mut cluster = three();
    for isr in [&[1, 2][..], &[0, 3], &[0, 1, 1]] {
        let command = cluster.isr_change(1, isr);
        assert!(matches!(cluster.refused(&command), Refusal::InvalidIsr(_)), "{isr:?}");
    }
}

#[test]
fn a_change_to_the_same_isr_makes_an_earlier_request_stale() {
    let mut cluster = three();
    let earlier = cluster.isr_change(1, &[0, 1]);
    cluster.alter(1, &[0, 1, 2]);
    cluster.expect(Some(0), &[0, 1, 2], &[]);
    assert!(matches!(cluster.refused(&earlier), Refusal::StalePartitionEpoch { .. }));
}

#[test]
fn a_partition_that_does_not_exist_cannot_be_changed() {
    let mut cluster = three();
    for partition in [1, -1, i32::MAX] {
        let mut command = cluster.isr_change(1, &[0]);
        if let MetadataCommand::AlterPartition { partition: p, .. } = &mut command {
            p.partition = PartitionId(partition);
        }
        assert_eq!(cluster.refused(&command), Refusal::UnknownPartition);
    }
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut cluster = three();
    let ask = |epoch, count| MetadataCommand::AllocateProducerIds { broker: BrokerId(0), epoch, count };
    let epoch = cluster.epoch(0);
    let Answer::ProducerIds(first) = cluster.accepted(&ask(epoch, 1000)) else { panic!("no block") };
    let Answer::ProducerIds(second) = cluster.accepted(&ask(epoch, 1)) else { panic!("no block") };
    assert_eq!((first.start.0, first.end, second.end.0), (0, second.start, 1001));
    assert_eq!(cluster.refused(&ask(epoch, 0)), Refusal::InvalidProducerIdCount(0));
    assert!(matches!(cluster.refused(&ask(BrokerEpoch(0), 1)), Refusal::StaleBrokerEpoch { .. }));
}
