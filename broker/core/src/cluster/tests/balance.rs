use super::*;
use crate::time::Instant;
use std::time::Duration;

const CHECKED_EACH_MINUTE: LeaderBalanceConfig =
    LeaderBalanceConfig { interval: Duration::from_mins(1), percentage: 10 };

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000)
}

impl Cluster {
    /// The topics whose leaderships would move.
    fn displaced(&self, percentage: u32) -> Vec<u128> {
        self.image.displaced_leaderships(percentage, 99).iter().map(|tp| tp.topic.0.as_u128()).collect()
    }

    /// A broker stops and comes back, and is in sync again in these topics.
    fn roll(&mut self, id: i32, topics: &[u128]) {
        self.stop(id);
        self.register(id);
        self.unfence(id);
        for topic in topics {
            self.alter(*topic, &[0, 1, 2]);
        }
    }
}

/// Three topics, each preferred by another broker.
fn three() -> Cluster {
    let mut cluster = Cluster::alive(3);
    for (topic, replicas) in [(1, [0, 1, 2]), (2, [1, 2, 0]), (3, [2, 0, 1])] {
        cluster.topic(topic, &replicas, 2);
    }
    cluster
}

#[test]
fn after_a_roll_each_broker_leads_again_what_it_is_preferred_for() {
    let mut cluster = three();
    for id in 0..3 {
        cluster.roll(id, &[1, 2, 3]);
    }
    let mut balance = LeaderBalance::new(CHECKED_EACH_MINUTE, at(0));
    assert_eq!(balance.due(at(59), &cluster.image), []);
    let mut seconds = 60;
    while let elected @ [_, ..] = &*balance.due(at(seconds), &cluster.image) {
        let partitions = Some(elected.to_vec());
        cluster.accepted(&MetadataCommand::ElectLeaders { partitions, election: Election::Preferred });
        assert_eq!(balance.due(at(seconds), &cluster.image), [], "there is a pause");
        seconds += 1;
    }
    for (topic, leader) in [(1, 0), (2, 1), (3, 2)] {
        assert_eq!(cluster.partition(topic).leader, Some(BrokerId(leader)), "topic {topic}");
    }
    assert_eq!(seconds, 61, "all were few enough for one entry");
    assert_eq!(balance.due(at(seconds + 59), &cluster.image), []);
}

#[test]
fn nothing_moves_to_who_is_not_whole_cordoned_or_on_its_way() {
    let mut cluster = three();
    cluster.stop(0);
    cluster.register(0);
    cluster.unfence(0);
    assert_eq!(cluster.displaced(0), [], "it is in sync nowhere");
    cluster.alter(1, &[0, 1, 2]);
    assert_eq!(cluster.displaced(0), [], "it is not in sync everywhere");
    cluster.alter(2, &[0, 1, 2]);
    cluster.alter(3, &[0, 1, 2]);
    assert_eq!(cluster.displaced(0), [1]);
    cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(0), cordoned: true });
    assert_eq!(cluster.displaced(0), [], "nothing is to come to it");
    cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(0), cordoned: false });
    cluster.alter(1, &[0, 1]);
    assert_eq!(cluster.displaced(0), [], "the partition lacks a replica");
    cluster.alter(1, &[0, 1, 2]);
    let incarnation = cluster.image.brokers[&BrokerId(2)].incarnation.unwrap();
    let permit = MetadataCommand::GrantPermit { broker: BrokerId(2), incarnation, ttl_ms: 1000, forced: None };
    cluster.accepted(&permit);
    assert_eq!(cluster.displaced(0), [], "a broker is about to stop");
}

#[test]
fn a_partition_that_is_moved_keeps_its_leader() {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1, 2], 2);
    cluster.resign(0, ResignedPartitions::All, Leaving::Leadership, ResignReason::Asked);
    assert_eq!(cluster.displaced(0), [1]);
    cluster.moves(1, &[0, 1, 3]);
    assert_eq!(cluster.displaced(0), []);
}

#[test]
fn some_imbalance_is_left_alone_and_what_is_begun_is_ended() {
    let mut cluster = Cluster::alive(3);
    for topic in 1..=10 {
        cluster.topic(topic, &[0, 1, 2], 2);
    }
    let these = |topics: &[u128]| ResignedPartitions::These(topics.iter().map(|t| tp(*t, 0)).collect());
    cluster.resign(0, these(&[1]), Leaving::Leadership, ResignReason::Asked);
    assert_eq!(cluster.displaced(10), [], "one of ten is a tenth");
    cluster.resign(0, these(&[2]), Leaving::Leadership, ResignReason::Asked);
    assert_eq!(cluster.displaced(10), [1, 2]);
    let mut balance = LeaderBalance::new(CHECKED_EACH_MINUTE, at(0));
    assert_eq!(balance.due(at(60), &cluster.image), [tp(1, 0), tp(2, 0)]);
    let partitions = Some(vec![tp(1, 0)]);
    cluster.accepted(&MetadataCommand::ElectLeaders { partitions, election: Election::Preferred });
    assert_eq!(balance.due(at(61), &cluster.image), [tp(2, 0)], "the last one goes as well");
}

#[test]
fn before_elections_may_be_in_the_log_there_are_none() {
    let mut cluster = three();
    cluster.resign(0, ResignedPartitions::All, Leaving::Leadership, ResignReason::Asked);
    cluster.image.metadata_version = MetadataVersion::FIRST;
    assert_eq!(cluster.displaced(0), []);
}
