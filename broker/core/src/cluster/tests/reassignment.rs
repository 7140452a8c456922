use super::*;

type Done = Result<(), Refusal>;

impl Cluster {
    fn request(&mut self, topic: u128, replicas: Option<&[i32]>, may_change_factor: bool) -> Done {
        let partitions = vec![Reassignment { partition: tp(topic, 0), replicas: replicas.map(ids) }];
        match self.accepted(&MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor }) {
            Answer::Reassigned(mut results) => results.pop().unwrap().1,
            other => panic!("reassigned: {other:?}"),
        }
    }

    /// Moves topic 1.
    fn reassign(&mut self, replicas: &[i32]) -> Done {
        self.request(1, Some(replicas), true)
    }

    fn cancel(&mut self) -> Done {
        self.request(1, None, true)
    }

    /// Replicas of topic 1, those that are added, and those that are removed.
    fn expect_replicas(&self, replicas: &[i32], adding: &[i32], removing: &[i32]) {
        let p = self.partition(1);
        assert_eq!(
            (&*p.replicas, &*p.adding, &*p.removing),
            (&*ids(replicas), &*ids(adding), &*ids(removing)),
            "{p:?}"
        );
    }
}

#[test]
fn the_old_replicas_go_when_all_new_ones_are_in_sync() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 2);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.expect_replicas(&[2, 3, 0, 1], &[2, 3], &[0, 1]);
    cluster.expect(Some(0), &[0, 1], &[]);
    let epoch = cluster.partition(1).leader_epoch;
    cluster.alter(1, &[0, 1, 2]);
    cluster.expect_replicas(&[2, 3, 0, 1], &[2, 3], &[0, 1]);
    assert_eq!(cluster.partition(1).leader_epoch, epoch, "the leadership goes on meanwhile");
    cluster.alter(1, &[0, 1, 2, 3]);
    cluster.expect_replicas(&[2, 3, 0, 1], &[2, 3], &[0, 1]);
    cluster.expect(Some(2), &[2, 3, 0, 1], &[]);
    assert_eq!(cluster.partition(1).leader_epoch.0, epoch.0 + 1);
    // It has heard the others in its epoch.
    cluster.alter(1, &[2, 3]);
    cluster.expect_replicas(&[2, 3], &[], &[]);
    cluster.expect(Some(2), &[2, 3], &[]);
    assert_eq!(cluster.partition(1).leader_epoch.0, epoch.0 + 2);
}

#[test]
fn a_leader_that_stays_goes_on_in_a_new_epoch_so_that_who_was_removed_is_not_taken_for_a_replica() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    let epoch = cluster.partition(1).leader_epoch.0;
    cluster.reassign(&[0]).unwrap();
    cluster.expect_replicas(&[0, 1], &[], &[1]);
    cluster.alter(1, &[0]);
    cluster.expect_replicas(&[0], &[], &[]);
    cluster.expect(Some(0), &[0], &[]);
    assert_eq!(cluster.partition(1).leader_epoch.0, epoch + 1);
}

#[test]
fn another_order_is_another_preferred_leader_and_moves_nobody() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    let before = cluster.partition(1).clone();
    cluster.reassign(&[2, 1, 0]).unwrap();
    cluster.expect_replicas(&[2, 1, 0], &[], &[]);
    assert_eq!((cluster.partition(1).leader, cluster.partition(1).leader_epoch), (before.leader, before.leader_epoch));
    let partition_epoch = cluster.partition(1).partition_epoch;
    cluster.reassign(&[2, 1, 0]).unwrap();
    assert_eq!(cluster.partition(1).partition_epoch, partition_epoch, "what is so already changes nothing");
}

#[test]
fn it_is_not_done_while_a_new_replica_is_out_of_sync() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.alter(1, &[0, 2]);
    cluster.fence(2);
    cluster.alter(1, &[0, 3]);
    cluster.expect_replicas(&[2, 3, 0, 1], &[2, 3], &[0, 1]);
    cluster.unfence(2);
    cluster.alter(1, &[0, 3, 2]);
    cluster.expect(Some(2), &[2, 3, 0], &[]);
    cluster.alter(1, &[2, 3]);
    cluster.expect_replicas(&[2, 3], &[], &[]);
}

#[test]
fn new_replicas_do_not_raise_the_minimum_and_removed_ones_do_not_keep_it() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0], 2);
    cluster.reassign(&[0, 1, 2]).unwrap();
    assert_eq!(cluster.partition(1).min_insync_replicas(2), 1);
    cluster.alter(1, &[0, 1, 2]);
    assert_eq!(cluster.partition(1).min_insync_replicas(2), 2);
    cluster.topic(2, &[0, 1], 3);
    cluster.request(2, Some(&[2, 3]), true).unwrap();
    assert_eq!(cluster.partition(2).min_insync_replicas(3), 2);
}

#[test]
fn the_only_replica_that_is_left_is_kept_alone_once_it_has_shown_that_it_is_there() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.fence(1);
    cluster.fence(2);
    cluster.expect(Some(0), &[0], &[2]);
    cluster.reassign(&[0]).unwrap();
    cluster.expect_replicas(&[0, 1, 2], &[], &[1, 2]);
    cluster.expect(Some(0), &[0], &[2]);
    cluster.alter(1, &[0]);
    cluster.expect_replicas(&[0], &[], &[]);
    cluster.expect(Some(0), &[0], &[]);
}

#[test]
fn a_reassignment_is_taken_back() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 2);
    assert_eq!(cluster.cancel(), Err(Refusal::NoReassignment));
    cluster.reassign(&[2, 3]).unwrap();
    cluster.cancel().unwrap();
    cluster.expect_replicas(&[0, 1], &[], &[]);
    cluster.expect(Some(0), &[0, 1], &[]);
    assert_eq!(cluster.cancel(), Err(Refusal::NoReassignment));
    cluster.reassign(&[2, 3]).unwrap();
    cluster.alter(1, &[0, 1, 2]);
    cluster.cancel().unwrap();
    // One that is in sync goes when its leader says so.
    cluster.expect_replicas(&[0, 1, 2], &[], &[2]);
    cluster.alter(1, &[0, 1]);
    cluster.expect_replicas(&[0, 1], &[], &[]);
    cluster.expect(Some(0), &[0, 1], &[]);
}

#[test]
fn who_may_have_the_last_copy_is_not_dropped_by_taking_back() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 2);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.alter(1, &[0, 1, 2]);
    cluster.fence(0);
    cluster.alter(1, &[2]);
    cluster.expect(Some(2), &[2], &[1]);
    cluster.cancel().unwrap();
    cluster.expect_replicas(&[0, 1, 2], &[], &[2]);
    cluster.expect(Some(2), &[2], &[1]);
    cluster.fence(2);
    cluster.expect(Some(1), &[1], &[2]);
    cluster.expect_replicas(&[0, 1, 2], &[], &[2]);
    cluster.unfence(0);
    cluster.alter(1, &[0, 1]);
    cluster.expect_replicas(&[0, 1], &[], &[]);
    cluster.expect(Some(1), &[0, 1], &[]);
}

#[test]
fn another_target_replaces_the_one_that_is_under_way() {
    let mut cluster = Cluster::alive(5);
    cluster.topic(1, &[0, 1], 1);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.alter(1, &[0, 1, 2]);
    cluster.reassign(&[2, 4]).unwrap();
    cluster.expect_replicas(&[2, 4, 0, 1], &[2, 4], &[0, 1]);
    cluster.expect(Some(0), &[2, 0, 1], &[]);
    cluster.reassign(&[0, 1]).unwrap();
    cluster.expect_replicas(&[0, 1, 2], &[], &[2]);
    cluster.alter(1, &[0, 1]);
    cluster.expect_replicas(&[0, 1], &[], &[]);
}

#[test]
fn wrong_replicas_are_refused_and_others_of_the_same_request_are_not() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[0, 1], 1);
    cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(3), cordoned: true });
    for (replicas, why) in [
        (&[][..], "a partition cannot have no replicas"),
        (&[1, 1], "broker 1 is named twice"),
        (&[1, 9], "broker 9 is not a member"),
        (&[1, 3], "broker 3 is cordoned"),
        (&[0, 1, 2, 3, 4], "more replicas than there are brokers"),
    ] {
        assert_eq!(cluster.reassign(replicas), Err(Refusal::InvalidAssignment(why.into())));
    }
    assert!(matches!(cluster.request(1, Some(&[0, 1, 2]), false), Err(Refusal::InvalidReplicationFactor(_))));
    let one = |topic, replicas: &[i32]| Reassignment { partition: tp(topic, 0), replicas: Some(ids(replicas)) };
    let partitions = vec![one(9, &[0]), one(2, &[1, 2]), one(1, &[7]), one(2, &[0, 1])];
    let command = MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: true };
    let Answer::Reassigned(results) = cluster.accepted(&command) else { panic!("reassigned") };
    assert_eq!(results[0], (tp(9, 0), Err(Refusal::UnknownPartition)));
    assert_eq!(results[1], (tp(2, 0), Ok(())));
    assert!(matches!(results[2].1, Err(Refusal::InvalidAssignment(_))));
    assert_eq!(results[3].1, Err(Refusal::InvalidAssignment("the partition is named twice".into())));
    assert_eq!(cluster.partition(2).replicas, ids(&[1, 2, 0]));
}

#[test]
fn a_new_replica_is_the_last_one_that_an_unclean_election_takes() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.alter(1, &[0]);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.fence(0);
    cluster.expect(None, &[], &[0]);
    let partitions = Some(vec![tp(1, 0)]);
    cluster.accepted(&MetadataCommand::ElectLeaders { partitions, election: Election::Unclean });
    cluster.expect(Some(1), &[1], &[]);
}

#[test]
fn a_topic_may_be_deleted_and_a_broker_not_removed_meanwhile() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.fence(3);
    assert!(matches!(cluster.refused(&MetadataCommand::UnregisterBroker { id: BrokerId(3) }), Refusal::BrokerInUse(_)));
    cluster.accepted(&MetadataCommand::DeleteTopic { id: TopicId(uuid(1)) });
    cluster.accepted(&MetadataCommand::UnregisterBroker { id: BrokerId(3) });
}

#[test]
fn replicas_that_are_added_are_not_missed() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 2);
    cluster.reassign(&[2, 3]).unwrap();
    assert_eq!(cluster.partition(1).ailment(2), None);
    assert_eq!(cluster.image.holdings()[&BrokerId(2)].out_of_sync, 0);
    cluster.fence(1);
    assert_eq!(cluster.partition(1).ailment(2), Some(Ailment::UnderMinIsr));
    assert_eq!(cluster.image.holdings()[&BrokerId(1)].out_of_sync, 1);
}

/// The only one that stays hands over while the other is still a replica.
#[test]
fn who_is_removed_and_was_handed_the_leadership_gives_it_back_with_its_next_request() {
    let mut cluster = Cluster::alive(2);
    cluster.topic(1, &[0], 1);
    cluster.moves(1, &[1]);
    cluster.alter(1, &[0, 1]);
    cluster.expect(Some(1), &[1, 0], &[]);
    cluster.resign(1, ResignedPartitions::All, Leaving::Leadership, ResignReason::Asked);
    cluster.expect(Some(0), &[1, 0], &[]);
    cluster.alter(1, &[0, 1]);
    cluster.expect(Some(1), &[1, 0], &[]);
    cluster.alter(1, &[1]);
    assert_eq!(cluster.partition(1).replicas, ids(&[1]));
}
