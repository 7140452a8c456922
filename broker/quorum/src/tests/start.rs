use super::*;
use crate::link::{CallError, Link};

/// Starts three brokers in that order, each once the one before has a `gap` behind it.
async fn starts_in_order(order: [usize; 3], gap: Duration) {
    let cluster = Cluster::patient(3);
    let mut brokers = Vec::new();
    for id in order {
        brokers.push(cluster.start(id).await);
        tokio::time::sleep(gap).await;
    }
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
        broker.is_serving().await;
    }
    let topic = brokers[2].create_topic("t", 3).await.unwrap();
    for broker in &brokers {
        let image = broker.sees("the topic", |i| i.topics.contains_key(&topic)).await;
        assert_eq!(image.partition(first_of(topic)).unwrap().isr.len(), 3);
        assert_eq!(image.cluster_id, brokers[0].handle().image().cluster_id);
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_find_each_other_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        starts_in_order(order, Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_find_each_other_with_gaps_in_every_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    futures::future::join_all(orders.map(|order| starts_in_order(order, Duration::from_millis(700)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_suffice_and_a_topic_waits_for_the_third() {
    for absent in 0..3 {
        let cluster = Cluster::patient(3);
        let present: Vec<usize> = (0..3).filter(|id| *id != absent).collect();
        let alive: Vec<i32> = present.iter().map(|id| *id as i32).collect();
        let brokers = [cluster.start(present[0]).await, cluster.start(present[1]).await];
        brokers[0].sees_alive(&alive).await;
        let topic = brokers[0].create_topic("t", 3).await.unwrap();
        let image = brokers[1].sees("the topic", |i| i.topics.contains_key(&topic)).await;
        let partition = image.partition(first_of(topic)).unwrap();
        assert_eq!((partition.replicas.len(), partition.isr.len()), (3, 2));
        stop_all(brokers.into()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_founds_nothing() {
    let cluster = Cluster::of(3);
    let broker = cluster.start(1).await;
    let mut images = broker.handle().images();
    let alone = tokio::time::timeout(Duration::from_secs(1), images.wait_for(|i| i.cluster_id.is_some())).await;
    assert!(alone.is_err(), "one of three made a cluster: {:?}", broker.handle().image());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_voter_is_a_cluster_of_its_own() {
    let cluster = Cluster::of(1);
    let broker = cluster.start(0).await;
    broker.is_serving().await;
    broker.create_topic("t", 1).await.unwrap();
    broker.stop().await;
    let broker = cluster.start(0).await;
    broker.is_serving().await;
    let image = broker.handle().image();
    let topic = image.topic_by_name("t").expect("it is there after a restart");
    let partition = image.partition(first_of(topic.id)).unwrap();
    assert_eq!(partition.leader, Some(BrokerId(0)));
    assert!(partition.leader_epoch.0 > 0, "a restarted broker leads in a greater epoch");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_do_not_vote_take_part_as_well() {
    let cluster = Cluster::of(5);
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3, 4]).await;
        broker.is_serving().await;
    }
    let topic = brokers[4].create_topic("t", 5).await.unwrap();
    brokers[3].sees("the topic", |i| i.topics.contains_key(&topic)).await;
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_come_back_with_what_they_had() {
    let cluster = Cluster::of(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[1].create_topic("t", 3).await.unwrap();
    let before = brokers[1].handle().image();
    stop_all(brokers).await;

    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.is_serving().await;
        let image = broker
            .sees("all are alive under new epochs", |i| {
                i.brokers.values().all(|b| !b.fenced && b.epoch > before.brokers[&b.id].epoch)
            })
            .await;
        assert_eq!(image.cluster_id, before.cluster_id);
        broker
            .sees("a leader in a later epoch", |i| {
                let (old, new) = (before.partition(first_of(topic)).unwrap(), i.partition(first_of(topic)).unwrap());
                new.leader.is_some() && new.leader_epoch > old.leader_epoch
            })
            .await;
    }
    stop_all(brokers).await;
}

/// A cluster that has stopped, and who led it. None of the timeouts after which others stand for election as well ends
/// within a test from now on.
async fn led_and_stopped() -> (Cluster, BrokerId) {
    let mut cluster = Cluster::of(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let leader = brokers[1].leader().await;
    stop_all(brokers).await;
    cluster.timings.election_min = DEADLINE * 2;
    cluster.timings.election_max = DEADLINE * 3;
    (cluster, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_led_is_elected_again_before_anybody_else_stands() {
    let (cluster, leader) = led_and_stopped().await;
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.is_serving().await;
        assert_eq!(broker.leader().await, leader);
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_comes_back_votes_for_nobody_but_who_led_it_for_a_while() {
    let (cluster, leader) = led_and_stopped().await;
    let [me, other]: [i32; 2] = (0..3).filter(|id| *id != leader.0).collect::<Vec<_>>().try_into().unwrap();
    let broker = cluster.start(me as usize).await;
    let link = Link::open(
        broker.id,
        crate::links::Places::one(broker.id, endpoint(cluster.controllers[me as usize])),
        Peers::default(),
        "test",
    );
    // A term and a log that nobody can have reached.
    let (term, last) = (100, types::LogId::new(openraft::CommittedLeaderId::new(99, leader), 10_000));
    for candidate in [other, leader.0] {
        let caller = Some(proto::Caller { cluster_id: Vec::new(), from: candidate, to: me });
        let probe = proto::ProbeRequest { caller: caller.clone(), candidacy: None };
        let probed = link.call(DEADLINE, |mut client| async move { client.probe(probe).await }).await.unwrap();
        assert_eq!(probed.leaderless, candidate == leader.0, "another one may not depose {leader}");
        let vote = types::VoteRequest::new(types::Vote::new(term, BrokerId(candidate)), Some(last));
        let request = proto::VoteRequest {
            caller,
            body: crate::encoding::encode(&vote).unwrap(),
            founders: Vec::new(),
            handed_over: None,
        };
        match link.call(DEADLINE, |mut client| async move { client.vote(request).await }).await {
            Ok(answer) => {
                let answer: types::VoteResponse = crate::encoding::decode(&answer.body).unwrap();
                assert!(answer.vote_granted && candidate == leader.0);
            }
            Err(CallError::Refused(_)) => assert_eq!(candidate, other),
            Err(error) => panic!("{error:?}"),
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_come_back_without_the_third() {
    let cluster = Cluster::of(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[1].create_topic("t", 3).await.unwrap();
    stop_all(brokers).await;

    let brokers = [cluster.start(2).await, cluster.start(0).await];
    for broker in &brokers {
        broker.sees_alive(&[0, 2]).await;
        broker.sees("a leader", |i| i.partition(first_of(topic)).unwrap().leader.is_some()).await;
    }
    stop_all(brokers.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_update_is_the_whole_image_with_this_process_registered() {
    let cluster = Cluster::of(1);
    let mut broker = cluster.start(0).await;
    let first = next(&mut broker.updates).await;
    assert!(first.image.brokers[&BrokerId(0)].epoch.is_some());
    assert_eq!(first.events, [Change::Broker(BrokerId(0))]);
    broker.is_serving().await;
    broker.create_topic("t", 1).await.unwrap();
    let mut last = first.image;
    while !matches!(last.topics.len(), 1) {
        let update = next(&mut broker.updates).await;
        assert!(update.offset() > last.offset);
        assert_eq!(update.events.len(), update.image.changes_since(&last).len());
        last = update.image;
    }
    broker.stop().await;

    let mut broker = cluster.start(0).await;
    let first = next(&mut broker.updates).await;
    let topic = first.image.topic_by_name("t").unwrap().id;
    assert_eq!(first.events, [Change::Broker(BrokerId(0)), Change::PartitionChanged(first_of(topic))]);
    assert_eq!(first.image.partition(first_of(topic)).unwrap().leader, None, "the former leadership is given up");
    broker.stop().await;
}
