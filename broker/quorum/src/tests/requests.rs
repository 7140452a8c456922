use super::*;
use chronik_core::cluster::config::{ConfigChange, ConfigOp, ConfigResource};
use chronik_core::cluster::{Leaving, MetadataCommand, Partition, ResignReason, ResignedPartitions};
use chronik_core::ids::PartitionEpoch;
use futures::FutureExt as _;
use std::collections::BTreeSet;

async fn three() -> (Cluster, Vec<Broker>) {
    all_of(Cluster::of(3)).await
}

async fn all_of(cluster: Cluster) -> (Cluster, Vec<Broker>) {
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
        broker.is_serving().await;
    }
    (cluster, brokers)
}

/// What becomes of an ISR change that a broker asks for.
pub(super) async fn alter(broker: &Broker, change: AlterPartition) -> Result<(), ControllerError> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    // A test that has failed waits for nothing.
    broker.handle().alter_partition(change, DEADLINE, move |outcome| drop(reply.send(outcome)));
    answer.await.expect("an outcome")
}

fn partition(broker: &Broker, topic: TopicId) -> Partition {
    broker.handle().image().partition(first_of(topic)).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_creates_and_deletes_topics_and_sees_them_at_once() {
    let (_cluster, brokers) = three().await;
    for broker in &brokers {
        let name = format!("of-{}", broker.id);
        let id = broker.create_topic(&name, 3).await.unwrap();
        assert_eq!(broker.handle().image().topic_by_name(&name).unwrap().id, id);
        assert_eq!(broker.create_topic(&name, 3).await, Err(TopicError::Exists(name.clone())));
        broker.handle().delete_topic(id, DEADLINE).await.unwrap();
        assert!(broker.handle().image().topic_by_name(&name).is_none());
        assert_eq!(broker.handle().delete_topic(id, DEADLINE).await, Err(TopicError::Unknown));
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_adds_partitions_and_changes_configs_and_sees_them_at_once() {
    let (_cluster, brokers) = three().await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    for (before, broker) in brokers.iter().enumerate() {
        let (handle, total) = (broker.handle(), before + 2);
        broker.sees("the topic", |i| i.topics.get(&topic).is_some_and(|t| t.partitions.len() == total - 1)).await;
        handle.create_partitions(topic, total as i32, Vec::new(), false, DEADLINE).await.unwrap();
        assert_eq!(handle.image().topics[&topic].partitions.len(), total);
        let change = |op| vec![ConfigChange { name: "retention.ms".into(), op }];
        let resource = ConfigResource::Topic(topic);
        let set = change(ConfigOp::Set(total.to_string()));
        handle.alter_configs(resource.clone(), false, set, false, DEADLINE).await.unwrap();
        assert_eq!(&*handle.image().topics[&topic].configs["retention.ms"], total.to_string());
        handle.alter_configs(resource.clone(), false, change(ConfigOp::Delete), false, DEADLINE).await.unwrap();
        assert!(!handle.image().topics[&topic].configs.contains_key("retention.ms"));
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_a_validation_creates_nothing() {
    let (_cluster, brokers) = three().await;
    let handle = brokers[0].handle();
    let create = |topic| handle.create_topic(topic, DEADLINE);
    assert!(matches!(create(topic("a/b", 1)).await, Err(TopicError::InvalidName(_))));
    assert!(matches!(create(topic("a", 4)).await, Err(TopicError::InvalidReplicationFactor(_))));
    let none = CreateTopic { partitions: Some(0), ..topic("a", 1) };
    assert!(matches!(create(none).await, Err(TopicError::InvalidPartitions(_))));
    let config = BTreeMap::from([("cleanup.policy".to_owned(), "shrink".to_owned())]);
    assert!(matches!(
        create(CreateTopic { configs: config, ..topic("a", 1) }).await,
        Err(TopicError::InvalidConfig(_))
    ));
    let assignments = BTreeMap::from([(0, vec![BrokerId(9)])]);
    assert!(matches!(
        create(CreateTopic { assignments, ..topic("a", 1) }).await,
        Err(TopicError::InvalidAssignment(_))
    ));
    create(CreateTopic { validate_only: true, ..topic("a", 1) }).await.unwrap();
    assert!(handle.image().topics.is_empty());
    create(topic("a", 1)).await.unwrap();
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_changes_its_isr_and_a_stale_change_is_refused() {
    let (_cluster, brokers) = all_of(Cluster::patient(3)).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let before = partition(&brokers[0], topic);
    let leader = before.leader.unwrap();
    let broker = brokers.iter().find(|b| b.id == leader).unwrap();
    let image = broker.sees("the topic", |i| i.topics.contains_key(&topic)).await;
    let isr = [before.replicas[0], before.replicas[1]];
    // When the controller moves meanwhile, nobody may know what became of the change.
    let change = eventually("the change is accepted", || async {
        let now = partition(broker, topic);
        let change = AlterPartition {
            partition: first_of(topic),
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: isr.iter().map(|id| (*id, image.brokers[id].epoch.unwrap())).collect(),
        };
        alter(broker, change.clone()).await.ok().map(|()| change)
    })
    .await;
    for broker in &brokers {
        broker.sees("the new ISR", |i| i.partition(first_of(topic)).is_some_and(|p| p.isr == isr)).await;
    }
    let stranger = brokers.iter().find(|b| b.id != leader).unwrap();
    for broker in [broker, stranger] {
        let answer = eventually("it is known what became of the change", || async {
            let answer = alter(broker, change.clone()).await;
            Some(answer).filter(|answer| *answer != Err(ControllerError::Unavailable))
        })
        .await;
        assert!(matches!(answer, Err(ControllerError::Refused(_))), "{answer:?}");
    }
    stop_all(brokers).await;
}

/// What the first leader is asked for is lost on the way, and nothing but another leader ends the wait for its answer before
/// the change's time is over. Where the machine is so slow that the quorum takes as long to change hands, it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn an_isr_change_without_an_answer_is_asked_of_the_next_leader_at_once() {
    let (cluster, brokers) = all_of(Cluster::patient(3)).await;
    let replicas = |n: i32| (n, vec![BrokerId(n), BrokerId((n + 1) % 3)]);
    let assignments = (0..3).map(replicas).collect();
    let topic = CreateTopic { assignments, ..topic("t", 1) };
    let topic = brokers[0].handle().create_topic(topic, DEADLINE).await.unwrap();
    for broker in &brokers {
        broker.sees("the topic", |i| i.topics.contains_key(&topic)).await;
    }
    let asked_of_the_next = || async {
        cluster.cuts.heal();
        let before = brokers[0].handle().leader()?;
        let leader = brokers.iter().find(|b| b.id == before)?;
        let by = brokers.iter().find(|b| b.id != before)?;
        let tp = TopicPartition { topic, partition: PartitionId(by.id.0) };
        let image = by.handle().image();
        let now = image.partition(tp)?;
        let isr = if now.isr.len() == 1 { now.replicas.as_slice() } else { &now.replicas[..1] };
        let isr = isr.iter().map(|id| Some((*id, image.brokers[id].epoch?))).collect::<Option<_>>()?;
        let (leader_epoch, partition_epoch) = (now.leader_epoch, now.partition_epoch);
        cluster.cuts.cut(by.id, before);
        let (reply, outcome) = tokio::sync::oneshot::channel();
        let change = AlterPartition { partition: tp, leader_epoch, partition_epoch, isr };
        let patience = crate::requests::TIMEOUT.saturating_sub(Duration::from_millis(50));
        by.handle().alter_partition(change, patience, move |outcome| drop(reply.send(outcome)));
        // By then it is on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        leader.controller.hand_over(DEADLINE).await;
        outcome.await.ok()?.ok()
    };
    eventually("the next leader is asked", asked_of_the_next).await;
    cluster.cuts.heal();
    stop_all(brokers).await;
}

/// Wherever the controller is: one broker's changes go over the network and another one's do not.
#[tokio::test(flavor = "multi_thread")]
async fn many_isr_changes_at_once_have_their_outcomes_each_for_itself() {
    let (_cluster, brokers) = all_of(Cluster::patient(3)).await;
    let leads = |id: BrokerId| (0..300).map(|n| (n, vec![id, BrokerId((id.0 + 1) % 3)])).collect();
    for broker in &brokers {
        let topic = CreateTopic { assignments: leads(broker.id), ..topic(&format!("of-{}", broker.id), 1) };
        let topic = broker.handle().create_topic(topic, DEADLINE).await.unwrap();
        let image = broker.handle().image();
        let change = |index: i32| {
            let tp = TopicPartition { topic, partition: PartitionId(index) };
            let now = image.partition(tp).unwrap();
            // Every third one is of a state that never was.
            let partition_epoch = PartitionEpoch(now.partition_epoch.0 - i32::from(index % 3 == 0));
            let isr = vec![(broker.id, image.brokers[&broker.id].epoch.unwrap())];
            AlterPartition { partition: tp, leader_epoch: now.leader_epoch, partition_epoch, isr }
        };
        let outcomes = futures::future::join_all((0..300).map(|index| alter(broker, change(index)))).await;
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(()) => assert_ne!(index % 3, 0),
                // When the controller moves meanwhile, nobody may know what became of it.
                Err(ControllerError::Unavailable) => {}
                Err(error) => {
                    assert!(index % 3 == 0 && matches!(error, ControllerError::Refused(_)), "{index} {error}");
                }
            }
        }
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_differ_from_broker_to_broker() {
    let (_cluster, brokers) = three().await;
    let mut seen = BTreeSet::new();
    for broker in brokers.iter().chain(&brokers) {
        let block = broker.handle().producer_ids(DEADLINE).await.unwrap();
        assert!((block.start.0..block.end.0).all(|id| seen.insert(id)), "{block:?}");
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_topics_asked_for_at_once_are_all_there() {
    let (_cluster, brokers) = three().await;
    let names: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
    let created = futures::future::join_all(names.iter().map(|name| brokers[1].create_topic(name, 3))).await;
    assert!(created.iter().all(Result::is_ok));
    for broker in &brokers {
        broker.sees("all topics", |i| i.topics.len() == 1000).await;
    }
    stop_all(brokers).await;
}

/// On one thread, which the proposer has no share of until the test waits for something.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_proposed() {
    let cluster = Cluster::of(1);
    let broker = cluster.start(0).await;
    broker.is_serving().await;
    let proposer = {
        let (raft, images) = (broker.controller.raft.clone(), broker.handle().images());
        let (electorate, yielding) =
            (broker.controller.handover.electorate.clone(), crate::handover::Yielding::default());
        proposer::Proposer::start(broker.id, raft, images, electorate, yielding)
    };
    let create = |name: &str| MetadataCommand::CreateTopic {
        id: TopicId(Uuid::new_v4()),
        name: name.into(),
        partitions: 1,
        replication_factor: 1,
        assignments: BTreeMap::new(),
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    };
    assert!(proposer.propose(create("given-up")).now_or_never().is_none());
    let (outcome, _) = proposer.propose(create("waited-for")).await.unwrap();
    outcome.unwrap();
    let image = broker.sees("the topic", |i| i.topic_by_name("waited-for").is_some()).await;
    assert!(image.topic_by_name("given-up").is_none());
    let term = broker.controller.raft.server_metrics().borrow().vote.leader_id().term;
    for other in [term - 1, term + 1] {
        let refused = proposer.propose_in(other, create("of-another-term")).await;
        assert_eq!(refused, Err(proposer::ProposeError::NotLeader));
    }
    proposer.propose_in(term, create("of-this-term")).await.unwrap().0.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_outlives_the_leader_that_it_was_sent_to() {
    let (_cluster, mut brokers) = three().await;
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id == leader).unwrap();
    let gone = brokers.remove(at);
    let (created, ()) = tokio::join!(
        futures::future::join_all((0..20).map(|n| {
            let handle = brokers[n % 2].handle();
            async move { handle.create_topic(topic(&format!("t{n}"), 2), DEADLINE).await }
        })),
        gone.stop()
    );
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    for broker in &brokers {
        broker.sees("each topic once", |i| i.topics.len() == 20 && i.topic_ids.len() == 20).await;
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_request_ends_with_its_callers_patience() {
    let (_cluster, mut brokers) = three().await;
    brokers.pop().unwrap().stop().await;
    brokers.pop().unwrap().stop().await;
    let left = brokers.pop().unwrap();
    let asked = left.handle().create_topic(topic("t", 1), Duration::from_millis(300)).await;
    assert_eq!(asked, Err(TopicError::Unavailable));
    eventually("its lease ends", || async {
        let lease = left.handle().registration().borrow().lease_until;
        lease.is_none_or(|until| until < std::time::Instant::now()).then_some(())
    })
    .await;
    left.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_resigns_and_is_told_what_it_has_to_keep() {
    let (_cluster, brokers) = all_of(Cluster::patient(3)).await;
    for broker in &brokers {
        let led = |replicas: Vec<BrokerId>| CreateTopic {
            assignments: BTreeMap::from([(0, replicas)]),
            ..topic(&uuid::Uuid::new_v4().to_string(), 1)
        };
        let next = BrokerId((broker.id.0 + 1) % 3);
        let alone = broker.handle().create_topic(led(vec![broker.id]), DEADLINE).await.unwrap();
        let shared = broker.handle().create_topic(led(vec![broker.id, next]), DEADLINE).await.unwrap();
        let resignation =
            Resignation { partitions: ResignedPartitions::All, leaving: Leaving::InSync, reason: ResignReason::Stop };
        let kept = eventually("it is known what became of it", || async {
            broker.handle().resign(resignation.clone(), DEADLINE).await.ok()
        })
        .await;
        assert!(kept.contains(&first_of(alone)), "{kept:?}");
        assert_eq!(partition(broker, alone).leader, Some(broker.id));
        let (leader, isr) = (partition(broker, shared).leader, partition(broker, shared).isr);
        if broker.id.0 < 2 {
            assert_eq!((leader, isr), (Some(next), vec![next]));
        } else {
            // The others have resigned before, and are not elected again.
            assert_eq!(leader, Some(broker.id));
        }
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_keeps_a_damaged_copy_that_only_a_broker_which_stops_could_succeed() {
    let (_cluster, brokers) = all_of(Cluster::patient(3)).await;
    let (leader, stops) = (&brokers[0], &brokers[1]);
    let replicas = CreateTopic { assignments: BTreeMap::from([(0, vec![leader.id, stops.id])]), ..topic("t", 1) };
    let id = leader.handle().create_topic(replicas, DEADLINE).await.expect("the topic is created");
    let resign = |broker: &Broker, partitions, leaving, reason| {
        let handle = broker.handle();
        async move { handle.resign(Resignation { partitions, leaving, reason }, DEADLINE).await }
    };
    // It is in sync until it asks once more.
    let stopping = resign(stops, ResignedPartitions::All, Leaving::Leadership, ResignReason::Stop).await;
    stopping.expect("it is decided");
    let damaged = ResignedPartitions::These(vec![first_of(id)]);
    let kept = resign(leader, damaged, Leaving::Copy, ResignReason::Damage).await.expect("it is decided");
    assert_eq!(kept, [first_of(id)]);
    let now = partition(leader, id);
    assert_eq!((now.leader, now.isr), (Some(leader.id), vec![leader.id, stops.id]));
    stop_all(brokers).await;
}
