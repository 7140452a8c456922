use super::*;

const PLENTY: usize = 1000;

/// So many topics of one partition, with replicas round-robin on the first `of` of these brokers.
fn cluster_of(members: i32, topics: u128, factor: usize, of: i32) -> Cluster {
    let mut cluster = Cluster::alive(members);
    for topic in 0..topics {
        let replicas: Vec<i32> = (0..factor as i32).map(|i| (topic as i32 + i) % of).collect();
        cluster.topic(topic + 1, &replicas, 1);
    }
    cluster
}

impl Cluster {
    fn rack(&mut self, id: i32, rack: &str) {
        self.image.brokers[&BrokerId(id)].rack = Some(rack.into());
    }

    fn plan(&self, at_once: usize) -> Rebalance {
        self.image.rebalance(&BTreeMap::new(), at_once)
    }

    /// Partitions that would be copied.
    fn copied(&self, at_once: usize) -> usize {
        let new = |m: &&Reassignment| {
            let before = &self.image.partition(m.partition).unwrap().replicas;
            m.replicas.as_ref().is_some_and(|after| after.iter().any(|id| !before.contains(id)))
        };
        self.plan(at_once).moves.iter().filter(new).count()
    }

    /// Begins what is planned, and lets it be done.
    fn carry_out_plan(&mut self, at_once: usize) -> usize {
        let moves = self.plan(at_once).moves;
        let begun = moves.len();
        let named: Vec<TopicPartition> = moves.iter().map(|m| m.partition).collect();
        let command = MetadataCommand::AlterPartitionReassignments { partitions: moves, may_change_factor: false };
        self.accepted(&command);
        for tp in named {
            let topic = tp.topic.0.as_u128();
            let all = |c: &Self| c.partition(topic).replicas.iter().map(|id| id.0).collect::<Vec<_>>();
            let stay = |c: &Self| c.partition(topic).target_replicas().map(|id| id.0).collect::<Vec<_>>();
            if self.partition(topic).is_reassigning() {
                let isr = all(self);
                self.alter(topic, &isr);
                let isr = stay(self);
                self.alter(topic, &isr);
            }
        }
        begun
    }
}

#[test]
fn a_broker_that_has_joined_gets_its_share_a_few_at_a_time() {
    let mut cluster = cluster_of(4, 12, 3, 3);
    let plan = cluster.plan(2);
    assert_eq!((plan.now.replicas, plan.now.preferred), ((0, 12), (0, 4)));
    assert_eq!((plan.planned.replicas, plan.planned.preferred), ((9, 9), (3, 3)));
    let mut calls = 0;
    while cluster.plan(2).left > 0 {
        assert!(cluster.copied(2) <= 2);
        assert!(cluster.carry_out_plan(2) > 0, "it goes on until nothing is left");
        calls += 1;
    }
    assert!(calls >= 5, "nine replicas in pairs");
    let plan = cluster.plan(2);
    assert_eq!((plan.now.replicas, plan.now.preferred, plan.left), ((9, 9), (3, 3), 0));
}

#[test]
fn what_is_even_stays_as_it_is() {
    for (members, topics, factor) in [(3, 6, 3), (4, 8, 2), (1, 5, 1), (5, 0, 1), (3, 7, 3)] {
        let cluster = cluster_of(members, topics, factor, members);
        let plan = cluster.plan(PLENTY);
        assert_eq!(plan.moves, [], "{topics} topics of {factor} replicas on {members} brokers");
    }
}

#[test]
fn racks_go_before_counts_and_are_not_spoiled_by_them() {
    let mut cluster = Cluster::alive(4);
    for (id, rack) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        cluster.rack(id, rack);
    }
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[0, 2], 1);
    cluster.topic(3, &[0, 2], 1);
    let plan = cluster.plan(PLENTY);
    assert_eq!((plan.now.crowded, plan.planned.crowded), (1, 0));
    while cluster.plan(PLENTY).left > 0 {
        cluster.carry_out_plan(PLENTY);
    }
    for topic in 1..=3 {
        let racks: std::collections::BTreeSet<_> =
            cluster.partition(topic).replicas.iter().map(|id| cluster.image.brokers[id].rack.clone()).collect();
        assert_eq!(racks.len(), 2, "topic {topic}");
    }
    assert_eq!(cluster.plan(PLENTY).now.replicas, (1, 2));
}

#[test]
fn who_is_cordoned_gone_or_full_gets_nothing() {
    let mut cluster = cluster_of(5, 12, 2, 2);
    cluster.accepted(&MetadataCommand::Cordon { broker: BrokerId(2), cordoned: true });
    cluster.fence(3);
    let full = DiskUse { total: 100, free: 5 };
    let gets = |plan: &Rebalance, id: i32| {
        plan.moves.iter().any(|m| m.replicas.as_ref().is_some_and(|r| r.contains(&BrokerId(id))))
    };
    let plan = cluster.plan(PLENTY);
    assert!(!gets(&plan, 2) && !gets(&plan, 3) && gets(&plan, 4));
    let plan = cluster.image.rebalance(&BTreeMap::from([(BrokerId(4), full)]), PLENTY);
    assert!(!gets(&plan, 4));
    assert_eq!(plan.full, ids(&[4]), "it would hold more otherwise");
    assert_eq!(cluster.plan(PLENTY).full, []);
}

#[test]
fn of_two_that_hold_as_much_the_one_with_more_room_is_given_the_next() {
    let cluster = cluster_of(4, 3, 1, 1);
    let disks = BTreeMap::from([
        (BrokerId(1), DiskUse { total: 100, free: 20 }),
        (BrokerId(2), DiskUse { total: 100, free: 80 }),
        (BrokerId(3), DiskUse { total: 100, free: 50 }),
    ]);
    let to: Vec<_> = cluster.image.rebalance(&disks, PLENTY).moves.into_iter().map(|m| m.replicas.unwrap()).collect();
    assert_eq!(to, [ids(&[2]), ids(&[3])]);
}

#[test]
fn what_is_under_way_counts_and_what_is_not_well_stops_it() {
    let mut cluster = cluster_of(4, 12, 3, 3);
    assert_eq!(cluster.image.not_now(), None);
    let partitions = cluster.plan(2).moves;
    cluster.accepted(&MetadataCommand::AlterPartitionReassignments { partitions, may_change_factor: false });
    let plan = cluster.plan(2);
    assert_eq!(plan.under_way.len(), 2);
    assert_eq!(cluster.copied(2), 0);
    assert_eq!(cluster.image.not_now(), None, "what is being added is not missing");
    cluster.fence(2);
    assert_eq!(cluster.image.not_now(), Some(NotNow::Ailing(12)));
}

/// Whatever the cluster is like, each plan leads to another that has less to do, and the last one to nothing.
#[test]
fn every_plan_comes_to_an_end() {
    let mut rng = 88_172_645_463_325_252_u64;
    let mut next = |n: u64| {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng % n
    };
    for _ in 0..60 {
        let members = 2 + next(6) as i32;
        let mut cluster = Cluster::alive(members);
        for id in 0..members {
            if next(3) > 0 {
                cluster.rack(id, ["a", "b", "c"][next(3) as usize]);
            }
        }
        for topic in 1..=u128::from(1 + next(20)) {
            let mut brokers: Vec<i32> = (0..members).collect();
            let factor = 1 + next(3.min(members as u64)) as usize;
            let replicas: Vec<i32> =
                (0..factor).map(|_| brokers.swap_remove(next(brokers.len() as u64) as usize)).collect();
            cluster.topic(topic, &replicas, 1);
        }
        let before = cluster.plan(PLENTY).now;
        let mut calls = 0;
        while cluster.plan(3).left > 0 {
            assert!(cluster.carry_out_plan(3) > 0);
            calls += 1;
            assert!(calls < 200, "it does not come to an end");
        }
        let after = cluster.plan(3).now;
        assert!(after.crowded <= before.crowded && after.crowded == 0, "{before:?} became {after:?}");
    }
}
